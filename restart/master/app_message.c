#include "app_message.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* 0: the address family is not supported. */
static socklen_t length_of(sa_family_t family)
{
    switch (family) {
    case AF_INET:
        return sizeof(struct sockaddr_in);
    case AF_INET6:
        return sizeof(struct sockaddr_in6);
    case AF_UNIX:
        return sizeof(struct sockaddr_un);
    default:
        return 0;
    }
}

static void put_target(const struct probe_target *target, struct message *message)
{
    struct sockaddr_storage all[PROBE_ADDRESSES];

    for (size_t i = 0; i < target->count; i++)
        all[i] = target->at[i].address;
    message_put(message, HANDOVER_TARGET, all, target->count * sizeof(all[0]));
    message_put_text(message, HANDOVER_NAME, target->name);
    message_put_text(message, HANDOVER_REQUEST, target->request);
}

static int get_target(const struct message *message, struct probe_target *ret_target)
{
    size_t n = 0, one = sizeof(ret_target->at[0].address);
    const unsigned char *all = message_get(message, HANDOVER_TARGET, &n);

    if (all == NULL || n == 0 || n % one != 0 || n / one > PROBE_ADDRESSES)
        return -EPROTO;
    ret_target->count = n / one;
    for (size_t i = 0; i < ret_target->count; i++) {
        memcpy(&ret_target->at[i].address, all + i * one, one);
        ret_target->at[i].length = length_of(ret_target->at[i].address.ss_family);
        if (ret_target->at[i].length == 0)
            return -EPROTO;
    }
    (void)message_get_text(message, HANDOVER_NAME, ret_target->name, sizeof(ret_target->name));
    (void)message_get_text(message, HANDOVER_REQUEST, ret_target->request,
                           sizeof(ret_target->request));
    return 0;
}

static int get_user(const struct message *message, struct app_user *ret_user)
{
    size_t n = 0;
    uint64_t uid = message_get_number(message, HANDOVER_UID, UINT64_MAX);
    uint64_t gid = message_get_number(message, HANDOVER_GID, UINT64_MAX);
    const void *groups = message_get(message, HANDOVER_GROUPS, &n);

    /* To the system calls, UINT32_MAX means "no user". */
    if (uid >= UINT32_MAX || gid >= UINT32_MAX || groups == NULL || n % sizeof(gid_t) != 0 ||
        n > sizeof(ret_user->groups))
        return -EPROTO;
    ret_user->uid = (uid_t)uid;
    ret_user->gid = (gid_t)gid;
    ret_user->group_count = n / sizeof(gid_t);
    memcpy(ret_user->groups, groups, n);
    return 0;
}

void app_message_put(const struct app_settings *settings, struct message *message)
{
    const struct app_user *user = &settings->user;

    put_target(&settings->target, message);
    message_put_number(message, HANDOVER_PORT, settings->port);
    message_put_number(message, HANDOVER_START_TIMEOUT_NS, settings->rules.start_timeout_ns);
    message_put_number(message, HANDOVER_GRACE_NS, settings->rules.grace_ns);
    message_put_number(message, HANDOVER_TRIES_AGAIN, settings->rules.restart);
    message_put_number(message, HANDOVER_UID, user->uid);
    message_put_number(message, HANDOVER_GID, user->gid);
    message_put(message, HANDOVER_GROUPS, user->groups, user->group_count * sizeof(gid_t));
}

int app_message_get(const struct message *message, struct app_settings *ret_settings)
{
    struct app_settings got = {.has_user = true};

    if (get_target(message, &got.target) != 0 || get_user(message, &got.user) != 0)
        return -EPROTO;
    uint64_t port = message_get_number(message, HANDOVER_PORT, UINT64_MAX);
    uint64_t start_ns = message_get_number(message, HANDOVER_START_TIMEOUT_NS, CLOCK_NEVER);
    uint64_t grace_ns = message_get_number(message, HANDOVER_GRACE_NS, CLOCK_NEVER);
    if (port > UINT16_MAX || start_ns == CLOCK_NEVER || grace_ns == CLOCK_NEVER)
        return -EPROTO;
    got.port = (uint16_t)port;
    got.rules.start_timeout_ns = start_ns;
    got.rules.grace_ns = grace_ns;
    got.rules.restart = message_get_number(message, HANDOVER_TRIES_AGAIN, 0) != 0;
    *ret_settings = got;
    return 0;
}

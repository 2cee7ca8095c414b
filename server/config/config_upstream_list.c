#include "config_p.h"

#include <string.h>
#include <sys/un.h>

#include "fastcgi.h"
#include "proxy.h"

/* The upstreams of a route: the value of `proxy.reverse.url`, or of `fastcgi.connect`. */

static int read_url(h2o_configurator_command_t *cmd, yoml_t *node, h2o_url_t *ret_url)
{
    static const struct sockaddr_un address;
    const char *path =
        node->type == YOML_TYPE_SCALAR ? strstr(node->data.scalar, "//[unix:") : NULL;

    if (path != NULL && strcspn(path + 8, "]") >= sizeof(address.sun_path))
        return config_fail(cmd, node, "the path of a Unix socket must have 1 to %zu bytes",
                           sizeof(address.sun_path) - 1);
    if (node->type == YOML_TYPE_SCALAR && h2o_url_parse(node->data.scalar, SIZE_MAX, ret_url) == 0)
        return 0;
    return config_fail(cmd, node,
                       "failed to parse URL %s: want http://HOST:PORT/PATH, https://HOST:PORT/PATH "
                       "or http://[unix:/SOCKET]/PATH",
                       node->type == YOML_TYPE_SCALAR ? node->data.scalar : "(not a text)");
}

/* `weight` and `backup`. Returns 1: the key is one of them; 0: it is not; -1. */
static int read_share(h2o_configurator_command_t *cmd, const char *name, yoml_t *value,
                      struct proxy_member *member)
{
    uint64_t weight;

    if (strcmp(name, "weight") == 0) {
        if (config_get_number(cmd, value, 1, GROUP_WEIGHT_MAX, &weight) != 0)
            return -1;
        member->weight = (unsigned)weight;
        return 1;
    }
    if (strcmp(name, "backup") != 0)
        return 0;
    if (value->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, value, "backup: want ON or OFF");
    return config_get_switch(cmd, value, &member->is_backup) == 0 ? 1 : -1;
}

/* A URL, or `{url: URL, weight: N, backup: ON}`. */
static int read_member(h2o_configurator_command_t *cmd, yoml_t *node, struct proxy_member *member,
                       yoml_t **ret_url)
{
    *member = (struct proxy_member){.weight = 1};
    *ret_url = node;
    if (node->type != YOML_TYPE_MAPPING)
        return read_url(cmd, node, &member->url);
    *ret_url = yoml_get(node, "url");
    if (*ret_url == NULL)
        return config_fail(cmd, node, "want a url in this mapping");
    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        yoml_t *value = node->data.mapping.elements[i].value;
        const char *name = key->type == YOML_TYPE_SCALAR ? key->data.scalar : "";
        int taken = read_share(cmd, name, value, member);
        if (taken < 0)
            return -1;
        if (taken == 0 && strcmp(name, "url") != 0)
            return config_unknown_key(cmd, key, "url, weight, backup");
    }
    return read_url(cmd, *ret_url, &member->url);
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b)
{
    return h2o_memis(a.base, a.len, b.base, b.len) != 0;
}

/* Does the last one go with those before it? */
static int check_last(h2o_configurator_command_t *cmd, yoml_t *node,
                      const struct proxy_members *members)
{
    const struct proxy_member *last = &members->list[members->count - 1];
    h2o_iovec_t path = members->list[0].url.path;

    if (!is_same(last->url.path, path))
        return config_fail(cmd, node,
                           "%s has another path than the first URL: all of a list need the path "
                           "%.*s",
                           node->data.scalar, (int)path.len, path.base);
    for (size_t i = 0; i + 1 < members->count; i++)
        if (last->url.scheme == members->list[i].url.scheme &&
            is_same(last->url.authority, members->list[i].url.authority))
            return config_fail(cmd, node, "%s is there twice: give it a weight of 2 instead",
                               node->data.scalar);
    return 0;
}

static bool is_any_primary(const struct proxy_members *members)
{
    for (size_t i = 0; i < members->count; i++)
        if (!members->list[i].is_backup)
            return true;
    return false;
}

static size_t count_of(h2o_configurator_command_t *cmd, yoml_t *node)
{
    size_t count = node->type == YOML_TYPE_SEQUENCE ? node->data.sequence.size : 1;

    if (count >= 1 && count <= GROUP_MEMBERS_MAX)
        return count;
    (void)config_fail(cmd, node, "%zu upstreams: want 1 to %d", count, GROUP_MEMBERS_MAX);
    return 0;
}

static yoml_t *item_of(yoml_t *node, size_t i)
{
    return node->type == YOML_TYPE_SEQUENCE ? node->data.sequence.elements[i] : node;
}

static bool check_primary(h2o_configurator_command_t *cmd, yoml_t *node,
                          const struct proxy_members *members)
{
    if (is_any_primary(members))
        return true;
    (void)config_fail(cmd, node, "all upstreams are backups: want one without backup: ON");
    return false;
}

yoml_t *config_read_upstreams(h2o_configurator_command_t *cmd, yoml_t *node,
                              struct proxy_members *members, bool (*is_app)(void *, const char *),
                              void *data, bool *ret_has_app)
{
    size_t count = count_of(cmd, node);
    yoml_t *first = NULL, *url = NULL;

    *ret_has_app = false;
    if (count == 0)
        return NULL;
    for (members->count = 0; members->count < count;) {
        size_t i = members->count;
        if (read_member(cmd, item_of(node, i), &members->list[i], &url) != 0)
            return NULL;
        members->count++;
        if (check_last(cmd, url, members) != 0)
            return NULL;
        *ret_has_app |= is_app(data, url->data.scalar);
        if (i == 0)
            first = url;
    }
    return check_primary(cmd, node, members) ? first : NULL;
}

/* ---- FastCGI ---- */

/* What libh2o reads of an item, and what we do. */
static int read_application(h2o_configurator_command_t *cmd, yoml_t *node,
                            struct proxy_member *member)
{
    size_t size = node->type == YOML_TYPE_MAPPING ? node->data.mapping.size : 0;

    *member = (struct proxy_member){.weight = 1};
    for (size_t i = 0; i < size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        const char *name = key->type == YOML_TYPE_SCALAR ? key->data.scalar : "";
        if (read_share(cmd, name, node->data.mapping.elements[i].value, member) < 0)
            return -1;
    }
    return 0;
}

int config_register_fastcgi(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                            yoml_t *node, struct proxy_members *members,
                            h2o_configurator_command_cb library)
{
    size_t count = count_of(cmd, node);

    if (count == 0)
        return -1;
    if (node->type == YOML_TYPE_SEQUENCE && strcmp(cmd->name, "fastcgi.spawn") == 0)
        return config_fail(cmd, node,
                           "a list: want one command; fastcgi.connect takes several applications");
    for (members->count = 0; members->count < count; members->count++)
        if (read_application(cmd, item_of(node, members->count), &members->list[members->count]) !=
            0)
            return -1;
    if (!check_primary(cmd, node, members))
        return -1;
    fastcgi_set_members(members);
    for (size_t i = 0; i < count; i++) {
        if (library(cmd, ctx, item_of(node, i)) != 0)
            return -1;
        if (!fastcgi_is_member_new())
            return config_fail(cmd, item_of(node, i),
                               "this application is there twice: give it a weight of 2 instead");
    }
    return 0;
}

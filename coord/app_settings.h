#ifndef LASTCALL_APP_SETTINGS_H
#define LASTCALL_APP_SETTINGS_H

/* What the configuration says of the application, its command apart, and as whom it runs. A server
 * fills it in. Where a master has the application (master_app.h), which reads no configuration, its
 * worker sends it as HANDOVER_APP. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "app_rules.h"
#include "handover.h"
#include "probe.h"

#define APP_GROUPS_MAX 512

/* Numbers, not a name: between fork(2) and execve(2) nobody can be looked up. */
struct app_user {
    uid_t uid;
    gid_t gid;
    gid_t groups[APP_GROUPS_MAX];
    size_t group_count;
};

struct app_settings {
    struct probe_target target;
    uint16_t port; /* PORT for it; 0: none */
    struct app_rules_config rules;
    bool has_user; /* false: it runs as whoever starts it */
    struct app_user user;
};

/* Who this process is.     Thread: any.     Errors: 0; -E2BIG, in more groups than that. */
int app_user_get(struct app_user *ret_user);

/* Become `user` for good; being it already is enough.
 * Thread: any, async-signal-safe, in a child that has no other.     Errors: 0; a negative errno. */
int app_user_become(const struct app_user *user);

/* As fields of `message`.     Thread: the message's owner. */
void app_settings_put(const struct app_settings *settings, struct handover_message *message);

/* And back.     Thread: the message's owner.     Errors: 0; -EPROTO, something is missing. */
int app_settings_get(const struct handover_message *message, struct app_settings *ret_settings);

#endif

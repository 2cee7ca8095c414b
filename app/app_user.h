#ifndef LASTCALL_APP_USER_H
#define LASTCALL_APP_USER_H

/* The user that the application runs as. */

#include <stddef.h>
#include <sys/types.h>

#define APP_GROUPS_MAX 512

/* Numbers, not names: between fork(2) and execve(2) a name cannot be looked up. */
struct app_user {
    uid_t uid;
    gid_t gid;
    gid_t groups[APP_GROUPS_MAX];
    size_t group_count;
};

/* The user of this process.
 * Thread: any.     Errors: 0; -E2BIG, it is in more than APP_GROUPS_MAX groups. */
int app_user_get(struct app_user *ret_user);

/* Become `user`, without a way back. Does nothing if this process already is that user.
 * Thread: any, async-signal-safe, in a child with one thread.     Errors: 0; a negative errno. */
int app_user_become(const struct app_user *user);

#endif

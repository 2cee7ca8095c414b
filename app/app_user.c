#include "app_user.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

int app_user_get(struct app_user *ret_user)
{
    int count = getgroups(APP_GROUPS_MAX, ret_user->groups);

    if (count < 0)
        return errno == EINVAL ? -E2BIG : -errno;
    ret_user->uid = geteuid();
    ret_user->gid = getegid();
    ret_user->group_count = (size_t)count;
    return 0;
}

int app_user_become(const struct app_user *user)
{
    if (getuid() == user->uid && geteuid() == user->uid)
        return 0;
    /* The groups first: setuid(2) takes the right to change them. */
    if (setgroups(user->group_count, user->groups) != 0 || setgid(user->gid) != 0 ||
        setuid(user->uid) != 0)
        return -errno;
    return 0;
}

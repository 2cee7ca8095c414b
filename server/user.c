#include "user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool user_become(const char *name, char *error, size_t error_size)
{
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (user == NULL) {
        (void)snprintf(error, error_size, "cannot become user %s: %s", name,
                       errno != 0 ? strerrordesc_np(errno) : "there is none");
        return false;
    }
    if (getuid() == user->pw_uid && geteuid() == user->pw_uid)
        return true;
    /* The groups first: afterwards we may not. */
    if (initgroups(name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
        setuid(user->pw_uid) == 0)
        return true;
    (void)snprintf(error, error_size, "cannot become user %s: %s (that takes root)", name,
                   strerrordesc_np(errno));
    return false;
}

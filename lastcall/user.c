#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool user_become(const char *name, char *error, size_t error_size)
{
    errno = 0;
    const struct passwd *user = getpwnam(name);
    if (user == NULL) {
        (void)snprintf(error, error_size, "cannot become user %s: %s", name,
                       errno != 0 ? strerrordesc_np(errno) : "no such user");
        return false;
    }
    if (getuid() == user->pw_uid && geteuid() == user->pw_uid)
        return true;
    /* The groups first: after setuid(2) it is too late. */
    if (initgroups(name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
        setuid(user->pw_uid) == 0)
        return true;
    (void)snprintf(error, error_size, "cannot become user %s: %s (only root can)", name,
                   strerrordesc_np(errno));
    return false;
}

/* Open the folder around `path`, and find the last part of the path. -1: other users may write in
 * that folder. */
static int open_parent(const char *path, char *copy, size_t size, const char **ret_name)
{
    struct stat st;
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    int used = snprintf(copy, size, "%.*s", (int)n, path);
    char *slash = used > 0 && (size_t)used < size ? strrchr(copy, '/') : NULL;
    if (slash == NULL || slash == copy || slash[1] == '\0')
        return -1;
    *slash = '\0';
    *ret_name = slash + 1;
    int fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

bool user_may_make_folder(const char *path)
{
    char copy[PATH_MAX];
    const char *name;
    struct stat st;
    int fd = geteuid() == 0 ? open_parent(path, copy, sizeof(copy), &name) : -1;

    if (fd < 0)
        return false;
    bool is_missing = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
    (void)close(fd);
    return is_missing;
}

void user_make_folder(const char *name, const char *path)
{
    char copy[PATH_MAX];
    const char *last;
    const struct passwd *user = getpwnam(name);
    int fd = user != NULL ? open_parent(path, copy, sizeof(copy), &last) : -1;

    if (fd < 0)
        return;
    if (mkdirat(fd, last, 0700) == 0 &&
        fchownat(fd, last, user->pw_uid, user->pw_gid, AT_SYMLINK_NOFOLLOW) != 0)
        (void)unlinkat(fd, last, AT_REMOVEDIR);
    (void)close(fd);
}

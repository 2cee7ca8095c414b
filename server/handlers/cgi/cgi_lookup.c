#include "cgi_lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_TRIES 8

/* ---- the path ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next character of `*at`. A `%` that no two digits follow stands for itself, as in libh2o. */
static char decode(const char **at)
{
    const char *from = *at;
    int high = from[0] == '%' ? hex_value(from[1]) : -1;
    int low = high >= 0 ? hex_value(from[2]) : -1;

    *at += low >= 0 ? 3 : 1;
    return low >= 0 ? (char)(high * 16 + low) : from[0];
}

/* The segment that `path` ends with is done: drop it if it is "." or "..", and what ".." goes up
 * from. `n` includes the slash before it; the new length. */
static size_t settle_segment(const char *path, size_t begin, size_t n)
{
    size_t bytes = n - begin;

    if (bytes == 1 && path[begin] == '.')
        return begin;
    if (bytes != 2 || path[begin] != '.' || path[begin + 1] != '.')
        return n;
    if (begin == 1)
        return 1;
    n = begin - 1; /* the slash before the dots */
    while (path[n - 1] != '/')
        n--;
    return n;
}

int cgi_resolve_path(const char *target, char path[PATH_MAX])
{
    size_t n = 1, begin = 1;

    if (target[0] != '/')
        return -EINVAL;
    path[0] = '/';
    for (const char *at = target + 1; *at != '\0' && *at != '?';) {
        char c = decode(&at);
        if (c == '\0')
            return -EINVAL;
        if (c == '/') {
            size_t settled = settle_segment(path, begin, n);
            bool is_kept = settled == n;
            n = settled;
            if (is_kept) {
                if (n + 2 > PATH_MAX)
                    return -ENAMETOOLONG;
                path[n++] = '/';
            }
            begin = n;
            continue;
        }
        if (n + 2 > PATH_MAX)
            return -ENAMETOOLONG;
        path[n++] = c;
    }
    n = settle_segment(path, begin, n);
    path[n] = '\0';
    return 0;
}

/* ---- the file ---- */

/* Kernels before 5.6, and some filters of system calls, lack openat2(2): then no link is followed,
 * for nothing tells where it leads. */
static int open_below(int dir_fd, const char *name, bool any_link)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

    if (any_link)
        return openat(dir_fd, name, O_PATH | O_CLOEXEC);
    int fd, tries = 0;
    do /* EAGAIN: something was renamed meanwhile */
        fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
    while (fd < 0 && errno == EAGAIN && ++tries < OPEN_TRIES);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = openat(dir_fd, name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    return fd;
}

/* EXDEV: a link leads out of the folder. ELOOP: links in a circle. */
static int status_of_error(int err)
{
    switch (err) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return 404;
    case EACCES:
    case EPERM:
    case EXDEV:
    case ELOOP:
        return 403;
    default:
        return 500;
    }
}

/* What is `name`, relative to the folder? 0: a folder; -1: a script; else a status. */
static int look_at(int dir_fd, const char *name, bool any_link)
{
    struct stat st;
    int fd = open_below(dir_fd, name, any_link);

    if (fd < 0)
        return status_of_error(errno);
    int err = fstat(fd, &st) == 0 ? 0 : errno;
    (void)close(fd);
    if (err != 0)
        return status_of_error(err);
    if (S_ISDIR(st.st_mode))
        return 0;
    if (!S_ISREG(st.st_mode) || faccessat(dir_fd, name, X_OK, AT_EACCESS) != 0)
        return 403;
    return -1;
}

/* The segment of `path` that begins at `at` and its slash; NULL: a name that is not served. */
static const char *end_of_segment(const char *at)
{
    size_t n = strcspn(at, "/");

    return n > 0 && at[0] != '.' ? at + n : NULL;
}

static bool fill(struct cgi_script *script, const char *dir, const char *mount, const char *rest,
                 size_t bytes)
{
    int n = snprintf(script->path, sizeof(script->path), "%s/%.*s", dir, (int)bytes, rest);
    int m = snprintf(script->name, sizeof(script->name), "%s/%.*s", mount, (int)bytes, rest);

    if (n < 0 || (size_t)n >= sizeof(script->path) || m < 0 || (size_t)m >= sizeof(script->name))
        return false;
    (void)snprintf(script->info, sizeof(script->info), "%s", rest + bytes);
    (void)memcpy(script->folder, script->path, (size_t)n + 1);
    *strrchr(script->folder, '/') = '\0';
    return true;
}

/* Between this look and execve(2) the file may be another one. Who can exchange it may write to the
 * folder of the scripts, and so can have any program started as it is. */
int cgi_lookup(const char *dir, int dir_fd, const char *mount, bool any_link, const char *path,
               struct cgi_script *ret_script)
{
    size_t mount_bytes = strlen(mount);
    char name[PATH_MAX];

    if (strncmp(path, mount, mount_bytes) != 0 || path[mount_bytes] != '/')
        return 404;
    const char *rest = path + mount_bytes + 1, *at = rest;
    for (;;) {
        const char *end = end_of_segment(at);
        if (end == NULL)
            return 404;
        size_t bytes = (size_t)(end - rest);
        memcpy(name, rest, bytes);
        name[bytes] = '\0';
        int what = look_at(dir_fd, name, any_link);
        if (what == -1)
            return fill(ret_script, dir, mount, rest, bytes) ? 0 : 404;
        if (what != 0 || *end == '\0') /* a folder has no index */
            return what != 0 ? what : 404;
        at = end + 1;
    }
}

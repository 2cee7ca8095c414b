#include "request_p.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* A body into a file that appears whole or not at all.
 *
 * The file has no name while it is written (O_TMPFILE), so a process that dies leaves nothing
 * behind. linkat(2) gives it the name; where that name exists, it gets one of its own first, and
 * rename(2) puts it in the other's place. A symbolic link of that name is replaced and not
 * followed. Where the file system has no O_TMPFILE (NFS, FUSE), the file has a name of its own from
 * the begin,
 * ".lc-" and 16 digits, which a process that dies leaves behind. */

#define OWN_NAME 24

static int open_unnamed(int dirfd)
{
    int fd = openat(dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);

    return fd >= 0 ? fd : -errno;
}

static int make_name(char name[OWN_NAME])
{
    uint64_t number;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return -EIO;
    (void)snprintf(name, OWN_NAME, ".lc-%016llx", (unsigned long long)number);
    return 0;
}

static int open_named(int dirfd, char name[OWN_NAME])
{
    int err = make_name(name);

    if (err != 0)
        return err;
    int fd = openat(dirfd, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0666);
    return fd >= 0 ? fd : -errno;
}

static int write_bytes(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, bytes, count);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            bytes += n;
            count -= (size_t)n;
        }
    }
    return 0;
}

/* ---- the name ---- */

static int put_in_place(int dirfd, const char *own, const char *name, bool is_new)
{
    int err = is_new ? renameat2(dirfd, own, dirfd, name, RENAME_NOREPLACE)
                     : renameat(dirfd, own, dirfd, name);

    if (err == 0)
        return 0;
    err = -errno;
    if (is_new && err == -EINVAL) { /* a file system without RENAME_NOREPLACE */
        err = linkat(dirfd, own, dirfd, name, 0) == 0 ? 0 : -errno;
        (void)unlinkat(dirfd, own, 0);
        return err;
    }
    (void)unlinkat(dirfd, own, 0);
    return err;
}

/* linkat(2) with AT_EMPTY_PATH wants a capability; by /proc it wants none. */
static int give_name(int fd, int dirfd, const char *name, bool is_new)
{
    char path[64], own[OWN_NAME];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno != EEXIST || is_new)
        return -errno;
    int err = make_name(own);
    if (err == 0 && linkat(AT_FDCWD, path, dirfd, own, AT_SYMLINK_FOLLOW) != 0)
        err = -errno;
    return err == 0 ? put_in_place(dirfd, own, name, false) : err;
}

static int sync_folder(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    int err = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return err;
}

static int finish(const struct exchange *exchange, int fd, bool is_synced)
{
    int err = write_bytes(fd, exchange->body, exchange->body_bytes);

    if (err == 0 && is_synced && fsync(fd) != 0)
        err = -errno;
    return err;
}

static int save_unnamed(const struct exchange *exchange, int dirfd, const char *name,
                        unsigned flags)
{
    int fd = open_unnamed(dirfd);

    if (fd < 0)
        return fd;
    int err = finish(exchange, fd, (flags & LC_SYNC) != 0);
    if (err == 0)
        err = give_name(fd, dirfd, name, (flags & LC_NEW) != 0);
    (void)close(fd);
    return err;
}

static int save_named(const struct exchange *exchange, int dirfd, const char *name, unsigned flags)
{
    char own[OWN_NAME];
    int fd = open_named(dirfd, own);

    if (fd < 0)
        return fd;
    int err = finish(exchange, fd, (flags & LC_SYNC) != 0);
    (void)close(fd);
    if (err == 0)
        return put_in_place(dirfd, own, name, (flags & LC_NEW) != 0);
    (void)unlinkat(dirfd, own, 0);
    return err;
}

/* One component: a client's text must not lead out of the folder. */
static bool is_name(const char *name)
{
    return name != NULL && *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

int lc_save_body(lc_req *req, int dirfd, const char *name, unsigned flags)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (!is_name(name) || (flags & ~(LC_SYNC | LC_NEW)) != 0)
        return LC_E_ARG;
    int err = save_unnamed(request->exchange, dirfd, name, flags);
    /* No O_TMPFILE (open(2)), or no /proc. */
    if (err == -EOPNOTSUPP || err == -EISDIR || err == -ENOENT)
        err = save_named(request->exchange, dirfd, name, flags);
    if (err == 0 && (flags & LC_SYNC) != 0)
        err = sync_folder(dirfd);
    return err;
}

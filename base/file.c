#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "clock.h"

#define LINKS_MOST 40 /* the kernel's limit */
#define NAMES_TRIED 100

/* ---- where a path leads ---- */

/* The last component of a path, and the folder that it is in. */
struct place {
    int dir_fd;
    char name[NAME_MAX + 1];
    bool is_magic; /* a link in /proc that stands for an open file instead of a name */
};

struct walk {
    struct place *place;
    char rest[PATH_MAX]; /* what is left of the path */
    unsigned links;
};

static int go_to(struct place *place, const char *dir)
{
    int fd = openat(place->dir_fd, dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (place->dir_fd >= 0)
        (void)close(place->dir_fd);
    place->dir_fd = fd;
    return 0;
}

static bool is_trusted(const struct stat *link)
{
    return geteuid() != 0 || link->st_uid == 0;
}

static bool is_magic(int dir_fd, const char *target)
{
    struct statfs fs;

    /* /proc/self and similar ones are plain links to folders. */
    return fstatfs(dir_fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC &&
           (target[0] == '/' || strchr(target, ':') != NULL);
}

/* Replace the link by its target in the rest of the path. */
static int follow(struct walk *walk, int link_fd)
{
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t n = readlinkat(link_fd, "", target, sizeof(target) - 1);

    if (n < 0)
        return -errno;
    target[n] = '\0';
    if (walk->rest[0] == '\0' && is_magic(walk->place->dir_fd, target)) {
        walk->place->is_magic = true;
        return 0;
    }
    if (++walk->links > LINKS_MOST)
        return -ELOOP;
    (void)strcpy(rest, walk->rest);
    if (snprintf(walk->rest, sizeof(walk->rest), "%s%s%s", target, rest[0] != '\0' ? "/" : "",
                 rest) >= (int)sizeof(walk->rest))
        return -ENAMETOOLONG;
    return target[0] == '/' ? go_to(walk->place, "/") : 0;
}

/* Take the next component off the rest of the path. */
static int next_name(struct walk *walk)
{
    const char *begin = walk->rest + strspn(walk->rest, "/");
    size_t n = strcspn(begin, "/");

    if (n > NAME_MAX)
        return -ENAMETOOLONG;
    (void)snprintf(walk->place->name, sizeof(walk->place->name), "%.*s", (int)n, begin);
    begin += n;
    memmove(walk->rest, begin, strlen(begin) + 1);
    return n == 0 ? -EISDIR : 0;
}

/* See link note. */
static int step(struct walk *walk)
{
    struct place *place = walk->place;
    struct stat st;
    bool is_last = walk->rest[strspn(walk->rest, "/")] == '\0';
    int err = 0;

    if (is_last && walk->rest[0] != '\0') /* NAME/ */
        return -EISDIR;
    int fd = openat(place->dir_fd, place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && is_last ? 0 : -errno;
    if (fstat(fd, &st) != 0)
        err = -errno;
    else if (S_ISLNK(st.st_mode))
        err = !is_trusted(&st) ? -ELOOP : follow(walk, fd);
    else if (!is_last)
        err = go_to(place, place->name);
    (void)close(fd);
    return err;
}

/* Errors: 0, and place->dir_fd is the caller's; a negative errno. */
static int find_place(const char *path, struct place *place)
{
    struct walk walk = {.place = place};

    *place = (struct place){.dir_fd = AT_FDCWD};
    if (path[0] == '\0')
        return -ENOENT;
    if (strlen(path) >= sizeof(walk.rest))
        return -ENAMETOOLONG;
    (void)strcpy(walk.rest, path);
    int err = go_to(place, path[0] == '/' ? "/" : ".");
    while (err == 0 && !place->is_magic && walk.rest[0] != '\0') {
        err = next_name(&walk);
        if (err == 0)
            err = step(&walk);
    }
    if (err != 0 && place->dir_fd >= 0)
        (void)close(place->dir_fd);
    return err;
}

/* ---- opening ---- */

static int open_place(const struct place *place, int flags, mode_t mode)
{
    int follow = place->is_magic ? 0 : O_NOFOLLOW;
    int fd = openat(place->dir_fd, place->name, flags | follow | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                    mode);
    return fd >= 0 ? fd : -errno;
}

/* For /dev/stdout and similar names, duplicate the descriptor itself. Opening the file again would
 * start at another offset, and may be forbidden: a pipe may belong to another user.
 * Returns a descriptor; -ENOENT it is not one of our descriptors. */
static int dup_own(const struct place *place)
{
    struct stat named, open_one;
    char *end;
    long n = strtol(place->name, &end, 10);

    if (!place->is_magic || *end != '\0' || n < 0 || n > INT_MAX ||
        fstatat(place->dir_fd, place->name, &named, 0) != 0 || fstat((int)n, &open_one) != 0 ||
        named.st_dev != open_one.st_dev || named.st_ino != open_one.st_ino)
        return -ENOENT;
    int fd = fcntl((int)n, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 ? fd : -errno;
}

int file_open(const char *path, int flags, mode_t mode)
{
    struct place place;
    int err = find_place(path, &place);

    if (err != 0)
        return err;
    int fd = open_place(&place, flags, mode);
    (void)close(place.dir_fd);
    return fd;
}

static int open_log_at(const struct place *place)
{
    struct stat st;
    int fd = dup_own(place);

    if (fd != -ENOENT)
        return fd;
    fd = open_place(place, O_CREAT | O_WRONLY | O_APPEND, 0644);
    if (fd == -ENXIO) /* a FIFO without a reader; on Linux O_RDWR opens it */
        fd = open_place(place, O_RDWR | O_APPEND, 0);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) == 0 && !S_ISFIFO(st.st_mode) && fcntl(fd, F_SETFL, O_APPEND) != 0) {
        int err = -errno;
        (void)close(fd);
        return err;
    }
    return fd;
}

int file_open_log(const char *path)
{
    struct place place;
    int err = find_place(path, &place);

    if (err != 0)
        return err;
    int fd = open_log_at(&place);
    (void)close(place.dir_fd);
    return fd;
}

int file_open_regular(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    (void)close(fd);
    return -ENOTSUP;
}

int file_sync_folder(const char *dir)
{
    int err = 0, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fsync(fd) != 0 && errno != EINVAL) /* the file system does not support it */
        err = -errno;
    (void)close(fd);
    return err;
}

/* ---- writing ---- */

/* Write at most what a pipe takes whole once it is writable. So the write does not wait, even where
 * the descriptor is shared and cannot be made non-blocking. */
static int write_through(int fd, const char *text)
{
    const uint64_t until_ns = clock_now_ns() + FILE_WAIT_MS * NS_PER_MS;
    size_t left = strlen(text);

    while (left > 0) {
        struct pollfd door = {.fd = fd, .events = POLLOUT};
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= until_ns)
            return -ETIMEDOUT;
        int ready = poll(&door, 1, clock_poll_ms(now_ns, until_ns));
        if (ready <= 0)
            continue;
        ssize_t n = write(fd, text, left < PIPE_BUF ? left : PIPE_BUF);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

static int write_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

/* In the same folder, so that rename(2) works. */
static int make_temporary(int dir_fd, const char *name, char *temporary, size_t size)
{
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        uint32_t number = 0;
        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
            number = (uint32_t)clock_now_ns();
        (void)snprintf(temporary, size, "%.*s.%08x", (int)(size - 10), name, number);
        int fd =
            openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd >= 0 ? fd : -errno;
    }
    return -EEXIST;
}

static int replace(const struct place *place, const char *text, mode_t mode)
{
    char temporary[NAME_MAX + 1];
    int fd = make_temporary(place->dir_fd, place->name, temporary, sizeof(temporary));

    if (fd < 0)
        return fd;
    int err = write_all(fd, text);
    if (err == 0 && fchmod(fd, mode) != 0)
        err = -errno;
    if (close(fd) != 0 && err == 0)
        err = -errno;
    if (err == 0 && renameat(place->dir_fd, temporary, place->dir_fd, place->name) != 0)
        err = -errno;
    if (err != 0) /* report the first error */
        (void)unlinkat(place->dir_fd, temporary, 0);
    return err;
}

/* What is at the name: 0, a regular file or nothing; 1, something to write to directly; a negative
 * errno. */
static int look_at(const struct place *place)
{
    struct stat st;

    if (place->is_magic)
        return 1;
    if (fstatat(place->dir_fd, place->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISREG(st.st_mode))
        return 0;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        return 1;
    return S_ISDIR(st.st_mode) ? -EISDIR : S_ISLNK(st.st_mode) ? -ELOOP : -ENOTSUP;
}

/* Check again after opening: it may be a disk by now. */
static int open_through(const struct place *place)
{
    struct stat st;
    int fd = dup_own(place);

    if (fd == -ENOENT)
        fd = open_place(place, O_WRONLY | O_APPEND, 0);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) == 0 && !S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
        return fd;
    (void)close(fd);
    return -ENOTSUP;
}

int file_write_whole_as(const char *path, const char *text, mode_t mode)
{
    struct place place;
    int err = find_place(path, &place);

    if (err != 0)
        return err;
    int how = look_at(&place);
    if (how == 0) {
        err = replace(&place, text, mode);
    } else if (how < 0) {
        err = how;
    } else {
        int fd = open_through(&place);
        err = fd >= 0 ? write_through(fd, text) : fd;
        if (fd >= 0)
            (void)close(fd);
    }
    (void)close(place.dir_fd);
    return err;
}

int file_write_whole(const char *path, const char *text)
{
    return file_write_whole_as(path, text, 0644);
}

int file_check_writable(const char *path)
{
    struct place place;
    int err = find_place(path, &place);

    if (err != 0)
        return err;
    int how = look_at(&place);
    if (how < 0)
        err = how;
    else if (how == 0 && faccessat(place.dir_fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        err = -errno;
    else if (how > 0 && !place.is_magic &&
             faccessat(place.dir_fd, place.name, W_OK, AT_EACCESS) != 0)
        err = -errno;
    (void)close(place.dir_fd);
    return err;
}

const char *file_error_text(int err)
{
    switch (err) {
    case -ELOOP:
        return "a symbolic link in the path does not belong to root, or links form a loop"
               " (name the file itself)";
    case -ENXIO:
        return "the FIFO has no reader";
    case -ENOTSUP:
        return "it is neither a file, a FIFO nor a character device";
    case -ETIMEDOUT:
        return "its reader did not read it in time";
    default:
        return strerrordesc_np(-err);
    }
}

void file_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

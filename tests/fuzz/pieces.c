#include "pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PARTED_BY 0x1e

static const uint8_t *all;
static size_t all_size;
static bool is_on;
static struct rlimit files;

static void limit_files(rlim_t limit)
{
    const struct rlimit some = {.rlim_cur = limit, .rlim_max = files.rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &some);
}

void pieces_begin(const uint8_t *bytes, size_t size)
{
    all = bytes;
    all_size = size;
    is_on = true;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    limit_files(0);
}

void pieces_end(void)
{
    is_on = false;
    limit_files(files.rlim_cur);
}

static bool find(char name, const uint8_t **ret_at, size_t *ret_size)
{
    const uint8_t *at = all, *end = all + all_size;

    for (char piece = 'a';; piece++) {
        const uint8_t *stop = at < end ? memchr(at, PARTED_BY, (size_t)(end - at)) : NULL;
        if (piece == name) {
            *ret_at = at;
            *ret_size = (size_t)((stop != NULL ? stop : end) - at);
            return true;
        }
        if (stop == NULL)
            return false;
        at = stop + 1;
    }
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    const uint8_t *at;
    size_t size;

    if (!is_on) {
        va_list args;
        va_start(args, flags);
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
        va_end(args);
        return __real_open(path, flags, mode);
    }
    if (strlen(path) != 1 || path[0] < 'a' || path[0] > 'z' || !find(path[0], &at, &size)) {
        errno = ENOENT;
        return -1;
    }
    limit_files(files.rlim_cur);
    int fd = memfd_create("piece", MFD_CLOEXEC);
    limit_files(0);
    if (fd >= 0 && (write(fd, at, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)) {
        (void)close(fd);
        errno = EIO;
        return -1;
    }
    return fd;
}

#include "standard_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static bool was_closed[STDERR_FILENO + 1]; /* immutable after standard_fds_fill */

void standard_fds_fill(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        was_closed[fd] = true;
        /* open(2) returns the lowest free number, and those below are in use by now. The descriptor
         * stays open across execve(2), as descriptors 0 to 2 do. Where /dev/null does not exist, a
         * descriptor that can neither be read nor written keeps the number in use. */
        /* NOLINTBEGIN(android-cloexec-open) */
        if (open("/dev/null", O_RDWR) < 0)
            (void)open("/", O_PATH);
        /* NOLINTEND(android-cloexec-open) */
    }
}

bool standard_fds_was_closed(int fd)
{
    return fd >= STDIN_FILENO && fd <= STDERR_FILENO && was_closed[fd];
}

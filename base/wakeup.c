#include "wakeup.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int wakeup_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

void wakeup_ring(int fd)
{
    const uint64_t one = 1;
    (void)!write(fd, &one, sizeof(one)); /* EAGAIN: the counter is full, so it is readable */
}

void wakeup_drain(int fd)
{
    uint64_t count;
    (void)!read(fd, &count, sizeof(count)); /* EAGAIN: no ring since the last drain */
}

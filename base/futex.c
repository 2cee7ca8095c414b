#include "futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"

bool futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
    const struct timespec until = clock_timespec(deadline_ns);
    /* With the bitset variant the time is absolute, on CLOCK_MONOTONIC. */
    long err = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
                       deadline_ns == UINT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return err == 0 || errno != ETIMEDOUT;
}

void futex_wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

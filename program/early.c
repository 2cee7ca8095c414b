#include "early.h"

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Only system calls: a sanitizer replaces functions of the C library, and its replacements are not
 * ready yet. The kernel's signal set has a bit for each of 64 signals. */

#define BIT(signo) (UINT64_C(1) << ((signo)-1))

static uint64_t mask_before; /* immutable after early_block */

static void early_block(void)
{
    uint64_t set = BIT(SIGHUP) | BIT(SIGUSR1) | BIT(SIGUSR2);

    (void)syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &mask_before, sizeof(set)); /* cannot fail */
}

/* The dynamic linker runs it before all constructors, also those of libraries. */
__attribute__((section(".preinit_array"), used)) static void (*const at_start)(void) = early_block;

void early_undo(void)
{
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask_before, NULL, sizeof(mask_before));
}

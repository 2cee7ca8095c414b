#ifndef LASTCALL_TEST_FAULT_H
#define LASTCALL_TEST_FAULT_H

/* Ways for a process to end that it does not choose. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Make one thread of a child, whose name begins with `thread`, go on at address 0, which faults, or
 * in abort(3). It is the thread that dies of it, wherever it was, not a signal from outside.
 * Returns false where ptrace(2) is not allowed, or not known for this machine. */
bool fault_in_thread(pid_t pid, const char *thread, bool by_abort);

/* Put a child into a memory cgroup of its own with room for so much more than it has now.
 * Returns false where there is none to be had. */
bool fault_limit_memory(pid_t pid, uint64_t more_bytes);

/* The same by RLIMIT_AS: malloc(3) fails then, and libh2o calls abort(3). */
bool fault_limit_addresses(pid_t pid, uint64_t more_bytes);

/* Take the cgroup away again, once the child has ended. */
void fault_clean(void);

#endif

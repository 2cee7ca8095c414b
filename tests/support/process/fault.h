#ifndef LASTCALL_TEST_FAULT_H
#define LASTCALL_TEST_FAULT_H

/* Ways for a process to end that it does not choose. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Make one thread of a child, whose name begins with `thread`, go on at address 0, which faults, or
 * in abort(3). It is the thread that dies of it, wherever it was, not a signal from outside.
 * Returns false where ptrace(2) is not allowed, or not known for this machine. */
bool fault_in_thread(pid_t pid, const char *thread, bool by_abort);

/* Stop one thread of a child, whose name begins with `thread`: it looks like one that waits for
 * ever in a system call, or never returns from a library. `hold` is the caller's.
 * Returns false where ptrace(2) is not allowed. */
struct fault_hold {
    pid_t tid;
    pthread_t reaper;
    atomic_bool let_go;
};

bool fault_hold_thread(struct fault_hold *hold, pid_t pid, const char *thread);

/* Stop a loop's thread where epoll_wait(2) has just returned without an event, for the second time
 * since `from_ns` (CLOCK_MONOTONIC): what happens now, the loop sees only in its next turn, and its
 * timers run before. The first of these turns was a whole one. */
bool fault_hold_turn(struct fault_hold *hold, pid_t pid, const char *thread, uint64_t from_ns);

/* It goes on, if it still can. On the thread that has held it. */
void fault_let_go(struct fault_hold *hold);

/* Put a child into a memory cgroup of its own, with that much room above what it uses now.
 * Returns false where no such cgroup can be created. */
bool fault_limit_memory(pid_t pid, uint64_t more_bytes);

/* The same by RLIMIT_AS: malloc(3) fails then, and libh2o calls abort(3). */
bool fault_limit_addresses(pid_t pid, uint64_t more_bytes);

/* Take the cgroup away again, once the child has ended. */
void fault_clean(void);

#endif

#ifndef LASTCALL_TEST_THREADS_H
#define LASTCALL_TEST_THREADS_H

/* The threads of another process, by their names. */

#include <stdint.h>
#include <sys/types.h>

/* The id of one whose name begins with `name`; 0: there is none. */
pid_t thread_named(pid_t pid, const char *name);

/* The processor time in nanoseconds that it has used, see proc(5), schedstat. 0: it has ended. */
uint64_t used_ns_of_thread(pid_t pid, pid_t tid);

/* The scheduling policy that all threads have whose name begins with `name`, see sched(7).
 * -1: their policies differ, or there is no such thread. */
int policy_of_threads(pid_t pid, const char *name);

/* Wait until it is `want`: a thread changes its name and its policy one after the other. Fails the
 * test after a minute. */
void wait_policy_of_threads(pid_t pid, const char *name, int want);

#endif

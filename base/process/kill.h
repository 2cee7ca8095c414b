#ifndef LASTCALL_KILL_H
#define LASTCALL_KILL_H

/* kill(2), with its result in the log. A parent that is root may still lack the right to signal a
 * child that runs as another user: that takes CAP_KILL, which a service manager or a container may
 * have dropped. If such a failure were silent, the child would seem not to obey. */

#include <stdbool.h>
#include <sys/types.h>

/* Send `signo` to process `pid`, or to process group -`pid`. `what` names it in the log, such as
 * "worker". Returns false, after one line in the log, if kill(2) failed; true also where the
 * process has ended already.     Thread: any.     Blocks: on the log. */
bool kill_process(pid_t pid, int signo, const char *what);

/* Does process `pid` (or group -`pid`) exist? One that this process may not signal does.
 * Thread: any. */
bool kill_finds(pid_t pid);

#endif

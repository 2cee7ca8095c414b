#ifndef LASTCALL_CHILD_H
#define LASTCALL_CHILD_H

/* Child processes: the environment that they start with, and their end.
 *
 * waitpid(2) can fail with ECHILD for a child that did exist: the kernel reaped it, because SIGCHLD
 * was ignored, or another part of the program waited for it. The child is gone then, and its status
 * is lost. A caller that took this error for "still running" would wait for ever. */

#include <stdbool.h>
#include <sys/types.h>

#define CHILD_LOST (-1) /* instead of a status of waitpid(2); no macro of wait(2) accepts it */

/* The environment for a child: ours without the variables for which `is_left_out` returns true,
 * and with `extra` (`NAME=value`; NULL: nothing).
 * Owner:  the caller, free(3) of the array only: it points to our variables and to `extra`.
 * Thread: before another one calls setenv(3).     Errors: NULL without memory. */
char **child_environment(bool (*is_left_out)(const char *variable), char *extra);

/* Has `pid` ended? Then it is reaped, and *ret_status is its status, or CHILD_LOST.
 * Thread: any.     Blocks: never. */
bool child_has_ended(pid_t pid, int *ret_status);

/* `was ended by SIGKILL`, `exited with status 3`. Returns `text`.     Thread: any. */
#define CHILD_TEXT_SIZE 80
const char *child_describe(int status, char text[CHILD_TEXT_SIZE]);

/* The exit status that a shell would report: 0 to 255; EXIT_STATUS_UNAVAILABLE for CHILD_LOST.
 * Thread: any. */
int child_exit_status(int status);

#endif

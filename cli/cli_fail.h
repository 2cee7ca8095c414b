#ifndef LASTCALL_CLI_FAIL_H
#define LASTCALL_CLI_FAIL_H

/* The error messages of the commands: `lastcall COMMAND: ...` on standard error. */

#include <stdbool.h>
#include <sysexits.h>

/* Set the command's name for the messages (borrowed).     Thread: main only. */
void cli_fail_set_command(const char *name);

/* Print one message and return `status`.     Thread: main only. */
int cli_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* While muted, cli_fail() prints nothing: for a step that the command tries again.
 * Thread: main only. */
void cli_fail_mute(bool on);

#endif

#ifndef LASTCALL_CLI_LAUNCH_H
#define LASTCALL_CLI_LAUNCH_H

/* How the program `lastcall` becomes `lastcall-cli` when its first argument is a command.
 *
 * The commands are a program of their own, installed beside lastcall, so that the server does not
 * load the libraries that only the commands need. */

#include <stdbool.h>

/* Does argv[1] name a command?     Thread: main only. */
bool cli_names_command(int argc, char **argv);

/* exec lastcall-cli if argv[1] names a command.
 * Thread: main only.
 * Errors: returns -1 if argv[1] names no command; if exec failed, it prints why and returns the
 *         exit status. */
int cli_run(int argc, char **argv);

/* Print one line of help for each command.     Thread: main only. */
void cli_print_commands(void);

#endif

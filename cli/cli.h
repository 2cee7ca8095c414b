#ifndef LASTCALL_CLI_H
#define LASTCALL_CLI_H

/* The commands of the program, `lastcall COMMAND ...`: what an operator does to a server that runs
 * somewhere else, or to what one has left behind. They are a program of their own, lastcall-cli,
 * which lies beside lastcall: so a server carries none of the libraries that only they need, and
 * is started and gone the sooner. */

/* Become the program that carries out argv[1], if that names a command. Returns only if it does not
 * (-1), or if there is no such program: then with the status to leave with, it was said.
 * Thread: main only. */
int cli_run(int argc, char **argv);

/* The commands with a line each, for --help.     Thread: main only. */
void cli_print_commands(void);

#endif

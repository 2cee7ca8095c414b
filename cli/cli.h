#ifndef LASTCALL_CLI_H
#define LASTCALL_CLI_H

/* The commands of the program, `lastcall COMMAND ...`: what an operator does to a server that runs
 * somewhere else, or to what one has left behind. A command is its own process, with one thread; it
 * uses coord's clock, log and file formats, and nothing of the server. */

/* Carry out argv[1] if it names a command. Returns the status to leave with, or -1: it names none,
 * so this is to be a server.     Thread: main only. */
int cli_run(int argc, char **argv);

/* The commands with a line each, for --help.     Thread: main only. */
void cli_print_commands(void);

#endif

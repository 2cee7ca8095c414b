#ifndef LASTCALL_CLI_P_H
#define LASTCALL_CLI_P_H

/* What the commands share: how one is named, reads its options and fails. The statuses are those of
 * sysexits(3), beside the ones that a command documents. */

#include <stdbool.h>
#include <stddef.h>
#include <sysexits.h>

/* A command: gets its own name as argv[0] and returns the status to leave with. */
struct cli_command {
    const char *name;
    int (*run)(int argc, char **argv);
};

/* Carry out argv[1] if it names a command. Returns the status to leave with, or -1: it names none.
 * Thread: main only. */
int cli_carry_out(int argc, char **argv);

/* Its option, with a value (`text` is set) or without (`flag` is set). */
struct cli_option {
    const char *name;
    const char *argument; /* as --help shows it; NULL: none */
    const char *help;     /* one line */
    const char **text;    /* borrows from argv */
    bool *flag;
};

struct cli_usage {
    const char *synopsis; /* `drain [OPTION]...` */
    const char *about;    /* what it does, in lines of at most 100 columns, each with its end */
    const struct cli_option *options;
    size_t option_count;
};

/* Options, and nothing else, into where the rows point; --help is added. Returns -1: go on, or the
 * status to leave with, and then all has been said.     Thread: main only. */
int cli_parse(int argc, char **argv, const struct cli_usage *usage);

/* Say `lastcall COMMAND: ...` on standard error, and return `status`.     Thread: main only. */
int cli_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

int cli_drain(int argc, char **argv);
int cli_undrain(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif

#ifndef LASTCALL_CLI_OPTIONS_H
#define LASTCALL_CLI_OPTIONS_H

/* The options of a command: a table of flags (flags.h) and the texts around it in --help. */

#include "flags.h"

struct cli_usage {
    struct flags flags;   /* cli_parse() sets program, target and column */
    const char *command;  /* `drain` */
    const char *synopsis; /* `drain [OPTION]...` */
    const char *about;    /* above the options: lines of at most 100 columns, each ends in \n */
    const char *after;    /* below them; NULL: nothing */
};

/* The row that ends every table. */
#define CLI_HELP_FLAG                                                                              \
    {                                                                                              \
        .name = "help", .letter = 'h', .kind = FLAG_ACTION, .help = "print this help and exit",    \
        .act = cli_print_help                                                                      \
    }

/* Print the synopsis, the texts and the options of the struct cli_usage that `flags` begins.
 * Thread: main only. */
void cli_print_help(const struct flags *flags);

/* Parse options into `target`; no other arguments are allowed.
 * Owner:  texts are borrowed from argv.     Thread: main only.
 * Errors: -1 continue; otherwise the exit status, after the message has been printed. */
int cli_parse(int argc, char **argv, struct cli_usage *usage, void *target);

/* Print `lastcall COMMAND: ...; see lastcall COMMAND --help` on standard error. Returns EX_USAGE.
 * Thread: main only. */
#define cli_usage_error(usage, ...) flags_usage(&(usage)->flags, __VA_ARGS__)

#endif

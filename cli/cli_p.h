#ifndef LASTCALL_CLI_P_H
#define LASTCALL_CLI_P_H

#include "cli.h"

/* A command: gets its own name as argv[0] and returns the status to leave with. */
struct cli_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* one line */
};

#endif

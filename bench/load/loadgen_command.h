#ifndef LASTCALL_LOADGEN_COMMAND_H
#define LASTCALL_LOADGEN_COMMAND_H

/* The command line of lastcall-load. */

#include "loadgen.h"

/* Exit statuses; those from 64 on are of sysexits.h(3head). */
enum { EXIT_LOST = 1, EXIT_USAGE = 64, EXIT_UNAVAILABLE = 69, EXIT_OSERR = 71 };

struct load_command {
    struct load_options load; /* the strings are those of argv */
    int signal;               /* for load.server_pid */
    bool json;
    bool until_signal;          /* SIGTERM ends the load */
    const char *timeline_path;  /* NULL: none */
    const char *latencies_path; /* NULL: none */
};

/* Parse argv. --help and --version print to stdout, an error prints one line to stderr.
 * Thread: main only.
 * Errors: -1 continue; otherwise the exit status. */
int load_command_parse(int argc, char **argv, struct load_command *ret_command);

#endif

#ifndef LASTCALL_OPTIONS_H
#define LASTCALL_OPTIONS_H

/* The command line. One table holds name, type, unit, bounds, default and help; the parser, --help
 * and the messages about bad values all read it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"

#define OPTIONS_LISTEN_MAX 64

struct options {
    const char *listen[OPTIONS_LISTEN_MAX];
    size_t listen_count;
    uint64_t threads;
    uint64_t workers;
    uint64_t queue;
    uint64_t max_connections;
    uint64_t deadline_ns;
    uint64_t lame_duck_ns;
    uint64_t idle_grace_ns;
    uint64_t linger_ns;
    uint64_t settle_max_ns;
    const char *root;
    const char *cert;
    const char *key;
    const char *report;
    const char *pid_file;
    enum log_format log_format;
    bool quiet;
};

/* Returns -1 to go on with *ret_options, or the status to leave with: 0 after --help and --version,
 * COORD_EXIT_USAGE after one line on standard error. Texts point into argv.
 * Thread: main only. */
int options_parse(int argc, char **argv, struct options *ret_options);

#endif

#ifndef LASTCALL_OPTIONS_H
#define LASTCALL_OPTIONS_H

/* The command line. One table holds name, type, unit, bounds, default and help; the parser, --help
 * and the messages about bad values all read it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inherit.h"
#include "log.h"

#define OPTIONS_LISTEN_MAX 64
#define OPTIONS_ROWS_MAX 128

enum options_mode {
    OPTIONS_MODE_WORKER, /* this process serves */
    OPTIONS_MODE_TEST,   /* as --test */
    OPTIONS_MODE_MASTER, /* this process watches one that serves */
    OPTIONS_MODE_DAEMON, /* the same, and whoever started it does not wait */
};

struct options {
    bool given[OPTIONS_ROWS_MAX]; /* the flags that were, by their row in the table */
    const char *conf;             /* NULL: the flags are all there is */
    bool test;                    /* check, do not serve */
    enum options_mode mode;
    bool stands_in_for_h2o; /* called by that name: h2o's limits apply where a file sets none */
    const char *listen[OPTIONS_LISTEN_MAX];
    size_t listen_count;
    uint64_t threads;
    uint64_t workers;
    uint64_t queue;
    uint64_t max_connections; /* accept no more than this; 0: as many as files allow */
    uint64_t deadline_ns;
    uint64_t lame_duck_ns;
    uint64_t idle_grace_ns;  /* in a drain: how long an idle connection may begin a request */
    uint64_t linger_ns;      /* how long a closed connection may still send or read */
    uint64_t settle_max_ns;  /* how long closing a listener may take */
    uint64_t tcp_fastopen;   /* length of the queue; 0: off */
    const char *root;        /* serve this directory under /files/; NULL: do not */
    const char *proxy;       /* hand requests on to this URL; NULL: do not */
    const char *cert, *key;  /* PEM files, for --listen tls:; both or neither */
    const char *when_exists; /* the triggers of watch.h; NULL and -1: none */
    const char *when_stale;
    uint64_t stale_after_ns;
    int when_closed;
    const char *report;
    const char *pid_file;
    const char *user;      /* become this one; NULL: stay */
    const char *error_log; /* NULL: standard error stays what it is */
    enum log_format log_format;
    bool quiet;
    uint64_t restart_timeout_ns;   /* for a successor to get ready */
    uint64_t restart_probation_ns; /* for it to show that it stays */
    bool generation_header;        /* answers say which generation gave them */

    /* No settings: what this process was born with. Written by main() before it is used. */
    struct inheritance *inheritance; /* NULL: none */
    int conns_fd;                    /* connections of a predecessor come here; -1 */
    uint64_t generation;             /* 1 at first */
};

/* Returns -1 to go on with *ret_options, or the status to leave with: 0 after --help and --version,
 * COORD_EXIT_USAGE after one line on standard error. Texts point into argv.
 * Thread: main only. */
int options_parse(int argc, char **argv, struct options *ret_options);

#define OPTIONS_WANT_SIZE 160

/* Is there a directive `num-threads`, `drain.deadline`, ... for one of the settings?
 * Thread: any. */
bool options_has_directive(const char *directive);

#define OPTIONS_NAMES_SIZE 256

/* Are there directives `GROUP.something`?     Thread: any. */
bool options_has_group(const char *group);

/* The keys of that group, for a message; `names` is room for them, OPTIONS_NAMES_SIZE bytes.
 * Thread: any. */
const char *options_names_of_group(const char *group, char *names);

/* Set what a file says, unless a flag has the last word. `text` is borrowed for as long as
 * *options. Returns NULL, or what is wanted instead of `text`; `want` is room for that,
 * OPTIONS_WANT_SIZE bytes. Thread: main only. */
const char *options_set_directive(struct options *options, const char *directive, const char *text,
                                  char *want);

#endif

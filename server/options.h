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
#define OPTIONS_NAME_MAX 48

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
    uint64_t max_bodies;      /* bytes; of the requests in the pool, and of those that are held */
    uint64_t max_connections; /* accept no more than this; 0: as many as files allow */
    uint64_t deadline_ns;
    uint64_t lame_duck_ns;
    uint64_t idle_grace_ns; /* in a drain: how long an idle connection may begin a request */
    uint64_t spread_ns;     /* in a drain: let go of what idles over so long; 0: at once */
    uint64_t tunnel_ns, stream_ns, upload_ns; /* deadlines of their own; 0: deadline_ns */
    uint64_t grace_budget_ns;                 /* whoever stops us waits so long; 0: not known */
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
    const char *heartbeat; /* touch this file; NULL: none */
    uint64_t heartbeat_every_ns;
    uint64_t stall_ns;             /* what does not move for so long is said to; 0: nobody looks */
    char *const *command;          /* the application, behind `--`; NULL: none is started */
    const char *app_url;           /* where it answers; with flags that is `proxy` */
    const char *app_health;        /* ask for this path; NULL: a connection is enough */
    uint64_t app_start_timeout_ns; /* to answer for the first time */
    uint64_t app_hold_ns;          /* how long a request waits for it */
    uint64_t app_grace_ns;         /* between SIGTERM and SIGKILL */
    bool app_restart;
    const char *journal_dir;     /* the in-flight record and the archive; NULL: none is kept */
    const char *journal_methods; /* lists with commas: see journal_config, journal.h */
    const char *journal_paths;
    const char *journal_redact;
    uint64_t journal_max_body;
    uint64_t journal_max_inflight_bytes;
    bool journal_msync;
    bool journal_hold;
    const char *report;
    const char *journal_redis_url; /* and a stream in Redis, see queue.h; NULL: none */
    const char *journal_redis_password_file;
    const char *journal_redis_stream;
    uint64_t journal_redis_maxlen; /* 0: no bound */
    const char *register_url;      /* in Redis, see registration.h; NULL: nowhere */
    const char *register_password_file;
    const char *register_key;
    const char *register_address;
    const char *register_value;
    uint64_t register_ttl_ns;
    const char *pid_file;
    const char *user;             /* become this one; NULL: stay */
    const char *error_log;        /* NULL: standard error stays what it is */
    const char *admin;            /* its address, or "off"; NULL: the usual socket */
    const char *admin_name;       /* NULL: after the first listener */
    const char *admin_token_file; /* NULL: no orders over TCP */
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

/* May a file give it several values, which are then one text with commas?     Thread: any. */
bool options_is_list(const char *directive);

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

#ifndef LASTCALL_OPTIONS_H
#define LASTCALL_OPTIONS_H

/* The options of the process, from the command line and the configuration file. One table holds
 * name, type, bounds, default and help of each (options_table.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "flags.h"
#include "inherit.h"
#include "log.h"

#define OPTIONS_LISTEN_MAX 64
#define OPTIONS_PROXY_MAX 16
#define OPTIONS_ROWS_MAX FLAGS_ROWS_MAX

enum options_mode {
    OPTIONS_MODE_WORKER, /* this process serves */
    OPTIONS_MODE_TEST,   /* as --test */
    OPTIONS_MODE_MASTER, /* this process watches over one that serves */
    OPTIONS_MODE_DAEMON, /* the same, detached from the terminal */
};

/* A directive that stands in no file, but was set by a call. */
struct options_extra {
    const char *path; /* the path it belongs to, as "/files"; NULL: to the whole server */
    const char *name, *value;
    bool overrides; /* what the file says */
};

struct config_front;

struct options {
    bool given[OPTIONS_ROWS_MAX]; /* the flags that were given, by row of the table */
    const char *conf;             /* NULL: no file, only flags */
    bool test;                    /* check, do not serve */
    enum options_mode mode;
    bool stands_in_for_h2o; /* started under that name: h2o's limit of a body is the default, and
                             * host_may_differ holds (server_config.h) */
    bool has_own_routes;    /* a program's routes answer (user_route.h): no demo routes */
    const char *listen[OPTIONS_LISTEN_MAX];
    size_t listen_count;
    uint64_t threads;
    uint64_t workers;
    uint64_t queue;
    uint64_t max_bodies;        /* bytes; for requests in the pool, and as much for held ones */
    uint64_t stream_bytes;      /* that a handler may write ahead of its client */
    uint64_t max_header_fields; /* of a request, see h2_headers.c */
    uint64_t max_header_size;   /* bytes: names, values, and 32 for each field */
    uint64_t max_header_block;  /* bytes, as HTTP/2 sends them */
    uint64_t max_arriving;      /* bytes of arriving bodies; 0: see bodies.c */
    uint64_t progress_rate;     /* bytes a second that a client must send or take; 0: no minimum */
    uint64_t progress_window_ns;
    uint64_t progress_head_ns; /* HTTP/2: until a header is complete */
    uint64_t progress_idle_ns; /* HTTP/2: without a stream */
    uint64_t max_connections;  /* 0: as many as the limit on open files allows */
    uint64_t deadline_ns;
    uint64_t lame_duck_ns;
    uint64_t idle_grace_ns; /* in a drain: an idle connection may begin a request for this long */
    uint64_t spread_ns;     /* in a drain: close idle connections over this time; 0: at once */
    uint64_t tunnel_ns, stream_ns, upload_ns; /* deadlines of classes; 0: deadline_ns */
    uint64_t force_after_ns;                  /* signals closer together than this are one */
    uint64_t grace_budget_ns;             /* the supervisor's patience with a stop; 0: unknown */
    uint64_t linger_ns;                   /* a closed connection is kept for its client this long */
    uint64_t settle_max_ns;               /* how long closing a listener may take */
    uint64_t tcp_fastopen;                /* length of the queue; 0: off */
    const char *root;                     /* serve this directory under /files/; NULL: do not */
    const char *proxy[OPTIONS_PROXY_MAX]; /* hand requests on to these URLs, in turn */
    size_t proxy_count;
    const char *cert, *key;  /* PEM files, for --listen tls:; both or neither */
    const char *when_exists; /* the triggers of watch.h; NULL and -1: none */
    const char *when_stale;
    uint64_t stale_after_ns;
    int when_closed;
    const char *heartbeat; /* touch this file; NULL: none */
    uint64_t heartbeat_every_ns;
    uint64_t stall_ns;             /* the watchdog's limit; 0: no watchdog */
    char *const *command;          /* the application, after `--`; NULL: none is started */
    const char *app_url;           /* where it answers; without a file the first of `proxy` */
    const char *app_health;        /* the path of its health check; NULL: a connection is enough */
    uint64_t app_start_timeout_ns; /* until it answers for the first time */
    uint64_t app_hold_ns;          /* how long a request waits for it */
    uint64_t app_grace_ns;         /* between SIGTERM and SIGKILL */
    bool app_restart;
    const char *journal_dir;     /* the in-flight record and the archive; NULL: no journal */
    const char *journal_methods; /* lists with commas: see journal_config, journal.h */
    const char *journal_paths;
    const char *journal_redact;
    uint64_t journal_max_body;
    uint64_t journal_max_inflight_bytes;
    bool journal_msync;
    bool journal_hold;
    const char *report;
    const char *journal_redis_url; /* a stream in Redis, see queue.h; NULL: none */
    const char *journal_redis_password_file;
    const char *journal_redis_stream;
    uint64_t journal_redis_maxlen; /* 0: no bound */
    const char *register_url;      /* in Redis, see registration.h; NULL: no registration */
    const char *register_password_file;
    const char *register_key;
    const char *register_address;
    const char *register_value;
    uint64_t register_ttl_ns;
    const char *pid_file;
    const char *trusted_proxies; /* "10.0.0.0/8, ::1": see trust.h; NULL: not set */
    const char *user;            /* become this user; NULL: do not change */
    const char *error_log;       /* NULL: standard error */
    const char *admin;      /* the admin listener's address, or "off"; NULL: the usual socket */
    const char *admin_name; /* NULL: after the first listener */
    const char *admin_token_file; /* NULL: no orders over TCP */
    enum log_format log_format;
    bool quiet;
    uint64_t restart_timeout_ns;   /* for a successor to get ready */
    uint64_t restart_probation_ns; /* for it to show that it stays */
    bool generation_header;        /* answers carry Lastcall-Generation */

    /* Not settings: of a server of the library, which lc_set() and the like fill. */
    const struct config_front *front;  /* handlers that the configuration may name; NULL: none */
    bool is_embedded;                  /* the process is not the server's own */
    const struct options_extra *extra; /* in their order; borrowed */
    size_t extra_count;
    int listen_error; /* why an address of `listen` could not be opened: a negative errno */

    /* Not settings: what this process inherited. main() writes them before they are read. */
    struct inheritance *inheritance; /* NULL: none */
    int conns_fd;                    /* connections of the predecessor arrive here; -1: none do */
    uint64_t generation;             /* 1, and one more with each restart */
    pid_t master_pid;                /* the master that started this worker; 0: none */
    /* for programs that the server starts: the limit before it was raised, in this process or in
     * the first one of a line of restarts; rlim_max 0: as it is */
    struct rlimit files;
};

/* Returns -1: go on with *ret_options; or the exit status: 0 after --help and --version,
 * EXIT_STATUS_USAGE after one line on standard error. Texts point into argv.
 * Thread: main only. */
int options_parse(int argc, char **argv, struct options *ret_options);

/* The defaults alone.     Thread: any. */
void options_init(struct options *ret_options);

#define OPTIONS_WANT_SIZE FLAGS_WANT_SIZE

/* Is there a directive `num-threads`, `drain.deadline`, ... for one of the settings?
 * Thread: any. */
bool options_has_directive(const char *directive);

/* May a file give it a list of values, which become one text with commas?     Thread: any. */
bool options_is_list(const char *directive);

#define OPTIONS_NAMES_SIZE 256

/* Are there directives `GROUP.something`?     Thread: any. */
bool options_has_group(const char *group);

/* The keys of that group, for a message; `names` is room for them, OPTIONS_NAMES_SIZE bytes.
 * Thread: any. */
const char *options_names_of_group(const char *group, char *names);

/* Set a value as a flag does: a file does not change it; or, unless `is_last`, may change it.
 * As options_set_directive().     Thread: any. */
const char *options_override(struct options *options, const char *directive, const char *text,
                             bool is_last, char *want);

/* Set a value of a file, unless a flag overrides it. `text` is borrowed for as long as
 * *options. Returns NULL, or what is wanted instead of `text`; `want` is room for that,
 * OPTIONS_WANT_SIZE bytes. Thread: main only. */
const char *options_set_directive(struct options *options, const char *directive, const char *text,
                                  char *want);

#endif

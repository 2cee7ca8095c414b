#ifndef LASTCALL_ADMIN_P_H
#define LASTCALL_ADMIN_P_H

/* What the files of the admin listener share: admin.c the sockets and the thread, admin_api.c
 * requests and who may order what, admin_status.c the state of things as JSON, admin_events.c those
 * who watch it. Everything here belongs to the admin thread unless it says otherwise. */

#include "admin.h"
#include "log.h"
#include "restarter.h"
#include "server_p.h"

#define ADMIN_CONNS_MAX 64
#define ADMIN_STREAMS_MAX 16
#define ADMIN_TOKEN_BYTES 32 /* SHA-256 of the secret */

struct admin_stream;

struct admin_listener {
    struct admin *admin;
    int fd; /* a dup(2) of the listener's */
    h2o_socket_t *sock;
    bool is_unix;
};

/* One connection, found from its socket through on_close.data. */
struct admin_conn {
    struct admin *admin;
    h2o_linklist_t link; /* admin->conns: who has been silent longest comes first */
    h2o_socket_t *sock;
    bool is_unix;
    bool pushed_out;             /* shut down, to be closed as soon as the library lets go of it */
    bool owes;                   /* an answer: it is new, or has sent a request */
    struct admin_stream *stream; /* the request is one for /events */
};

/* What /status and /events show of requests, and when it was asked for. */
struct admin_oldest {
    struct coord_requests list;
    uint64_t listed_ns;
    uint64_t good_until_ns;
};

struct admin_sample {
    uint64_t at_ns;
    uint64_t answered;
};
#define ADMIN_SAMPLES 16

struct admin {
    /* immutable after admin_open */
    const struct options *options;
    struct server *server;
    struct listener_list listeners;
    int wake_fd; /* eventfd */
    bool has_token;
    unsigned char token[ADMIN_TOKEN_BYTES];
    char started_wall[CLOCK_TEXT_SIZE + 8];
    uint64_t started_ns;
    /* immutable after admin_start */
    struct pool *pool;
    struct coord *coord;
    pthread_t thread;
    bool runs;
    struct restarter *restarter; /* NULL: no restarts; written before admin_accept() */

    /* admin thread */
    h2o_globalconf_t globalconf;
    h2o_context_t ctx;
    h2o_evloop_t *evloop;
    h2o_accept_ctx_t accept_ctx;
    h2o_socket_t *wake_sock;
    struct admin_listener *accepting; /* listeners.count of them */
    bool accept_paused;
    h2o_timeout_t retry_ticks;
    h2o_timeout_entry_t retry_timer;
    h2o_linklist_t conns; /* struct admin_conn, link */
    unsigned conn_count;
    unsigned owed;          /* conns of which `owes` is set */
    h2o_linklist_t streams; /* struct admin_stream, link */
    unsigned stream_count;
    h2o_timeout_t stream_ticks;
    h2o_timeout_entry_t stream_timer;
    unsigned stream_turn;
    struct admin_oldest oldest;
    char *unfinished; /* what /unfinished said last; NULL: nothing yet */
    uint64_t unfinished_good_until_ns;
    struct admin_sample samples[ADMIN_SAMPLES]; /* a ring, to tell requests a second */
    size_t sample_next;

    /* atomic: release by main or the restarter, acquire by the admin thread, behind the eventfd */
    _Atomic bool want_exit;
    _Atomic bool accepts;  /* since admin_accept() */
    _Atomic bool followed; /* listeners that stay are the successor's */
    /* atomic: relaxed, written by the admin thread; main asks whether anybody is to be told */
    _Atomic unsigned watchers;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t told;
    bool deaf;          /* wake_fd is closed, or about to be */
    bool farewell_said; /* who watches has been told the exit status */
    bool leaves;        /* main waits for `rests` */
    bool rests;         /* accepts no more, and owes nobody an answer */
    bool ended;         /* the thread has nothing more to do */
};

/* ---- admin.c ---- */

/* The connection was heard of: it is not the one to go when there are too many. */
void admin_conn_touch(struct admin_conn *conn);
struct admin_conn *admin_conn_of(h2o_req_t *req);
/* A request was read: it is owed an answer until it is disposed of; or none, since it will be
 * answered for as long as it wishes. */
void admin_conn_owes(struct admin_conn *conn, h2o_req_t *req);
void admin_conn_owes_nothing(struct admin_conn *conn);

/* ---- admin_api.c ---- */

/* Register the one handler there is.     Thread: admin, before the context is made. */
void admin_api_register(struct admin *admin);

/* ---- admin_status.c ---- */

/* The body of /status.     Owner: the caller, free(3); NULL without memory. */
char *admin_status_text(struct admin *admin);
/* Ready for more requests, as /readyz and the page say. */
bool admin_is_ready(struct admin *admin);

/* ---- admin_unfinished.c ---- */

/* The body of /unfinished, where there is a journal.
 * Owner: the caller, free(3); NULL, and *ret_error is a negative errno, or 0 without memory. */
char *admin_unfinished_text(struct admin *admin, int *ret_error);

/* ---- admin_events.c ---- */

/* Answer a request for /events. */
void admin_events_begin(struct admin *admin, h2o_req_t *req);
/* The phase has changed, or a trigger was noted. */
void admin_events_step(struct admin *admin);
/* Have a stream notice that its socket was shut down. */
void admin_events_nudge(struct admin_stream *stream);
/* End all of them. */
void admin_events_stop(struct admin *admin);

#endif

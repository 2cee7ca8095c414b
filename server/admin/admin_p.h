#ifndef LASTCALL_ADMIN_P_H
#define LASTCALL_ADMIN_P_H

/* What the files of the admin listener share:
 *
 *     admin_open.c        address, sockets and token, while the process may be root
 *     admin.c             the thread and its end
 *     admin_conns.c       connections, from accept to close
 *     admin_api.c         the table of paths, and one request
 *     admin_answer.c      writing answers
 *     admin_orders.c      POST: permission, the body, the orders
 *     admin_questions.c   GET: probes, status, metrics, the page
 *     admin_status.c      the state of the process as JSON
 *     admin_unfinished.c  the archive as JSON
 *     admin_events.c      streams of the status
 *     admin_share.c       the address, when a process starts while another one drains
 *
 * Everything here belongs to the admin thread unless it says otherwise. */

#include "admin.h"
#include "log.h"
#include "restarter.h"
#include "server_state.h"
#include "container_of.h"

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
    h2o_linklist_t link; /* admin->conns: the one that has been silent longest comes first */
    h2o_socket_t *sock;
    bool is_unix;
    bool pushed_out;             /* shut down; the library closes it soon */
    bool owes;                   /* its client waits for an answer, or has just connected */
    bool asks;                   /* its client waits for an answer */
    struct admin_stream *stream; /* its request is for /events; else NULL */
};

/* The oldest requests, for /status and /events. */
struct admin_oldest {
    struct coord_requests list;
    uint64_t listed_ns;
    uint64_t good_until_ns;
};

#define ADMIN_ADDRESS_SIZE 256

struct admin_sample {
    uint64_t at_ns;
    uint64_t answered;
};
#define ADMIN_SAMPLES 16

struct admin {
    /* immutable after admin_open */
    struct admin_config config;
    struct server *server;
    struct listener_list listeners;
    int wake_fd;                      /* eventfd */
    char address[ADMIN_ADDRESS_SIZE]; /* as configured; of the usual socket: unix:PATH */
    bool has_token;
    unsigned char token[ADMIN_TOKEN_BYTES];
    char started_wall[CLOCK_TEXT_SIZE + 8];
    uint64_t started_ns;
    /* immutable after admin_start */
    struct pool *pool;
    struct coord *coord;
    pthread_t thread;
    bool runs;
    /* atomic: release by main, acquire by the admin thread. A successor may have to accept before
     * it is written. NULL: no restarts, or not yet */
    _Atomic(struct restarter *) restarter;
    /* main, and the thread that calls admin_accept(), which main starts later and joins earlier */
    int lender_fd; /* the process that lent its listeners, until admin_accept(); -1: none */

    /* admin thread */
    h2o_globalconf_t globalconf;
    h2o_context_t ctx;
    h2o_evloop_t *evloop;
    h2o_accept_ctx_t accept_ctx;
    h2o_socket_t *wake_sock;
    h2o_socket_t *share_sock; /* a new process connects here, see admin_share.h; NULL: not open */
    h2o_socket_t *borrower_sock;      /* a new process that does not accept yet; NULL: none */
    struct admin_listener *accepting; /* listeners.count elements */
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
    char *unfinished; /* the last answer of /unfinished; NULL: none yet */
    uint64_t unfinished_good_until_ns;
    struct admin_sample samples[ADMIN_SAMPLES]; /* a ring, for requests a second */
    size_t sample_next;

    /* atomic: release by main or the restarter, then the eventfd; acquire by the admin thread */
    _Atomic bool want_exit;
    _Atomic bool accepts;  /* since admin_accept() */
    _Atomic bool followed; /* a successor accepts on the listeners that stay */
    /* atomic: relaxed, written by the admin thread; main reads whether to wait for the last status
     */
    _Atomic unsigned watchers;
    _Atomic unsigned asked; /* relaxed, as `watchers`: conns of which `asks` is set */
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t told;
    bool closed;    /* wake_fd is closed, or about to be */
    bool last_sent; /* the watchers have got the exit status */
    bool leaves;    /* main waits for `rests` */
    bool is_lent;   /* a new process has the listeners, too: do not remove their files */
    bool rests;     /* accepts no more, and no client waits for an answer */
    bool ended;     /* the thread is done, join it */
};

/* ---- admin_conns.c ---- */

/* Start accepting, on this thread; and release that after the last connection. */
void admin_conns_init(struct admin *admin);
void admin_conns_release(struct admin *admin);
/* Shut all connections down. */
void admin_conns_cut(struct admin *admin);
void admin_pause_accepting(struct admin *admin);
void admin_resume_accepting(struct admin *admin);
/* Which listeners accept may have changed. */
void admin_accept_where_due(struct admin *admin);
/* If no client waits for an answer, tell admin_leave(). */
void admin_look_whether_at_rest(struct admin *admin);
/* Has admin_stop() been called?     Thread: any. */
bool admin_wants_exit(struct admin *admin);
/* The connection has sent something: it is no longer the most silent one. */
void admin_conn_touch(struct admin_conn *conn);
struct admin_conn *admin_conn_of(h2o_req_t *req);
/* A request was read: its client waits for an answer until the request is disposed of; or it does
 * not, because its answer has no end. */
void admin_conn_owes(struct admin_conn *conn, h2o_req_t *req);
void admin_conn_owes_nothing(struct admin_conn *conn);

/* ---- admin_api.c ---- */

/* Register the handler.     Thread: admin, before the context is made. */
void admin_api_register(struct admin *admin);

/* ---- admin_status.c ---- */

/* The body of /status.     Owner: the caller, free(3); NULL without memory. */
char *admin_status_text(struct admin *admin);
/* Ready for more requests, as /readyz says. */
bool admin_is_ready(struct admin *admin);

/* ---- admin_upstreams.c ---- */

/* An array: each upstream of each route.     Owner: the caller; NULL without memory. */
json_t *admin_upstreams(const struct server *server);

/* ---- admin_unfinished.c ---- */

/* The body of /unfinished, where there is a journal.
 * Owner: the caller, free(3); NULL, and *ret_error is a negative errno, or 0 without memory. */
char *admin_unfinished_text(struct admin *admin, int *ret_error);

/* ---- admin_events.c ---- */

/* Answer a request for /events. */
void admin_events_begin(struct admin *admin, h2o_req_t *req);
/* Send the status: the phase has changed, or a trigger was noted. */
void admin_events_step(struct admin *admin);
/* Make a stream notice that its socket was shut down. */
void admin_events_nudge(struct admin_stream *stream);
/* End all streams. */
void admin_events_stop(struct admin *admin);

#endif

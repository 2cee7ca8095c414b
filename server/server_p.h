#ifndef LASTCALL_SERVER_P_H
#define LASTCALL_SERVER_P_H

/* What the files of this folder share. One loop thread owns one struct loop with all its
 * connections, requests and jobs; other threads reach it through three doors only:
 *
 *     orders      atomic bits + a wake-up: "do this", from the coordinator or another loop
 *     done_jobs   a lock-free stack + a wake-up: finished jobs, from the workers
 *     counts      relaxed atomics, written by the loop alone, read by the coordinator
 *
 * File by file: loop.c the thread, its doors, accepting and closing listeners; conn.c a connection
 * from accept to close; linger.c what follows the close; gate.c a request from whole to disposed;
 * job.c the way to the pool and back; hold.c requests that wait for the application; onrecord.c
 * requests in the in-flight record, peek.c what is left in the kernel until it is there; letgo.c
 * how open connections end in a drain, giveup.c those whose deadline has come, pass.c how they go
 * on in a successor; tls.c certificates and records; tickets.c how TLS sessions are resumed;
 * config*.c what a file says; routes.c the handlers of our own; brotli.c a filter that the library
 * lacks; status.c our part of the status page; stall.c what does not move; server.c the loops as
 * one, and the coordinator's callbacks. */

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "h2o_api.h"

#include "coord.h"
#include "journal.h"
#include "listener.h"
#include "metrics.h"
#include "options.h"
#include "server.h"
#include "stall.h"
#include "tickets.h"
#include "tls.h"

/* Orders to a loop. Several at once are carried out from the lowest bit up; each is idempotent. */
enum loop_order {
    ORDER_LAME_DUCK = 1 << 0,       /* look at server->lame_duck */
    ORDER_CLOSING = 1 << 1,         /* count round-trip times, ignore the connection limit */
    ORDER_LEAVE_LISTENERS = 1 << 2, /* stop accepting; the loop that closes goes on */
    ORDER_CLOSE_LISTENERS = 1 << 3, /* accept dry and close; to the closing loop only */
    ORDER_FINISH = 1 << 4,          /* from now on: GOAWAY, report when quiet */
    ORDER_RELEASE_IDLE = 1 << 5,
    ORDER_RESUME_ACCEPT = 1 << 6, /* below the connection limit again */
    ORDER_LIST = 1 << 7,          /* make the list of requests */
    ORDER_FREEZE = 1 << 8,        /* stop answering, then make the list */
    ORDER_CUT = 1 << 9,           /* close every connection; only after ORDER_FREEZE */
    ORDER_EXIT = 1 << 10,         /* leave the thread */
    ORDER_PING = 1 << 11,         /* count one in `pongs` */
    ORDER_GIVE_UP = 1 << 12,      /* look at server->given_up */
    ORDER_LET_GO_ON = 1 << 13,    /* the application answers: requests that wait for it go on */
    ORDER_STOP_JOBS = 1 << 15,    /* raise the cancel flags; only after ORDER_FREEZE */
    ORDER_HAND_OVER = 1 << 14,    /* a successor takes the connections that idle */
};

/* Timers of a loop, by how long they take. libh2o looks at every list that exists in every turn, so
 * a list exists only once somebody needs it. */
enum loop_tick { TICK_1_MS, TICK_10_MS, TICK_100_MS, TICK_COUNT };

struct loop_counts {
    _Atomic uint64_t active;
    _Atomic uint64_t connections;
    _Atomic uint64_t lingering;
    _Atomic uint64_t answered;
    _Atomic uint64_t accepted;
    _Atomic uint64_t idle_released;
    _Atomic uint64_t given_up;
    _Atomic uint64_t shed;
    _Atomic uint64_t handed_over;
};

struct loop_listener {
    struct loop *loop;
    struct listener *listener;
    h2o_socket_t *sock; /* on a dup(2) of the listener's fd; NULL when left */
    h2o_accept_ctx_t accept_ctx;
};

struct job;
struct held;

/* A request from whole to disposed; lives in the request's memory pool. */
struct inflight {
    h2o_req_prefilter_t super;
    h2o_linklist_t link; /* loop->inflight, oldest first */
    h2o_req_t *req;
    struct loop *loop;
    struct conn *conn;
    struct job *job;           /* NULL: served inline */
    struct held *held;         /* NULL: it does not wait for the application */
    struct journal_slot *slot; /* NULL: it is not on record */
    bool given_up;             /* what comes of it is no answer any more */
    uint64_t begun_ns;
};

struct loop {
    /* immutable after start */
    struct server *server;
    unsigned index;
    pthread_t thread;
    int wake_fd; /* eventfd */
    h2o_evloop_t *evloop;
    h2o_context_t ctx;
    struct loop_listener *listeners; /* server->listeners.count of them */
    struct journal_part *journal;    /* NULL: nothing is kept on record */

    /* owner loop */
    pthread_t owner; /* this thread, as it knows itself; for assert_owner() */
    h2o_socket_t *wake_sock;
    h2o_linklist_t conns;            /* struct conn, link: open ones */
    h2o_linklist_t inflight;         /* struct inflight, link */
    h2o_linklist_t abandoned;        /* struct job, link: client gone, handler still running */
    h2o_linklist_t held;             /* struct held, link: oldest first */
    h2o_timeout_entry_t hold_timer;  /* has the oldest waited long enough? */
    h2o_timeout_t ticks[TICK_COUNT]; /* lists of timers, see h2o/timeout.h; made at first use */
    uint64_t now_ns;                 /* see loop_now_ns() */
    uint64_t now_of_turn;
    h2o_linklist_t lingering_fresh;   /* struct conn, linger_link */
    h2o_socket_t *linger_sock;        /* a timerfd; NULL before its first use */
    struct conn *closing_conn;        /* farewell.c: in a call of the library's */
    h2o_timeout_entry_t settle_timer; /* closing loop: is the accept queue still empty? */
    h2o_timeout_entry_t letgo_timer;
    h2o_timeout_entry_t retry_accept_timer;
    h2o_timeout_entry_t retry_take_timer;
    h2o_socket_t *conns_sock; /* connections of a predecessor come in here; NULL: no more */
    uint64_t rtt_sampled_ns;  /* see note_rtt(), loop.c */
    uint64_t rtt_window_ns;
    uint64_t rtt_window_max_ns;
    uint64_t settle_began_ns;
    uint64_t settle_quiet_since_ns;
    bool say_close; /* LAME_DUCK or later */
    bool closing;
    bool draining; /* ORDER_FINISH was seen: pokes the coordinator when quiet */
    uint64_t draining_since_ns;
    bool released;        /* ORDER_RELEASE_IDLE was seen */
    bool handing;         /* ORDER_HAND_OVER was seen, and there is somebody to hand over to */
    struct conn *peeking; /* peek.c: the one whose callback runs; NULL: none, or it has closed */
    bool frozen;
    bool record_closed; /* the journal's slots are the archive's */
    bool accept_paused;
    uint64_t spread_ns; /* HTTP/2: over which time, from draining_since_ns on */
    uint64_t released_since_ns;
    uint64_t release_spread_ns; /* HTTP/1: likewise, from released_since_ns on */
    uint64_t idle_looked_ns;
    uint64_t received_looked_ns;
    bool want_give_up;
    bool want_list;
    bool want_stop_jobs;
    bool want_cut;
    bool want_exit;

    /* mu of the server: the answer to ORDER_LIST and ORDER_FREEZE */
    struct coord_requests list;
    bool list_ready;
    bool list_frozen; /* it was made after ORDER_FREEZE */
    bool is_set_up;   /* its thread has made, or tried to make, all it needs */
    bool may_release; /* and may free that now */
    int set_up_error; /* 0; a negative errno */

    /* atomic: set by any with release, taken by the owner with acquire; see "doors note", loop.c */
    _Atomic unsigned orders;
    _Atomic(struct job *) done_jobs;
    /* atomic: written by the owner, read by any, relaxed; the coordinator's poke orders them */
    struct loop_counts counts;
    struct loop_metrics metrics; /* the same */
    _Atomic uint64_t pongs;      /* see stall.c */
    struct stall_last last;      /* see last note, stall.h */
    _Atomic uint64_t max_rtt_ns; /* of this minute and the last; read by the closing loop */
};

struct server {
    /* immutable after start */
    struct options *options; /* the process's */
    yoml_t *tree;            /* the configuration; options point into it */
    struct listener_list listeners;
    h2o_globalconf_t globalconf;
    struct tickets *tickets; /* NULL: no listener speaks TLS */
    bool listen_failed;      /* while the configuration was read */
    bool hands_on_to_app;    /* some path does */
    time_t launched;
    struct loop *loops;
    struct pool *pool;
    struct coord *coord;
    struct stall *stall;     /* NULL: nobody looks whether it moves */
    struct journal *journal; /* NULL: none */
    uint64_t max_connections;
    unsigned started; /* loops whose thread runs */

    /* written by the restarter's thread before it asks for the drain; the coordinator's lock is
     * between that and those who read */
    struct {
        uint64_t taken[HANDOVER_IDS_MAX];
        uint64_t welcome[HANDOVER_IDS_MAX];
        size_t taken_count, welcome_count;
        int conns_fd; /* -1: it takes none */
    } successor;

    /* atomic: see "limit note", conn.c */
    _Atomic uint64_t open_connections;
    _Atomic bool some_loop_paused;
    /* atomic: relaxed; an order carries the news */
    _Atomic bool lame_duck;             /* answers say `Connection: close` */
    _Atomic uint64_t spread_ns;         /* of ORDER_FINISH */
    _Atomic uint64_t release_spread_ns; /* of ORDER_RELEASE_IDLE */
    _Atomic unsigned given_up;          /* bits of enum drain_class */
    _Atomic bool handed_over; /* and all the same this service is ready: somebody else accepts */
    _Atomic unsigned listeners_open;
    _Atomic unsigned loops_accepting; /* acq_rel: the last one to leave wakes the closing loop */
    _Atomic uint64_t job_body_bytes;  /* copies of request bodies that jobs hold */
    _Atomic bool holding;             /* requests for the application wait; see hold note, hold.c */
    _Atomic uint64_t held_requests;   /* so many do */
    _Atomic uint64_t held_body_bytes; /* and their bodies are so large */

    pthread_mutex_t list_mu; /* held by the one who asks the loops for their lists; before mu */

    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t listed; /* a loop has made its list, or left its thread */
    unsigned threads_left; /* loops whose thread is still running */
    bool may_run;          /* the loops are set up, or are to end */
};

/* The wrong thread is our bug. */
static inline void assert_owner(const struct loop *loop)
{
    assert(pthread_equal(pthread_self(), loop->owner));
    (void)loop;
}

static inline void count_add(_Atomic uint64_t *count, uint64_t n)
{
    /* One writer: a plain load and store are enough, and cost no locked instruction. */
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t count_get(_Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* ---- loop.c ---- */

/* Prepare a loop; its thread is not running yet.     Errors: 0; a negative errno. */
int loop_init(struct loop *loop, struct server *server, unsigned index);
/* Start the thread, and wait until it has made what it needs; what became of that is in
 * loop->set_up_error.     Errors: 0, the thread runs; a negative errno. */
int loop_start(struct loop *loop);
/* Lets the thread free what it made, and joins it. First one for all loops, then the configuration,
 * whose proxies have timers on them, then the other. */
void loop_release(struct loop *loop);
void loop_destroy(struct loop *loop);
/* Thread: any.     Blocks: never. */
void loop_order(struct loop *loop, unsigned orders);
/* Hand a finished job to its loop.     Thread: any.     Blocks: never. */
void loop_push_done(struct loop *loop, struct job *job);
/* Call `entry` back after a tick; it must not be linked.     Thread: owner loop only. */
void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry);
/* The monotonic time, at most a millisecond old.     Thread: owner loop only. */
uint64_t loop_now_ns(struct loop *loop);
/* A count went down: if the coordinator waits for zero, and this loop has reached it, say so.
 * Thread: owner loop only. */
void loop_note_change(struct loop *loop);

/* ---- server.c ---- */

/* Requests that were answered with 503 for want of a worker.     Thread: any. */
uint64_t server_shed(struct server *server);

/* ---- conn.c ---- */

enum h2_stage { H2_STAGE_OPEN, H2_STAGE_ANNOUNCED, H2_STAGE_LAST };

/* One accepted connection, found from its socket through on_close.data. */
struct conn {
    h2o_linklist_t link; /* loop->conns */
    struct loop *loop;
    h2o_socket_t *sock;              /* NULL once it is closed */
    const struct listener *listener; /* that it came in by */
    bool is_tcp;
    bool is_tls;
    bool expects_proxy_line;
    bool handed_over; /* to the successor: this process only forgets it */
    bool handshake_begun;
    SSL *ssl; /* the socket's, once the handshake is done; not to be used without `sock` */
    bool idle_released;
    bool given_up;          /* what is not answered will not be, and nothing here is counted */
    bool is_receiving;      /* as of a list: the request that arrives is on it */
    bool is_tunnel;         /* upgraded to a protocol that is not ours */
    bool is_spared;         /* giveup.c, as of this look: something here is still waited for */
    bool is_due;            /* likewise: something here is not */
    uint32_t share;         /* its instant in a spread, in 2^32nds of that */
    bool asked_to_close;    /* the client did, not we */
    bool reset_when_cut;    /* an end of file would make half an answer look whole */
    uint32_t active;        /* requests between gate and end */
    uint64_t idle_since_ns; /* HTTP/1: accepted, or the last response ended; see letgo.c */
    /* linger.c */
    int linger_fd; /* dup(2) of the socket, -1: close without lingering */
    h2o_socket_t *linger_sock;
    h2o_linklist_t linger_link;       /* loop->lingering_fresh */
    h2o_timeout_entry_t linger_timer; /* and farewell.c, before that */
    uint64_t linger_began_ns;
    uint64_t linger_quiet_ns;    /* this long without input, and all of ours acknowledged: over */
    uint64_t linger_input_ns;    /* the last input */
    uint64_t linger_progress_ns; /* the last progress of the output */
    int linger_unsent;
    /* letgo.c */
    bool has_received; /* HTTP/1: all of the last response is acknowledged */
    int unacked;       /* else: how much was not, as of the last look */
    enum h2_stage h2_stage;
    bool is_h2;                /* as of a list of unread requests */
    bool h2_receiving;         /* a request is still arriving, as of this look */
    uint64_t h2_last_due_ns;   /* not before: a round trip after the first GOAWAY was written; 0: it
                                * was not */
    bool peeks;                /* peek.c: what is read stays in the kernel until it is on record */
    h2o_socket_cb peeked_read; /* the library's callback behind it */
    struct job *watched; /* job.c: HTTP/1, the request being served; the socket reports a hang-up */
    /* gate.c */
    uint32_t h2_resets;
    uint32_t h2_answers;
};

/* All of these: Thread: owner loop only. */
void conn_open(struct loop_listener *from, h2o_socket_t *sock);
/* A TLS handshake has begun (NULL) or is done. */
void conn_shakes_hands(struct conn *conn, SSL *ssl);
struct conn *conn_of(h2o_req_t *req);
/* The response that starts now is the last one: keep the descriptor for linger.c. */
void conn_will_close(struct conn *conn);
/* Account for a connection that is gone, and free it. */
void conn_gone(struct conn *conn);
/* May one more connection be accepted? Counts it if so. */
bool conn_admit(struct loop *loop);
void conn_unadmit(struct loop *loop);
/* Close the socket under whoever uses it; its callbacks then clean up. */
void conn_cut(struct conn *conn);

/* The connection of a socket; NULL: it is none of a client's. */
struct conn *conn_of_socket(const h2o_socket_t *sock);
/* The connection of a socket that journal.hold is for; NULL: it is not. */
struct conn *conn_that_peeks(const h2o_socket_t *sock);

/* ---- peek.c ---- */

/* Thread: main only, before any socket is read. */
void peek_init(void);
/* Be told that a socket is readable, and read nothing.     Thread: owner loop only. */
void peek_watch(h2o_socket_t *sock, h2o_socket_cb cb);

/* ---- farewell.c ---- */

/* Thread: main only, before any socket is closed. */
void farewell_init(void);
/* It has ended, or the library has closed its socket.     Thread: owner loop only. */
void farewell_end(struct conn *conn);

/* ---- linger.c ---- Thread: owner loop only. */

/* h2o has closed its descriptor; ours goes on until the peer has what we sent. */
void linger_begin(struct conn *conn);
/* Stop lingering at once. */
void linger_end(struct conn *conn);
/* Read and discard what is there, within bounds. False: the peer has closed, or is gone. */
bool linger_discard(int fd, bool *ret_any);

/* ---- gate.c ---- */

/* One more kind of handler is on the path; for the metrics.     Thread: before start. */
void gate_note_kind(h2o_pathconf_t *path, enum route_kind kind);
/* Register the gate on a path, before any other handler.     Thread: before start. */
void gate_register(h2o_pathconf_t *path);
/* On a path that requests come to from another one, and end on: only the way out. Such a path may
 * have one handler. */
void gate_register_inner(h2o_pathconf_t *path);
/* The same on a host's fallback path, which also answers what never reaches a handler. */
void gate_register_fallback(h2o_pathconf_t *path);
/* The record of a request; NULL if it has not passed the gate.     Thread: owner loop only. */
struct inflight *inflight_of(const h2o_req_t *req);
/* List requests not yet answered.     Thread: owner loop only. */
void inflight_list(struct loop *loop, struct coord_requests *ret_list);
/* List what has arrived and was not read; accepts and closes what was not accepted. Frozen only. */
void inflight_list_unread(struct loop *loop, struct coord_requests *list);
/* Mark the connections whose half-sent answer only a reset can show to be half. */
void inflight_mark_resets(struct loop *loop);

/* ---- onrecord.c ---- Thread: owner loop only. */

/* A request has passed the gate: put it on record, if it is to be. */
void onrecord_begin(struct inflight *inflight);
/* It is over: answered, or nobody wants it and no handler runs for it. */
void onrecord_end(struct loop *loop, struct journal_slot *slot);
/* The loop is frozen, and answers no more: say how far each is, then leave the slots alone. */
void onrecord_freeze(struct loop *loop);

/* ---- job.c ---- see job.h; Thread: owner loop only. */

void job_finish_all(struct loop *loop); /* take done_jobs and answer them */
/* The request is gone. Its slot is the caller's again, unless the handler runs: then NULL. */
struct journal_slot *job_abandon(struct job *job, struct journal_slot *slot);
/* Nobody wants the answers any more: handlers that have not been called will not be. After this,
 * job_state() is the last word about each. */
void job_disown_all(struct loop *loop);
void job_cancel_all(struct loop *loop);  /* and those that have been called are told */
void job_give_up_all(struct loop *loop); /* after the sockets were cut: end what waits for a job */
/* The same for one request. */
void job_give_up(struct inflight *inflight);
/* Its handler, if it has not been called, will not be. */
void job_disown(struct inflight *inflight);
void job_list_abandoned(struct loop *loop, struct coord_requests *list);

/* Disowned: the slots of jobs say for good whether the handler runs. */
void job_settle_states(struct loop *loop);
const char *job_state(const struct job *job);

/* ---- giveup.c ---- Thread: owner loop only. */

/* Name in the log, and count, what is unfinished on a connection that `limit` cuts; from now on
 * nobody waits for it. The caller cuts it. */
void giveup_conn(struct conn *conn, const char *limit);
/* Give up what is in one of these classes (bits), now that their deadline has come; between turns.
 */
void giveup_due(struct loop *loop, unsigned classes);
/* ---- hold.c ---- */

/* Is `url` the application's? Paths and schemes are not compared.
 * Thread: main only, while the configuration is read. */
bool hold_is_for(const struct server *server, const char *url);
/* Let requests of a path wait while they would go to the application; in front of its proxy's
 * handler.     Thread: main only, before start. */
void hold_register(h2o_pathconf_t *path);
/* Look at what was configured of an application; says what is wrong.
 * Thread: main only, behind the configuration.     Errors: 0; an exit status. */
int hold_check(struct server *server);
/* All of these: Thread: owner loop only. */
void hold_let_go_on(struct loop *loop);
void hold_give_up_all(struct loop *loop); /* after the sockets were cut: end what waits */
void hold_stop(struct loop *loop);        /* no timer of it will run */

/* ---- letgo.c ---- Thread: owner loop only. */

/* Something on this loop ended or began while draining, or the drain itself did: look soon. */
void letgo_look_soon(struct loop *loop);
void letgo_stop(struct loop *loop);
/* An HTTP/1 connection on which no request has begun to arrive, as far as it was read. */
bool letgo_is_idle(h2o_req_t *req);
/* The client's preface has come: we have answered it. */
bool letgo_h2_has_begun(const h2o_http2_conn_t *h2);
/* A peer that only resets streams is told to calm down (CVE-2023-44487). */
void letgo_calm(h2o_req_t *req);

/* ---- pass.c ---- Thread: owner loop only. */

/* Hand idle connections to the successor. True: there are more, come again soon. */
bool pass_idle(struct loop *loop);
/* Will this one be handed over, now or soon? */
bool pass_wants(const struct conn *conn, h2o_req_t *req);
/* Take those of the predecessor, from now on.     Errors: 0; a negative errno. */
int pass_begin_taking(struct loop *loop);
/* Take no more. With `dry` those that are on the way are taken first, and no new ones get on it. */
void pass_end_taking(struct loop *loop, bool dry);

/* ---- list helpers (gate.c) ---- */

struct coord_request *coord_requests_append(struct coord_requests *list);
char *text_of(h2o_iovec_t bytes, size_t longest);

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif

#ifndef LASTCALL_LOOP_H
#define LASTCALL_LOOP_H

/* An event loop with all that belongs to it. One thread, the owner, has it with its connections,
 * requests and jobs; other threads reach it through its doors (doors.h), and read its counts. While
 * a request's handler is called (job_submit()), the loop may get another owner: see pool_place().
 *
 * The fields stand in groups, each named after the file that writes it. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "between_calls.h"
#include "claims.h"
#include "container_of.h"
#include "coord.h"
#include "counts.h"
#include "doors.h"
#include "fine.h"
#include "h2o_api.h"
#include "loop_metrics.h"
#include "require.h"
#include "thread.h"
#include "ticks.h"
#include "watchdog.h"

#define MAKE_ROOM_MOST 64 /* connections in a round, see make_room.c */

struct conn;
struct journal_part;
struct listener;
struct loop;
struct place_table;
struct proxy_loop;
struct server;

/* The calls from the lower files up, in one table: driver/hooks.c fills it, and the loop has it
 * before it accepts.     Thread: owner loop only. */
struct loop_hooks {
    /* doors.c: orders (may be 0), or jobs that are done, have come in */
    void (*woken)(struct loop *loop, unsigned orders);
    /* conn.c: a connection was accepted */
    void (*conn_opened)(struct conn *conn);
    /* conn.c: the library has closed the socket; forget what refers to it */
    void (*conn_closed)(struct conn *conn);
    /* conn.c: linger on conn->linger.fd, then call conn_gone() */
    void (*conn_linger)(struct conn *conn);
    /* conn.c: stop that at once */
    void (*conn_stop_lingering)(struct conn *conn);
    /* gate.c: while draining, a request has ended */
    void (*request_ended)(struct loop *loop);
};

struct loop_listener {
    struct loop *loop;
    struct listener *listener;
    h2o_socket_t *sock; /* on a dup(2) of the listener's fd; NULL when left */
    h2o_accept_ctx_t accept_ctx;
};

struct loop {
    /* immutable after start */
    struct server *server;
    const struct loop_hooks *hooks;
    unsigned index; /* of its team as well, see pool.h */
    h2o_evloop_t *evloop;
    h2o_context_t ctx;
    struct loop_listener *listeners; /* server->listeners.count of them */

    /* owner loop, up to `listing` */
    uintptr_t owner;         /* the thread that drives it, thread_self_id(); for assert_owner() */
    h2o_linklist_t conns;    /* struct conn, link: open ones; conn.c */
    h2o_linklist_t inflight; /* struct inflight, link: oldest first; gate.c */

    /* orders.c: what the coordinator has ordered so far */
    bool say_close; /* LAME_DUCK or later */
    bool draining;  /* ORDER_FINISH was seen: pokes the coordinator when quiet */
    bool released;  /* ORDER_RELEASE_IDLE was seen */
    bool handing; /* ORDER_HAND_OVER was seen, and the successor takes connections; also cleared by
                   * hand_off.c */
    bool frozen;
    uint64_t draining_since_ns;
    struct {
        bool give_up, list, stop_jobs, cut, exit;
    } want; /* orders that wait for the end of the turn */

    h2o_timeout_t ticks[TICK_COUNT]; /* ticks.c: lists of timers, see h2o/timeout.h */
    struct {
        h2o_socket_t *sock;    /* on a timerfd */
        uint64_t armed_ns;     /* when it expires, or has expired; 0: never */
        h2o_linklist_t timers; /* struct fine_timer, link: the first one first */
    } fine;                    /* fine.c */
    struct {
        bool paused;
        struct fine_timer retry_timer;
        struct fine_timer away_timer; /* set: it looks away; see even note, accept.c */
        unsigned anyway;              /* so many connections, */
        unsigned anyway_turns;        /* in so many turns */
    } accepting;                      /* accept.c, places.c */
    struct {
        uint64_t sampled_ns;
        uint64_t window_ns;
        uint64_t window_max_ns;
        /* atomic: of this minute and the last; read by the closing loop, relaxed: an estimate */
        _Atomic uint64_t max_ns;
    } rtt; /* rtt.c */
    struct {
        uint64_t looked_ms; /* on the library's clock */
        uint64_t used_ns;   /* of its driver's processor time, then */
        bool gives;
    } give_way; /* give_way.c */
    struct {
        bool begun;
        bool others_leave; /* the other loops were told to leave the listeners */
        bool settled;      /* no handshake is under way: close when the others have left */
        bool closes;
        struct fine_timer settle_timer; /* is the accept queue still empty? or try again */
        uint64_t settle_began_ns;
        uint64_t quiet_since_ns;
    } closing; /* close_listeners.c; all but `begun` on the closing loop only */
    struct {
        h2o_timeout_entry_t timer;
        uint64_t h2_spread_ns; /* over which time, from draining_since_ns on */
        uint64_t h1_spread_ns; /* the same, from released_since_ns on */
        uint64_t released_since_ns;
        uint64_t idle_looked_ns;
        uint64_t received_looked_ns;
    } idle_close; /* orders.c sets the spreads; idle_close*.c the rest */
    struct {
        h2o_socket_t *take_sock; /* a predecessor's connections come in here; NULL: no more */
        h2o_timeout_entry_t retry_timer;
    } hand_off; /* hand_off_take.c */
    struct {
        h2o_linklist_t waiting, asked; /* struct leaver, link */
        bool has_begun;
        uint64_t since_ns, spread_ns;
        uint64_t moment_ns; /* for a farewell */
        h2o_timeout_entry_t timer;
    } leave; /* leave.c */
    struct between_calls between_calls;
    struct claims_random claims_random; /* claims.c */
    struct proxy_loop *proxy;           /* proxy/proxy_loop.c; NULL: it has proxied nothing yet */
    struct {
        struct conn *conn; /* in a call of the library's; NULL: none, or it has closed */
    } tls_close;           /* tls_close.c */
    struct {
        struct conn *conn; /* the one whose callback runs; NULL: none, or it has closed */
    } deferred_read;       /* deferred_read.c */
    struct {
        h2o_timeout_entry_t timer;
    } progress; /* progress.c */
    struct {
        h2o_linklist_t arriving; /* struct conn, bodies.link */
    } bodies;                    /* bodies.c */
    struct {
        h2o_linklist_t requests; /* struct held, link: oldest first */
        h2o_timeout_entry_t timer;
    } hold; /* hold.c */
    struct {
        h2o_linklist_t abandoned; /* struct job, link: client gone, handler still running */
        struct done_link *kept;   /* jobs for the next requests; job_memory.c */
        unsigned kept_count;
    } jobs;                          /* job.c */
    struct place_table *user_places; /* user_mux.c; NULL: it has no routes of a program */
    struct {
        uint64_t turn_ns; /* that this turn has spent in handlers so far */
    } handlers;           /* job.c; loop_thread.c begins the turn */
    struct {
        struct journal_part *part; /* NULL: no record is kept; immutable after start */
        bool closed;               /* the slots are the archive's */
    } record;                      /* onrecord.c */
    struct {
        h2o_timeout_entry_t timer; /* owner loop */
        /* mu of the server */
        bool has_shown; /* in this round */
        size_t shown;
        uint64_t idle_since_ns[MAKE_ROOM_MOST]; /* `shown` of them, the longest idle first */
        size_t to_close;                        /* so many of them are to close */
    } make_room;                                /* make_room.c */

    /* mu of the server */
    struct {
        struct coord_requests list; /* the answer to ORDER_LIST and ORDER_FREEZE */
        bool ready;
        bool is_frozen;   /* it was made after ORDER_FREEZE */
        uint64_t used_ns; /* processor time of its driver, while it is waited for */
    } listing;            /* freeze.c writes, for_coord.c reads */
    struct {
        bool is_set_up; /* it has made, or tried to make, all it needs */
        int error;      /* 0; a negative errno */
    } start;            /* loop_thread.c */

    _Alignas(64) struct doors doors; /* doors.c; other threads write here */

    /* atomic: written by the owner, read by any thread, relaxed; the coordinator's poke orders them
     */
    struct loop_counts counts;
    struct loop_metrics metrics; /* the same */
    struct {
        _Atomic uint64_t pongs;
        struct watchdog_last last; /* see last note, watchdog.h */
    } watched;                     /* written here, read by watchdog.c */
};

/* A call from the wrong thread is our bug. */
static inline void assert_owner(const struct loop *loop)
{
    REQUIRE(thread_self_id() == loop->owner);
}

/* The loop of a connection of the library. */
static inline struct loop *loop_of(const h2o_conn_t *conn)
{
    return container_of(conn->ctx, struct loop, ctx);
}

#endif

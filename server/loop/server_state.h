#ifndef LASTCALL_SERVER_STATE_H
#define LASTCALL_SERVER_STATE_H

/* What all loops share. Only the files of server/ include this; everyone else uses server.h. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "h2o_api.h"

#include "coord.h"
#include "handover.h"
#include "journal.h"
#include "listener.h"
#include "pool.h"
#include "server.h"
#include "server_config.h"
#include "tickets.h"

struct cancels;
struct kept;
struct route_turns;
struct logfiles;
struct loop;
struct trust;
struct upstream_group;
struct watchdog;

struct server {
    /* immutable after start */
    struct server_config config;
    struct logfiles *logfiles;
    yoml_t *tree; /* the configuration file's; freed last, texts of it are in use */
    struct listener_list listeners;
    struct trust *trust; /* NULL: `trusted-proxies` is not set */
    h2o_globalconf_t globalconf;
    struct tickets *tickets; /* NULL: no listener speaks TLS */
    bool takes_second_files; /* on some path a request needs a descriptor besides its connection's
                              */
    time_t launched;         /* the time of day then, to show */
    uint64_t launched_ns;
    struct loop *loops; /* config.threads of them */
    struct pool *pool;
    struct coord *coord;
    struct watchdog *watchdog;              /* NULL: watchdog.stall is off */
    struct cancels *cancels;                /* see cancels.h */
    struct kept *kept;                      /* see kept.h */
    struct journal *journal;                /* NULL: no record is kept */
    struct upstream_group *upstream_groups; /* a list: the routes of the proxy; NULL: none */
    uint64_t max_connections;
    uint64_t max_arriving; /* bytes; see bodies.c */
    unsigned started;      /* loops whose thread runs */

    /* succession.c: written by the restarter's thread before it asks for the drain; the
     * coordinator's lock orders that before the reads */
    struct {
        uint64_t taken[HANDOVER_IDS_MAX];
        uint64_t welcome[HANDOVER_IDS_MAX];
        size_t taken_count, welcome_count;
        int conns_fd; /* -1: the successor takes no connections */
    } successor;

    /* places.c; atomic: see limit note there */
    _Atomic uint64_t open_connections;
    _Atomic bool some_loop_paused;
    _Atomic bool is_full; /* and not yet well below the limit again */

    /* for_coord.c writes; atomic, relaxed: an order to the loops follows each write */
    _Atomic bool lame_duck;             /* answers say `Connection: close`; seq_cst: see drain
                                         * note, exchange_cancel.c */
    _Atomic uint64_t spread_ns;         /* of ORDER_FINISH */
    _Atomic uint64_t release_spread_ns; /* of ORDER_RELEASE_IDLE */
    _Atomic uint64_t leave_spread_ns;   /* of ORDER_LEAVE */
    _Atomic uint64_t leave_moment_ns;   /* the same */
    _Atomic unsigned given_up;          /* bits of enum drain_class */
    _Atomic bool handed_over;           /* a successor accepts, so this service is ready */

    _Atomic unsigned loops_looking_away; /* accept.c; relaxed: see even note there */

    /* close_listeners.c */
    _Atomic unsigned listeners_open;
    _Atomic unsigned loops_accepting; /* acq_rel: the last loop to leave wakes the closing loop */

    /* atomic, relaxed: bounds */
    _Atomic uint64_t job_body_bytes;  /* job.c: copies of request bodies that jobs hold */
    _Atomic uint64_t arriving_bytes;  /* bodies.c */
    _Atomic bool holding;             /* hold.c: requests for the application wait; see hold note */
    _Atomic uint64_t held_requests;   /* hold.c: so many do */
    _Atomic uint64_t held_body_bytes; /* hold.c: the size of their bodies */

    pthread_mutex_t list_mu; /* for_coord.c: one list at a time; taken before mu */

    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t listed;           /* a loop has made its list, or left its thread */
    struct route_turns *route_turns; /* user_place.c */
    bool freezing;                   /* the loops are to freeze: stop waiting for another list */
    unsigned threads_left;           /* loops that still run */
    bool may_run;                    /* the loops are set up, or are to end */
    struct {
        bool is_running;
        uint64_t begun_ns;
        unsigned left; /* loops that have not answered */
    } make_room;       /* make_room.c: the round */
};

/* The limit on connections was reached, less than an eighth of the places is free again, and no
 * successor accepts.     Thread: any. */
static inline bool server_is_full(const struct server *server)
{
    return atomic_load_explicit(&server->is_full, memory_order_relaxed) &&
           !atomic_load_explicit(&server->handed_over, memory_order_relaxed);
}

/* Requests that were answered with 503 because no worker was free.     Thread: any. */
uint64_t server_shed(struct server *server);

#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "doors.h"
#include "journal.h"
#include "listener.h"
#include "log.h"
#include "loop.h"
#include "server_state.h"

/* The coordinator's callbacks. Most write a setting into struct server, and then order the loops to
 * read it. */

/* How long the loops have to make their lists, see coord_server_ops. A loop that does not return
 * must not delay the deadline; its requests stay on record. Debug builds are slower, and tests need
 * the names. */
#ifdef NDEBUG
#define LIST_PATIENCE_MS 50
#else
#define LIST_PATIENCE_MS 1000
#endif
/* How much longer those have that got no processor meanwhile, and how often they are looked at. */
#define STARVED_PATIENCE_MS 450
#define STARVED_LOOK_MS 10

static void order_all(struct server *server, unsigned orders)
{
    for (unsigned i = 0; i < server->started; i++)
        loop_order(&server->loops[i], orders);
}

static bool is_among(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void op_lame_duck(void *data, bool on)
{
    struct server *server = data;
    atomic_store(&server->lame_duck, on);
    order_all(server, ORDER_LAME_DUCK);
}

static void keep_newcomers_out(struct listener *listener)
{
    int err = listener_stop_newcomers(listener);

    if (err != 0)
        log_line(LOG_LEVEL_WARN, "newcomers-failed", NULL,
                 "cannot keep newcomers from %s while it closes: %s (a connection that arrives "
                 "in this instant may be reset)",
                 listener->name, strerrordesc_np(-err));
}

static void op_close_listeners(void *data)
{
    struct server *server = data;
    struct coord_status status;

    coord_get_status(server->coord, &status); /* it does not change once a drain has begun */
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        /* A listener that another process uses is not limited, shut down or unlinked: only left. */
        listener->stays = listener->is_held || (listener->is_inherited && status.stands_by);
        if (!listener->stays)
            keep_newcomers_out(listener);
    }
    order_all(server, ORDER_CLOSING);
}

static void op_hand_over(void *data)
{
    struct server *server = data;

    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        listener->stays =
            listener->is_held ||
            is_among(server->successor.taken, server->successor.taken_count, listener->id);
        listener->welcomed =
            is_among(server->successor.welcome, server->successor.welcome_count, listener->id);
        if (!listener->stays)
            keep_newcomers_out(listener);
    }
    atomic_store_explicit(&server->handed_over, true, memory_order_relaxed);
    atomic_store(&server->lame_duck, true);
    order_all(server, ORDER_HAND_OVER | ORDER_LAME_DUCK | ORDER_CLOSING);
}

static void op_census(void *data, struct coord_census *ret_census)
{
    struct server *server = data;

    /* acquire, and first: pairs with the release in close_listeners */
    ret_census->listeners = atomic_load_explicit(&server->listeners_open, memory_order_acquire);
    for (unsigned i = 0; i < server->started; i++) {
        struct loop_counts *counts = &server->loops[i].counts;
        ret_census->active += count_get(&counts->active);
        ret_census->connections += count_get(&counts->connections);
        ret_census->lingering += count_get(&counts->lingering);
        ret_census->answered += count_get(&counts->answered);
        ret_census->accepted += count_get(&counts->accepted);
        ret_census->idle_released += count_get(&counts->idle_released);
        ret_census->given_up += count_get(&counts->given_up);
        ret_census->handed_over += count_get(&counts->handed_over);
        ret_census->tunnels_told += count_get(&counts->tunnels_told);
        ret_census->tunnels_cut += count_get(&counts->tunnels_cut);
        ret_census->streams_ended += count_get(&counts->streams_ended);
        /* Last: a reader that sees that a request has gone also sees its abandoned job. */
        ret_census->abandoned += count_get(&counts->abandoned);
    }
}

static void op_finish(void *data, uint64_t spread_ns)
{
    struct server *server = data;
    struct coord_census left = {0};

    /* The listeners are closed. Where no connection and no abandoned job is left, none can come:
     * the loops have nothing to finish and nothing to report, and would only be woken while the
     * process ends. */
    op_census(server, &left);
    if (left.listeners == 0 && left.connections == 0 && left.abandoned == 0)
        return;
    atomic_store_explicit(&server->spread_ns, spread_ns, memory_order_relaxed);
    order_all(server, ORDER_FINISH);
}

static void op_release_idle(void *data, uint64_t spread_ns)
{
    struct server *server = data;
    atomic_store_explicit(&server->release_spread_ns, spread_ns, memory_order_relaxed);
    order_all(server, ORDER_RELEASE_IDLE);
}

static void op_leave(void *data, uint64_t spread_ns, uint64_t moment_ns)
{
    struct server *server = data;
    atomic_store_explicit(&server->leave_spread_ns, spread_ns, memory_order_relaxed);
    atomic_store_explicit(&server->leave_moment_ns, moment_ns, memory_order_relaxed);
    order_all(server, ORDER_LEAVE);
}

static void op_give_up(void *data, unsigned classes)
{
    struct server *server = data;
    atomic_store_explicit(&server->given_up, classes, memory_order_relaxed);
    order_all(server, ORDER_GIVE_UP);
}

static int by_age(const void *a, const void *b)
{
    const struct coord_request *x = a, *y = b;
    return x->age_ns < y->age_ns ? 1 : x->age_ns > y->age_ns ? -1 : 0;
}

/* Append the items of `from` to `to`. */
static void take_list(struct coord_requests *to, struct coord_requests *from)
{
    to->left_out += from->left_out;
    if (from->count > 0) {
        struct coord_request *grown =
            realloc(to->items, (to->count + from->count) * sizeof(*grown));
        if (grown == NULL) {
            to->left_out += from->count;
            from->left_out = 0;
            coord_requests_release(from);
            return;
        }
        to->items = grown;
        memcpy(&grown[to->count], from->items, from->count * sizeof(*grown));
        to->count += from->count;
    }
    free(from->items);
    memset(from, 0, sizeof(*from));
}

/* A list that was ordered earlier and comes late must not be taken for the frozen one. */
static bool has_listed_locked(const struct loop *loop, bool freeze)
{
    return loop->listing.ready && (loop->listing.is_frozen || !freeze);
}

static bool all_listed_locked(const struct server *server, bool freeze)
{
    for (unsigned i = 0; i < server->started; i++)
        if (!has_listed_locked(&server->loops[i], freeze))
            return false;
    return true;
}

/* A thread that waits for another list stops waiting: the deadline has passed. */
static void announce_freeze(struct server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    server->freezing = true;
    (void)pthread_cond_broadcast(&server->listed);
    (void)pthread_mutex_unlock(&server->mu);
}

static void say_silent(const struct server *server, unsigned index, uint64_t unknown,
                       uint64_t waited_ns)
{
    char place[512] = "";

    if (server->journal != NULL)
        (void)snprintf(place, sizeof(place),
                       " (those on record are in %.400s, and the next start "
                       "archives them)",
                       journal_path(server->journal));
    log_line(LOG_LEVEL_WARN, "loop-silent",
             json_pack("{s:I, s:I}", "loop", (json_int_t)index, "requests", (json_int_t)unknown),
             "loop %u did not list its requests in %llu ms: up to %llu are not named%s", index,
             (unsigned long long)(waited_ns / NS_PER_MS), (unsigned long long)unknown, place);
}

/* Returns false once the clock has reached `until_ns`. */
static bool wait_for_lists_locked(struct server *server, bool freeze, uint64_t until_ns)
{
    const struct timespec until = clock_timespec(until_ns);
    int err = 0;

    while (!all_listed_locked(server, freeze) && (freeze || !server->freezing) && err == 0)
        err = pthread_cond_timedwait(&server->listed, &server->mu, &until);
    return err == 0;
}

/* Has a loop that is still to list not had LIST_PATIENCE_MS of a processor since the first look? */
static bool is_any_starved_locked(struct server *server, bool first)
{
    bool any = false;

    for (unsigned i = 0; i < server->started; i++) {
        struct loop *loop = &server->loops[i];
        uint64_t used_ns;
        if (has_listed_locked(loop, true) || !pool_driver_is_awake(server->pool, i, &used_ns))
            continue;
        if (first || used_ns < loop->listing.used_ns) /* the second: another thread drives it */
            loop->listing.used_ns = used_ns;
        any |= used_ns - loop->listing.used_ns < LIST_PATIENCE_MS * NS_PER_MS;
    }
    return any;
}

/* A loop that sleeps in a call, or spins, will most likely not come. One that waits for a processor
 * will: on a machine that is overloaded the names are worth more than the punctual end. */
static void wait_for_starved_locked(struct server *server)
{
    uint64_t most_ns = clock_now_ns() + STARVED_PATIENCE_MS * NS_PER_MS;
    bool first = true;

    while (!all_listed_locked(server, true) && clock_now_ns() < most_ns &&
           is_any_starved_locked(server, first)) {
        first = false;
        (void)wait_for_lists_locked(server, true, clock_now_ns() + STARVED_LOOK_MS * NS_PER_MS);
    }
}

static void op_list_requests(void *data, bool freeze, struct coord_requests *ret_list)
{
    struct server *server = data;
    uint64_t begun_ns = clock_now_ns();

    if (freeze)
        announce_freeze(server);
    (void)pthread_mutex_lock(&server->list_mu); /* one at a time: the loops have one list each */
    (void)pthread_mutex_lock(&server->mu);
    for (unsigned i = 0; i < server->started; i++)
        server->loops[i].listing.ready = false;
    (void)pthread_mutex_unlock(&server->mu);
    order_all(server, freeze ? ORDER_FREEZE : ORDER_LIST);

    (void)pthread_mutex_lock(&server->mu);
    if (!wait_for_lists_locked(server, freeze, begun_ns + LIST_PATIENCE_MS * NS_PER_MS) && freeze)
        wait_for_starved_locked(server);
    for (unsigned i = 0; i < server->started; i++) {
        struct loop *loop = &server->loops[i];
        if (has_listed_locked(loop, freeze)) {
            take_list(ret_list, &loop->listing.list);
        } else if (freeze) {
            /* Requests that have arrived and were not read are not counted: so each connection may
             * have one. */
            uint64_t unknown = count_get(&loop->counts.active);
            uint64_t connections = count_get(&loop->counts.connections);
            if (unknown < connections)
                unknown = connections;
            ret_list->left_out += unknown;
            say_silent(server, i, unknown, clock_now_ns() - begun_ns);
        }
    }
    (void)pthread_mutex_unlock(&server->mu);
    (void)pthread_mutex_unlock(&server->list_mu);
    /* Each loop that has listed has disowned its jobs before. So a worker that gets free because
     * its handler was cancelled begins none of them. */
    if (freeze)
        order_all(server, ORDER_STOP_JOBS);
    if (ret_list->count > 1)
        qsort(ret_list->items, ret_list->count, sizeof(*ret_list->items), by_age);
}

static void op_cut(void *data)
{
    order_all(data, ORDER_CUT);
}

const struct coord_server_ops server_ops = {
    .lame_duck = op_lame_duck,
    .close_listeners = op_close_listeners,
    .hand_over = op_hand_over,
    .finish = op_finish,
    .release_idle = op_release_idle,
    .leave = op_leave,
    .give_up = op_give_up,
    .list_requests = op_list_requests,
    .cut = op_cut,
    .census = op_census,
};

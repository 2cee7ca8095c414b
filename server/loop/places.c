#include "places.h"

#include "log.h"
#include "loop.h"
#include "server_state.h"

/* Limit note. `open_connections` is one counter for all loops: a connection is rare enough, beside
 * a request, to pay for a shared cache line. A loop that finds the limit reached stops accepting
 * and must be woken when a connection of any loop ends. Both sides do two things in opposite order:
 *
 *     pausing loop:   some_loop_paused = true;   look at open_connections again
 *     closing loop:   open_connections -= 1;     look at some_loop_paused
 *
 * With sequentially consistent atomics at least one of the two sees the other's write: either the
 * pausing loop sees the free place and does not pause, or the closing loop sees the pause and wakes
 * everyone. */

static bool below_limit(const struct server *server)
{
    return atomic_load(&server->open_connections) < server->max_connections;
}

bool places_are_full(const struct loop *loop)
{
    return !loop->closing.begun && !below_limit(loop->server);
}

static void note_limit(struct loop *loop)
{
    static _Atomic bool said; /* relaxed: logging it twice does no harm */

    count_add(&loop->metrics.limit_reached, 1);
    if (!atomic_exchange_explicit(&said, true, memory_order_relaxed))
        log_line(LOG_LEVEL_WARN, "limit-reached", NULL,
                 "all %llu connections are in use: new ones replace those that have idled longest, "
                 "or wait in the kernel (raise --max-connections, or ulimit -n; this warning is "
                 "logged once)",
                 (unsigned long long)loop->server->max_connections);
}

bool places_take(struct loop *loop)
{
    struct server *server = loop->server;

    /* A closing listener is accepted dry, limit or not: those connections exist already. */
    uint64_t before = atomic_fetch_add(&server->open_connections, 1);
    if (loop->closing.begun || before < server->max_connections) {
        /* That was the last place. Only a connection sets the flag: its end may clear it again. */
        if (before + 1 == server->max_connections)
            atomic_store(&server->is_full, true);
        return true;
    }
    atomic_fetch_sub(&server->open_connections, 1);
    note_limit(loop);
    loop->accepting.paused = true;
    atomic_store(&server->some_loop_paused, true);
    if (below_limit(server)) /* see limit note */
        loop_order(loop, ORDER_RESUME_ACCEPT);
    return false;
}

void places_give_back(struct loop *loop)
{
    struct server *server = loop->server;

    uint64_t left = atomic_fetch_sub(&server->open_connections, 1) - 1;
    if (left < server->max_connections - server->max_connections / 8 &&
        atomic_load(&server->is_full))
        atomic_store(&server->is_full, false);
    if (atomic_load(&server->some_loop_paused) && below_limit(server)) { /* see limit note */
        atomic_store(&server->some_loop_paused, false);
        for (unsigned i = 0; i < server->config.threads; i++)
            loop_order(&server->loops[i], ORDER_RESUME_ACCEPT);
    }
}

void places_take_anyway(struct loop *loop)
{
    atomic_fetch_add(&loop->server->open_connections, 1);
}

bool places_has_room(const struct server *server, unsigned n)
{
    return atomic_load(&server->open_connections) + n <= server->max_connections;
}

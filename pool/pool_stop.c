/* The end of the pool: closing it, waiting until it is idle, joining the threads. */

#include "pool_p.h"

#include <stdlib.h>

#include "fiber.h"

void pool_close(struct pool *pool)
{
    pool_lock(pool);
    pool->closed = true;
    struct pool_worker *list = pool_unpark_all_locked(pool); /* nothing is withheld any more */
    pool_unlock(pool);
    pool_wake_all(list);
}

/* See idle note. */
int pool_wait_idle(struct pool *pool, uint64_t deadline_ns)
{
    REQUIRE(pool_self == NULL || pool_self->pool != pool);
    pool_lock(pool);
    while (pool_active_locked(pool) > 0 && pool_sleep_until_locked(pool, &pool->idle, deadline_ns))
        ;
    int ret = pool_active_locked(pool) > 0 ? -ETIMEDOUT : 0;
    pool_unlock(pool);
    return ret;
}

static void send_away(struct pool *pool)
{
    pool_lock(pool);
    pool->closed = pool->leaving = true;
    struct pool_worker *list = pool_unpark_all_locked(pool);
    pool_unlock(pool);
    pool_wake_all(list);
}

static bool wait_gone(struct pool *pool, uint64_t deadline_ns)
{
    pool_lock(pool);
    while (pool->threads > 0 && pool_sleep_until_locked(pool, &pool->gone, deadline_ns))
        ;
    bool gone = pool->threads == 0;
    pool_unlock(pool);
    return gone;
}

static void join_team(struct pool_team *team)
{
    for (unsigned i = 0; i < team->most; i++)
        if (team->workers[i].state == WORKER_ENDED) /* does not block: it only has to return */
            pool_must(pthread_join(team->workers[i].thread, NULL));
    fiber_destroy(team->fiber);
}

int pool_destroy(struct pool *pool, uint64_t deadline_ns)
{
    if (pool == NULL)
        return 0;
    REQUIRE(pool_self == NULL || pool_self->pool != pool);
    send_away(pool);
    if (!wait_gone(pool, deadline_ns))
        return -EBUSY;
    pool_monitor_stop(pool);
    for (unsigned i = 0; i < pool->teams; i++)
        join_team(&pool->team[i]);
    REQUIRE(fair_queued(&pool->queue) == 0 && pool->running == 0 && pool->coming == 0);
    pool_must(pthread_cond_destroy(&pool->gone));
    pool_must(pthread_cond_destroy(&pool->idle));
    pool_must(pthread_mutex_destroy(&pool->mu));
    free(pool->team);
    free(pool);
    return 0;
}

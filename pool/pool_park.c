/* Sleeping and waking: which thread has to come for the jobs that are ready, and how it sleeps
 * until then. See wake-up note and permit note, pool_p.h. */

#include "pool_p.h"

#include <stdio.h>

#include "log.h"
#include "thread.h"

/* After a thread could not be started. */
#define GROW_AGAIN_NS NS_PER_S

/* ---- who has to come ---- */

/* The clock is not read while no worker is kept for single jobs. A closed pool keeps none. */
uint64_t pool_queue_now_locked(struct pool *pool)
{
    REQUIRE(pool_holding == pool);
    if (pool->queue.kept_until_ns == 0)
        return UINT64_MAX;
    uint64_t now = pool->closed ? UINT64_MAX : clock_now_ns();
    if (now >= pool->queue.kept_until_ns)
        pool->queue.kept_until_ns = 0;
    return now;
}

struct pool_worker *pool_unpark_locked(struct pool_team *team)
{
    REQUIRE(pool_holding == team->pool);
    struct pool_worker *w = team->parked;
    if (w == NULL)
        return NULL;
    REQUIRE(w->parked && !w->has_permit);
    team->parked = w->below;
    team->pool->parked--;
    w->parked = false;
    return w;
}

struct pool_worker *pool_unpark_all_locked(struct pool *pool)
{
    struct pool_worker *list = NULL, *w;

    for (unsigned i = 0; i < pool->teams; i++)
        while ((w = pool_unpark_locked(&pool->team[i])) != NULL) {
            w->below = list;
            list = w;
        }
    return list;
}

static struct pool_worker *send_locked(struct pool_worker *w)
{
    w->has_permit = true;
    w->pool->coming++;
    w->pool->warm = (unsigned)(w->team - w->pool->team);
    return w;
}

static struct pool_worker *parked_with_permit_locked(struct pool *pool)
{
    for (unsigned i = 0; pool->parked > 0 && i < pool->teams; i++) {
        struct pool_team *team = &pool->team[(pool->warm + i) % pool->teams];
        if (team->parked != NULL && team_take_permit(team))
            return send_locked(pool_unpark_locked(team));
    }
    return NULL;
}

/* Its permit comes with it: see permit note. */
static struct pool_worker *start_locked(struct pool_team *team)
{
    struct pool_worker *w = team->workers;

    while (w->state == WORKER_LIVE || w->state == WORKER_STARTING)
        w++;
    if (w->state == WORKER_ENDED) /* does not block: it only has to return */
        pool_must(pthread_join(w->thread, NULL));
    w->state = WORKER_STARTING;
    team->threads++;
    team->pool->threads++;
    return send_locked(w);
}

static struct pool_worker *absent_locked(struct pool *pool)
{
    if (pool->threads == pool->threads_most ||
        (pool->grow_after_ns != 0 && clock_now_ns() < pool->grow_after_ns))
        return NULL;
    for (unsigned i = 0; i < pool->teams; i++) {
        struct pool_team *team = &pool->team[(pool->warm + i) % pool->teams];
        if (team->threads < team->most)
            return start_locked(team);
    }
    return NULL;
}

/* See wake-up note. */
static size_t needed_locked(const struct pool *pool, size_t ready)
{
    size_t brief = pool->queue.brief < ready ? pool->queue.brief : ready;

    return ready - brief + (brief > 0);
}

/* Jobs of crowds that must wait are left to a worker that parks until they may run; see
 * take_locked(), pool_worker.c. */
struct pool_worker *pool_wanted_locked(struct pool *pool)
{
    REQUIRE(pool_holding == pool);
    size_t queued = fair_queued(&pool->queue);
    if (queued <= pool->coming)
        return NULL;
    size_t ready = fair_ready(&pool->queue, pool_queue_now_locked(pool));
    size_t needed = needed_locked(pool, ready);

    if (needed <= pool->coming && (pool->timed > 0 || pool->coming > 0 || ready == queued))
        return NULL;
    struct pool_worker *w = parked_with_permit_locked(pool);
    return w != NULL || needed <= pool->coming ? w : absent_locked(pool);
}

size_t pool_idle_locked(const struct pool *pool)
{
    size_t idle = 0;

    REQUIRE(pool_holding == pool);
    for (unsigned i = 0; i < pool->teams; i++) {
        const struct pool_team *team = &pool->team[i];
        idle += atomic_load(&team->permits) + (team->most - team->threads);
    }
    return idle;
}

/* ---- waking and starting ---- */

/* The job that it was to fetch waits for one of the threads that exist. */
static void not_started(struct pool_worker *w, int err)
{
    struct pool *pool = w->pool;

    pool_lock(pool);
    w->has_permit = false;
    pool->coming--;
    pool->grow_after_ns = clock_now_ns() + GROW_AGAIN_NS;
    unsigned threads = pool->threads;
    bool is_new = !pool->growth_failed;
    pool->growth_failed = true;
    struct pool_worker *next = pool_wanted_locked(pool); /* `coming` has counted this one */
    pool_unlock(pool);
    if (is_new)
        log_line(LOG_LEVEL_WARN, "no-thread", NULL,
                 "cannot start one more worker thread: %s; %u threads serve, raise the limit of "
                 "threads (ulimit -u, TasksMax=) or lower --workers",
                 strerrordesc_np(-err), threads);
    pool_wake(next);
}

/* The new thread waits for mu: it does not see itself half-made. */
int pool_start_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;
    char name[THREAD_NAME_SIZE + 16];

    REQUIRE(pool_holding == pool);
    if (w->state == WORKER_ABSENT) {
        w->team->threads++;
        pool->threads++;
    }
    (void)snprintf(name, sizeof(name), "%s-%u", pool->name, (unsigned)(w - pool->worker));
    int err = thread_start(&w->thread, name, pool->thread_main, w);
    w->state = WORKER_LIVE;
    if (err != 0) {
        w->state = WORKER_ABSENT;
        w->team->threads--;
        pool->threads--;
    }
    return err;
}

static void start(struct pool_worker *w)
{
    pool_lock(w->pool);
    int err = pool_start_locked(w);
    pool_unlock(w->pool);
    if (err != 0)
        not_started(w, err);
}

/* Without mu, so that the woken thread does not wait for it. The worker exists until pool_destroy()
 * has joined it, and that is called only after the calls that wake have returned. */
void pool_wake(struct pool_worker *w)
{
    if (w == NULL)
        return;
    if (w->state == WORKER_STARTING) { /* nobody else has it */
        start(w);
        return;
    }
    /* release: pairs with the acquire in pool_park_locked */
    atomic_store_explicit(&w->asleep, 0, memory_order_release);
    futex_wake(&w->asleep);
}

void pool_wake_all(struct pool_worker *list)
{
    while (list != NULL) {
        struct pool_worker *next = list->below; /* it belongs to the thread once that is awake */
        pool_wake(list);
        list = next;
    }
}

/* ---- parking ---- */

static void leave_stack_locked(struct pool_worker *w)
{
    struct pool_worker **at = &w->team->parked;

    while (*at != w)
        at = &(*at)->below;
    *at = w->below;
    w->pool->parked--;
    w->parked = false;
}

/* The time is over: true if nobody else has taken it off the stack yet. */
static bool gives_up(struct pool_worker *w)
{
    pool_lock(w->pool);
    bool parked = w->parked;
    if (parked) {
        leave_stack_locked(w);
        atomic_store_explicit(&w->asleep, 0, memory_order_relaxed);
    }
    pool_unlock(w->pool);
    return parked;
}

void pool_park_locked(struct pool_worker *w, uint64_t until_ns)
{
    struct pool *pool = w->pool;
    bool timed = until_ns != UINT64_MAX;

    REQUIRE(!w->has_permit && !w->parked);
    w->parked = true;
    w->below = w->team->parked;
    w->team->parked = w;
    pool->parked++;
    pool->timed += timed;
    /* relaxed: who clears it took mu after this */
    atomic_store_explicit(&w->asleep, 1, memory_order_relaxed);
    pool_unlock(pool);
    while (atomic_load_explicit(&w->asleep, memory_order_acquire) != 0)
        if (!futex_wait(&w->asleep, 1, until_ns) && gives_up(w))
            break;
    pool_lock(pool);
    pool->timed -= timed;
}

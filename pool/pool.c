/* The pool: creating it, its jobs from the caller's side, its counts. See pool.h, and pool_p.h for
 * the lock and its rules. */

#include "pool_p.h"

#include <stdio.h>
#include <stdlib.h>

#include "thread.h"

#define WORKERS_MAX 4096
#define LOOPS_MAX 1024
#define QUEUE_MAX 1048576
#define NAME_MAX_LEN                                                                               \
    10 /* with '-' and 4 digits 15 bytes: the kernel keeps no more of a thread's name */

/* ---- create ---- */

static bool config_is_valid(const struct pool_config *config)
{
    return config->workers >= 1 && config->workers <= WORKERS_MAX && config->queue >= 1 &&
           config->queue <= QUEUE_MAX && config->loops <= LOOPS_MAX &&
           (config->name == NULL || strlen(config->name) <= NAME_MAX_LEN);
}

/* The first of its threads are the first of the workers, as many as it may run jobs; and one
 * drives.
 */
static void share_out(struct pool *pool, const struct pool_config *config)
{
    struct pool_worker *next = pool->worker;

    for (unsigned i = 0; i < pool->teams; i++) {
        struct pool_team *team = &pool->team[i];
        team->pool = pool;
        team->has_loop = config->loops > 0;
        team->most = config->workers / pool->teams + (i < config->workers % pool->teams) +
                     (config->loops > 0);
        team->workers = next;
        for (unsigned k = 0; k < team->most; k++, next++) {
            next->pool = pool;
            next->team = team;
        }
    }
}

/* What is done under mu takes less than a switch to another thread: who finds it taken looks some
 * more times before it sleeps. */
static void make_mutex(pthread_mutex_t *mu)
{
    pthread_mutexattr_t attr;

    pool_must(pthread_mutexattr_init(&attr));
    pool_must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP));
    pool_must(pthread_mutex_init(mu, &attr));
    pool_must(pthread_mutexattr_destroy(&attr));
}

static struct pool *allocate(const struct pool_config *config)
{
    unsigned teams = config->loops > 0 ? config->loops : 1;
    size_t threads = (size_t)config->workers + config->loops;
    size_t bytes = sizeof(struct pool) + threads * sizeof(struct pool_worker);
    /* calloc(3) does not align: what many threads write has its own cache lines */
    struct pool *pool = aligned_alloc(_Alignof(struct pool), bytes);
    struct pool_team *team = aligned_alloc(_Alignof(struct pool_team), teams * sizeof(*team));

    if (pool == NULL || team == NULL) {
        free(pool);
        free(team);
        return NULL;
    }
    memset(pool, 0, bytes);
    memset(team, 0, teams * sizeof(*team));
    pool->team = team;
    pool->teams = teams;
    share_out(pool, config);
    pool->thread_main = pool_worker_main;
    pool->queue_max = config->queue;
    pool->most = config->workers;
    pool->threads_most = (unsigned)threads;
    (void)snprintf(pool->name, sizeof(pool->name), "%s",
                   config->name != NULL ? config->name : "worker");
    pool->on_idle = config->on_idle;
    pool->on_idle_arg = config->on_idle_arg;
    pool->on_driver_end = config->on_driver_end;
    pool->on_driver_end_arg = config->on_driver_end_arg;
    fair_init(&pool->queue, config->workers);
    make_mutex(&pool->mu);
    clock_cond_init(&pool->idle);
    clock_cond_init(&pool->gone);
    return pool;
}

/* Two of each team, where it may have so many: with a loop, one that drives and one that can take
 * over. */
static int start_threads(struct pool *pool)
{
    int err = 0;

    pool_lock(pool);
    for (unsigned i = 0; i < pool->teams && err == 0; i++) {
        struct pool_team *team = &pool->team[i];
        for (unsigned k = 0; k < team->most && k < 2 && err == 0; k++) {
            struct pool_worker *w = &team->workers[k];
            err = pool_start_locked(w);
            /* Jobs that come before it count on it. */
            w->has_permit = err == 0 && (k > 0 || !team->has_loop);
            pool->coming += w->has_permit;
        }
    }
    pool_unlock(pool);
    return err;
}

int pool_create(const struct pool_config *config, struct pool **ret_pool)
{
    if (!config_is_valid(config))
        return -EINVAL;
    struct pool *pool = allocate(config);
    if (pool == NULL)
        return -ENOMEM;
    int ret = start_threads(pool);
    if (ret == 0 && config->loops > 0)
        ret = pool_monitor_start(pool);
    if (ret != 0) {
        (void)pool_destroy(pool, UINT64_MAX); /* no worker is stuck in a job yet */
        return ret;
    }
    *ret_pool = pool;
    return 0;
}

/* ---- jobs ---- */

/* Is there room in the queue, or a job to drop? See wake-up note for the bound. */
static bool has_room_locked(struct pool *pool, const struct pool_job *job,
                            struct pool_job **ret_dropped)
{
    REQUIRE(pool_holding == pool);
    if (job->due)
        return true;
    if (!fair_may_queue(&pool->queue, job->share, pool->queue_max))
        return false;
    size_t queued = fair_queued(&pool->queue), most = pool->queue_max + pool->coming;
    /* For brief jobs, workers that idle are not all woken. */
    if (queued < most || (pool->queue.brief > 0 && queued < most + pool_idle_locked(pool)))
        return true;
    *ret_dropped = fair_displace(&pool->queue, job->share, pool->queue_max);
    if (*ret_dropped == NULL)
        return false;
    fair_end(&pool->queue, (*ret_dropped)->share, true);
    pool->dropped++;
    return true;
}

/* Queue the job, or return why not. */
static int admit_locked(struct pool *pool, struct pool_job *job, struct pool_job **ret_dropped)
{
    REQUIRE(pool_holding == pool);
    if (pool->closed || !has_room_locked(pool, job, ret_dropped)) {
        pool->refused++;
        return pool->closed ? -ESHUTDOWN : -EAGAIN;
    }
    pool->taken++;
    fair_push(&pool->queue, job);
    pool_note_queue_locked(pool);
    return 0;
}

struct pool_share *pool_share_create(void)
{
    return calloc(1, sizeof(struct pool_share));
}

void pool_share_release(struct pool *pool, struct pool_share *share)
{
    if (share == NULL)
        return;
    pool_lock(pool);
    share->released = true;
    bool unused = share->held == 0;
    pool_unlock(pool);
    if (unused) /* else the call that takes out its last job frees it, and may have done so already
                 */
        free(share);
}

int pool_submit(struct pool *pool, struct pool_job *job)
{
    struct pool_worker *woken = NULL;
    struct pool_job *dropped = NULL;

    job->owner = pool;
    job->ran = NULL;
    /* relaxed, both: the unlock below publishes them to the worker */
    atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
    atomic_store_explicit(&job->started, false, memory_order_relaxed);

    pool_lock(pool);
    int ret = admit_locked(pool, job, &dropped);
    if (ret == 0)
        woken = pool_wanted_locked(pool);
    pool_unlock(pool);
    pool_wake(woken); /* `job` may be gone by now */
    if (dropped != NULL)
        dropped->dropped(dropped);
    return ret;
}

/* See cancel note. */
void pool_cancel(struct pool_job *job)
{
    struct pool *pool = job->owner;
    pool_lock(pool);
    /* release: pairs with the acquire in pool_job_is_cancelled, so that run() sees what the caller
     * wrote before it cancelled */
    atomic_store_explicit(&job->cancelled, true, memory_order_release);
    if (job->ran != NULL) {
        (void)atomic_fetch_add_explicit(&job->ran->pokes, 1, memory_order_release);
        futex_wake(&job->ran->pokes);
    }
    pool_unlock(pool);
}

bool pool_job_is_cancelled(const struct pool_job *job)
{
    /* acquire: pairs with the release in pool_cancel */
    return atomic_load_explicit(&job->cancelled, memory_order_acquire);
}

/* See cancel note. */
bool pool_job_wait(struct pool_job *job, uint32_t ms)
{
    uint64_t deadline_ns = clock_now_ns() + ms * NS_PER_MS;

    REQUIRE(pool_self != NULL && job->ran == pool_self && pool_holding == NULL);
    for (bool over = ms == 0; !over;) {
        uint32_t pokes = atomic_load_explicit(&pool_self->pokes, memory_order_acquire);
        if (pool_job_is_cancelled(job))
            return true;
        over = !futex_wait(&pool_self->pokes, pokes, deadline_ns);
    }
    return pool_job_is_cancelled(job);
}

unsigned pool_job_worker(const struct pool_job *job)
{
    /* written by this thread, in take_locked() or run_placed() */
    REQUIRE(pool_self != NULL && job->ran == pool_self);
    return (unsigned)(job->ran - job->owner->worker);
}

/* ---- counts ---- */

size_t pool_active(struct pool *pool)
{
    pool_lock(pool);
    size_t active = pool_active_locked(pool);
    pool_unlock(pool);
    return active;
}

void pool_get_stats(struct pool *pool, struct pool_stats *ret_stats)
{
    pool_lock(pool);
    *ret_stats = (struct pool_stats){.workers = pool->most,
                                     .threads = pool->threads,
                                     .queued = fair_queued(&pool->queue),
                                     .running = pool->running,
                                     .taken = pool->taken,
                                     .refused = pool->refused,
                                     .dropped = pool->dropped};
    for (unsigned i = 0; i < pool->teams; i++) { /* with mu: no job is left meanwhile */
        struct pool_team *team = &pool->team[i];
        uint64_t token = atomic_load_explicit(&team->token, memory_order_relaxed);
        ret_stats->running += token_state(token) == TOKEN_HANDLER;
        ret_stats->placed += token / TOKEN_STEP;
        ret_stats->handed_off += atomic_load_explicit(&team->handed_off, memory_order_relaxed);
    }
    pool_unlock(pool);
}

void pool_get_waits(struct pool *pool, struct pool_waits *ret_waits)
{
    memset(ret_waits, 0, sizeof(*ret_waits));
    for (unsigned i = 0; i < pool->most + (pool->team->has_loop ? pool->teams : 0); i++) {
        struct pool_worker *w = &pool->worker[i];
        for (size_t k = 0; k < POOL_WAIT_BUCKETS; k++)
            ret_waits->buckets[k] += atomic_load_explicit(&w->waits[k], memory_order_relaxed);
        ret_waits->sum_ns += atomic_load_explicit(&w->waited_ns, memory_order_relaxed);
    }
}

/* One step for the flag and the count: see idle note. */
size_t pool_watch_idle(struct pool *pool, bool on)
{
    pool_lock(pool);
    pool->watched = on;
    size_t active = pool_active_locked(pool);
    struct pool_worker *idle = on ? pool_unpark_all_locked(pool) : NULL; /* they may end */
    pool_unlock(pool);
    pool_wake_all(idle);
    return active;
}

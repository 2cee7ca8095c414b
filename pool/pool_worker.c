/* A thread's life: it drives its team's loop if nobody does, else it takes a job, runs it, takes
 * the next, and parks where there is none. See pool_p.h. */

#include "pool_p.h"

#include <sys/prctl.h>
#include <unistd.h>

#include "thread.h"

/* With a loop, one that drives and one that can take over. */
#define FEWEST_THREADS 2

/* ---- the queue ---- */

static void arrive_locked(struct pool *pool)
{
    REQUIRE(pool_holding == pool && pool->coming > 0);
    pool->coming--;
}

static void give_permit_locked(struct pool_worker *w)
{
    REQUIRE(pool_holding == w->pool);
    if (!w->has_permit)
        return;
    w->has_permit = false;
    team_add_permit(w->team);
}

/* Needs and keeps a permit. NULL: no job is ready, or no permit is free. */
static struct pool_job *take_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;

    if (fair_queued(&pool->queue) == 0)
        return NULL;
    uint64_t now_ns = pool_queue_now_locked(pool);
    if (fair_ready(&pool->queue, now_ns) == 0)
        return NULL;
    if (!w->has_permit && !team_take_permit(w->team))
        return NULL;
    w->has_permit = true;
    struct pool_job *job = fair_pop(&pool->queue, now_ns);
    REQUIRE(job != NULL && job->owner == pool);
    pool_note_queue_locked(pool);
    pool->running++;
    REQUIRE(pool->running <= pool->most);
    job->ran = w;
    return job;
}

static void add(_Atomic uint64_t *count, uint64_t n)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Called without `mu`, which all workers want. */
static void count_wait(struct pool_worker *w, const struct pool_job *job)
{
    if (job->came_ns == 0)
        return;
    uint64_t now = clock_now_ns(), waited_ns = now > job->came_ns ? now - job->came_ns : 0;
    uint64_t ms = (waited_ns + NS_PER_MS - 1) / NS_PER_MS;
    unsigned k = ms <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(ms - 1);
    add(&w->waits[k < POOL_WAIT_BUCKETS ? k : POOL_WAIT_BUCKETS - 1], 1);
    add(&w->waited_ns, waited_ns);
}

/* Do not use `job` after done(), which may free it. */
static void perform(struct pool_job *job)
{
    REQUIRE(pool_holding == NULL);
    /* seq_cst: the job's owner may set a flag and then read `started`, and its run() reads that
     * flag first. One of the two sees the other. */
    atomic_store(&job->started, true);
    job->run(job);
    job->done(job);
}

void pool_leave_locked(struct pool *pool, struct pool_share *share, bool crowded)
{
    REQUIRE(pool_holding == pool && pool->running > 0);
    fair_end(&pool->queue, share, crowded);
    pool->running--;
    if (pool_active_locked(pool) > 0)
        return;
    pool_must(pthread_cond_broadcast(&pool->idle));
    if (pool->watched && pool->on_idle != NULL) {
        pool_unlock(pool);
        pool->on_idle(pool->on_idle_arg);
        pool_lock(pool);
    }
}

/* Workers that were kept for single jobs are free now, and no submit comes to wake them. */
static void unlock_and_wake(struct pool *pool)
{
    struct pool_worker *woken = pool_wanted_locked(pool);

    pool_unlock(pool);
    pool_wake(woken);
}

static bool did_job_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;
    struct pool_job *job = take_locked(w);

    if (job == NULL)
        return false;
    struct pool_share *share = job->share;
    bool crowded = job->crowded;
    unlock_and_wake(pool);
    thread_give_way(pool_is_busy(pool));
    count_wait(w, job);
    perform(job);
    pool_lock(pool);
    pool_leave_locked(pool, share, crowded);
    return true;
}

/* ---- the loop ---- */

static bool drove_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;

    if (!pool_take_loop_locked(w))
        return false;
    give_permit_locked(w);
    unlock_and_wake(pool); /* that permit may be what a job waits for */
    bool left = pool_drive(w);
    pool_lock(pool);
    w->has_permit = left;
    if (left) {
        pool_leave_locked(pool, NULL, false);
    } else if (pool->leaving) { /* the others of the team waited for the loop's end */
        struct pool_worker *list = pool_unpark_all_locked(pool);
        pool_unlock(pool);
        pool_wake_all(list);
        pool_lock(pool);
    }
    return true;
}

/* ---- the end ---- */

/* It takes a permit along: see permit note. */
static bool takes_leave_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;

    if (pool->leaving)
        return token_state(atomic_load(&w->team->token)) == TOKEN_ENDED &&
               (fair_queued(&pool->queue) == 0 || atomic_load(&w->team->permits) == 0);
    return pool->watched && !w->has_driven && w->team->threads > FEWEST_THREADS &&
           team_take_permit(w->team);
}

static void end_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;

    REQUIRE(pool_holding == pool && !w->has_permit && !w->parked);
    w->state = WORKER_ENDED;
    w->team->threads--;
    if (--pool->threads == 0)
        pool_must(pthread_cond_signal(&pool->gone));
}

/* ---- a thread's life ---- */

/* Returns false at its end. */
static bool idled_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;
    bool empty = fair_queued(&pool->queue) == 0;

    give_permit_locked(w);
    if (takes_leave_locked(w))
        return false;
    if (!empty) { /* withheld, or a permit of another team is free: see wake-up note */
        struct pool_worker *woken = pool_wanted_locked(pool);
        if (woken != NULL) {
            pool_unlock(pool);
            pool_wake(woken);
            pool_lock(pool);
            return true; /* look again: mu was released */
        }
    }
    pool_park_locked(w, empty || pool->queue.kept_until_ns == 0 ? UINT64_MAX
                                                                : pool->queue.kept_until_ns);
    if (w->has_permit)
        arrive_locked(pool);
    return true;
}

void *pool_worker_main(void *arg)
{
    struct pool_worker *w = arg;
    struct pool *pool = w->pool;

    pool_self = w;
    atomic_store_explicit(&w->tid, gettid(), memory_order_relaxed);
    /* A job that sleeps wakes up when it wanted to, and not up to 50 us later. See prctl(2). */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    thread_give_way(pool_is_busy(pool));
    pool_lock(pool);
    if (w->has_permit)
        arrive_locked(pool);
    while (drove_locked(w) || did_job_locked(w) || idled_locked(w))
        ;
    if (w->has_driven &&
        pool->on_driver_end != NULL) { /* `leaving` holds: no job comes meanwhile */
        pool_unlock(pool);
        pool->on_driver_end(pool->on_driver_end_arg);
        pool_lock(pool);
    }
    end_locked(w);
    pool_unlock(pool);
    return NULL;
}

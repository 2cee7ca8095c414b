/* The worker pool, see pool.h.
 *
 * One mutex, `mu`, guards everything that changes. A submit takes it once; a worker takes it once a
 * job, to leave the old job and fetch the next. Nothing of the caller's (run, done, on_idle) is
 * ever called with it held.
 *
 * Workers. A worker is in one of three places:
 *
 *     coming   on its way to the queue: just started, or woken and not there yet
 *     parked   asleep on its own condition variable, on the stack `parked`
 *     running  in run() or done()
 *
 * and for a moment, in on_idle(), in none of them: nothing counts on a worker there.
 *
 * A stack, so that the worker that slept least, with the warmest cache, works next; a condition
 * variable each, so that a wake-up reaches the one worker it is meant for, and pool_cancel() can
 * reach the worker that runs a certain job.
 *
 * Wake-up note. While any worker is parked, at least as many workers are coming as jobs are queued:
 *
 *     queued <= coming, or nobody is parked                                      (W)
 *
 * pool_submit() adds one to `queued` and restores W by waking one parked worker, only if it must: a
 * wake-up costs a system call. A worker that takes a job lowers `queued`, and `coming` at most as
 * much. A worker parks only when the queue is empty. So no job is left to sleepers. Jobs that a
 * coming worker will fetch are not waiting for one, hence the bound is queue + coming: a burst onto
 * idle workers needs no room in the queue.
 *
 * Idle note. Who asks whether the pool is idle (pool_watch_idle, pool_wait_idle) and who makes it
 * so (leave_locked, which takes the last job out of the count) both hold `mu`. One of them is
 * first:
 *
 *   - the decrement: then the asker reads 0 and does not wait;
 *   - the asker: then either `watched` is set, and the decrement reads it under the same lock, or
 *     the asker sleeps on `idle`, which it joined in the step that released `mu`, and the broadcast
 *     reaches it.
 *
 * There is no third order. (A new job may overtake the woken sleeper, which then sleeps on: it
 * waits until the pool is idle, not until it was.)
 *
 * The decrement comes after done() has returned, when the job may be gone: it uses the pool and the
 * worker only. Both outlive it, and the call of on_idle() behind it, even if done() made another
 * thread call pool_destroy() at once: pool_destroy() joins this worker before it frees.
 *
 * Cancel note. pool_cancel() raises the flag under `mu`, and pool_job_wait() reads it under `mu`
 * before each sleep. Either the reader comes second and sees the flag, or it sleeps already and
 * gets the signal. A signal that comes late, when that worker has moved on, is one more spurious
 * wake-up: each wait here looks at its own condition again.
 *
 * What this file does not do: grow or shrink, steal, spin, or reorder jobs. */

#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS_MAX 4096
#define QUEUE_MAX 1048576
#define NAME_MAX_LEN 10 /* + '-' + 4 digits = 15, what the kernel keeps of a thread's name */
#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

struct pool_worker {
    /* immutable after create */
    struct pool *pool;
    char name[24]; /* at most 15 are used; the rest is for the compiler, which fears 2^32 workers */
    /* pool_create, then pool_destroy; the worker does not look */
    pthread_t thread;
    /* mu */
    pthread_cond_t wake; /* no longer parked; or its job was cancelled */
    bool parked;
    struct pool_worker *below; /* on the stack of parked workers */
};

struct pool {
    /* immutable after create */
    size_t queue_max;
    void (*on_idle)(void *arg);
    void *on_idle_arg;

    pthread_mutex_t mu;
    /* mu */
    struct pool_job *head, **tail; /* oldest first; *tail is the NULL at the end */
    size_t queued;
    size_t running;
    size_t coming;
    struct pool_worker *parked;
    bool closed;
    bool watched;
    uint64_t taken;
    uint64_t refused;
    unsigned exited;     /* workers that will not touch the pool again */
    pthread_cond_t idle; /* the active count became 0 */
    pthread_cond_t gone; /* exited == started */
    unsigned started;    /* workers that exist; constant once pool_create has returned */
    struct pool_worker worker[];
};

/* For the asserts: what pool.h says of threads, and the suffix _locked, are checked in debug
 * builds. */
static _Thread_local struct pool_worker *self; /* NULL on every thread that is not a worker */
static _Thread_local struct pool *holding;     /* whose `mu` this thread holds */

/* ---- pthread, wrapped once: an error here is a bug of this file ---- */

static void must(int err)
{
    assert(err == 0);
    (void)err; /* NDEBUG */
}

static void lock(struct pool *pool)
{
    assert(holding == NULL);
    must(pthread_mutex_lock(&pool->mu));
    holding = pool;
}

static void unlock(struct pool *pool)
{
    assert(holding == pool);
    holding = NULL;
    must(pthread_mutex_unlock(&pool->mu));
}

/* `holding` stays as it is while asleep: this thread runs nothing that could read it. */
static void sleep_locked(struct pool *pool, pthread_cond_t *cond)
{
    assert(holding == pool);
    must(pthread_cond_wait(cond, &pool->mu));
}

/* Returns false once the clock has reached `deadline_ns`. */
static bool sleep_until_locked(struct pool *pool, pthread_cond_t *cond, uint64_t deadline_ns)
{
    const struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                                      .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    assert(holding == pool);
    int err = pthread_cond_timedwait(cond, &pool->mu, &deadline);
    if (err == ETIMEDOUT)
        return false;
    must(err);
    return true;
}

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(cond, &attr));
    must(pthread_condattr_destroy(&attr));
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* fails only for a clock that does not exist */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- the queue ---- */

static size_t active_locked(const struct pool *pool)
{
    assert(holding == pool);
    return pool->queued + pool->running;
}

static void push_locked(struct pool *pool, struct pool_job *job)
{
    assert(holding == pool);
    *pool->tail = job;
    pool->tail = &job->next;
    pool->queued++;
}

static struct pool_job *pop_locked(struct pool *pool)
{
    assert(holding == pool);
    struct pool_job *job = pool->head;
    pool->head = job->next;
    if (pool->head == NULL)
        pool->tail = &pool->head;
    pool->queued--;
    return job;
}

/* ---- parking: see "wake-up note" ---- */

static void arrive_locked(struct pool *pool)
{
    assert(holding == pool && pool->coming > 0);
    pool->coming--;
}

static void park_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;
    w->parked = true;
    w->below = pool->parked;
    pool->parked = w;
    while (w->parked)
        sleep_locked(pool, &w->wake);
    arrive_locked(pool);
}

/* Takes the top worker off the stack. The caller signals it. */
static struct pool_worker *unpark_locked(struct pool *pool)
{
    assert(holding == pool);
    struct pool_worker *w = pool->parked;
    pool->parked = w->below;
    w->parked = false;
    pool->coming++;
    return w;
}

/* ---- a worker's life ---- */

/* Waits for a job. NULL: the pool is closed and the queue empty. */
static struct pool_job *take_locked(struct pool_worker *w)
{
    struct pool *pool = w->pool;
    while (pool->head == NULL) {
        if (pool->closed)
            return NULL;
        park_locked(w);
    }
    struct pool_job *job = pop_locked(pool);
    pool->running++;
    job->ran = w;
    return job;
}

/* The job may be freed by its own done(): no line behind that call may name it. */
static void perform(struct pool_job *job)
{
    assert(holding == NULL);
    /* seq_cst: an owner may agree with its run() on a flag of its own that run() reads first: the
     * owner sets that flag and then reads `started`; one of the two sees the other. */
    atomic_store(&job->started, true);
    job->run(job);
    job->done(job);
}

/* Takes a finished job out of the active count. See "idle note". */
static void leave_locked(struct pool *pool)
{
    assert(holding == pool && pool->running > 0);
    pool->running--;
    if (active_locked(pool) > 0)
        return;
    must(pthread_cond_broadcast(&pool->idle));
    if (pool->watched && pool->on_idle != NULL) {
        unlock(pool);
        pool->on_idle(pool->on_idle_arg);
        lock(pool);
    }
}

static void exit_locked(struct pool *pool)
{
    assert(holding == pool);
    pool->exited++;
    if (pool->exited == pool->started)
        must(pthread_cond_signal(&pool->gone));
}

static void *worker_main(void *arg)
{
    struct pool_worker *w = arg;
    struct pool *pool = w->pool;
    struct pool_job *job;

    self = w;
    (void)pthread_setname_np(pthread_self(), w->name); /* a thread without its name works as well */
    lock(pool);
    arrive_locked(pool);
    while ((job = take_locked(w)) != NULL) {
        unlock(pool);
        perform(job);
        lock(pool);
        leave_locked(pool);
    }
    exit_locked(pool);
    unlock(pool);
    return NULL;
}

/* ---- create ---- */

static bool config_is_valid(const struct pool_config *config)
{
    return config->workers >= 1 && config->workers <= WORKERS_MAX && config->queue >= 1 &&
           config->queue <= QUEUE_MAX &&
           (config->name == NULL || strlen(config->name) <= NAME_MAX_LEN);
}

static struct pool *allocate(const struct pool_config *config)
{
    struct pool *pool = calloc(1, sizeof(*pool) + config->workers * sizeof(pool->worker[0]));
    if (pool == NULL)
        return NULL;
    pool->queue_max = config->queue;
    pool->on_idle = config->on_idle;
    pool->on_idle_arg = config->on_idle_arg;
    pool->tail = &pool->head;
    must(pthread_mutex_init(&pool->mu, NULL));
    init_cond(&pool->idle);
    init_cond(&pool->gone);
    return pool;
}

static int start_worker_locked(struct pool *pool, unsigned index, const char *prefix)
{
    struct pool_worker *w = &pool->worker[index];
    assert(holding == pool);
    w->pool = pool;
    (void)snprintf(w->name, sizeof(w->name), "%s-%u", prefix, index); /* fits: config_is_valid */
    init_cond(&w->wake);
    int err = pthread_create(&w->thread, NULL, worker_main, w);
    if (err != 0) {
        must(pthread_cond_destroy(&w->wake));
        return err;
    }
    pool->started++;
    pool->coming++;
    return 0;
}

/* A thread inherits the mask of its creator. Blocking in the worker itself would leave a moment in
 * which a signal finds it open. `mu` is held throughout, so that each worker is counted as coming
 * before it arrives. */
static int start_workers(struct pool *pool, const struct pool_config *config)
{
    const char *prefix = config->name != NULL ? config->name : "worker";
    sigset_t all, before;
    int err = 0;

    (void)sigfillset(&all); /* fails only for NULL */
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    lock(pool);
    for (unsigned i = 0; i < config->workers && err == 0; i++)
        err = start_worker_locked(pool, i, prefix);
    unlock(pool);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    return -err;
}

int pool_create(const struct pool_config *config, struct pool **ret_pool)
{
    if (!config_is_valid(config))
        return -EINVAL;
    struct pool *pool = allocate(config);
    if (pool == NULL)
        return -ENOMEM;
    int ret = start_workers(pool, config);
    if (ret != 0) {
        (void)pool_destroy(pool, UINT64_MAX); /* no worker has had a job to be stuck in */
        return ret;
    }
    *ret_pool = pool;
    return 0;
}

/* ---- jobs ---- */

/* Counts the job in, or says why not. See "wake-up note" for the bound. */
static int admit_locked(struct pool *pool, struct pool_job *job)
{
    assert(holding == pool);
    if (pool->closed || pool->queued >= pool->queue_max + pool->coming) {
        pool->refused++;
        return pool->closed ? -ESHUTDOWN : -EAGAIN;
    }
    pool->taken++;
    push_locked(pool, job);
    return 0;
}

int pool_submit(struct pool *pool, struct pool_job *job)
{
    struct pool_worker *woken = NULL;

    job->next = NULL;
    job->owner = pool;
    job->ran = NULL;
    /* relaxed, both: the unlock below publishes them to the worker */
    atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
    atomic_store_explicit(&job->started, false, memory_order_relaxed);

    lock(pool);
    int ret = admit_locked(pool, job);
    if (ret == 0 && pool->parked != NULL && pool->queued > pool->coming)
        woken = unpark_locked(pool);
    unlock(pool);
    /* Behind the lock, so that the woken worker does not run into it. `job` may be gone by now;
     * the worker is not: who destroys the pool must know that pool_submit() has returned. */
    if (woken != NULL)
        must(pthread_cond_signal(&woken->wake));
    return ret;
}

/* See "cancel note". */
void pool_cancel(struct pool_job *job)
{
    struct pool *pool = job->owner;
    lock(pool);
    /* release: pairs with the acquire in pool_job_is_cancelled, so that run() sees what the caller
     * wrote before it cancelled */
    atomic_store_explicit(&job->cancelled, true, memory_order_release);
    if (job->ran != NULL)
        must(pthread_cond_signal(&job->ran->wake));
    unlock(pool);
}

bool pool_job_is_cancelled(const struct pool_job *job)
{
    /* acquire: pairs with the release in pool_cancel */
    return atomic_load_explicit(&job->cancelled, memory_order_acquire);
}

/* See "cancel note". */
bool pool_job_wait(struct pool_job *job, uint32_t ms)
{
    struct pool *pool = job->owner;
    uint64_t deadline_ns = now_ns() + ms * NS_PER_MS;

    assert(self != NULL && job->ran == self);
    lock(pool);
    while (!pool_job_is_cancelled(job) && sleep_until_locked(pool, &job->ran->wake, deadline_ns))
        ;
    bool cancelled = pool_job_is_cancelled(job);
    unlock(pool);
    return cancelled;
}

unsigned pool_job_worker(const struct pool_job *job)
{
    assert(self != NULL && job->ran == self); /* written by this thread, in take_locked() */
    return (unsigned)(job->ran - job->owner->worker);
}

/* ---- counts ---- */

size_t pool_active(struct pool *pool)
{
    lock(pool);
    size_t active = active_locked(pool);
    unlock(pool);
    return active;
}

void pool_get_stats(struct pool *pool, struct pool_stats *ret_stats)
{
    lock(pool);
    *ret_stats = (struct pool_stats){.workers = pool->started,
                                     .queued = pool->queued,
                                     .running = pool->running,
                                     .taken = pool->taken,
                                     .refused = pool->refused};
    unlock(pool);
}

/* See "idle note": the flag and the count are one step. */
size_t pool_watch_idle(struct pool *pool, bool on)
{
    lock(pool);
    pool->watched = on;
    size_t active = active_locked(pool);
    unlock(pool);
    return active;
}

/* ---- stopping ---- */

void pool_close(struct pool *pool)
{
    lock(pool);
    pool->closed = true;
    while (pool->parked != NULL)
        must(pthread_cond_signal(&unpark_locked(pool)->wake));
    unlock(pool);
}

/* See "idle note". */
int pool_wait_idle(struct pool *pool, uint64_t deadline_ns)
{
    assert(self == NULL || self->pool != pool);
    lock(pool);
    while (active_locked(pool) > 0 && sleep_until_locked(pool, &pool->idle, deadline_ns))
        ;
    int ret = active_locked(pool) > 0 ? -ETIMEDOUT : 0;
    unlock(pool);
    return ret;
}

static bool wait_gone(struct pool *pool, uint64_t deadline_ns)
{
    lock(pool);
    while (pool->exited < pool->started && sleep_until_locked(pool, &pool->gone, deadline_ns))
        ;
    bool gone = pool->exited == pool->started;
    unlock(pool);
    return gone;
}

int pool_destroy(struct pool *pool, uint64_t deadline_ns)
{
    if (pool == NULL)
        return 0;
    assert(self == NULL || self->pool != pool);
    pool_close(pool);
    if (!wait_gone(pool, deadline_ns))
        return -EBUSY;
    /* At once: each of them has nothing left but to return. */
    for (unsigned i = 0; i < pool->started; i++) {
        must(pthread_join(pool->worker[i].thread, NULL));
        must(pthread_cond_destroy(&pool->worker[i].wake));
    }
    assert(pool->head == NULL && pool->running == 0 && pool->coming == 0);
    must(pthread_cond_destroy(&pool->gone));
    must(pthread_cond_destroy(&pool->idle));
    must(pthread_mutex_destroy(&pool->mu));
    free(pool);
    return 0;
}

#ifndef LASTCALL_POOL_P_H
#define LASTCALL_POOL_P_H

/* What the files of the pool share: pool.c (creating, jobs, counts), pool_worker.c (a thread's
 * life), pool_park.c (sleeping and waking), pool_loop.c (driving a loop, placed jobs),
 * pool_monitor.c (taking a loop over), pool_stop.c (the end), pool_self.c. fair.c has the queue.
 *
 * One mutex, `mu`, guards everything that changes, but for the words that are atomic. A submit
 * takes it once; a worker takes it once per job of the queue, to leave the old job and to fetch the
 * next. A placed job takes it never. The caller's functions (run, done, on_idle, a loop's) are
 * never called with it held.
 *
 * Teams. Each loop has a team; a pool without loops has one. A thread of a team is in one of these
 * places:
 *
 *     coming   on its way to the queue with a permit: just started, or woken and not there yet
 *     called   on its way to the loop: woken by the monitor and not there yet
 *     parked   asleep on a word of its own, on the team's stack `parked`
 *     running  in run() or done() of a job of the queue, or of one that it was left with
 *     driving  in the loop's body, or in run() of a placed job
 *
 * and for a moment, in on_idle(), in none of them; no code relies on a worker there.
 *
 * The parked threads are a stack, so that the one that slept least, with the warmest cache, works
 * next. Each has a futex word, so that a wake-up reaches one certain thread and does not touch
 * `mu`.
 *
 * Permit note. A job runs only with a permit of its thread's team. A team with a loop has one
 * permit less than threads, so at most all threads but one are in jobs: one is always left to drive
 * the loop. A team gets its next thread, and with it a permit, when a job finds none free.
 *
 *     free permits + held ones == threads of the team - 1    (no loop: == threads)          (P)
 *
 * A thread that holds a permit keeps it from job to job, and gives it back before it parks or
 * drives. A worker that is woken for the queue was given its permit before.
 *
 * Wake-up note. While a team has both a parked thread and a free permit, as many workers are coming
 * as the ready jobs need:
 *
 *     needed(ready) <= coming, or no team has a parked thread and a free permit              (W)
 *
 * where `ready` are the queued jobs that may run now: all of them, unless the queue keeps workers
 * for single jobs (fair.h). Each needs a worker, but brief jobs together need one: it will be ready
 * for the next before another one were awake. When it takes the first of them, W wants the next
 * worker if there are more; so if that job blocks after all, the others do not wait for it.
 * pool_submit() adds one and restores W by waking one parked worker, or starting one, only if it
 * must: a wake-up costs a system call. A worker that takes a job lowers `ready`, and `coming` at
 * most as much. A worker parks only if nothing is ready or its team has no free permit. So no job
 * waits while a thread that may run it sleeps. A job that a coming worker will fetch does not take
 * a place in the queue, hence the bound is queue + coming: a burst onto idle workers needs no room
 * in the queue.
 *
 * A placed job gives its permit back without `mu`, and that may break W: it adds the permit and
 * then reads `waiting`, the length of the queue; a submit adds to `waiting` and then looks for
 * permits. All four are sequentially consistent, so one of the two sees the other: either the
 * submit finds the permit, or the driver sees the job, takes `mu` and restores W.
 *
 * Jobs that may not run yet become ready by the clock, or when a crowd's job ends. In the second
 * case that job's worker takes them. For the first case at least one worker is parked with a time
 * limit, or is coming, as long as W could wake one and jobs are withheld; it takes one job, and
 * each worker that takes a job wakes the next if W wants it.
 *
 * Place note. A team's `token` says who has the loop:
 *
 *     FREE      nobody: a thread of the team that finds this under `mu` takes it
 *     DRIVEN    the thread that took it runs the loop's body
 *     HANDLER   the body waits in pool_place(), and that thread runs its job
 *     ENDED     the body has returned, or never began
 *
 * with the number of the job in the other bits. Two compare-and-swaps decide about HANDLER(n): the
 * driver's, when run() has returned, to DRIVEN; and the monitor's, to FREE. Exactly one succeeds,
 * since both start from the same word and no number comes twice. If the driver's does, the body
 * goes on at once. If the monitor's does, the job counts as running from then on, since the swap
 * and the count are one step under `mu`; its thread delivers it with done(), like any worker; and
 * the body goes on on another thread: by P one of the team holds no permit, so it is parked, and
 * the monitor calls it, or it will look at the token under `mu` before it parks.
 *
 * What the driver wrote before the job began (the loop's memory, job->ran) is released by its store
 * of HANDLER, which the monitor reads (acquire) before it takes `mu`; the next driver took `mu`
 * after that.
 *
 * Monitor note. The monitor sleeps while no token has changed for some time. A driver stores
 * HANDLER and then reads `monitor.asleep`; the monitor sets that flag and then reads all tokens.
 * All four are sequentially consistent, so either the driver wakes it or it sees the job.
 *
 * Way note. A thread that wakes up may interrupt what runs on its processor. A worker that does so
 * to the loop that woke it takes one job and sleeps again, and the loop, woken by the answer,
 * interrupts the next worker: two switches a job. The monitor interrupts somebody a thousand times
 * a second. So while a loop is busy, as its owner tells, that loop, all workers and the monitor
 * give way (thread_give_way()): a loop ends its turn first, and a worker finds the jobs of the
 * whole turn. While no loop is busy, they do not: then others may compute on the processors, and a
 * request would wait for them. A worker that sleeps keeps what it had until its next job.
 *
 * Idle note. The thread that asks whether the pool is idle (pool_watch_idle, pool_wait_idle) and
 * the worker that makes it idle (leave_locked, which takes the last job out of the count) both hold
 * `mu`. One of them is first:
 *
 *   - the decrement: then the asking thread reads 0 and does not wait;
 *   - the asking thread: then either `watched` is set, and the decrement reads it under the same
 *     lock, or that thread sleeps on `idle`, which it joined in the step that released `mu`, and
 * the broadcast reaches it.
 *
 * There is no third order. (A new job may overtake the woken thread, which then sleeps on: it waits
 * until the pool is idle, not until it was.)
 *
 * The decrement comes after done() has returned, when the job may be gone: it uses the pool and the
 * worker only. Both exist until on_idle() has returned, even if done() made another thread call
 * pool_destroy() at once: pool_destroy() joins this worker before it frees.
 *
 * Cancel note. pool_cancel() raises the flag and then changes the worker's word `pokes`, under `mu`
 * because of job->ran; pool_job_wait() reads the word, then the flag, and sleeps only while the
 * word is unchanged. So it sees the flag, or the word has changed, or the wake-up reaches it. A
 * poke that comes late, when that worker runs another job, is a spurious wake-up. */

#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/types.h>

#include "clock.h"
#include "fair.h"
#include "futex.h"
#include "require.h"

struct fiber;
struct pool_team;

enum worker_state { WORKER_ABSENT, WORKER_STARTING, WORKER_LIVE, WORKER_ENDED };

struct pool_worker {
    /* immutable after create */
    struct pool *pool;
    struct pool_team *team;
    /* mu */
    enum worker_state state;
    bool parked;
    bool has_permit;
    bool has_driven;           /* so it stays: see pool_start_loop() */
    struct pool_worker *below; /* on the stack of parked threads; on a list of woken ones */
    pthread_t thread;          /* of a state from LIVE on */
    /* atomic: futex words. `asleep` is set by the worker under mu, cleared by who woke it */
    _Alignas(64) _Atomic uint32_t asleep;
    _Atomic uint32_t pokes; /* see cancel note */
    /* atomic: written by this worker only, read by any thread, relaxed: they are counts */
    _Atomic pid_t tid;
    _Atomic uint64_t waits[POOL_WAIT_BUCKETS];
    _Atomic uint64_t waited_ns;
};

#define TOKEN_STATE 3U /* the other bits: the number of the last placed job */
#define TOKEN_STEP 4U
enum token_state { TOKEN_ENDED, TOKEN_FREE, TOKEN_DRIVEN, TOKEN_HANDLER };

struct pool_team {
    /* immutable after create; `loop` and `fiber` after pool_start_loop */
    struct pool *pool;
    struct pool_worker *workers; /* `most` of them, in pool->worker */
    unsigned most;
    bool has_loop;
    struct pool_loop loop;
    struct fiber *fiber;
    /* mu */
    unsigned threads; /* that are STARTING or LIVE */
    struct pool_worker *parked;
    bool left_busy; /* at the last hand-off: the job did not sleep */
    /* the driver's: see way note */
    bool gives_way;
    /* atomic: see place note, permit note */
    _Alignas(64) _Atomic uint64_t token;
    _Atomic unsigned permits;
    _Atomic uint64_t begun_ns;            /* HANDLER: since when; written before the token */
    _Atomic(struct pool_worker *) driver; /* of the state DRIVEN or HANDLER; else stale */
    /* atomic: written under mu, relaxed: a count */
    _Atomic uint64_t handed_off;
};

struct pool_monitor {
    pthread_t thread;
    bool started;            /* pool_create, pool_destroy */
    _Atomic uint32_t asleep; /* futex word: see monitor note */
    _Atomic bool stopping;   /* set by pool_monitor_stop; seq_cst, like `asleep` */
};

struct pool {
    /* immutable after create */
    size_t queue_max;
    void (*on_idle)(void *arg);
    void *on_idle_arg;
    void (*on_driver_end)(void *arg);
    void *on_driver_end_arg;
    unsigned most; /* jobs at once */
    char name[16];
    void *(*thread_main)(void *worker);
    unsigned teams;
    struct pool_team *team;

    /* In a line of its own: drivers read the fields above and take no lock. */
    _Alignas(64) pthread_mutex_t mu;
    /* mu */
    struct fair queue; /* see fair.h */
    size_t running;
    size_t coming;
    unsigned warm; /* the team whose worker was woken last */
    bool closed;
    bool leaving; /* threads end, too */
    bool watched;
    bool growth_failed; /* it is logged once */
    uint64_t grow_after_ns;
    uint64_t taken;
    uint64_t refused;
    uint64_t dropped;
    unsigned timed;   /* parked workers that wake up by the clock; see keep note, fair.h */
    unsigned threads; /* that are STARTING or LIVE */
    unsigned threads_most;
    unsigned parked;     /* on the stacks of all teams */
    pthread_cond_t idle; /* the active count became 0 */
    pthread_cond_t gone; /* threads == 0 */

    /* atomic: fair_queued(&queue), written under mu: see wake-up note */
    _Alignas(64) _Atomic size_t waiting;
    _Atomic unsigned busy_loops;              /* relaxed: see way note */
    _Alignas(64) struct pool_monitor monitor; /* drivers read it for each placed job */
    struct pool_worker worker[];
};

/* pool_self.c. These two check what pool.h says about threads, and the suffix _locked. */
extern _Thread_local struct pool_worker *pool_self; /* NULL on a thread that is not a worker */
extern _Thread_local struct pool *pool_holding;     /* whose `mu` this thread holds */

/* ---- pthread, wrapped once: an error here is a bug of this file ---- */

static inline void pool_must(int err)
{
    REQUIRE(err == 0);
}

static inline void pool_lock(struct pool *pool)
{
    REQUIRE(pool_holding == NULL);
    pool_must(pthread_mutex_lock(&pool->mu));
    pool_holding = pool;
}

static inline void pool_unlock(struct pool *pool)
{
    REQUIRE(pool_holding == pool);
    pool_holding = NULL;
    pool_must(pthread_mutex_unlock(&pool->mu));
}

/* Returns false once the clock has reached `deadline_ns`. `pool_holding` keeps its value during the
 * sleep: this thread runs no code that could read it. */
static inline bool pool_sleep_until_locked(struct pool *pool, pthread_cond_t *cond,
                                           uint64_t deadline_ns)
{
    const struct timespec deadline = clock_timespec(deadline_ns);
    REQUIRE(pool_holding == pool);
    int err = pthread_cond_timedwait(cond, &pool->mu, &deadline);
    if (err == ETIMEDOUT)
        return false;
    pool_must(err);
    return true;
}

static inline size_t pool_active_locked(const struct pool *pool)
{
    REQUIRE(pool_holding == pool);
    return fair_queued(&pool->queue) + pool->running;
}

/* The queue has changed. seq_cst: see wake-up note.     Lock: mu. */
static inline void pool_note_queue_locked(struct pool *pool)
{
    atomic_store(&pool->waiting, fair_queued(&pool->queue));
}

/* ---- tokens and permits ---- */

static inline enum token_state token_state(uint64_t token)
{
    return (enum token_state)(token & TOKEN_STATE);
}

static inline uint64_t token_with(uint64_t token, enum token_state state)
{
    return (token & ~(uint64_t)TOKEN_STATE) | (uint64_t)state;
}

/* seq_cst, both: see wake-up note.     Lock: none needed. */
static inline bool team_take_permit(struct pool_team *team)
{
    unsigned n = atomic_load(&team->permits);
    while (n > 0)
        if (atomic_compare_exchange_weak(&team->permits, &n, n - 1))
            return true;
    return false;
}

static inline void team_add_permit(struct pool_team *team)
{
    (void)atomic_fetch_add(&team->permits, 1);
}

/* ---- pool_park.c ---- */

/* The time for the queue. Lock: mu. */
uint64_t pool_queue_now_locked(struct pool *pool);

/* Take a worker that has to come, with a permit, off the stack or out of those that are absent;
 * NULL: W holds without it. The caller passes it to pool_wake(). Lock: mu. */
struct pool_worker *pool_wanted_locked(struct pool *pool);

/* How many workers could come that do not. Lock: mu. */
size_t pool_idle_locked(const struct pool *pool);

/* Take the top thread of a team off the stack, for the loop or to end. The caller passes it to
 * pool_wake(). NULL: none is parked. Lock: mu. */
struct pool_worker *pool_unpark_locked(struct pool_team *team);

/* Take all threads off the stacks, as a list by `below`, for pool_wake_all(). Lock: mu. */
struct pool_worker *pool_unpark_all_locked(struct pool *pool);

/* Start an absent thread, without a permit, or one of the state STARTING. Lock: mu.
 * Errors: as for thread_start(): it is absent then. */
int pool_start_locked(struct pool_worker *w);

/* Wake or start this worker. NULL is allowed. Lock: none. */
void pool_wake(struct pool_worker *w);
void pool_wake_all(struct pool_worker *list);

/* Sleep until another thread takes this one off the stack, or until `until_ns`. Lock: mu, which is
 * released meanwhile. */
void pool_park_locked(struct pool_worker *w, uint64_t until_ns);

/* ---- pool_worker.c ---- */

/* A worker's thread. */
void *pool_worker_main(void *worker);

/* Take a finished job out of the active count. See idle note. Lock: mu; released for on_idle(). */
void pool_leave_locked(struct pool *pool, struct pool_share *share, bool crowded);

/* Thread: any. */
static inline bool pool_is_busy(const struct pool *pool)
{
    return atomic_load_explicit(&pool->busy_loops, memory_order_relaxed) > 0;
}

/* ---- pool_loop.c ---- */

/* The loop is free, and this thread takes it. Lock: mu. */
bool pool_take_loop_locked(struct pool_worker *w);

/* Drive the loop that was taken. Returns true if it was left with a job that has ended since; then
 * it holds that job's permit, and the job is to be left. False: the body has returned.
 * Thread: the worker.     Lock: none. */
bool pool_drive(struct pool_worker *w);

/* ---- pool_monitor.c ---- */

int pool_monitor_start(struct pool *pool);
void pool_monitor_stop(struct pool *pool);

/* A placed job begins. Thread: the driver. */
static inline void pool_monitor_note(struct pool *pool)
{
    if (__builtin_expect(atomic_load(&pool->monitor.asleep) != 0, 0)) { /* see monitor note */
        atomic_store(&pool->monitor.asleep, 0);
        futex_wake(&pool->monitor.asleep);
    }
}

#endif

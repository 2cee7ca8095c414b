#ifndef LASTCALL_POOL_H
#define LASTCALL_POOL_H

/* The worker pool: threads that run jobs which may block.
 *
 *     pool_submit() ---> [ bounded queue ] ---> worker: job->run(job) ---> job->done(job)
 *          |                                                                   |
 *       active + 1                                                        active - 1
 *
 * A job is active from the moment it was accepted until its done() has returned. The queue's own
 * mutex, which every submit and every worker takes anyway, guards the active count, so counting
 * costs nothing and no wake-up at zero can be lost (see idle note, pool_p.h).
 *
 * The pool may also drive event loops. Then its threads form teams, one for each loop: one thread
 * of a team drives its loop, the others run jobs from the queue, which all teams share, or sleep.
 * A loop can have a short job run at once, by the thread that drives it (pool_place()): that takes
 * neither a queue nor a wake-up. If such a job does not come back soon, another thread of the team
 * takes the loop over, so a job may block here too, and costs the loop a fraction of a millisecond,
 * or some milliseconds where no processor is idle.
 *
 * Stopping takes four calls: pool_close() refuses new jobs and keeps the queued ones;
 * pool_wait_idle() waits for the last one; the caller frees what its loops own; pool_destroy()
 * joins the threads. A thread that is stuck in a handler cannot be joined: then pool_destroy()
 * returns an error, leaves that thread and its memory alone, and the process ends by _exit(2).
 *
 * The pool knows nothing of HTTP or drains, and of a loop only that it is a function. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;
struct pool_share;

/* A job belongs to the caller, embedded in a larger struct, and must stay valid until done() was
 * entered. The fields below the line belong to the pool. */
struct pool_job {
    /* Does the work. May block. Runs on a worker. */
    void (*run)(struct pool_job *job);
    /* Delivers the result. Called once for each accepted job, on the worker that ran it, after
     * run(). Must not block. The pool does not touch the job after this call: done() may free it.
     */
    void (*done)(struct pool_job *job);
    /* The job was dropped for one of another client, see fair.h. Called on the thread that
     * submitted that one, instead of run() and done(). Must not block. The pool does not touch the
     * job after this call. NULL: the job is never dropped. */
    void (*dropped)(struct pool_job *job);
    /* when the request came, on CLOCK_MONOTONIC; 0: do not count its wait */
    uint64_t came_ns;
    /* the client's share; NULL: the client has no other job */
    struct pool_share *share;
    /* It is expected to take less than a wake-up does, and not to block: workers are woken for such
     * jobs one after the other, not all at once. A guess; every job gets its worker. */
    bool brief;
    /* It has waited elsewhere for its turn, in a list that is bounded: it is queued although the
     * queue is full, and no other is dropped for it. */
    bool due;
    /* ---- pool ---- */
    struct pool_job *next;
    struct pool *owner;      /* set by pool_submit and pool_place */
    struct pool_worker *ran; /* mu: the worker that runs it, or NULL; see place note, pool_p.h */
    _Atomic bool cancelled;  /* written by pool_cancel, read by run() */
    _Atomic bool started;    /* written by the worker before run(), seq_cst: queued or running */
    bool crowded;            /* mu: see fair.h */
    uint64_t placed_ns;      /* when pool_place() was called; 0: it was not. For the caller, too */
};

struct pool_config {
    unsigned workers; /* jobs that may run at once, 1..4096 */
    unsigned
        queue; /* jobs that may wait, without those that an idle worker will fetch, 1..1048576 */
    unsigned loops;   /* event loops, 0..1024; each has workers / loops of the workers */
    const char *name; /* prefix of the thread names, at most 10 characters; NULL: "worker" */
    /* Called on a worker, without any lock, each time the active count has become 0 while
     * pool_watch_idle(pool, true) holds. May be NULL. */
    void (*on_idle)(void *arg);
    void *on_idle_arg;
    /* Called on each thread that has driven a loop before it ends, in pool_destroy(), without any
     * lock. May be NULL. */
    void (*on_driver_end)(void *arg);
    void *on_driver_end_arg;
};

struct pool_stats {
    unsigned workers;    /* jobs that may run at once */
    unsigned threads;    /* that exist now */
    size_t queued;       /* wait for a worker */
    size_t running;      /* in run() or done(), placed ones too */
    uint64_t taken;      /* accepted into the queue since the start */
    uint64_t refused;    /* refused since the start: queue full, or closed */
    uint64_t dropped;    /* dropped since the start for one of another client */
    uint64_t placed;     /* run by the thread that drove the loop, since the start */
    uint64_t handed_off; /* of these: kept the loop waiting, and another thread took it over */
};

/* How long jobs have waited for a worker. Bucket k counts those that waited at most 2^k ms, and
 * longer than the bucket before; the last one counts the rest. */
#define POOL_WAIT_BUCKETS 18
struct pool_waits {
    uint64_t buckets[POOL_WAIT_BUCKETS];
    uint64_t sum_ns;
};

/* Make the pool. Two threads of each team start at once, the others when jobs need them.
 * Owner:  the caller; ends with pool_destroy().   Thread: any.   Blocks: briefly (thread starts).
 * Errors: 0 and *ret_pool; -EINVAL a number is out of range; -EAGAIN or -ENOMEM as for
 *         pthread_create(3): no thread is left then, and *ret_pool is untouched. */
int pool_create(const struct pool_config *config, struct pool **ret_pool);

/* ---- loops ---- */

/* Have team `loop` drive this loop: `body(arg)` runs on a stack of its own, and returns at the end
 * of the loop. It may be on another thread after each pool_place(); see fiber.h.
 * `driven(arg)` is called on each thread that begins to drive it, before that thread goes on with
 * the body; `left(arg)` when it does not drive it any more. May be NULL.
 *
 * Memory that a thread-local of the body's owns (allocators of libh2o's are such) may be used by
 * whichever thread drives the loop. So a thread that has driven one never drives another and does
 * not end before pool_destroy().
 * Thread: any, once a loop.     Blocks: never.     Errors: 0; -ENOMEM. */
struct pool_loop {
    void (*body)(void *arg);
    void (*driven)(void *arg);
    void (*left)(void *arg);
    void *arg;
};
int pool_start_loop(struct pool *pool, unsigned loop, const struct pool_loop *what);

/* Is the thread that drives `loop` awake: does it run, or wait for a processor? Also true while the
 * loop waits for a thread to take it over. *ret_used_ns: the processor time that this thread has
 * used; the next call may be about another thread.
 * Thread: any, after pool_start_loop().     Blocks: never; it takes some microseconds. */
bool pool_driver_is_awake(const struct pool *pool, unsigned loop, uint64_t *ret_used_ns);

/* The loop is busy, or (at first) is not. While one is, it and all workers give way when they wake
 * up: see thread_give_way(), and way note, pool_p.h.
 * Thread: the body of `loop`.     Blocks: never. */
void pool_set_busy(struct pool *pool, unsigned loop, bool busy);

enum pool_placed {
    POOL_NOT_PLACED, /* the team has no free thread for it; the job is the caller's again */
    POOL_ENDED,      /* run() has returned; done() is not called */
    POOL_LEFT,       /* run() continues on the thread it began on; done() will be called there */
    POOL_LEFT_BUSY   /* the same, and it did not sleep: it computes, or waits for a processor */
};

/* Run a job now, on the thread that drives the loop. It returns when the job ended, or when it had
 * to be left to its thread: after a fraction of a millisecond if it sleeps, after a millisecond if
 * it computes.
 * Owner:  the job is borrowed; after POOL_LEFT and POOL_LEFT_BUSY until its done() was entered.
 * Thread: the body of `loop`; the body may continue on another.     Blocks: as said. */
enum pool_placed pool_place(struct pool *pool, unsigned loop, struct pool_job *job);

/* ---- jobs ---- */

/* Create a share: the jobs of one client that may have several in the pool. See fair.h.
 * Owner:  the caller; ends with pool_share_release().     Thread: any.     Blocks: never.
 * Errors: NULL without memory. */
struct pool_share *pool_share_create(void);

/* The client is gone. Its jobs stay in the pool, and the share lives as long as they do.
 * Thread: any, while the pool exists.     Blocks: never. */
void pool_share_release(struct pool *pool, struct pool_share *share);

/* Queue `job` for one worker. Never waits for room. If the queue is full, another client's job may
 * be dropped: its dropped() is called before this returns.
 * Owner:  the job is borrowed until its done() or dropped() was entered.     Thread: any.
 * Blocks: for the start of a thread, at most.
 * Errors: 0; -EAGAIN the queue is full, or this client's part of it, and the job is not due;
 *         -ESHUTDOWN after pool_close().
 *         After both, done() is not called and the job is the caller's again. */
int pool_submit(struct pool *pool, struct pool_job *job);

/* Raise the cancel flag of an accepted job, and wake its run() if it is in pool_job_wait(). The
 * flag is advice: the job still runs, and done() is still called. After done() was entered the call
 * has no effect. So the caller need not know how far the job is, only that the job and its pool
 * still exist.
 * Thread: any but the job's own.     Blocks: never. */
void pool_cancel(struct pool_job *job);

/* Has the flag been raised?     Thread: the job's worker, in run(). */
bool pool_job_is_cancelled(const struct pool_job *job);

/* Sleep `ms` milliseconds on the monotonic clock, or until the job is cancelled.
 * Returns true if it was cancelled.     Thread: the job's worker, in run().     Blocks: yes. */
bool pool_job_wait(struct pool_job *job, uint32_t ms);

/* Which thread runs it: 0 to workers + loops - 1. A thread runs one job at a time.
 * Thread: the job's worker, in run(). */
unsigned pool_job_worker(const struct pool_job *job);

/* How many jobs are active. One that pool_place() runs counts from the moment it is left.
 * Thread: any.     Blocks: never. */
size_t pool_active(struct pool *pool);

/* Thread: any.     Blocks: never. */
void pool_get_stats(struct pool *pool, struct pool_stats *ret_stats);

/* Of all jobs of the queue whose run() has begun and that had a came_ns.
 * Thread: any.     Blocks: never. */
void pool_get_waits(struct pool *pool, struct pool_waits *ret_waits);

/* From now on (or no longer) call on_idle() when the active count becomes 0. Returns the active
 * count at that instant: a caller that sees 0 need not wait, one that sees more will be called. A
 * call that had begun when the watch was switched off may end later.
 * While it is on, threads that have nothing to do end, so that the process has fewer to end when
 * its last answer is out; new jobs start new ones.
 * Thread: any.     Blocks: never. */
size_t pool_watch_idle(struct pool *pool, bool on);

/* ---- the end ---- */

/* Refuse new jobs; the queued ones still run.     Thread: any.     Blocks: never. */
void pool_close(struct pool *pool);

/* Wait until no job is active, or until CLOCK_MONOTONIC reads `deadline_ns`.
 * Thread: any but a worker.     Blocks: yes.     Errors: 0; -ETIMEDOUT. */
int pool_wait_idle(struct pool *pool, uint64_t deadline_ns);

/* Close the pool, let the workers finish the queue, join them and free the pool, before
 * CLOCK_MONOTONIC reads `deadline_ns`. A NULL pool is allowed. The bodies of its loops have
 * returned.
 * Thread: any but a worker; no other thread may use the pool any more.     Blocks: yes.
 * Errors: 0 the pool is gone; -EBUSY a thread has not ended, most likely because it is stuck in
 *         run(), or drives a loop:
 *         nothing was freed and the pool stays closed. The caller may call again with a later
 *         deadline, or leave by _exit(2). */
int pool_destroy(struct pool *pool, uint64_t deadline_ns);

#endif

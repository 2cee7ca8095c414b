#ifndef LASTCALL_POOL_H
#define LASTCALL_POOL_H

/* The worker pool: M threads that run jobs which may block.
 *
 *     pool_submit() ---> [ bounded queue ] ---> worker: job->run(job) ---> job->done(job)
 *          |                                                                   |
 *       active + 1                                                        active - 1
 *
 * A job is active from the moment it was taken into the queue until its done() has returned. The
 * active count lives behind the queue's own mutex, which every submit and every worker takes
 * anyway, so counting costs nothing and no wake-up at zero can be lost (see "idle note", pool.c).
 *
 * Stopping is three verbs, apart: pool_close() refuses new jobs and keeps the queued ones;
 * pool_wait_idle() waits for the last one; pool_destroy() joins the workers. A worker that is stuck
 * in a handler can not be joined: then pool_destroy() says so, leaves that thread and the memory it
 * uses alone, and the process ends by _exit(2).
 *
 * The pool knows nothing of HTTP, loops or drains. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

/* A job belongs to the caller, embedded in a larger struct, and must stay valid until done() was
 * entered. The fields below the line belong to the pool. */
struct pool_job {
    /* Does the work. May block. Runs on a worker. */
    void (*run)(struct pool_job *job);
    /* Hands the result on. Called once for each accepted job, on the worker that ran it, after
     * run(). Must not block. From here on the pool does not touch the job: done() may free it. */
    void (*done)(struct pool_job *job);
    /* ---- pool ---- */
    struct pool_job *next;
    struct pool *owner;      /* set by pool_submit */
    struct pool_worker *ran; /* mu: the worker that runs it, or NULL */
    _Atomic bool cancelled;  /* written by pool_cancel, read by run() */
    _Atomic bool started;    /* written by the worker before run(), seq_cst: queued or running */
};

struct pool_config {
    unsigned workers; /* threads, 1..4096 */
    unsigned queue;   /* jobs that may wait beyond those an idle worker will fetch, 1..1048576 */
    const char *name; /* prefix of the thread names, at most 10 characters; NULL: "worker" */
    /* Called on a worker, without any lock, each time the active count has become 0 while
     * pool_watch_idle(pool, true) holds. May be NULL. */
    void (*on_idle)(void *arg);
    void *on_idle_arg;
};

struct pool_stats {
    unsigned workers;
    size_t queued;    /* wait for a worker */
    size_t running;   /* in run() or done() */
    uint64_t taken;   /* jobs ever accepted */
    uint64_t refused; /* jobs ever refused, queue full or closed */
};

/* Start `config->workers` threads with every signal blocked.
 * Owner:  the caller; ends with pool_destroy().   Thread: any.   Blocks: briefly (thread starts).
 * Errors: 0 and *ret_pool; -EINVAL a number out of range; -EAGAIN or -ENOMEM as pthread_create(3):
 *         then no thread is left behind and *ret_pool is untouched. */
int pool_create(const struct pool_config *config, struct pool **ret_pool);

/* Queue `job` for one worker. Never waits for room.
 * Owner:  the job is borrowed until its done() was entered.     Thread: any.     Blocks: never.
 * Errors: 0; -EAGAIN the queue is full; -ESHUTDOWN after pool_close(). On both, done() is not
 *         called and the job is the caller's again. */
int pool_submit(struct pool *pool, struct pool_job *job);

/* Raise the cancel flag of an accepted job, and wake its run() if it sits in pool_job_wait(). The
 * flag is advice: the job still runs, or runs on, and done() is still called. Once done() was
 * entered nothing comes of it: the caller need not know how far the job is, only that the job and
 * its pool still exist.
 * Thread: any but the job's own.     Blocks: never. */
void pool_cancel(struct pool_job *job);

/* Has the flag been raised?     Thread: the job's worker, in run(). */
bool pool_job_is_cancelled(const struct pool_job *job);

/* Sleep `ms` milliseconds on the monotonic clock, or until the job is cancelled.
 * Returns true if it was cancelled.     Thread: the job's worker, in run().     Blocks: yes. */
bool pool_job_wait(struct pool_job *job, uint32_t ms);

/* Which worker runs it: 0 to workers - 1, never two jobs at a time on one.
 * Thread: the job's worker, in run(). */
unsigned pool_job_worker(const struct pool_job *job);

/* Jobs that were accepted and whose done() has not returned.     Thread: any.     Blocks: never. */
size_t pool_active(struct pool *pool);

/* Thread: any.     Blocks: never. */
void pool_get_stats(struct pool *pool, struct pool_stats *ret_stats);

/* From now on (or no longer) call on_idle() when the active count becomes 0. Returns the active
 * count at that instant: a caller that sees 0 need not wait, one that sees more is sure to be
 * called. A call that had begun when the watch was switched off may still be under way afterwards.
 * Thread: any.     Blocks: never. */
size_t pool_watch_idle(struct pool *pool, bool on);

/* Refuse new jobs; the queued ones still run.     Thread: any.     Blocks: never. */
void pool_close(struct pool *pool);

/* Wait until no job is active, or until CLOCK_MONOTONIC reads `deadline_ns`.
 * Thread: any but a worker.     Blocks: yes.     Errors: 0; -ETIMEDOUT. */
int pool_wait_idle(struct pool *pool, uint64_t deadline_ns);

/* Close, let the workers finish the queue, join them and free the pool, all until CLOCK_MONOTONIC
 * reads `deadline_ns`. A NULL pool is allowed.
 * Thread: any but a worker; no other thread may use the pool any more.     Blocks: yes.
 * Errors: 0 the pool is gone; -EBUSY a worker had not ended, most likely it is stuck in run():
 *         nothing was freed and the pool stays closed. The caller may call again with a later
 *         deadline, or leave by _exit(2). */
int pool_destroy(struct pool *pool, uint64_t deadline_ns);

#endif

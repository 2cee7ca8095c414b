#ifndef LASTCALL_REDIS_THREAD_H
#define LASTCALL_REDIS_THREAD_H

/* A thread that works with Redis: it takes turns, sleeps between them until the next one is due or
 * another thread has news, and waits longer after each turn that failed. registration.c and queue.c
 * each have one.
 *
 *     owner           --redis_thread_start()--> turn, sleep, turn, sleep ... <--redis_thread_stop()
 *     another thread  lock, change something, redis_thread_wake_locked(), unlock
 *
 * `mu` is held during a turn, which releases it while it waits for Redis. A turn looks at what has
 * changed before it returns, so the sleep that follows misses nothing. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* How long to wait before a failed turn is repeated: first, then twice as long each time. */
struct redis_backoff {
    uint64_t first_ns, most_ns;
};

struct redis_thread {
    /* immutable after redis_thread_start */
    struct redis_backoff backoff;
    uint64_t (*turn_locked)(void *arg);
    void *arg;
    pthread_t thread;
    int cancel_fd; /* see wakeup.h; readable once the thread has to stop: for redis_open() */
    /* owner's thread */
    bool started;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    uint64_t retry_ns;
    bool stops; /* a turn returns as soon as it sees this */
};

/* Thread: any.     Errors: 0; a negative errno. redis_thread_release() is allowed after both. */
int redis_thread_init(struct redis_thread *thread, struct redis_backoff backoff);

/* Thread: any, after redis_thread_stop() or if it was never started. */
void redis_thread_release(struct redis_thread *thread);

/* Start it. `turn_locked` returns when the next turn is due, on CLOCK_MONOTONIC; 0: at once;
 * CLOCK_NEVER: not before news comes.
 * Thread: the owner's, once.     Errors: 0; a negative errno. */
int redis_thread_start(struct redis_thread *thread, const char *name,
                       uint64_t (*turn_locked)(void *arg), void *arg);

/* Stop and join it; a call to Redis ends with -ECANCELED.
 * Thread: the owner's, not this one.     Blocks: briefly, or as long as the resolver. */
void redis_thread_stop(struct redis_thread *thread);

/* Thread: any.     Blocks: briefly. */
void redis_thread_lock(struct redis_thread *thread);
void redis_thread_unlock(struct redis_thread *thread);

/* There is news: for the thread, and for those in redis_thread_wait_locked().
 * Lock: mu.     Thread: any.     Blocks: never. */
void redis_thread_wake_locked(struct redis_thread *thread);

/* Wait for news. It may return early.
 * Lock: mu.     Thread: any other.     Blocks: until CLOCK_MONOTONIC reads `until_ns`.
 * Errors: true; false at `until_ns`. */
bool redis_thread_wait_locked(struct redis_thread *thread, uint64_t until_ns);

/* A turn failed: returns how long to wait before the next one.
 * Lock: mu.     Thread: this one. */
uint64_t redis_thread_back_off_locked(struct redis_thread *thread);

/* A turn succeeded: the next failure waits for `first_ns` again.
 * Lock: mu.     Thread: this one. */
void redis_thread_recover_locked(struct redis_thread *thread);

#endif

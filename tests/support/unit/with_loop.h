#ifndef LASTCALL_TEST_WITH_LOOP_H
#define LASTCALL_TEST_WITH_LOOP_H

/* Loops of the pool under test. The body of a loop runs a script of the test, and only records what
 * it sees: it may not assert.
 *
 * A machine that is busy may keep any job from coming back in time, so a job that does not block
 * may still be left (POOL_LEFT). No test counts on the contrary. */

#include "with_pool.h"

#define DRIVERS_MOST 32

struct turner {
    unsigned index;
    void (*script)(struct turner *t);
    void *arg;
    sem_t gate, back; /* for the script's jobs: at 0 at the start */
    sem_t ended;      /* the body posts it, last of all */
    /* the loop's: only who drives it may touch it, so the thread sanitizer checks who does */
    uintptr_t driver;                /* thread_self_id() of the thread that drives; 0: none */
    uintptr_t drivers[DRIVERS_MOST]; /* each that has driven it, once */
    unsigned drivers_count;
    unsigned strayed; /* how often the body went on on another thread than driven() was called on */
    uint64_t
        outcomes[3]; /* enum pool_placed: how many of each; POOL_LEFT has POOL_LEFT_BUSY in it */
    uint64_t left_busy;
    /* relaxed: read when the pool is gone */
    atomic_uint driven, left; /* calls */
};

struct pool *make_with_loops(unsigned workers, unsigned queue, unsigned loops);

/* Have `n` jobs of the queue run at once, up to 64: so many threads exist then that
 * drive no loop. */
void run_at_once(unsigned n);

/* Start it. Its body is in script() from now on. `t` ends with turner_end(). */
void turner_start(struct turner *t, unsigned index, void (*script)(struct turner *t), void *arg);

/* Wait until script() has returned. */
void turner_wait(struct turner *t);

/* After unmake(). It proves that driven() and left() were called in pairs, and that each part of
 * the body ran on the thread that driven() was called on. */
void turner_end(struct turner *t);

/* For the script: pool_place(), and count what it returned. */
enum pool_placed turner_place(struct turner *t, struct pool_job *job);

/* The same, again until it is placed: a thread that has just started, or that was left with a job
 * which is done by now, may hold its permit for a moment. */
enum pool_placed turner_place_surely(struct turner *t, struct pool_job *job);

/* For the script: place jobs that block on t->gate and let go only after they were left, until `n`
 * were left; none is in the pool then. */
void turner_hand_off(struct turner *t, unsigned n);

/* The team that a worker is of, by what pool_job_worker() returned. */
unsigned team_of(unsigned worker, unsigned workers, unsigned loops);

#endif

#ifndef LASTCALL_TEST_WITH_POOL_H
#define LASTCALL_TEST_WITH_POOL_H

/* A pool under test, and jobs that record what happens to them.
 *
 * No test sleeps to let something happen: threads meet at semaphores and barriers, and races are
 * played many times with the two sides set apart a little more each round. A deadline is used only
 * where the claim is about that deadline. alarm(2) ends a test that hangs. The clean-up proves that
 * a test has left no thread. Only the test's own thread asserts: cmocka leaves a failed test by
 * longjmp, which a worker cannot do. */

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool.h"

#define NS_PER_MS UINT64_C(1000000)
#define FOREVER UINT64_MAX /* as a deadline; alarm(2) is the real one */
#define claim(f) cmocka_unit_test_setup_teardown(f, with_pool_set_up, with_pool_clean_up)

/* Of each program, and of each test. */
int with_pool_begin(void **state);
int with_pool_set_up(void **state);
int with_pool_clean_up(void **state);

/* ---- clock, threads ---- */

uint64_t now_ns(void);
uint64_t in_ms(uint64_t ms);

unsigned count_threads(void);
bool threads_come_down_to(unsigned n);

/* Lets the other side of a race get a little further: some nanoseconds a turn. */
void dawdle(unsigned turns);

/* ---- a job that records what happens to it, and blocks where the test wants it to ---- */

struct step {
    struct pool_job job; /* first: a pool_job is cast back to its step */
    sem_t *entered;      /* run() posts it */
    sem_t *gate;         /* then run() waits for it */
    sem_t *left;         /* done() posts it, last of all */
    sem_t *done_gate;    /* done() waits for it, before `left` */
    uint32_t wait_ms;    /* then run() waits this long, or until cancelled */
    bool started;        /* as run() saw it */
    bool cancelled;      /* as run() saw it */
    size_t active;       /* as done() saw it */
    unsigned worker;     /* as run() saw it */
    uintptr_t thread[2]; /* of run() and of done(): thread_self_id() */
    atomic_uint runs;    /* relaxed: its readers synchronise by a semaphore or pool_wait_idle */
    atomic_uint dones;
};

extern const struct pool_job step_job;

/* ---- the pool ---- */

extern sem_t entered, gate, left; /* for steps: at 0 as a test begins */
extern sem_t idle;                /* on_idle() of the pool posts it */
extern atomic_uint idle_calls;
extern struct pool *pool; /* a test that uses it sets it; the clean-up wants it destroyed */

void with_pool_on_idle(void *arg); /* posts `idle` and counts; `arg`: &pool */
struct pool *make(unsigned workers, unsigned queue);
void unmake(void);

/* One worker, and `s` sits in its run() until `gate` is posted. */
void make_busy(struct step *s, unsigned queue);

#endif

/* Loops that are taken from thread to thread, many thousand times: no job is lost or run twice, and
 * a thread that has driven one loop drives no other. LASTCALL_HAND_OFFS says how often
 * (100,000 by default). */

#include "with_loop.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define HAND_OFFS 100000
#define LOOPS 8
#define WORKERS 64
#define HANG_S 600

/* ---- jobs that sleep at random ---- */

#define CRUMBS 64 /* of a loop: used again and again */

struct crumb {
    struct pool_job job;
    struct crowd *crowd;
    uint64_t sleep_ns;
    atomic_uint runs, dones;
    unsigned must_run, must_be_done; /* the loop's */
};

struct crowd {
    struct turner t;
    struct crumb crumbs[CRUMBS];
    unsigned hand_offs; /* to come */
    uint64_t seed;
    unsigned wrong;
    unsigned queued, refused;
};

static void crumb_run(struct pool_job *job)
{
    struct crumb *c = (struct crumb *)job;
    const struct timespec pause = {0, (long)c->sleep_ns};

    atomic_fetch_add_explicit(&c->runs, 1, memory_order_relaxed);
    if (c->sleep_ns > 0)
        (void)nanosleep(&pause, NULL);
}

static void crumb_done(struct pool_job *job)
{
    struct crumb *c = (struct crumb *)job;
    sem_t *back = &c->crowd->t.back;

    /* release: pairs with the acquire in await_crumb() */
    atomic_fetch_add_explicit(&c->dones, 1, memory_order_release);
    sem_post(back);
}

/* xorshift: each loop has numbers of its own. */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Around the time that it takes to leave a job, where the driver and the monitor meet; some do not
 * sleep at all, and some for long. */
static uint64_t random_sleep_ns(uint64_t *seed)
{
    uint64_t n = next_random(seed);

    switch (n % 16) {
    case 0:
        return 0;
    case 1:
        return 2 * NS_PER_MS;
    default:
        return (n >> 8) % 500000;
    }
}

static void await_crumb(struct crowd *crowd, struct crumb *c)
{
    while (atomic_load_explicit(&c->dones, memory_order_acquire) < c->must_be_done)
        sem_wait(&crowd->t.back);
    crowd->wrong += c->dones != c->must_be_done || c->runs != c->must_run;
}

static enum pool_placed queue_crumb(struct crowd *crowd, struct crumb *c)
{
    if (pool_submit(pool, &c->job) != 0) {
        crowd->refused++;
        return POOL_NOT_PLACED;
    }
    crowd->queued++;
    return POOL_LEFT;
}

/* One of sixteen goes to the queue from the start. Not all that were not placed: a worker keeps its
 * permit as long as the queue has jobs. */
static void place_crumb(struct crowd *crowd, struct crumb *c)
{
    enum pool_placed placed = POOL_NOT_PLACED;
    bool is_queued = next_random(&crowd->seed) % 16 == 0;

    c->crowd = crowd;
    c->job = (struct pool_job){.run = crumb_run, .done = crumb_done};
    c->job.brief = next_random(&crowd->seed) % 2 == 0; /* whether it sleeps or not */
    c->sleep_ns = random_sleep_ns(&crowd->seed);
    if (is_queued)
        placed = queue_crumb(crowd, c);
    else if ((placed = turner_place(&crowd->t, &c->job)) == POOL_LEFT)
        crowd->hand_offs--;
    else if (placed == POOL_NOT_PLACED)
        sched_yield();
    c->must_run += placed != POOL_NOT_PLACED;
    c->must_be_done += placed == POOL_LEFT;
}

static void places_a_crowd(struct turner *t)
{
    struct crowd *crowd = t->arg;

    for (unsigned i = 0; crowd->hand_offs > 0; i = (i + 1) % CRUMBS) {
        await_crumb(crowd, &crowd->crumbs[i]);
        place_crumb(crowd, &crowd->crumbs[i]);
    }
    for (unsigned i = 0; i < CRUMBS; i++)
        await_crumb(crowd, &crowd->crumbs[i]);
}

static unsigned hand_offs_wanted(void)
{
    const char *text = getenv("LASTCALL_HAND_OFFS");
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : HAND_OFFS;
}

static struct crowd crowds[LOOPS];

static void start_crowds(unsigned hand_offs)
{
    alarm(HANG_S);
    memset(crowds, 0, sizeof(crowds));
    make_with_loops(WORKERS, LOOPS * CRUMBS, LOOPS);
    run_at_once(WORKERS);
    for (unsigned i = 0; i < LOOPS; i++) {
        crowds[i].hand_offs = hand_offs;
        crowds[i].seed = 0x9e3779b97f4a7c15U * (i + 1);
        turner_start(&crowds[i].t, i, places_a_crowd, &crowds[i]);
    }
}

/* Each has ended. Returns how many jobs were queued. */
static unsigned check_crowds(void)
{
    unsigned queued = 0;

    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(crowds[i].wrong, 0);
        assert_int_equal(crowds[i].refused, 0);
        for (unsigned k = 0; k < CRUMBS; k++) { /* nothing came later */
            assert_int_equal(crowds[i].crumbs[k].runs, crowds[i].crumbs[k].must_run);
            assert_int_equal(crowds[i].crumbs[k].dones, crowds[i].crumbs[k].must_be_done);
        }
        queued += crowds[i].queued;
        turner_end(&crowds[i].t);
    }
    return queued;
}

static void test_no_job_is_lost_or_run_twice(void **state)
{
    const unsigned wanted = (hand_offs_wanted() + LOOPS - 1) / LOOPS;
    const uint64_t begun_ns = now_ns();
    struct pool_stats stats;

    (void)state;
    start_crowds(wanted);
    for (unsigned i = 0; i < LOOPS; i++)
        turner_wait(&crowds[i].t);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    pool_get_stats(pool, &stats);
    unmake();
    unsigned queued = check_crowds();
    assert_int_equal(stats.taken, queued + WORKERS);
    assert_int_equal(stats.handed_off, (uint64_t)wanted * LOOPS);
    print_message("%llu jobs placed, %llu of them handed off, %u queued: %.1f s\n",
                  (unsigned long long)stats.placed, (unsigned long long)stats.handed_off, queued,
                  (double)(now_ns() - begun_ns) / 1e9);
}

/* As during a drain: idle threads end, and the jobs of the queue start new ones. */
static void test_no_job_is_lost_while_threads_come_and_go(void **state)
{
    bool watched = false;

    (void)state;
    start_crowds(250);
    for (unsigned i = 0; i < LOOPS; i++)
        while (sem_trywait(&crowds[i].t.ended) != 0) {
            watched = !watched;
            (void)pool_watch_idle(pool, watched);
            sched_yield();
        }
    unmake();
    (void)check_crowds();
}

/* ---- who drives ---- */

static void hands_off(struct turner *t)
{
    turner_hand_off(t, 1000);
}

static bool has_driven(const struct turner *t, uintptr_t thread)
{
    for (unsigned i = 0; i < t->drivers_count; i++)
        if (t->drivers[i] == thread)
            return true;
    return false;
}

static void test_a_thread_that_has_driven_a_loop_drives_no_other(void **state)
{
    struct turner t[4];

    (void)state;
    alarm(HANG_S);
    make_with_loops(12, 12, 4);
    for (unsigned i = 0; i < 4; i++)
        turner_start(&t[i], i, hands_off, NULL);
    for (unsigned i = 0; i < 4; i++)
        turner_wait(&t[i]);
    unmake();
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(t[i].drivers_count, 2, 4);
        for (unsigned k = 0; k < t[i].drivers_count; k++)
            for (unsigned other = 0; other < 4; other++)
                assert_int_equal(has_driven(&t[other], t[i].drivers[k]), other == i);
    }
    for (unsigned i = 0; i < 4; i++)
        turner_end(&t[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_no_job_is_lost_or_run_twice),
        claim(test_no_job_is_lost_while_threads_come_and_go),
        claim(test_a_thread_that_has_driven_a_loop_drives_no_other),
    };
    return cmocka_run_group_tests_name("pool_hand_offs", tests, with_pool_begin, NULL);
}

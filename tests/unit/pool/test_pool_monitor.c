/* The specification of pool.h, one claim a test, on when a job is left: the monitor tells those
 * that sleep from those that compute, and sleeps itself when there is nothing to see. */

#include "pool_p.h"
#include "with_loop.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LONG_NS (10 * UINT64_C(1000000000)) /* no machine is as busy as that */

/* ---- jobs that compute ---- */

struct sum {
    struct pool_job job;
    sem_t *left;
    uint64_t compute_ns; /* by the clock, and no longer than until... */
    atomic_bool go_on;   /* ... this */
    uint64_t begun_ns;
};

static void sum_run(struct pool_job *job)
{
    struct sum *s = (struct sum *)job;

    s->begun_ns = now_ns();
    while (now_ns() - s->begun_ns < s->compute_ns && !atomic_load(&s->go_on))
        ;
}

static void sum_done(struct pool_job *job)
{
    sem_post(((struct sum *)job)->left);
}

struct times {
    uint64_t compute_ns;
    unsigned rounds;
    uint64_t shortest_ns; /* until the loop went on without the job */
    unsigned early;       /* of these, in less than a millisecond */
};

static void places_jobs_that_compute(struct turner *t)
{
    struct times *times = t->arg;

    times->shortest_ns = UINT64_MAX;
    for (unsigned i = 0; i < times->rounds; i++) {
        struct sum s = {.job = {.run = sum_run, .done = sum_done},
                        .left = &t->back,
                        .compute_ns = times->compute_ns};
        if (turner_place_surely(t, &s.job) == POOL_ENDED)
            continue;
        uint64_t resumed_ns = now_ns();
        atomic_store(&s.go_on, true);
        sem_wait(&t->back);
        uint64_t took_ns = resumed_ns - s.begun_ns;
        times->early += took_ns < NS_PER_MS;
        if (took_ns < times->shortest_ns)
            times->shortest_ns = took_ns;
    }
}

static void place_jobs_that_compute(struct turner *t, struct times *times)
{
    make_with_loops(1, 1, 1);
    turner_start(t, 0, places_jobs_that_compute, times);
    turner_wait(t);
    unmake();
}

static void test_a_job_that_computes_is_left_after_about_a_millisecond(void **state)
{
    struct turner t;
    struct times times = {.compute_ns = LONG_NS, .rounds = 100};

    (void)state;
    place_jobs_that_compute(&t, &times);
    assert_int_equal(t.outcomes[POOL_LEFT], times.rounds);
    assert_true(t.left_busy > times.rounds / 2); /* all, but for locks that the rounds wait for */
    assert_true(times.shortest_ns < 20 * NS_PER_MS); /* the best of a hundred */
    turner_end(&t);
}

/* A monitor that is preempted between the clock and the look may be early, which is rare. */
static void test_a_job_that_computes_is_not_left_before_that(void **state)
{
    struct turner t;
    struct times times = {.compute_ns = LONG_NS, .rounds = 100};

    (void)state;
    place_jobs_that_compute(&t, &times);
    assert_in_range(times.early, 0, times.rounds / 10);
    turner_end(&t);
}

/* Only if it loses its processor meanwhile: then a millisecond has passed. */
static void test_a_job_that_computes_for_300_us_ends_in_place(void **state)
{
    struct turner t;
    struct times times = {.compute_ns = 300 * NS_PER_US, .rounds = 1000};

    (void)state;
    place_jobs_that_compute(&t, &times);
    assert_true(t.outcomes[POOL_ENDED] > 0);
    assert_in_range(times.early, 0, times.rounds / 10);
    turner_end(&t);
}

/* ---- jobs that sleep ---- */

struct nap {
    struct step s;
    uint64_t begun_ns;
};

static void nap_run(struct pool_job *job)
{
    ((struct nap *)job)->begun_ns = now_ns();
    step_job.run(job);
}

static void places_jobs_that_sleep(struct turner *t)
{
    struct times *times = t->arg;

    times->shortest_ns = UINT64_MAX;
    for (unsigned i = 0; i < times->rounds; i++) {
        struct nap nap = {.s = {.job = step_job, .gate = &t->gate, .left = &t->back}};
        nap.s.job.run = nap_run;
        (void)turner_place_surely(t, &nap.s.job);
        uint64_t resumed_ns = now_ns();
        sem_post(&t->gate);
        sem_wait(&t->back);
        uint64_t took_ns = resumed_ns - nap.begun_ns;
        if (took_ns < times->shortest_ns)
            times->shortest_ns = took_ns;
    }
}

static void test_a_job_that_sleeps_is_left_in_less_than_a_millisecond(void **state)
{
    struct turner t;
    struct times times = {.rounds = 1000};

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, places_jobs_that_sleep, &times);
    turner_wait(&t);
    unmake();
    assert_true(times.shortest_ns < NS_PER_MS); /* the best of a thousand */
    turner_end(&t);
}

/* ---- the monitor's own sleep ---- */

/* What a file of /proc/self/task/TID/ says. */
static void read_of_task(long tid, const char *file, char *text, size_t size)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", tid, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    (void)fclose(f);
}

static long find_monitor(void)
{
    char name[64] = "";
    long tid = 0;
    DIR *dir = opendir("/proc/self/task");

    assert_non_null(dir);
    for (struct dirent *e; strcmp(name, "monitor\n") != 0 && (e = readdir(dir)) != NULL;) {
        tid = strtol(e->d_name, NULL, 10);
        if (tid > 0)
            read_of_task(tid, "comm", name, sizeof(name));
    }
    (void)closedir(dir);
    assert_string_equal(name, "monitor\n");
    return tid;
}

/* How often it has gone to sleep. */
static unsigned long sleeps_of(long tid)
{
    char text[4096];
    static const char field[] = "voluntary_ctxt_switches:";

    read_of_task(tid, "status", text, sizeof(text));
    const char *at = strstr(text, field); /* nonvoluntary_... comes after it */
    assert_non_null(at);
    return strtoul(at + strlen(field), NULL, 10);
}

static void pause_ms(unsigned ms)
{
    sem_t never;

    sem_init(&never, 0, 0);
    const uint64_t until_ns = now_ns() + ms * NS_PER_MS;
    const struct timespec until = {(time_t)(until_ns / UINT64_C(1000000000)),
                                   (long)(until_ns % UINT64_C(1000000000))};
    (void)sem_clockwait(&never, CLOCK_MONOTONIC, &until);
    sem_destroy(&never);
}

static void turns_twice(struct turner *t)
{
    turner_hand_off(t, 1);
    sem_post(&entered);
    sem_wait(&gate);
    turner_hand_off(t, 1);
}

/* It goes to sleep some milliseconds after the last job, on an idle machine; so there are several
 * tries. Awake, it would sleep and wake some thousand times in this time. */
static void test_the_monitor_sleeps_while_nothing_is_placed(void **state)
{
    struct turner t;
    unsigned long slept = ULONG_MAX;

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, turns_twice, NULL);
    sem_wait(&entered);
    const long tid = find_monitor();
    for (unsigned tries = 0; slept > 5 && tries < 20; tries++) {
        unsigned long before = sleeps_of(tid);
        pause_ms(300);
        slept = sleeps_of(tid) - before;
    }
    assert_in_range(slept, 0, 5);
    sem_post(&gate); /* and it wakes for the next */
    turner_wait(&t);
    unmake();
    assert_int_equal(t.outcomes[POOL_LEFT], 2);
    turner_end(&t);
}

/* The delay follows what it meets, so it settles where the monitor falls asleep. There are many
 * more loops, which do nothing: the monitor takes a while from its look at the first to its sleep.
 * Hangs if a job is overlooked. */
static void blocks_as_the_monitor_falls_asleep(struct turner *t)
{
    uint64_t delay_ns = 3 * NS_PER_MS, step_ns = NS_PER_MS;

    for (unsigned round = 0; round < 1000; round++) {
        const uint64_t until_ns = now_ns() + delay_ns;
        while (now_ns() < until_ns)
            ;
        bool late = atomic_load(&pool->monitor.asleep) != 0;
        turner_hand_off(t, 1);
        delay_ns = !late ? delay_ns + step_ns : delay_ns > step_ns ? delay_ns - step_ns : 0;
        if (step_ns > 2 * NS_PER_US)
            step_ns -= step_ns / 16;
    }
}

static void test_a_job_that_begins_as_the_monitor_falls_asleep_is_left(void **state)
{
    struct turner t;

    (void)state;
    make_with_loops(1, 1, 256);
    turner_start(&t, 0, blocks_as_the_monitor_falls_asleep, NULL);
    turner_wait(&t);
    unmake();
    turner_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_job_that_computes_is_left_after_about_a_millisecond),
        claim(test_a_job_that_computes_is_not_left_before_that),
        claim(test_a_job_that_computes_for_300_us_ends_in_place),
        claim(test_a_job_that_sleeps_is_left_in_less_than_a_millisecond),
        claim(test_the_monitor_sleeps_while_nothing_is_placed),
        claim(test_a_job_that_begins_as_the_monitor_falls_asleep_is_left),
    };
    return cmocka_run_group_tests_name("pool_monitor", tests, with_pool_begin, NULL);
}

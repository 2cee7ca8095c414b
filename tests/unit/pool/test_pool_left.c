/* The specification of pool.h, one claim a test, on jobs that kept a loop waiting: what holds of
 * them after they were left, and what becomes of the threads. */

#include "with_loop.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- one job that was left ---- */

static void places_one(struct turner *t)
{
    (void)turner_place_surely(t, t->arg);
}

/* `s` blocks on `gate`; the loop has left it, and has ended. */
static void have_left(struct turner *t, struct step *s)
{
    *s = (struct step){.job = step_job, .gate = &gate, .left = &left};
    turner_start(t, 0, places_one, &s->job);
    turner_wait(t);
    assert_int_equal(t->outcomes[POOL_LEFT], 1);
}

static void test_a_job_that_was_left_is_active_until_done_has_returned(void **state)
{
    struct turner t;
    struct step s;

    (void)state;
    make_with_loops(1, 1, 1);
    have_left(&t, &s);
    assert_int_equal(pool_active(pool), 1);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(pool_active(pool), 0);
    assert_int_equal(s.active, 1);
    unmake();
    turner_end(&t);
}

static void test_wait_idle_waits_for_a_job_that_was_left(void **state)
{
    struct turner t;
    struct step s;

    (void)state;
    make_with_loops(1, 1, 1);
    have_left(&t, &s);
    assert_int_equal(pool_wait_idle(pool, in_ms(5)), -ETIMEDOUT);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(s.dones, 1);
    unmake();
    turner_end(&t);
}

static void test_on_idle_waits_for_a_job_that_was_left(void **state)
{
    struct turner t;
    struct step s;

    (void)state;
    make_with_loops(1, 1, 1);
    have_left(&t, &s);
    assert_int_equal(pool_watch_idle(pool, true), 1);
    assert_int_equal(idle_calls, 0);
    sem_post(&gate);
    sem_wait(&idle);
    assert_int_equal(s.dones, 1);
    unmake();
    assert_int_equal(idle_calls, 1);
    turner_end(&t);
}

static void test_wait_idle_never_misses_a_job_that_was_left(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct turner t;
        struct step s;
        make_with_loops(1, 1, 1);
        have_left(&t, &s);
        sem_post(&gate);
        dawdle(round * 40);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        assert_int_equal(s.dones, 1);
        unmake();
        turner_end(&t);
    }
}

static void test_destroy_reports_a_job_that_was_left_and_succeeds_when_it_ends(void **state)
{
    struct turner t;
    struct step s;

    (void)state;
    make_with_loops(2, 1, 1);
    have_left(&t, &s);
    assert_int_equal(pool_destroy(pool, in_ms(5)), -EBUSY);
    assert_int_equal(pool_destroy(pool, 0), -EBUSY);
    assert_int_equal(s.dones, 0);
    sem_post(&gate);
    unmake();
    assert_int_equal(s.dones, 1);
    turner_end(&t);
}

static void waits_at_its_gate(struct turner *t)
{
    sem_wait(&t->gate);
}

static void test_destroy_reports_a_loop_that_has_not_ended(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct turner t;
        make_with_loops(4, 1, 1);
        turner_start(&t, 0, waits_at_its_gate, NULL);
        assert_int_equal(pool_destroy(pool, in_ms(1)), -EBUSY);
        sem_post(&t.gate);
        unmake();
        turner_end(&t);
    }
}

/* ---- cancel ---- */

/* The job is about to sleep, or asleep. Hangs if a cancel is lost. */
static void cancels_what_it_left(struct turner *t)
{
    unsigned *cancelled = t->arg;

    for (unsigned round = 0; round < 500; round++) {
        struct step s = {.job = step_job, .left = &t->back, .wait_ms = 3600 * 1000};
        (void)turner_place_surely(t, &s.job);
        dawdle(round * 4);
        pool_cancel(&s.job);
        sem_wait(&t->back);
        *cancelled += s.cancelled;
    }
}

static void test_cancel_wakes_a_job_that_was_left(void **state)
{
    struct turner t;
    unsigned cancelled = 0;

    (void)state;
    make_with_loops(2, 1, 1);
    turner_start(&t, 0, cancels_what_it_left, &cancelled);
    turner_wait(&t);
    unmake();
    assert_int_equal(cancelled, 500);
    turner_end(&t);
}

static void places_a_cancelled_one_again(struct turner *t)
{
    struct step *s = t->arg;

    for (unsigned i = 0; i < 2; i++) {
        *s = (struct step){.job = s->job, .gate = &t->gate, .left = &t->back};
        (void)turner_place_surely(t, &s->job);
        if (i == 0)
            pool_cancel(&s->job);
        sem_post(&t->gate);
        sem_wait(&t->back);
    }
}

static void test_a_job_can_be_placed_again_without_its_old_cancel(void **state)
{
    struct turner t;
    struct step s = {.job = step_job};

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, places_a_cancelled_one_again, &s);
    turner_wait(&t);
    unmake();
    assert_int_equal(s.runs, 1);
    assert_false(s.cancelled);
    turner_end(&t);
}

/* ---- threads ---- */

static struct pool_stats stats(void)
{
    struct pool_stats now;
    pool_get_stats(pool, &now);
    return now;
}

static bool pool_threads_come_down_to(unsigned n)
{
    const uint64_t deadline_ns = in_ms(10000);
    while (stats().threads > n && now_ns() < deadline_ns)
        sched_yield();
    return stats().threads == n;
}

static void test_threads_start_when_jobs_need_them(void **state)
{
    struct turner t;

    (void)state;
    make_with_loops(6, 6, 1);
    assert_int_equal(stats().threads, 2);
    turner_start(&t, 0, waits_at_its_gate, NULL);
    run_at_once(1);
    assert_in_range(stats().threads, 2, 3); /* 3: both were on their way to the loop */
    run_at_once(3);
    assert_in_range(stats().threads, 4, 5);
    run_at_once(6);
    assert_int_equal(stats().threads, 7);
    sem_post(&t.gate);
    turner_wait(&t);
    unmake();
    turner_end(&t);
}

static void test_idle_threads_end_while_the_pool_is_watched(void **state)
{
    struct turner t;

    (void)state;
    make_with_loops(6, 6, 1);
    turner_start(&t, 0, waits_at_its_gate, NULL);
    for (unsigned round = 0; round < 20; round++) {
        (void)pool_watch_idle(pool, false);
        run_at_once(6);
        assert_int_equal(stats().threads, 7);
        assert_int_equal(pool_watch_idle(pool, true), 0);
        assert_true(pool_threads_come_down_to(2));
    }
    run_at_once(6);
    sem_post(&t.gate);
    turner_wait(&t);
    unmake();
    turner_end(&t);
}

static void leaves_four(struct turner *t)
{
    struct step *s = t->arg;

    for (unsigned i = 0; i < 4; i++) {
        s[i] = (struct step){.job = step_job, .gate = &gate};
        (void)turner_place(t, &s[i].job);
    }
}

static void test_a_thread_that_has_driven_stays(void **state)
{
    struct turner t;
    struct step s[4];

    (void)state;
    make_with_loops(6, 6, 1);
    run_at_once(6);
    turner_start(&t, 0, leaves_four, s);
    turner_wait(&t);
    assert_int_equal(t.outcomes[POOL_LEFT], 4);
    for (unsigned i = 0; i < 4; i++)
        sem_post(&gate);
    (void)pool_watch_idle(pool, true);
    assert_true(pool_threads_come_down_to(5));
    for (unsigned round = 0; round < 20; round++) { /* each wakes them all */
        (void)pool_watch_idle(pool, true);
        run_at_once(1); /* may start one */
        assert_true(stats().threads >= 5);
    }
    assert_true(pool_threads_come_down_to(5));
    unmake();
    assert_int_equal(t.drivers_count, 5);
    turner_end(&t);
}

/* ---- counts ---- */

static void leaves_some(struct turner *t)
{
    for (unsigned i = 0; i < 100; i++) {
        struct step s = {.job = step_job, .left = &t->back};
        if (turner_place(t, &s.job) == POOL_LEFT)
            sem_wait(&t->back);
    }
    turner_hand_off(t, 10);
}

static void test_stats_count_placed_jobs_and_those_that_were_left(void **state)
{
    struct turner t[2];
    uint64_t ended = 0, handed_off = 0;

    (void)state;
    make_with_loops(4, 1, 2);
    for (unsigned i = 0; i < 2; i++)
        turner_start(&t[i], i, leaves_some, NULL);
    for (unsigned i = 0; i < 2; i++) {
        turner_wait(&t[i]);
        ended += t[i].outcomes[POOL_ENDED];
        handed_off += t[i].outcomes[POOL_LEFT];
    }
    struct pool_stats now = stats();
    assert_true(handed_off >= 20);
    assert_int_equal(now.handed_off, handed_off);
    assert_int_equal(now.placed, ended + handed_off);
    assert_int_equal(now.taken, 0);
    assert_int_equal(now.workers, 4);
    unmake();
    for (unsigned i = 0; i < 2; i++)
        turner_end(&t[i]);
}

static void test_stats_count_a_job_that_was_left_as_running(void **state)
{
    struct turner t;
    struct step s;

    (void)state;
    make_with_loops(1, 1, 1);
    have_left(&t, &s);
    assert_int_equal(stats().running, 1);
    assert_int_equal(stats().queued, 0);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(stats().running, 0);
    unmake();
    turner_end(&t);
}

static void lets_them_watch(struct turner *t)
{
    for (unsigned round = 0; round < 1000; round++) {
        struct step s = {.job = step_job, .entered = &entered, .gate = &gate, .left = &t->back};
        (void)turner_place_surely(t, &s.job);
        sem_wait(&t->back);
    }
}

/* While it is in place, when it is left, and then. */
static void test_stats_count_a_job_as_running_all_the_time(void **state)
{
    struct turner t;
    unsigned missed = 0;

    (void)state;
    make_with_loops(2, 1, 1);
    turner_start(&t, 0, lets_them_watch, NULL);
    for (unsigned round = 0; round < 1000; round++) {
        sem_wait(&entered);
        struct pool_stats now;
        do {
            now = stats();
            missed += now.running == 0;
        } while (now.handed_off <= round);
        sem_post(&gate);
    }
    turner_wait(&t);
    unmake();
    assert_int_equal(missed, 0);
    turner_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_job_that_was_left_is_active_until_done_has_returned),
        claim(test_wait_idle_waits_for_a_job_that_was_left),
        claim(test_on_idle_waits_for_a_job_that_was_left),
        claim(test_wait_idle_never_misses_a_job_that_was_left),
        claim(test_destroy_reports_a_job_that_was_left_and_succeeds_when_it_ends),
        claim(test_destroy_reports_a_loop_that_has_not_ended),
        claim(test_cancel_wakes_a_job_that_was_left),
        claim(test_a_job_can_be_placed_again_without_its_old_cancel),
        claim(test_threads_start_when_jobs_need_them),
        claim(test_idle_threads_end_while_the_pool_is_watched),
        claim(test_a_thread_that_has_driven_stays),
        claim(test_stats_count_placed_jobs_and_those_that_were_left),
        claim(test_stats_count_a_job_that_was_left_as_running),
        claim(test_stats_count_a_job_as_running_all_the_time),
    };
    return cmocka_run_group_tests_name("pool_left", tests, with_pool_begin, NULL);
}

/* The specification of pool.h, one claim a test, on stopping: cancelled jobs, the wait until
 * nothing is active, and the end. */

#include "with_pool.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- cancel ---- */

/* Even rounds find the job about to sleep or asleep, odd rounds anywhere from queued to asleep.
 * Hangs if a cancel is lost. */
static void test_cancel_wakes_a_waiting_job(void **state)
{
    (void)state;
    make(1, 1);
    for (unsigned round = 0; round < 4000; round++) {
        struct step s = {.job = step_job, .entered = &entered, .wait_ms = 3600 * 1000};
        assert_int_equal(pool_submit(pool, &s.job), 0);
        if (round % 2 == 0)
            sem_wait(&entered);
        dawdle(round * 4);
        pool_cancel(&s.job);
        if (round % 2 == 1)
            sem_wait(&entered);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        assert_true(s.cancelled);
    }
    unmake();
}

static void test_cancel_wakes_no_other_job(void **state)
{
    (void)state;
    struct step a = {.job = step_job, .entered = &entered, .left = &left, .wait_ms = 3600 * 1000};
    struct step b = a;

    make(2, 2);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    sem_wait(&entered);
    sem_wait(&entered);
    pool_cancel(&a.job);
    sem_wait(&left);
    assert_true(a.cancelled);
    assert_false(pool_job_is_cancelled(&b.job));
    assert_int_equal(b.dones, 0);
    pool_cancel(&b.job);
    unmake();
    assert_true(b.cancelled);
}

static void test_cancel_of_a_queued_job_is_seen_when_it_runs(void **state)
{
    (void)state;
    struct step busy, looks = {.job = step_job}, waits = {.job = step_job, .wait_ms = 3600 * 1000};

    make_busy(&busy, 2);
    assert_int_equal(pool_submit(pool, &looks.job), 0);
    assert_int_equal(pool_submit(pool, &waits.job), 0);
    pool_cancel(&looks.job);
    pool_cancel(&waits.job);
    assert_int_equal(pool_active(pool), 3);
    sem_post(&gate);
    unmake();
    assert_false(busy.cancelled);
    assert_true(looks.cancelled);
    assert_true(waits.cancelled);
    assert_int_equal(looks.dones, 1);
    assert_int_equal(waits.dones, 1);
}

/* What a server's loop does: it owns the job again only when it hears of done(), and may cancel
 * until then. By that time the worker may wait in another job, which must not notice. */
static void test_cancel_after_done_was_entered_is_harmless(void **state)
{
    (void)state;
    struct step old = {.job = step_job, .left = &left};
    struct step next = {.job = step_job, .left = &left, .wait_ms = 20};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &old.job), 0);
    sem_wait(&left);
    uint64_t begin_ns = now_ns();
    assert_int_equal(pool_submit(pool, &next.job), 0);
    while (sem_trywait(&left) != 0) {
        pool_cancel(&old.job);
        sched_yield(); /* the more cancels, the better; but let `next` have the lock */
    }
    assert_true(now_ns() - begin_ns >= 20 * NS_PER_MS);
    unmake();
    assert_false(old.cancelled);
    assert_false(next.cancelled);
}

static void test_a_job_can_be_submitted_again_without_its_old_cancel(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .entered = &entered, .gate = &gate};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    sem_wait(&entered);
    pool_cancel(&s.job);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_true(s.cancelled);
    sem_post(&gate);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake();
    assert_false(s.cancelled);
    assert_int_equal(s.dones, 2);
}

static void test_a_wait_that_is_not_cancelled_lasts_its_time(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .wait_ms = 20};
    uint64_t begin_ns = now_ns();

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake();
    assert_false(s.cancelled);
    assert_true(now_ns() - begin_ns >= 20 * NS_PER_MS);
}

/* ---- the active count ---- */

static void test_active_counts_queued_and_running(void **state)
{
    (void)state;
    struct step busy, a = {.job = step_job}, b = {.job = step_job};
    struct pool_stats stats;

    make_busy(&busy, 2);
    assert_int_equal(pool_active(pool), 1);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    assert_int_equal(pool_active(pool), 3);
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.workers, 1);
    assert_int_equal(stats.queued, 2);
    assert_int_equal(stats.running, 1);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(pool_active(pool), 0);
    unmake();
}

static void test_a_job_is_active_until_done_has_returned(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .entered = &entered, .done_gate = &gate};

    make(1, 1);
    pool_watch_idle(pool, true);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    sem_wait(&entered);
    assert_int_equal(pool_active(pool), 1);
    assert_int_equal(pool_wait_idle(pool, in_ms(5)), -ETIMEDOUT);
    assert_int_equal(idle_calls, 0);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(s.active, 1);
    assert_int_equal(s.dones, 1);
    unmake();
}

static void test_wait_idle_times_out_with_a_stuck_worker(void **state)
{
    (void)state;
    struct step busy;

    make_busy(&busy, 1);
    assert_int_equal(pool_wait_idle(pool, 0), -ETIMEDOUT);
    uint64_t deadline_ns = in_ms(5);
    assert_int_equal(pool_wait_idle(pool, deadline_ns), -ETIMEDOUT);
    assert_true(now_ns() >= deadline_ns);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    unmake();
}

static void test_wait_idle_of_an_idle_pool_returns_past_any_deadline(void **state)
{
    (void)state;
    make(1, 1);
    assert_int_equal(pool_wait_idle(pool, 0), 0);
    unmake();
}

static void test_wait_idle_never_misses_the_last_job(void **state)
{
    (void)state;
    make(2, 2);
    for (unsigned round = 0; round < 5000; round++) {
        struct step a = {.job = step_job}, b = {.job = step_job};
        assert_int_equal(pool_submit(pool, &a.job), 0);
        assert_int_equal(pool_submit(pool, &b.job), 0);
        dawdle(round * 2);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        assert_int_equal(a.dones + b.dones, 2);
    }
    unmake();
}

static void test_on_idle_is_called_only_while_watched(void **state)
{
    (void)state;
    struct step s = {.job = step_job};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);

    assert_int_equal(pool_watch_idle(pool, true), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pool_submit(pool, &s.job), 0);
        sem_wait(&idle);
    }
    assert_int_equal(pool_watch_idle(pool, false), 0);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake(); /* joins, so no call is still to come */
    assert_int_equal(idle_calls, 3);
}

static void test_on_idle_waits_for_the_last_of_several_jobs(void **state)
{
    (void)state;
    struct step a = {.job = step_job, .gate = &gate}, b = a;

    make(2, 2);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    assert_int_equal(pool_watch_idle(pool, true), 2);
    sem_post(&gate);
    sem_post(&gate);
    sem_wait(&idle);
    assert_int_equal(pool_active(pool), 0);
    unmake();
    assert_int_equal(idle_calls, 1);
}

/* The delay follows the answer, so it settles where the two sides meet. */
static void test_watch_idle_returns_the_count_or_the_call_comes(void **state)
{
    (void)state;
    unsigned promised = 0, was_idle = 0, delay = 0;

    make(1, 1);
    for (unsigned round = 0; round < 10000; round++) {
        struct step s = {.job = step_job};
        assert_int_equal(pool_submit(pool, &s.job), 0);
        dawdle(delay);
        if (pool_watch_idle(pool, true) > 0) {
            promised++;
            delay += 100;
            sem_wait(&idle);
        } else {
            was_idle++;
            delay -= delay / 16;
        }
        assert_int_equal(pool_watch_idle(pool, false), 0);
        assert_int_equal(s.dones, 1);
    }
    unmake();
    assert_int_equal(idle_calls, promised);
    assert_true(promised > 0); /* or the race was not played */
    assert_true(was_idle > 0);
}

static void test_a_pool_without_on_idle_can_be_watched(void **state)
{
    (void)state;
    const struct pool_config config = {.workers = 1, .queue = 1};
    struct step s = {.job = step_job};

    assert_int_equal(pool_create(&config, &pool), 0);
    assert_int_equal(pool_watch_idle(pool, true), 0);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    unmake();
}

/* ---- stopping ---- */

static void test_destroy_of_no_pool_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(pool_destroy(NULL, 0), 0);
}

static void test_destroy_runs_what_is_queued(void **state)
{
    (void)state;
    struct step busy, queued[50];

    make_busy(&busy, 50);
    for (unsigned i = 0; i < 50; i++) {
        queued[i] = (struct step){.job = step_job};
        assert_int_equal(pool_submit(pool, &queued[i].job), 0);
    }
    sem_post(&gate);
    unmake();
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(queued[i].dones, 1);
}

static void test_destroy_reports_a_stuck_worker_and_succeeds_when_it_ends(void **state)
{
    (void)state;
    struct step busy, queued = {.job = step_job}, late = {.job = step_job};

    make_busy(&busy, 1);
    assert_int_equal(pool_submit(pool, &queued.job), 0);
    assert_int_equal(pool_destroy(pool, in_ms(5)), -EBUSY);
    assert_int_equal(pool_destroy(pool, 0), -EBUSY);
    assert_int_equal(pool_submit(pool, &late.job), -ESHUTDOWN);
    assert_int_equal(pool_active(pool), 2);
    sem_post(&gate);
    unmake();
    assert_int_equal(busy.dones, 1);
    assert_int_equal(queued.dones, 1);
}

static void test_destroy_ends_every_sleeping_worker(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        make(16, 1);
        dawdle(round * 100);
        unmake();
    }
}

/* The last thing anybody hears of a job is its done(); the worker then still has to count it out
 * and to call on_idle(). */
static void test_destroy_may_follow_the_last_done_at_once(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct step s = {.job = step_job, .left = &left};
        make(1, 1);
        pool_watch_idle(pool, true);
        assert_int_equal(pool_submit(pool, &s.job), 0);
        sem_wait(&left);
        dawdle(round * 10);
        unmake();
    }
    assert_int_equal(idle_calls, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_cancel_wakes_a_waiting_job),
        claim(test_cancel_wakes_no_other_job),
        claim(test_cancel_of_a_queued_job_is_seen_when_it_runs),
        claim(test_cancel_after_done_was_entered_is_harmless),
        claim(test_a_job_can_be_submitted_again_without_its_old_cancel),
        claim(test_a_wait_that_is_not_cancelled_lasts_its_time),
        claim(test_active_counts_queued_and_running),
        claim(test_a_job_is_active_until_done_has_returned),
        claim(test_wait_idle_times_out_with_a_stuck_worker),
        claim(test_wait_idle_of_an_idle_pool_returns_past_any_deadline),
        claim(test_wait_idle_never_misses_the_last_job),
        claim(test_on_idle_is_called_only_while_watched),
        claim(test_on_idle_waits_for_the_last_of_several_jobs),
        claim(test_watch_idle_returns_the_count_or_the_call_comes),
        claim(test_a_pool_without_on_idle_can_be_watched),
        claim(test_destroy_of_no_pool_is_allowed),
        claim(test_destroy_runs_what_is_queued),
        claim(test_destroy_reports_a_stuck_worker_and_succeeds_when_it_ends),
        claim(test_destroy_ends_every_sleeping_worker),
        claim(test_destroy_may_follow_the_last_done_at_once),
    };
    return cmocka_run_group_tests_name("pool_stop", tests, with_pool_begin, NULL);
}

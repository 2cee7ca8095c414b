/* The specification of pool.h, one claim a test, on loops and the jobs that their drivers run. What
 * comes after a job was left is in test_pool_left.c. */

#include "with_loop.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "thread.h"

/* ---- the body ---- */

static void does_nothing(struct turner *t)
{
    (void)t;
}

static void test_the_body_runs_at_once(void **state)
{
    struct turner t;

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, does_nothing, NULL);
    turner_wait(&t);
    unmake();
    assert_int_equal(t.drivers_count, 1);
    turner_end(&t);
}

static void test_each_loop_has_a_thread_of_its_own(void **state)
{
    struct turner t[3];

    (void)state;
    make_with_loops(3, 1, 3);
    for (unsigned i = 0; i < 3; i++)
        turner_start(&t[i], i, does_nothing, NULL);
    for (unsigned i = 0; i < 3; i++)
        turner_wait(&t[i]);
    unmake();
    assert_int_not_equal(t[0].drivers[0], t[1].drivers[0]);
    assert_int_not_equal(t[0].drivers[0], t[2].drivers[0]);
    assert_int_not_equal(t[1].drivers[0], t[2].drivers[0]);
    for (unsigned i = 0; i < 3; i++)
        turner_end(&t[i]);
}

/* With fewer workers than loops, a team has only the thread that drives. */
static void test_there_may_be_more_loops_than_workers(void **state)
{
    struct turner t[3];
    struct step s = {.job = step_job};

    (void)state;
    make_with_loops(1, 1, 3);
    for (unsigned i = 0; i < 3; i++)
        turner_start(&t[i], i, does_nothing, NULL);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    for (unsigned i = 0; i < 3; i++)
        turner_wait(&t[i]);
    unmake();
    assert_int_equal(s.dones, 1);
    for (unsigned i = 0; i < 3; i++)
        turner_end(&t[i]);
}

/* The body's last statement is all that the caller can see of its end. */
static void test_destroy_may_follow_the_end_of_the_body_at_once(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct turner t[2];
        make_with_loops(4, 1, 2);
        for (unsigned i = 0; i < 2; i++)
            turner_start(&t[i], i, does_nothing, NULL);
        for (unsigned i = 0; i < 2; i++)
            turner_wait(&t[i]);
        dawdle(round * 10);
        unmake();
        for (unsigned i = 0; i < 2; i++)
            turner_end(&t[i]);
    }
}

static void test_a_pool_whose_loops_never_began_can_be_destroyed(void **state)
{
    struct step s = {.job = step_job};

    (void)state;
    make_with_loops(2, 1, 2);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake();
    assert_int_equal(s.dones, 1);
}

/* ---- what the driver does ---- */

/* Asks until the answer is `want`: the kernel shows a change a moment later. */
static uint64_t wait_until_awake_is(bool want)
{
    uint64_t used_ns;

    while (pool_driver_is_awake(pool, 0, &used_ns) != want)
        (void)sched_yield();
    return used_ns;
}

static void sleeps_then_spins(struct turner *t)
{
    atomic_bool *stop = t->arg;

    sem_wait(&t->gate);
    while (!atomic_load(stop))
        ;
}

static void test_a_driver_that_sleeps_is_told_from_one_that_is_awake(void **state)
{
    struct turner t;
    atomic_bool stop = false;
    uint64_t used_ns = 0;

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, sleeps_then_spins, &stop);
    uint64_t before_ns = wait_until_awake_is(false);
    sem_post(&t.gate);
    (void)wait_until_awake_is(true);
    while (used_ns < before_ns + NS_PER_MS) /* it spins: the time that it has used grows */
        (void)pool_driver_is_awake(pool, 0, &used_ns);
    atomic_store(&stop, true);
    turner_wait(&t);
    unmake();
    turner_end(&t);
}

/* ---- placed jobs ---- */

struct one {
    struct step s, next;
    uintptr_t before, after;
    enum pool_placed placed, next_placed;
    unsigned dones;
    unsigned left;
};

/* Until one ends in place: see with_loop.h. */
static void places_until_one_ends(struct turner *t)
{
    struct one *one = t->arg;

    for (;;) {
        one->s = (struct step){.job = step_job, .left = &t->back};
        one->before = thread_self_id();
        one->placed = turner_place_surely(t, &one->s.job);
        one->after = thread_self_id();
        if (one->placed == POOL_ENDED)
            return;
        sem_wait(&t->back);
    }
}

static void test_a_job_that_returns_was_run_by_the_thread_that_drives(void **state)
{
    struct turner t;
    struct one one = {0};

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, places_until_one_ends, &one);
    turner_wait(&t);
    unmake();
    assert_int_equal(one.placed, POOL_ENDED);
    assert_int_equal(one.s.runs, 1);
    assert_true(one.s.started);
    assert_int_equal(one.s.thread[0], one.before);
    assert_int_equal(one.after, one.before);
    turner_end(&t);
}

static void test_done_of_a_job_that_ended_in_place_is_not_called(void **state)
{
    struct turner t;
    struct one one = {0};

    (void)state;
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, places_until_one_ends, &one);
    turner_wait(&t);
    unmake();
    assert_int_equal(one.s.dones, 0);
    turner_end(&t);
}

static void places_one_that_blocks(struct turner *t)
{
    struct one *one = t->arg;

    one->s = (struct step){.job = step_job, .gate = &t->gate, .left = &t->back};
    one->next = (struct step){.job = step_job};
    one->before = thread_self_id();
    one->placed = turner_place_surely(t, &one->s.job);
    one->after = thread_self_id();
    one->dones = atomic_load(&one->s.dones);
    one->next_placed = turner_place(t, &one->next.job);
}

static void test_a_job_that_blocks_is_left_and_the_body_goes_on_elsewhere(void **state)
{
    struct turner t;
    struct one one = {0};

    (void)state;
    make_with_loops(4, 1, 1);
    turner_start(&t, 0, places_one_that_blocks, &one);
    turner_wait(&t);
    assert_int_equal(one.placed, POOL_LEFT);
    assert_int_not_equal(one.after, one.before);
    assert_int_equal(one.s.dones, 0);
    sem_post(&t.gate);
    unmake();
    turner_end(&t);
}

static void test_a_job_that_was_left_is_done_once_and_on_its_thread(void **state)
{
    struct turner t;
    struct one one = {0};

    (void)state;
    make_with_loops(4, 1, 1);
    turner_start(&t, 0, places_one_that_blocks, &one);
    turner_wait(&t);
    sem_post(&t.gate);
    sem_wait(&t.back);
    unmake();
    assert_int_equal(one.dones, 0);
    assert_int_equal(one.s.runs, 1);
    assert_int_equal(one.s.dones, 1);
    assert_int_equal(one.s.thread[0], one.before);
    assert_int_equal(one.s.thread[1], one.before);
    turner_end(&t);
}

/* ---- teams ---- */

struct many {
    struct step s[8];
    enum pool_placed placed[8];
    unsigned turns;
};

/* Each job that is left takes the loop to another thread; in the end all but one are blocked. */
static void blocks_all_but_one(struct turner *t)
{
    struct many *many = t->arg;

    for (unsigned i = 0; i < 3; i++) {
        many->s[i] = (struct step){.job = step_job, .gate = &t->gate, .left = &t->back};
        many->placed[i] = turner_place(t, &many->s[i].job);
    }
}

static void test_a_loop_is_driven_by_its_own_team_only(void **state)
{
    struct turner t[2];
    struct many many[2] = {0};

    (void)state;
    make_with_loops(6, 1, 2);
    run_at_once(6);
    for (unsigned i = 0; i < 2; i++)
        turner_start(&t[i], i, blocks_all_but_one, &many[i]);
    for (unsigned i = 0; i < 2; i++)
        turner_wait(&t[i]);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 3; k++)
            sem_post(&t[i].gate);
    unmake();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(t[i].drivers_count, 4);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(many[i].placed[k], POOL_LEFT);
            assert_int_equal(team_of(many[i].s[k].worker, 6, 2), i);
        }
        turner_end(&t[i]);
    }
}

static void places_and_turns(struct turner *t)
{
    for (unsigned i = 0; i < 1000; i++) {
        struct step s = {.job = step_job, .left = &t->back};
        if (turner_place(t, &s.job) == POOL_LEFT)
            sem_wait(&t->back);
    }
}

static void test_a_loop_goes_on_while_the_jobs_of_another_team_block(void **state)
{
    struct turner blocked, free;
    struct many many = {0};

    (void)state;
    make_with_loops(6, 1, 2);
    run_at_once(6);
    turner_start(&blocked, 0, blocks_all_but_one, &many);
    turner_wait(&blocked);
    turner_start(&free, 1, places_and_turns, NULL);
    turner_wait(&free);
    for (unsigned k = 0; k < 3; k++) {
        assert_int_equal(many.s[k].runs, 0);
        sem_post(&blocked.gate);
    }
    unmake();
    assert_true(free.outcomes[POOL_NOT_PLACED] < 1000);
    turner_end(&blocked);
    turner_end(&free);
}

/* ---- as many jobs as workers ---- */

static void places_more_than_may_run(struct turner *t)
{
    struct many *many = t->arg;

    for (unsigned i = 0; i < 5; i++) {
        many->s[i] = (struct step){.job = step_job, .gate = &t->gate, .left = &t->back};
        many->placed[i] =
            i == 0 ? turner_place_surely(t, &many->s[i].job) : turner_place(t, &many->s[i].job);
    }
    for (many->turns = 0; many->turns < 1000; many->turns++)
        (void)turner_place(t, &many->s[4].job);
}

static void test_as_many_blocked_jobs_as_workers_leave_a_thread_for_the_loop(void **state)
{
    struct turner t;
    struct many many = {0};

    (void)state;
    make_with_loops(3, 1, 1);
    run_at_once(3);
    turner_start(&t, 0, places_more_than_may_run, &many);
    turner_wait(&t);
    assert_int_equal(many.turns, 1000);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(many.placed[i], POOL_LEFT);
    assert_int_equal(pool_active(pool), 3);
    for (unsigned i = 0; i < 3; i++)
        sem_post(&t.gate);
    unmake();
    turner_end(&t);
}

static void test_a_job_that_was_not_placed_is_the_callers(void **state)
{
    struct turner t;
    struct many many = {0};

    (void)state;
    make_with_loops(3, 2, 1);
    run_at_once(3);
    turner_start(&t, 0, places_more_than_may_run, &many);
    turner_wait(&t);
    for (unsigned i = 3; i < 5; i++) {
        assert_int_equal(many.placed[i], POOL_NOT_PLACED);
        assert_int_equal(pool_submit(pool, &many.s[i].job), 0);
    }
    for (unsigned i = 0; i < 5; i++)
        sem_post(&t.gate);
    unmake();
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(many.s[i].runs, 1);
        assert_int_equal(many.s[i].dones, 1);
    }
    turner_end(&t);
}

/* Of three workers there are two threads at first, one of which drives. */
static void test_the_queue_starts_the_threads_that_placed_jobs_lack(void **state)
{
    struct turner t;
    struct many many = {0};

    (void)state;
    make_with_loops(3, 1, 1);
    turner_start(&t, 0, places_more_than_may_run, &many);
    turner_wait(&t);
    assert_int_equal(many.placed[0], POOL_LEFT);
    assert_int_equal(many.placed[1], POOL_NOT_PLACED);
    for (unsigned i = 1; i < 3; i++) {
        many.s[i].entered = &left;
        assert_int_equal(pool_submit(pool, &many.s[i].job), 0);
        sem_wait(&left);
    }
    for (unsigned i = 0; i < 3; i++)
        sem_post(&t.gate);
    unmake();
    turner_end(&t);
}

/* ---- permits ---- */

/* A job that ends in place gives its permit back, and a job comes into the queue: one of the two
 * sides has to see the other. */
struct permits {
    sem_t go, turned;
    atomic_bool over; /* no more rounds */
    atomic_bool in_run;
};

struct brief {
    struct pool_job job;
    struct permits *permits;
    sem_t *left;
};

static void brief_run(struct pool_job *job)
{
    struct permits *permits = ((struct brief *)job)->permits;
    atomic_store(&permits->in_run, true);
    dawdle(10000);
    atomic_store(&permits->in_run, false);
}

static void brief_done(struct pool_job *job)
{
    sem_post(((struct brief *)job)->left);
}

static void places_one_a_round(struct turner *t)
{
    struct permits *permits = t->arg;

    for (;;) {
        struct brief b = {{.run = brief_run, .done = brief_done}, permits, &t->back};
        sem_wait(&permits->go);
        if (atomic_load(&permits->over))
            return;
        if (turner_place_surely(t, &b.job) == POOL_LEFT)
            sem_wait(&t->back);
        sem_post(&permits->turned);
    }
}

/* Submit a job while one is in place, or just after. Returns whether it was in time. */
static bool play_permit_round(struct permits *permits, unsigned delay)
{
    struct step s = {.job = step_job, .left = &left};

    bool turned = false;

    sem_post(&permits->go);
    while (!atomic_load(&permits->in_run) && !turned) {
        sched_yield();
        turned = sem_trywait(&permits->turned) == 0;
    }
    dawdle(delay);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    bool in_time = atomic_load(&permits->in_run);
    sem_wait(&left); /* hangs if the job was forgotten */
    if (!turned)
        sem_wait(&permits->turned);
    return in_time;
}

static void test_the_queue_gets_the_permit_of_a_job_that_ended_in_place(void **state)
{
    struct turner t;
    struct permits permits = {0};
    unsigned in_time = 0, late = 0, delay = 0;
    const uint64_t deadline_ns = in_ms(10000);

    (void)state;
    sem_init(&permits.go, 0, 0);
    sem_init(&permits.turned, 0, 0);
    make_with_loops(1, 1, 1);
    turner_start(&t, 0, places_one_a_round, &permits);
    for (unsigned round = 0; round < 20000 && now_ns() < deadline_ns; round++)
        if (play_permit_round(&permits, delay)) {
            in_time++;
            delay += 100;
        } else {
            late++;
            delay -= delay / 16;
        }
    atomic_store(&permits.over, true);
    sem_post(&permits.go);
    turner_wait(&t);
    unmake();
    assert_true(in_time > 0); /* or the race was not played */
    assert_true(late > 0);
    sem_destroy(&permits.go);
    sem_destroy(&permits.turned);
    turner_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_the_body_runs_at_once),
        claim(test_each_loop_has_a_thread_of_its_own),
        claim(test_there_may_be_more_loops_than_workers),
        claim(test_destroy_may_follow_the_end_of_the_body_at_once),
        claim(test_a_pool_whose_loops_never_began_can_be_destroyed),
        claim(test_a_driver_that_sleeps_is_told_from_one_that_is_awake),
        claim(test_a_job_that_returns_was_run_by_the_thread_that_drives),
        claim(test_done_of_a_job_that_ended_in_place_is_not_called),
        claim(test_a_job_that_blocks_is_left_and_the_body_goes_on_elsewhere),
        claim(test_a_job_that_was_left_is_done_once_and_on_its_thread),
        claim(test_a_loop_is_driven_by_its_own_team_only),
        claim(test_a_loop_goes_on_while_the_jobs_of_another_team_block),
        claim(test_as_many_blocked_jobs_as_workers_leave_a_thread_for_the_loop),
        claim(test_a_job_that_was_not_placed_is_the_callers),
        claim(test_the_queue_starts_the_threads_that_placed_jobs_lack),
        claim(test_the_queue_gets_the_permit_of_a_job_that_ended_in_place),
    };
    return cmocka_run_group_tests_name("pool_loop", tests, with_pool_begin, NULL);
}

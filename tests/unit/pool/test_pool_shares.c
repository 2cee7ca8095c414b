/* The specification of pool.h: several clients in one pool. Which job is next is in test_fair.c. */

#include "with_pool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static atomic_uint drops;

static void on_dropped(struct pool_job *job)
{
    (void)job;
    atomic_fetch_add(&drops, 1);
}

static struct step step_of(struct pool_share *share, uint64_t came_ns)
{
    struct step s = {.job = step_job};
    s.job.share = share;
    s.job.came_ns = came_ns;
    s.job.dropped = on_dropped;
    s.entered = &entered;
    s.gate = &gate;
    s.left = &left;
    return s;
}

static void wait_for(sem_t *sem, unsigned times)
{
    while (times-- > 0)
        while (sem_wait(sem) != 0)
            assert_int_equal(errno, EINTR);
}

static void test_a_full_queue_of_one_client_takes_a_job_of_another(void **state)
{
    struct pool_share *crowd;
    struct step steps[6], other;
    (void)state;
    atomic_store(&drops, 0);
    pool = make(1, 4);
    crowd = pool_share_create();
    for (unsigned i = 0; i < 6; i++)
        steps[i] = step_of(crowd, 0);
    assert_int_equal(pool_submit(pool, &steps[0].job), 0);
    wait_for(&entered, 1);
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(pool_submit(pool, &steps[i].job), 0);
    assert_int_equal(pool_submit(pool, &steps[5].job), -EAGAIN);
    assert_int_equal(atomic_load(&drops), 0);

    other = step_of(NULL, 0);
    assert_int_equal(pool_submit(pool, &other.job), 0);
    assert_int_equal(atomic_load(&drops), 1);
    struct pool_stats stats;
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.dropped, 1);
    assert_int_equal(stats.queued, 4);
    assert_int_equal(pool_active(pool), 5);

    pool_share_release(pool, crowd); /* its jobs go on */
    for (unsigned i = 0; i < 5; i++)
        sem_post(&gate);
    wait_for(&left, 5);
    assert_int_equal(atomic_load(&other.runs), 1);
    assert_int_equal(atomic_load(&steps[4].runs), 0);
    assert_int_equal(atomic_load(&steps[4].dones), 0);
    unmake();
}

/* It has waited elsewhere, in a list with a bound of its own. */
static void test_a_full_queue_takes_a_job_that_is_due_and_drops_none(void **state)
{
    struct pool_share *crowd;
    struct step steps[5], due, other;
    (void)state;
    atomic_store(&drops, 0);
    pool = make(1, 4);
    crowd = pool_share_create();
    for (unsigned i = 0; i < 5; i++) {
        steps[i] = step_of(crowd, 0);
        assert_int_equal(pool_submit(pool, &steps[i].job), 0);
        if (i == 0)
            wait_for(&entered, 1);
    }
    due = step_of(NULL, 0);
    due.job.due = true;
    assert_int_equal(pool_submit(pool, &due.job), 0);
    assert_int_equal(atomic_load(&drops), 0);
    other = step_of(crowd, 0);
    assert_int_equal(pool_submit(pool, &other.job), -EAGAIN); /* it is full for the others still */

    pool_share_release(pool, crowd);
    for (unsigned i = 0; i < 6; i++)
        sem_post(&gate);
    wait_for(&left, 6);
    assert_int_equal(atomic_load(&due.runs), 1);
    pool_close(pool);
    assert_int_equal(pool_submit(pool, &due.job), -ESHUTDOWN);
    unmake();
}

static void test_a_kept_worker_goes_back_to_the_crowd(void **state)
{
    struct pool_share *crowd;
    struct step steps[8], one;
    (void)state;
    pool = make(4, 16);
    crowd = pool_share_create();
    for (unsigned i = 0; i < 8; i++) {
        steps[i] = step_of(crowd, 0);
        assert_int_equal(pool_submit(pool, &steps[i].job), 0);
    }
    wait_for(&entered, 4); /* a client alone has all workers */
    one = step_of(NULL, now_ns());
    assert_int_equal(pool_submit(pool, &one.job), 0);
    for (unsigned i = 0; i < 5; i++)
        sem_post(&gate);
    wait_for(&left, 5); /* whichever they are, one worker is free or soon will be */
    /* No submit wakes it, and the crowd's jobs stay blocked: the kept worker must take the last job
     * by itself. */
    wait_for(&entered, 1 + 4);
    for (unsigned i = 0; i < 4; i++)
        sem_post(&gate);
    wait_for(&left, 4);
    pool_share_release(pool, crowd);
    assert_int_equal(atomic_load(&one.runs), 1);
    unmake();
}

static void test_closing_lets_a_crowd_run_at_once(void **state)
{
    struct pool_share *crowd;
    struct step steps[8], one;
    (void)state;
    pool = make(4, 16);
    crowd = pool_share_create();
    for (unsigned i = 0; i < 8; i++) {
        steps[i] = step_of(crowd, 0);
        assert_int_equal(pool_submit(pool, &steps[i].job), 0);
    }
    wait_for(&entered, 4);
    /* By its time, workers are kept for an hour. */
    one = step_of(NULL, now_ns() + 3600 * UINT64_C(1000000000));
    assert_int_equal(pool_submit(pool, &one.job), 0);
    for (unsigned i = 0; i < 9; i++)
        sem_post(&gate);
    pool_close(pool);
    wait_for(&left, 9);
    pool_share_release(pool, crowd);
    unmake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_full_queue_of_one_client_takes_a_job_of_another),
        claim(test_a_full_queue_takes_a_job_that_is_due_and_drops_none),
        claim(test_a_kept_worker_goes_back_to_the_crowd),
        claim(test_closing_lets_a_crowd_run_at_once),
    };
    return cmocka_run_group_tests_name("pool_shares", tests, with_pool_begin, NULL);
}

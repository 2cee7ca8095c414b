/* The specification of fair.h: which job is next, and which one gives way. No threads. */

#include "fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WORKERS 8 /* of which crowds may have 6 while workers are kept */
#define SECOND UINT64_C(1000000000)
#define NEVER UINT64_MAX /* as a time: whatever was kept is no longer */

static struct pool_job jobs[64];
static struct fair fair;

static int set_up(void **state)
{
    (void)state;
    memset(jobs, 0, sizeof(jobs));
    fair_init(&fair, WORKERS);
    return 0;
}

static void push(unsigned i, struct pool_share *share, uint64_t came_ns)
{
    jobs[i].share = share;
    jobs[i].came_ns = came_ns;
    fair_push(&fair, &jobs[i]);
}

/* The number of the next job; -1: none. */
static int pop(uint64_t now_ns)
{
    struct pool_job *job = fair_pop(&fair, now_ns);
    return job != NULL ? (int)(job - jobs) : -1;
}

static void end(int i)
{
    fair_end(&fair, jobs[i].share, jobs[i].crowded);
}

static void never_called(struct pool_job *job)
{
    (void)job;
}

static void test_jobs_without_a_class_come_in_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        push(i, NULL, 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pop(NEVER), i);
    assert_int_equal(pop(NEVER), -1);
}

static void test_a_single_job_goes_before_a_crowd(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        push(i, &crowd, 1);
    push(10, NULL, 1);
    assert_int_equal(pop(NEVER), 0); /* this one was single as it came */
    assert_int_equal(pop(NEVER), 10);
    assert_int_equal(pop(NEVER), 1);
}

static void test_crowds_take_turns(void **state)
{
    struct pool_share a = {0}, b = {0};
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        push(i, &a, 0);
    for (unsigned i = 3; i < 6; i++)
        push(i, &b, 0);
    const int want[] = {0, 3, 1, 4, 2, 5};
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(pop(NEVER), want[i]);
}

static void test_a_crowd_moves_although_single_jobs_keep_coming(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    push(0, &crowd, 0);
    push(1, &crowd, 0);
    for (unsigned i = 2; i < 12; i++)
        push(i, NULL, 0);
    const int want[] = {0, 2, 3, 1, 4, 5};
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(pop(NEVER), want[i]);
}

static void test_a_job_is_single_again_when_the_others_of_its_client_have_ended(void **state)
{
    struct pool_share share = {0};
    (void)state;
    push(0, &share, 0);
    push(1, &share, 0);
    assert_false(jobs[0].crowded);
    assert_true(jobs[1].crowded);
    end(pop(NEVER));
    end(pop(NEVER));
    push(2, &share, 0);
    assert_false(jobs[2].crowded);
}

static void test_crowds_leave_a_quarter_of_the_workers_after_a_single_job_came(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        push(i, &crowd, 10 * SECOND);
    push(20, NULL, 10 * SECOND);
    unsigned taken = 0;
    while (pop(10 * SECOND) >= 0)
        taken++;
    assert_int_equal(taken, 2 + 6); /* 0 and 20 were single */
    assert_int_equal(fair_ready(&fair, 10 * SECOND), 0);
    assert_int_equal(fair_queued(&fair), 13);
    push(21, NULL, 10 * SECOND);
    assert_int_equal(pop(10 * SECOND), 21);
    assert_int_equal(pop(10 * SECOND), -1);
    end(1); /* of the crowd */
    assert_true(pop(10 * SECOND) > 0);
    assert_int_equal(pop(10 * SECOND), -1);
    assert_int_equal(fair_ready(&fair, 11 * SECOND), 12); /* a second is over */
    assert_true(pop(11 * SECOND) > 0);
}

static void test_a_client_alone_has_all_workers(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        push(i, &crowd, 10 * SECOND);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(pop(10 * SECOND), (int)i);
}

static void test_a_client_alone_may_fill_the_queue(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    push(0, &crowd, 0);
    assert_int_equal(pop(NEVER), 0);
    for (unsigned i = 1; i < 16; i++) {
        assert_true(fair_may_queue(&fair, &crowd, 16));
        push(i, &crowd, 0);
    }
}

static void test_a_client_has_a_quarter_of_the_queue_while_others_wait(void **state)
{
    struct pool_share crowd = {0}, other = {0};
    (void)state;
    push(0, &crowd, 0);
    push(1, NULL, 0);
    for (unsigned i = 2; i < 5; i++) {
        assert_true(fair_may_queue(&fair, &crowd, 16));
        push(i, &crowd, 0);
    }
    assert_false(fair_may_queue(&fair, &crowd, 16));
    assert_true(fair_may_queue(&fair, &other, 16));
    assert_true(fair_may_queue(&fair, NULL, 16));
}

static void test_the_newest_job_of_the_largest_crowd_gives_way(void **state)
{
    struct pool_share large = {0}, small = {0}, third = {0};
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        jobs[i].dropped = never_called;
        push(i, i < 10 ? &large : &small, 0);
    }
    /* 1 to 9 wait in the large crowd, 11 to 15 in the small one. */
    assert_ptr_equal(fair_displace(&fair, &third, 16), &jobs[9]);
    end(9);
    assert_ptr_equal(fair_displace(&fair, NULL, 16), &jobs[8]);
    end(8);
    assert_null(fair_displace(&fair, &small, 16)); /* it has its quarter */
    assert_int_equal(fair_queued(&fair), 14);
    assert_int_equal(pop(NEVER), 0);
    assert_int_equal(pop(NEVER), 10);
    assert_int_equal(pop(NEVER), 1);
    assert_int_equal(pop(NEVER), 11);
}

static void test_no_crowd_with_a_quarter_or_less_gives_way(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        jobs[i].dropped = never_called;
        push(i, &crowd, 0);
    }
    assert_null(fair_displace(&fair, NULL, 16));
}

static void test_a_job_that_cannot_be_dropped_does_not_give_way(void **state)
{
    struct pool_share crowd = {0};
    (void)state;
    for (unsigned i = 0; i < 16; i++)
        push(i, &crowd, 0);
    assert_null(fair_displace(&fair, NULL, 16));
}

static void test_a_crowd_of_one_that_gives_way_leaves_the_ring(void **state)
{
    struct pool_share a = {0}, b = {0};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        jobs[i].dropped = never_called;
        push(i, i % 2 == 0 ? &a : &b, 0);
    }
    assert_ptr_equal(fair_displace(&fair, NULL, 4), &jobs[2]);
    end(2);
    assert_ptr_equal(fair_displace(&fair, NULL, 4), &jobs[3]);
    end(3);
    assert_null(fair_displace(&fair, NULL, 4)); /* one each is a quarter */
    assert_int_equal(pop(NEVER), 0);
    assert_int_equal(pop(NEVER), 1);
    assert_int_equal(pop(NEVER), -1);
    push(4, &a, 0); /* 0 runs */
    push(5, &b, 0);
    assert_int_equal(pop(NEVER), 4);
    assert_int_equal(pop(NEVER), 5);
}

static void test_a_share_lives_as_long_as_its_jobs(void **state)
{
    struct pool_share *share = pool_share_create();
    (void)state;
    assert_non_null(share);
    push(0, share, 0);
    share->released = true;
    end(pop(NEVER)); /* frees it: the leak checker would say otherwise */
}

#define claim(f) cmocka_unit_test_setup(f, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_jobs_without_a_class_come_in_order),
        claim(test_a_single_job_goes_before_a_crowd),
        claim(test_crowds_take_turns),
        claim(test_a_crowd_moves_although_single_jobs_keep_coming),
        claim(test_a_job_is_single_again_when_the_others_of_its_client_have_ended),
        claim(test_crowds_leave_a_quarter_of_the_workers_after_a_single_job_came),
        claim(test_a_client_alone_has_all_workers),
        claim(test_a_client_alone_may_fill_the_queue),
        claim(test_a_client_has_a_quarter_of_the_queue_while_others_wait),
        claim(test_the_newest_job_of_the_largest_crowd_gives_way),
        claim(test_no_crowd_with_a_quarter_or_less_gives_way),
        claim(test_a_job_that_cannot_be_dropped_does_not_give_way),
        claim(test_a_crowd_of_one_that_gives_way_leaves_the_ring),
        claim(test_a_share_lives_as_long_as_its_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

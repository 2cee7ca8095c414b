/* The fine timers of a loop, on an event loop without a server. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "fine.h"
#include "loop.h"

#define LIMIT_NS (20 * NS_PER_S)

static struct loop *the_loop;

/* The timers that were called back, by their names. */
static char called[16];

struct named {
    struct fine_timer timer;
    char name;
    uint64_t again_ns; /* from its callback it is set to then; 0: it is not */
    struct named *clears;
};

static void on_timer(struct fine_timer *timer)
{
    struct named *named = container_of(timer, struct named, timer);

    assert_true(clock_now_ns() >= timer->due_ns);
    assert_true(strlen(called) + 1 < sizeof(called));
    called[strlen(called)] = named->name;
    if (named->clears != NULL)
        fine_clear(&named->clears->timer);
    if (named->again_ns != 0)
        fine_set(the_loop, timer, named->again_ns);
    named->again_ns = 0;
}

static struct named new_timer(char name)
{
    return (struct named){.timer.cb = on_timer, .name = name};
}

static void run_until_called(size_t count)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;

    while (strlen(called) < count) {
        assert_true(clock_now_ns() < until_ns);
        (void)h2o_evloop_run(the_loop->evloop, 1000);
    }
}

static int setup(void **state)
{
    (void)state;
    memset(called, 0, sizeof(called));
    the_loop = aligned_alloc(_Alignof(struct loop), sizeof(*the_loop));
    assert_non_null(the_loop);
    memset(the_loop, 0, sizeof(*the_loop));
    the_loop->owner = pthread_self();
    the_loop->evloop = h2o_evloop_create();
    h2o_linklist_init_anchor(&the_loop->fine.timers);
    assert_int_equal(fine_open(the_loop), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fine_close(the_loop);
    (void)h2o_evloop_run(the_loop->evloop, 0); /* it frees its sockets in a turn */
    h2o_evloop_destroy(the_loop->evloop);
    free(the_loop);
    return 0;
}

static void test_timers_are_called_in_the_order_of_their_times(void **state)
{
    struct named a = new_timer('a'), b = new_timer('b'), c = new_timer('c');
    uint64_t now_ns = clock_now_ns();

    (void)state;
    fine_set(the_loop, &b.timer, now_ns + 2 * NS_PER_MS);
    fine_set(the_loop, &c.timer, now_ns + 3 * NS_PER_MS);
    fine_set(the_loop, &a.timer, now_ns + 1 * NS_PER_MS);
    run_until_called(3);
    assert_string_equal(called, "abc");
}

static void test_a_time_that_has_passed_is_due_at_once(void **state)
{
    struct named a = new_timer('a');

    (void)state;
    fine_set(the_loop, &a.timer, 1);
    run_until_called(1);
}

static void test_a_timer_that_is_set_again_is_called_once(void **state)
{
    struct named a = new_timer('a'), b = new_timer('b');
    uint64_t now_ns = clock_now_ns();

    (void)state;
    fine_set(the_loop, &a.timer, now_ns + NS_PER_MS);
    fine_set(the_loop, &b.timer, now_ns + 2 * NS_PER_MS);
    fine_set(the_loop, &a.timer, now_ns + 3 * NS_PER_MS);
    run_until_called(2);
    assert_string_equal(called, "ba");
}

/* To clear the first timer does not disarm the descriptor. It expires, and must then be armed for
 * the second timer. */
static void test_a_timer_that_is_cleared_is_not_called(void **state)
{
    struct named a = new_timer('a'), b = new_timer('b');
    uint64_t now_ns = clock_now_ns();

    (void)state;
    fine_set(the_loop, &a.timer, now_ns + NS_PER_MS);
    fine_set(the_loop, &b.timer, now_ns + 2 * NS_PER_MS);
    fine_clear(&a.timer);
    fine_clear(&a.timer);
    run_until_called(1);
    assert_string_equal(called, "b");
}

static void test_a_callback_may_set_its_own_timer_and_clear_another(void **state)
{
    struct named a = new_timer('a'), b = new_timer('b'), c = new_timer('c');
    uint64_t now_ns = clock_now_ns();

    (void)state;
    a.again_ns = now_ns + 20 * NS_PER_MS;
    a.clears = &b;
    fine_set(the_loop, &a.timer, now_ns + NS_PER_MS);
    fine_set(the_loop, &b.timer, now_ns + NS_PER_MS);
    fine_set(the_loop, &c.timer, now_ns + NS_PER_MS);
    run_until_called(3);
    assert_string_equal(called, "aca");
}

/* Each expiry is disarmed: a loop without timers sleeps. */
static void test_a_loop_whose_timers_have_run_sleeps(void **state)
{
    struct named a = new_timer('a');

    (void)state;
    fine_set(the_loop, &a.timer, clock_now_ns());
    run_until_called(1);
    uint64_t before_ns = clock_now_ns();
    (void)h2o_evloop_run(the_loop->evloop, 50);
    assert_true(clock_now_ns() - before_ns >= 40 * NS_PER_MS);
}

#define claim(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        claim(test_timers_are_called_in_the_order_of_their_times),
        claim(test_a_time_that_has_passed_is_due_at_once),
        claim(test_a_timer_that_is_set_again_is_called_once),
        claim(test_a_timer_that_is_cleared_is_not_called),
        claim(test_a_callback_may_set_its_own_timer_and_clear_another),
        claim(test_a_loop_whose_timers_have_run_sleeps),
    };
    (void)alarm(120);
    return cmocka_run_group_tests_name("fine", tests, NULL, NULL);
}

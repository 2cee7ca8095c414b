/* The clock of the timers, when the process stands still. This program replaces clock_gettime(2),
 * and says what the time is. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "between_calls.h"
#include "clock.h"
#include "library.h"
#include "mends.h"

static uint64_t now_ns = 1000 * NS_PER_S;

/* Replaces libc's in the whole program. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    if (clock != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, clock, ts);
    *ts = (struct timespec){.tv_sec = (time_t)(now_ns / NS_PER_S),
                            .tv_nsec = (long)(now_ns % NS_PER_S)};
    return 0;
}

static struct between_calls state_of_loop;
static h2o_loop_t *evloop;
static h2o_timeout_t second, ten_seconds;
static h2o_timeout_entry_t look, limit;
static unsigned looks, limits;

static void on_look(h2o_timeout_entry_t *entry)
{
    looks++;
    timers_link(evloop, &second, entry);
}

static void on_limit(h2o_timeout_entry_t *entry)
{
    (void)entry;
    limits++;
}

static int set_up(void **state)
{
    char error[REPLACED_ERROR_SIZE];

    (void)state;
    if (evloop == NULL) {
        if (!replaced_init(error, sizeof(error)))
            return -1;
        evloop = h2o_evloop_create();
        h2o_timeout_init(evloop, &second, 1000);
        h2o_timeout_init(evloop, &ten_seconds, 10000);
    }
    between_calls_use(&state_of_loop);
    looks = limits = 0;
    look = (h2o_timeout_entry_t){.cb = on_look};
    limit = (h2o_timeout_entry_t){.cb = on_limit};
    timers_link(evloop, &second, &look);
    timers_link(evloop, &ten_seconds, &limit);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    h2o_timeout_unlink(&look);
    h2o_timeout_unlink(&limit);
    return 0;
}

/* What the library does in a turn, if it wakes up after `waits_ns`. */
static void turn(uint64_t waits_ns)
{
    (void)timers_wake_at(&evloop->_timeouts);
    now_ns += waits_ns;
    timers_run(evloop, &second);
    timers_run(evloop, &ten_seconds);
}

static void test_a_timer_ends_in_its_time(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 9; i++)
        turn(NS_PER_S);
    assert_int_equal(limits, 0);
    turn(NS_PER_S);
    assert_int_equal(limits, 1);
    assert_int_equal(looks, 10);
}

static void test_a_stop_in_the_wait_does_not_count(void **state)
{
    (void)state;
    turn(100 * NS_PER_S);
    assert_int_equal(looks, 1); /* its second is over */
    assert_int_equal(limits, 0);
    for (unsigned i = 0; i < 8; i++) /* one and a half has been counted */
        turn(NS_PER_S);
    assert_int_equal(limits, 0);
    turn(NS_PER_S);
    assert_int_equal(limits, 1);
}

static void test_a_stop_between_a_turn_and_its_wait_does_not_count(void **state)
{
    (void)state;
    turn(NS_PER_S);
    now_ns += 100 * NS_PER_S;
    turn(0);
    assert_int_equal(limits, 0);
    turn(NS_PER_S / 2);
    assert_int_equal(looks, 2);
    assert_int_equal(limits, 0);
}

static void test_a_loop_that_is_always_late_has_time_outs_all_the_same(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        turn(3 * NS_PER_S);
    assert_int_equal(limits, 1);
}

static void test_a_wait_without_a_timer_stops_no_clock(void **state)
{
    uint64_t before_ms = timers_now_ms(evloop);

    (void)state;
    h2o_timeout_unlink(&look);
    h2o_timeout_unlink(&limit);
    assert_true(timers_wake_at(&evloop->_timeouts) == UINT64_MAX);
    now_ns += 100 * NS_PER_S;
    assert_int_equal(timers_now_ms(evloop) - before_ms, 100000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_timer_ends_in_its_time),
        TEST(test_a_stop_in_the_wait_does_not_count),
        TEST(test_a_stop_between_a_turn_and_its_wait_does_not_count),
        TEST(test_a_loop_that_is_always_late_has_time_outs_all_the_same),
        TEST(test_a_wait_without_a_timer_stops_no_clock),
    };
    return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}

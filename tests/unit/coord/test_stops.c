/* Which stop signals count, with numbers: see stops.h. */

#include "stops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS(n) ((n)*UINT64_C(1000000))
#define APART MS(250)
#define START MS(UINT64_C(5000))

static struct stops stops;

static int set_up(void **state)
{
    (void)state;
    stops = (struct stops){0};
    return 0;
}

/* A signal `ms` after START. */
static bool counts_at(uint64_t ms)
{
    return stops_take(&stops, START + MS(ms), APART);
}

static void test_the_first_one_counts(void **state)
{
    (void)state;
    assert_true(stops_take(&stops, 0, APART)); /* also at the beginning of time */
    assert_int_equal(stops.count, 1);
}

static void test_the_second_within_the_time_is_the_same(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    assert_false(counts_at(0));
    assert_false(stops_take(&stops, START + APART - 1, APART));
    assert_int_equal(stops.count, 1);
}

static void test_the_second_at_the_time_is_another(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    assert_true(counts_at(250));
    assert_int_equal(stops.count, 2);
}

static void test_three_within_the_time_are_one(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    assert_false(counts_at(120));
    assert_false(counts_at(240));
    assert_int_equal(stops.count, 1);
}

/* Ctrl+C twice by a person, below a program that passes each of them on. */
static void test_two_that_come_twice_each_are_two(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    assert_false(counts_at(2));
    assert_true(counts_at(1000));
    assert_false(counts_at(1002));
    assert_int_equal(stops.count, 2);
}

static void test_the_third_needs_its_time_after_the_second(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    assert_true(counts_at(300));
    assert_false(counts_at(400)); /* long after the first one, but not after the second */
    assert_true(counts_at(550));
    assert_int_equal(stops.count, 3);
}

/* A user who holds the keys down forces the exit. */
static void test_a_steady_stream_does_not_hold_off_the_second(void **state)
{
    (void)state;
    assert_true(counts_at(0));
    for (uint64_t ms = 30; ms < 250; ms += 30)
        assert_false(counts_at(ms));
    assert_true(counts_at(270));
}

static void test_without_a_time_each_counts(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 3; n++) {
        assert_true(stops_take(&stops, START - n, 0)); /* even one that was read earlier */
        assert_int_equal(stops.count, n);
    }
}

static void test_a_time_that_was_read_earlier_is_the_same(void **state)
{
    (void)state;
    assert_true(counts_at(10));
    assert_false(counts_at(0));
}

#define claim(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_the_first_one_counts),
        claim(test_the_second_within_the_time_is_the_same),
        claim(test_the_second_at_the_time_is_another),
        claim(test_three_within_the_time_are_one),
        claim(test_two_that_come_twice_each_are_two),
        claim(test_the_third_needs_its_time_after_the_second),
        claim(test_a_steady_stream_does_not_hold_off_the_second),
        claim(test_without_a_time_each_counts),
        claim(test_a_time_that_was_read_earlier_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

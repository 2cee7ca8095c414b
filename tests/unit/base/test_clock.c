/* The specification of clock.h, one claim a test. */

#include "clock.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define UNTOUCHED UINT64_C(0xdeadbeef)

/* ---- the time ---- */

static void test_a_wait_of_poll_is_rounded_up_and_bounded(void **state)
{
    (void)state;
    assert_int_equal(clock_poll_ms(5, CLOCK_NEVER), -1);
    assert_int_equal(clock_poll_ms(5, 5), 0);
    assert_int_equal(clock_poll_ms(5, 4), 0);
    assert_int_equal(clock_poll_ms(5, 6), 1);
    assert_int_equal(clock_poll_ms(5, 5 + NS_PER_MS), 1);
    assert_int_equal(clock_poll_ms(5, 6 + NS_PER_MS), 2);
    assert_int_equal(clock_poll_ms(0, CLOCK_NEVER - 1), INT_MAX);
}

static void test_half_a_second_late_is_usual_and_more_is_time_that_stood(void **state)
{
    const uint64_t half_ns = NS_PER_S / 2;

    (void)state;
    assert_int_equal(clock_stood_ns(CLOCK_NEVER, 7), 0);
    assert_int_equal(clock_stood_ns(8, 7), 0);
    assert_int_equal(clock_stood_ns(7, 7 + half_ns), 0);
    assert_int_equal(clock_stood_ns(7, 8 + half_ns), 1);
    assert_int_equal(clock_stood_ns(7, 7 + 3 * half_ns), NS_PER_S);
}

static void test_now_never_goes_back(void **state)
{
    (void)state;
    uint64_t last_ns = clock_now_ns();
    for (int i = 0; i < 100000; i++) {
        uint64_t now_ns = clock_now_ns();
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

static void test_now_is_the_monotonic_clock(void **state)
{
    (void)state;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    uint64_t now_ns = clock_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now_ns >= (uint64_t)before.tv_sec * NS_PER_S + (uint64_t)before.tv_nsec);
    assert_true(now_ns <= (uint64_t)after.tv_sec * NS_PER_S + (uint64_t)after.tv_nsec);
}

static void test_timespec_loses_no_nanosecond(void **state)
{
    (void)state;
    static const uint64_t times[] = {
        0, 1, NS_PER_S - 1, NS_PER_S, NS_PER_S + 1, UINT64_C(123456789987654321), CLOCK_NEVER};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct timespec ts = clock_timespec(times[i]);
        assert_in_range(ts.tv_nsec, 0, NS_PER_S - 1);
        assert_true((uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec == times[i]);
    }
}

static void test_never_is_a_time_that_the_kernel_takes(void **state)
{
    (void)state;
    assert_true(clock_timespec(CLOCK_NEVER).tv_sec > clock_timespec(clock_now_ns()).tv_sec);
}

/* ---- durations in ---- */

static void assert_parses(const char *text, uint64_t want_ns)
{
    uint64_t ns = UNTOUCHED;
    if (clock_parse_duration(text, &ns) != 0 || ns != want_ns)
        fail_msg("\"%s\" is %llu, not %llu", text, (unsigned long long)ns,
                 (unsigned long long)want_ns);
}

static void assert_refused(const char *text)
{
    uint64_t ns = UNTOUCHED;
    if (clock_parse_duration(text, &ns) != -EINVAL)
        fail_msg("\"%s\" is taken as %llu", text, (unsigned long long)ns);
    assert_true(ns == UNTOUCHED);
}

static void test_each_unit_is_understood(void **state)
{
    (void)state;
    assert_parses("250ms", 250 * NS_PER_MS);
    assert_parses("10s", 10 * NS_PER_S);
    assert_parses("2m", 120 * NS_PER_S);
    assert_parses("1h", 3600 * NS_PER_S);
}

static void test_fractions_are_understood(void **state)
{
    (void)state;
    assert_parses("1.5s", 1500 * NS_PER_MS);
    assert_parses("0.5ms", 500 * NS_PER_US);
    assert_parses("0.1s", 100 * NS_PER_MS);
    assert_parses("0.25m", 15 * NS_PER_S);
}

static void test_zero_needs_no_unit_but_may_have_one(void **state)
{
    (void)state;
    static const char *const zeros[] = {"0", "0.0", "00", "0ms", "0s", "0m", "0h"};
    for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++)
        assert_parses(zeros[i], 0);
}

static void test_a_number_without_unit_is_refused(void **state)
{
    (void)state;
    assert_refused("10");
    assert_refused("1.5");
    assert_refused("0.001");
}

static void test_up_to_30_days_and_no_more(void **state)
{
    (void)state;
    assert_parses("720h", 30 * 24 * 3600 * NS_PER_S);
    assert_parses("2592000s", 30 * 24 * 3600 * NS_PER_S);
    assert_refused("720.001h");
    assert_refused("2592001s");
    assert_refused("99999999999999999999999999999999999999h");
}

static void test_what_is_not_a_duration_is_refused_and_touches_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",     " ",    "s",     "ms",    "-1s",  "+1s",  " 1s",  "1s ",  "1 s", "1S",  "1sec",
        "1d",   "1us",  "0x10s", "0x10",  "1e3s", "1E3s", "1p2s", "infs", "nan", "inf", ".5s",
        "1,5s", "--1s", "1s1s",  "1m30s", "s1",   "1s\n", "\n1s", "0 ",   "0x",  "0d",  "1.5.5s",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_refused(wrong[i]);
}

/* ---- durations out ---- */

static void assert_formats(uint64_t ns, const char *want)
{
    char text[CLOCK_TEXT_SIZE];
    char *ret = clock_format_duration(ns, text);
    assert_ptr_equal(ret, text);
    assert_string_equal(text, want);
}

static void test_durations_are_written_in_the_fitting_unit(void **state)
{
    (void)state;
    assert_formats(0, "0us");
    assert_formats(450 * NS_PER_US, "450us");
    assert_formats(12 * NS_PER_MS, "12ms");
    assert_formats(1980 * NS_PER_MS, "1.98s");
    assert_formats(10 * NS_PER_S, "10s");
    assert_formats(60 * NS_PER_S, "1m");
    assert_formats(130 * NS_PER_S, "2m10s");
    assert_formats(7200 * NS_PER_S, "120m");
}

static void test_three_digits_at_most_also_where_rounding_adds_one(void **state)
{
    (void)state;
    assert_formats(1234567, "1.23ms");
    assert_formats(NS_PER_MS - 1, "1000us");
    assert_formats(NS_PER_S - 1, "1000ms");
    assert_formats(60 * NS_PER_S - 1, "60s");
    assert_formats(119 * NS_PER_S + 700 * NS_PER_MS, "2m");
}

static void test_any_duration_fits_its_buffer(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_SIZE];
    assert_true(strlen(clock_format_duration(CLOCK_NEVER, text)) < CLOCK_TEXT_SIZE);
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_true(strlen(clock_format_duration(UINT64_C(1) << bit, text)) < CLOCK_TEXT_SIZE);
        assert_null(strpbrk(text, "e+-"));
    }
}

static void test_what_is_written_is_what_was_parsed(void **state)
{
    (void)state;
    static const char *const texts[] = {"250ms", "10s", "2m", "1.5s", "12ms"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint64_t ns;
        assert_int_equal(clock_parse_duration(texts[i], &ns), 0);
        assert_formats(ns, texts[i]);
    }
}

/* ---- the wall clock ---- */

static void test_the_wall_clock_is_written_as_rfc_3339_in_utc(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_SIZE + 8];
    struct tm tm = {0};
    int ms, end = 0;

    time_t before = time(NULL);
    assert_ptr_equal(clock_format_wall(text), text);
    time_t after = time(NULL);

    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &tm.tm_year, &tm.tm_mon,
                            &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &end),
                     7);
    assert_int_equal(end, strlen("2024-01-01T00:00:00.000Z"));
    assert_int_equal(strlen(text), end);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t then = timegm(&tm);
    /* time(2) reads a coarser clock than clock_gettime(2): it may lag by a tick. */
    assert_true(before <= then && then <= after + 1);
}

static void test_the_time_zone_does_not_matter(void **state)
{
    (void)state;
    char here[CLOCK_TEXT_SIZE + 8], there[CLOCK_TEXT_SIZE + 8], again[CLOCK_TEXT_SIZE + 8];
    clock_format_wall(here);
    setenv("TZ", "XYZ-11:30", 1);
    tzset();
    clock_format_wall(there);
    unsetenv("TZ");
    tzset();
    clock_format_wall(again);
    assert_true(strcmp(here, there) <= 0); /* in this format texts sort as times */
    assert_true(strcmp(there, again) <= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wait_of_poll_is_rounded_up_and_bounded),
        cmocka_unit_test(test_half_a_second_late_is_usual_and_more_is_time_that_stood),
        cmocka_unit_test(test_now_never_goes_back),
        cmocka_unit_test(test_now_is_the_monotonic_clock),
        cmocka_unit_test(test_timespec_loses_no_nanosecond),
        cmocka_unit_test(test_never_is_a_time_that_the_kernel_takes),
        cmocka_unit_test(test_each_unit_is_understood),
        cmocka_unit_test(test_fractions_are_understood),
        cmocka_unit_test(test_zero_needs_no_unit_but_may_have_one),
        cmocka_unit_test(test_a_number_without_unit_is_refused),
        cmocka_unit_test(test_up_to_30_days_and_no_more),
        cmocka_unit_test(test_what_is_not_a_duration_is_refused_and_touches_nothing),
        cmocka_unit_test(test_durations_are_written_in_the_fitting_unit),
        cmocka_unit_test(test_three_digits_at_most_also_where_rounding_adds_one),
        cmocka_unit_test(test_any_duration_fits_its_buffer),
        cmocka_unit_test(test_what_is_written_is_what_was_parsed),
        cmocka_unit_test(test_the_wall_clock_is_written_as_rfc_3339_in_utc),
        cmocka_unit_test(test_the_time_zone_does_not_matter),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}

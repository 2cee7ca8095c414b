/* The health of a group's members, with a clock of the test's. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clock.h"
#include "upstream_health.h"

#define S NS_PER_S
#define MS NS_PER_MS

static const struct health_rules usual = {.failures = 3,
                                          .eject_ns = 1 * S,
                                          .eject_most_ns = 8 * S,
                                          .rise = 2,
                                          .fall = 3,
                                          .slow_start_ns = 10 * S};

static struct health *health;
static uint64_t now_ns;
static health_trial trial; /* the last one */

static int set_up(void **state)
{
    (void)state;
    now_ns = 1000 * S;
    trial = HEALTH_NO_TRIAL;
    health = health_create(3, &usual);
    return health == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    health_destroy(health);
    return 0;
}

static void assert_state(size_t i, enum health_state want)
{
    assert_string_equal(health_state_name(health_state(health, i)), health_state_name(want));
}

static bool try_it(size_t i, bool is_last_resort)
{
    trial = health_take_trial(health, i, now_ns, is_last_resort);
    return trial != HEALTH_NO_TRIAL;
}

/* Failures in a row; returns what the last one did. */
static uint64_t fail_times(size_t i, unsigned n, bool is_gone)
{
    uint64_t ejected_ns = 0;

    for (unsigned k = 0; k < n; k++)
        ejected_ns = health_failed(health, i, HEALTH_NO_TRIAL, is_gone, now_ns);
    return ejected_ns;
}

/* ---- ejection ---- */

static void test_failures_in_a_row_eject(void **state)
{
    (void)state;
    assert_int_equal(fail_times(0, 2, false), 0);
    assert_state(0, HEALTH_UP);
    assert_int_equal(fail_times(0, 1, false), 1 * S);
    assert_state(0, HEALTH_EJECTED);
    assert_int_equal(health_ejections(health, 0), 1);
    assert_state(1, HEALTH_UP);
}

static void test_an_answer_in_between_ends_the_row(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 10; n++) {
        assert_int_equal(fail_times(0, 2, true), 0);
        assert_false(health_succeeded(health, 0, trial, now_ns));
    }
    assert_state(0, HEALTH_UP);
}

static void test_no_ejection_when_it_is_off(void **state)
{
    struct health_rules rules = usual;
    (void)state;
    health_destroy(health);
    rules.failures = 0;
    health = health_create(3, &rules);
    assert_int_equal(fail_times(0, 100, true), 0);
    assert_state(0, HEALTH_UP);
}

static void test_the_last_one_that_is_up_stays_if_it_can_be_connected_to(void **state)
{
    (void)state;
    (void)fail_times(0, 3, false);
    (void)fail_times(1, 3, false);
    assert_int_equal(fail_times(2, 10, false), 0);
    assert_state(2, HEALTH_UP);
    assert_int_equal(fail_times(2, 1, true), 1 * S);
    assert_state(2, HEALTH_EJECTED);
}

/* ---- trials ---- */

static void test_one_request_at_a_time_tries_it_when_the_time_is_over(void **state)
{
    (void)state;
    (void)fail_times(0, 3, true);
    now_ns += 1 * S - 1;
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
    now_ns += 1;
    assert_true(try_it(0, false));
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
    health_drop_trial(health, 0, trial);
    assert_true(try_it(0, false));
    assert_state(0, HEALTH_EJECTED);
    assert_true(health_succeeded(health, 0, trial, now_ns));
    assert_state(0, HEALTH_UP);
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
}

static void test_each_trial_that_fails_doubles_the_time(void **state)
{
    static const uint64_t lengths[] = {2 * S, 4 * S, 8 * S, 8 * S};
    (void)state;
    uint64_t ejected_ns = fail_times(0, 3, true);
    for (size_t i = 0; i < 4; i++) {
        now_ns += ejected_ns;
        assert_true(try_it(0, false));
        ejected_ns = health_failed(health, 0, trial, true, now_ns);
        assert_int_equal(ejected_ns, lengths[i]);
    }
    assert_int_equal(health_ejections(health, 0), 5);
}

/* It comes and goes: the time goes on growing. It stays: the time is short again. */
static void test_the_time_is_short_again_after_it_has_stayed(void **state)
{
    (void)state;
    now_ns += fail_times(0, 3, true);
    assert_true(try_it(0, false));
    assert_true(health_succeeded(health, 0, trial, now_ns));
    now_ns += 1 * S - 1;
    uint64_t flapping_ns = fail_times(0, 3, true);
    assert_int_equal(flapping_ns, 2 * S);
    now_ns += flapping_ns;
    assert_true(try_it(0, false));
    assert_true(health_succeeded(health, 0, trial, now_ns));
    now_ns += 2 * S;
    assert_int_equal(fail_times(0, 3, true), 1 * S);
}

static void test_a_trial_is_known_until_its_outcome(void **state)
{
    (void)state;
    now_ns += fail_times(1, 3, true);
    assert_false(health_has_trial(health));
    assert_true(try_it(1, false));
    assert_true(health_has_trial(health));
    assert_true(health_succeeded(health, 1, trial, now_ns));
    assert_false(health_has_trial(health));
}

static void test_requests_from_before_the_ejection_say_nothing(void **state)
{
    (void)state;
    (void)fail_times(0, 3, true);
    uint64_t until_ns = health_ejected_until_ns(health, 0);
    now_ns += 500 * MS;
    assert_false(health_succeeded(health, 0, trial, now_ns));
    assert_int_equal(health_failed(health, 0, trial, true, now_ns), 0);
    assert_state(0, HEALTH_EJECTED);
    assert_int_equal(health_ejected_until_ns(health, 0), until_ns);
}

/* A trial is under way, and requests that were sent before the ejection end. */
static void test_only_a_trial_tells_what_became_of_a_trial(void **state)
{
    (void)state;
    now_ns += fail_times(0, 3, true);
    assert_true(try_it(0, false));
    assert_int_equal(health_failed(health, 0, HEALTH_NO_TRIAL, false, now_ns), 0);
    assert_false(health_succeeded(health, 0, HEALTH_NO_TRIAL, now_ns));
    assert_state(0, HEALTH_EJECTED);
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
    assert_true(health_succeeded(health, 0, trial, now_ns));
    assert_state(0, HEALTH_UP);
}

static void test_a_trial_that_is_dropped_late_leaves_the_next_one(void **state)
{
    (void)state;
    now_ns += fail_times(0, 3, true);
    assert_true(try_it(0, false));
    health_trial first = trial;
    now_ns += health_failed(health, 0, first, true, now_ns);
    assert_true(try_it(0, false));
    health_drop_trial(health, 0, first);
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
    assert_int_equal(health_failed(health, 0, first, true, now_ns), 0);
    assert_true(health_succeeded(health, 0, trial, now_ns));
}

/* The first one hangs, and the member has come back meanwhile. */
static void test_a_last_resort_does_not_wait_for_a_trial_that_hangs(void **state)
{
    (void)state;
    now_ns += fail_times(0, 3, true);
    assert_true(try_it(0, true));
    health_trial first = trial;
    now_ns += HEALTH_TRIALS_APART_NS - 1;
    assert_int_equal(health_take_trial(health, 0, now_ns, true), HEALTH_NO_TRIAL);
    now_ns += 1;
    assert_true(try_it(0, true));
    assert_true(health_succeeded(health, 0, trial, now_ns));
    assert_int_equal(health_failed(health, 0, first, true, now_ns), 0);
    assert_state(0, HEALTH_UP);
}

static void test_a_last_resort_may_be_tried_early(void **state)
{
    (void)state;
    (void)fail_times(0, 3, true);
    assert_int_equal(health_take_trial(health, 0, now_ns, true), HEALTH_NO_TRIAL);
    now_ns += HEALTH_TRIALS_APART_NS;
    assert_int_equal(health_take_trial(health, 0, now_ns, false), HEALTH_NO_TRIAL);
    assert_true(try_it(0, true));
    assert_int_equal(health_take_trial(health, 0, now_ns, true), HEALTH_NO_TRIAL);
    (void)health_failed(health, 0, trial, true, now_ns);
    assert_int_equal(health_take_trial(health, 0, now_ns, true), HEALTH_NO_TRIAL);
}

/* ---- slow start ---- */

static void test_the_share_grows_after_it_has_come_back(void **state)
{
    (void)state;
    assert_int_equal(health_share(health, 0, now_ns), HEALTH_WHOLE);
    now_ns += fail_times(0, 3, true);
    assert_true(try_it(0, false));
    (void)health_succeeded(health, 0, trial, now_ns);
    assert_int_equal(health_share(health, 0, now_ns), HEALTH_WHOLE / 16);
    assert_in_range(health_share(health, 0, now_ns + 5 * S), HEALTH_WHOLE / 2 - 1,
                    HEALTH_WHOLE / 2 + 1);
    assert_int_equal(health_share(health, 0, now_ns + 10 * S), HEALTH_WHOLE);
    assert_int_equal(health_share(health, 1, now_ns), HEALTH_WHOLE);
}

/* ---- checks ---- */

static void check_times(size_t i, bool is_good, unsigned n, unsigned changes_at)
{
    for (unsigned k = 1; k <= n; k++)
        assert_int_equal(health_checked(health, i, is_good, now_ns), k == changes_at);
}

static void test_checks_take_down_and_up(void **state)
{
    (void)state;
    check_times(0, true, 1, 0);
    check_times(0, false, 2, 0);
    check_times(0, true, 1, 0);
    check_times(0, false, 5, 3);
    assert_state(0, HEALTH_DOWN);
    check_times(0, true, 1, 0);
    check_times(0, false, 1, 0);
    check_times(0, true, 5, 2);
    assert_state(0, HEALTH_UP);
    assert_int_equal(health_share(health, 0, now_ns), HEALTH_WHOLE / 16);
}

static void test_the_first_check_counts_alone(void **state)
{
    (void)state;
    check_times(0, false, 3, 1);
    assert_state(0, HEALTH_DOWN);
    check_times(1, true, 3, 0);
    assert_state(1, HEALTH_UP);
}

static void test_checks_take_the_last_one_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        check_times(i, false, 1, 1);
    assert_state(2, HEALTH_DOWN);
    assert_int_equal(health_take_trial(health, 2, now_ns + 100 * S, true), HEALTH_NO_TRIAL);
}

static void test_one_that_checks_bring_up_is_not_ejected(void **state)
{
    (void)state;
    (void)fail_times(0, 3, true);
    check_times(0, false, 1, 1);
    assert_state(0, HEALTH_DOWN);
    check_times(0, true, 2, 2);
    assert_state(0, HEALTH_UP);
    assert_int_equal(fail_times(0, 2, true), 0);
}

static void test_good_checks_do_not_end_an_ejection(void **state)
{
    (void)state;
    check_times(0, true, 1, 0);
    (void)fail_times(0, 3, true);
    check_times(0, true, 5, 0);
    assert_state(0, HEALTH_EJECTED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_failures_in_a_row_eject),
        TEST(test_an_answer_in_between_ends_the_row),
        TEST(test_no_ejection_when_it_is_off),
        TEST(test_the_last_one_that_is_up_stays_if_it_can_be_connected_to),
        TEST(test_one_request_at_a_time_tries_it_when_the_time_is_over),
        TEST(test_each_trial_that_fails_doubles_the_time),
        TEST(test_the_time_is_short_again_after_it_has_stayed),
        TEST(test_a_trial_is_known_until_its_outcome),
        TEST(test_requests_from_before_the_ejection_say_nothing),
        TEST(test_only_a_trial_tells_what_became_of_a_trial),
        TEST(test_a_trial_that_is_dropped_late_leaves_the_next_one),
        TEST(test_a_last_resort_does_not_wait_for_a_trial_that_hangs),
        TEST(test_a_last_resort_may_be_tried_early),
        TEST(test_the_share_grows_after_it_has_come_back),
        TEST(test_checks_take_down_and_up),
        TEST(test_the_first_check_counts_alone),
        TEST(test_checks_take_the_last_one_down),
        TEST(test_one_that_checks_bring_up_is_not_ejected),
        TEST(test_good_checks_do_not_end_an_ejection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

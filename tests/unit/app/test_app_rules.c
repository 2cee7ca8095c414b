/* The rules by which the application lives, with a clock of numbers. */

#include "app_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define MS NS_PER_MS
#define S NS_PER_S

static const struct app_rules_config once = {.start_timeout_ns = 30 * S, .grace_ns = 5 * S};
static const struct app_rules_config again = {
    .start_timeout_ns = 30 * S, .grace_ns = 5 * S, .restart = true};

static struct app_rules starting(const struct app_rules_config *config)
{
    struct app_rules rules;
    app_rules_init(&rules, config, 1 * S);
    return rules;
}

static struct app_rules up(const struct app_rules_config *config)
{
    struct app_rules rules = starting(config);
    assert_int_equal(app_rules_answered(&rules, 2 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_UP);
    return rules;
}

static void test_requests_wait_until_it_answers(void **state)
{
    (void)state;
    struct app_rules rules = starting(&once);
    assert_true(app_rules_hold(&rules));
    assert_int_equal(app_rules_answered(&rules, 2 * S), APP_DO_NOTHING);
    assert_false(app_rules_hold(&rules));
    assert_int_equal(app_rules_look(&rules, 1000 * S), APP_DO_NOTHING);
    assert_int_equal(rules.until_ns, CLOCK_NEVER);
}

static void test_the_first_start_has_its_time_and_no_more(void **state)
{
    (void)state;
    struct app_rules rules = starting(&again);
    assert_int_equal(app_rules_look(&rules, 31 * S - 1), APP_DO_NOTHING);
    assert_int_equal(app_rules_look(&rules, 31 * S), APP_DO_TERM | APP_DO_DRAIN);
    assert_int_equal(rules.end, APP_END_TIMEOUT);
    assert_false(app_rules_hold(&rules));
    assert_int_equal(app_rules_answered(&rules, 31 * S), APP_DO_NOTHING); /* too late */
    assert_int_equal(rules.state, APP_STOPPING);
    assert_int_equal(app_rules_look(&rules, 36 * S), APP_DO_KILL);
    assert_int_equal(app_rules_ended(&rules, 36 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(rules.end, APP_END_TIMEOUT);
}

static void test_an_end_before_the_first_answer_is_not_tried_again(void **state)
{
    (void)state;
    struct app_rules rules = starting(&again);
    assert_int_equal(app_rules_ended(&rules, 2 * S), APP_DO_DRAIN);
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(rules.end, APP_END_EARLY);
}

static void test_one_that_went_into_the_background_is_not_tried_again(void **state)
{
    (void)state;
    struct app_rules rules = up(&again);
    assert_int_equal(app_rules_went_background(&rules, 3 * S), APP_DO_DRAIN);
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(rules.end, APP_END_BACKGROUND);
    rules = starting(&once);
    assert_int_equal(app_rules_went_background(&rules, 3 * S), APP_DO_DRAIN);
    assert_int_equal(rules.end, APP_END_BACKGROUND);
    rules = up(&once);
    (void)app_rules_stop(&rules, 3 * S, 5 * S);
    assert_int_equal(app_rules_went_background(&rules, 4 * S), APP_DO_NOTHING);
    assert_int_equal(rules.end, APP_END_NONE);
}

static void test_an_end_without_restart_drains(void **state)
{
    (void)state;
    struct app_rules rules = up(&once);
    assert_int_equal(app_rules_ended(&rules, 3 * S), APP_DO_DRAIN);
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(rules.end, APP_END_BY_ITSELF);
    assert_false(app_rules_hold(&rules)); /* 502, and no waiting for what will not come */
}

static void test_other_rules_hold_from_the_next_end_on(void **state)
{
    (void)state;
    struct app_rules rules = up(&once);
    app_rules_configure(&rules, &again);
    assert_int_equal(app_rules_ended(&rules, 3 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_BACKOFF);
    rules = up(&again);
    app_rules_configure(&rules, &once);
    assert_int_equal(app_rules_ended(&rules, 3 * S), APP_DO_DRAIN);
}

static void test_a_drain_that_was_cut_short_leaves_little_grace(void **state)
{
    struct app_rules_config config = {.grace_ns = 5 * S};
    (void)state;
    assert_int_equal(app_rules_grace_ns(&config, false), 5 * S);
    assert_int_equal(app_rules_grace_ns(&config, true), APP_SHORT_GRACE_NS);
    config.grace_ns = APP_SHORT_GRACE_NS / 2;
    assert_int_equal(app_rules_grace_ns(&config, true), APP_SHORT_GRACE_NS / 2);
}

static void test_backoff_doubles_up_to_half_a_minute(void **state)
{
    uint64_t now_ns = 10 * S, want_ns = 100 * MS;
    (void)state;
    struct app_rules rules = up(&again);
    for (unsigned i = 1; i < 20; i++) {
        assert_int_equal(app_rules_ended(&rules, now_ns), APP_DO_NOTHING);
        assert_int_equal(rules.state, APP_BACKOFF);
        assert_true(app_rules_hold(&rules));
        assert_int_equal(rules.until_ns - now_ns, want_ns);
        assert_int_equal(app_rules_look(&rules, rules.until_ns - 1), APP_DO_NOTHING);
        now_ns = rules.until_ns;
        assert_int_equal(app_rules_look(&rules, now_ns), APP_DO_SPAWN);
        assert_int_equal(rules.state, APP_STARTING);
        assert_int_equal(rules.restarts, i);
        want_ns = want_ns * 2 < 30 * S ? want_ns * 2 : 30 * S;
    }
}

static void test_some_time_up_makes_the_backoff_short_again(void **state)
{
    (void)state;
    struct app_rules rules = up(&again);
    rules.backoff_ns = 20 * S;
    assert_int_equal(app_rules_ended(&rules, 2 * S + APP_CALM_NS), APP_DO_NOTHING);
    assert_int_equal(rules.until_ns - rules.entered_ns, APP_BACKOFF_LEAST_NS);
    assert_int_equal(app_rules_look(&rules, 20 * S), APP_DO_SPAWN);
    assert_int_equal(app_rules_answered(&rules, 21 * S), APP_DO_NOTHING);
    assert_int_equal(app_rules_ended(&rules, 21 * S + APP_CALM_NS - 1), APP_DO_NOTHING);
    assert_int_equal(rules.until_ns - rules.entered_ns, 2 * APP_BACKOFF_LEAST_NS);
}

static void test_a_later_start_that_hangs_is_killed_and_tried_again(void **state)
{
    (void)state;
    struct app_rules rules = up(&again);
    (void)app_rules_ended(&rules, 3 * S);
    assert_int_equal(app_rules_look(&rules, 4 * S), APP_DO_SPAWN);
    assert_int_equal(app_rules_look(&rules, 34 * S), APP_DO_KILL);
    assert_int_equal(app_rules_look(&rules, 35 * S), APP_DO_NOTHING); /* once */
    assert_int_equal(app_rules_answered(&rules, 35 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_STARTING); /* an answer that came too late */
    assert_int_equal(app_rules_ended(&rules, 35 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_BACKOFF);
    assert_int_equal(rules.end, APP_END_NONE);
}

static void test_a_stop_is_told_then_killed(void **state)
{
    (void)state;
    struct app_rules rules = up(&again);
    assert_int_equal(app_rules_stop(&rules, 10 * S, 5 * S), APP_DO_TERM);
    assert_int_equal(app_rules_stop(&rules, 11 * S, 5 * S),
                     APP_DO_NOTHING); /* it gets the stop once */
    assert_int_equal(app_rules_look(&rules, 15 * S - 1), APP_DO_NOTHING);
    assert_int_equal(app_rules_look(&rules, 15 * S), APP_DO_KILL);
    assert_int_equal(app_rules_look(&rules, 16 * S), APP_DO_NOTHING);
    assert_int_equal(app_rules_ended(&rules, 16 * S), APP_DO_NOTHING); /* and no restart */
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(rules.end, APP_END_NONE);
}

static void test_a_stop_can_be_hastened_not_delayed(void **state)
{
    (void)state;
    struct app_rules rules = up(&once);
    (void)app_rules_stop(&rules, 10 * S, 5 * S);
    (void)app_rules_stop(&rules, 10 * S, 50 * S);
    assert_int_equal(rules.until_ns, 15 * S);
    (void)app_rules_stop(&rules, 11 * S, 0);
    assert_int_equal(app_rules_look(&rules, 11 * S), APP_DO_KILL);
}

static void test_a_stop_while_nothing_runs_is_the_end(void **state)
{
    (void)state;
    struct app_rules rules = up(&again);
    (void)app_rules_ended(&rules, 3 * S);
    assert_int_equal(app_rules_stop(&rules, 3 * S, 5 * S), APP_DO_NOTHING);
    assert_int_equal(rules.state, APP_GONE);
    assert_int_equal(app_rules_look(&rules, 100 * S), APP_DO_NOTHING);
    assert_int_equal(app_rules_stop(&rules, 101 * S, 5 * S), APP_DO_NOTHING);
}

static void test_steps_and_names_are_the_graph(void **state)
{
    (void)state;
    assert_true(app_state_step_is_allowed(APP_STARTING, APP_UP));
    assert_true(app_state_step_is_allowed(APP_BACKOFF, APP_STARTING));
    assert_false(app_state_step_is_allowed(APP_BACKOFF, APP_UP));
    assert_false(app_state_step_is_allowed(APP_STOPPING, APP_BACKOFF));
    for (enum app_state to = APP_STARTING; to < APP_STATE_COUNT; to++)
        assert_false(app_state_step_is_allowed(APP_GONE, to));
    assert_string_equal(app_state_name(APP_STOPPING), "stopping");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_wait_until_it_answers),
        cmocka_unit_test(test_the_first_start_has_its_time_and_no_more),
        cmocka_unit_test(test_an_end_before_the_first_answer_is_not_tried_again),
        cmocka_unit_test(test_one_that_went_into_the_background_is_not_tried_again),
        cmocka_unit_test(test_an_end_without_restart_drains),
        cmocka_unit_test(test_other_rules_hold_from_the_next_end_on),
        cmocka_unit_test(test_a_drain_that_was_cut_short_leaves_little_grace),
        cmocka_unit_test(test_backoff_doubles_up_to_half_a_minute),
        cmocka_unit_test(test_some_time_up_makes_the_backoff_short_again),
        cmocka_unit_test(test_a_later_start_that_hangs_is_killed_and_tried_again),
        cmocka_unit_test(test_a_stop_is_told_then_killed),
        cmocka_unit_test(test_a_stop_can_be_hastened_not_delayed),
        cmocka_unit_test(test_a_stop_while_nothing_runs_is_the_end),
        cmocka_unit_test(test_steps_and_names_are_the_graph),
    };
    return cmocka_run_group_tests_name("app_rules", tests, NULL, NULL);
}

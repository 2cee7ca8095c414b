/* The rules of a restart, with numbers for the clock: each row of docs/restart.md's table. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"
#include "restart.h"

#define TIMEOUT 3000
#define PROBATION 100

static struct restart restart;
static uint64_t now_ns;

static int set_up(void **state)
{
    static const struct restart_config config = {.timeout_ns = TIMEOUT, .probation_ns = PROBATION};
    (void)state;
    restart_init(&restart, &config);
    now_ns = 5000;
    return 0;
}

/* Each event comes ten nanoseconds after the one before. */
static unsigned on(enum restart_event event)
{
    now_ns += 10;
    return restart_on(&restart, event, now_ns);
}

static void expect(enum restart_event event, enum restart_state state, unsigned actions)
{
    assert_int_equal(on(event), actions);
    assert_string_equal(restart_state_name(restart.state), restart_state_name(state));
}

static void reach(enum restart_state state)
{
    expect(RESTART_ON_REQUEST, RESTART_STARTING, RESTART_DO_SPAWN);
    if (state == RESTART_STARTING)
        return;
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    if (state == RESTART_PROBATION)
        return;
    expect(RESTART_ON_TIME, RESTART_COMMITTING, RESTART_DO_COMMIT);
}

static void test_all_goes_well(void **state)
{
    (void)state;
    reach(RESTART_STARTING);
    assert_int_equal(restart.due_ns, now_ns + TIMEOUT);
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    assert_int_equal(restart.due_ns, now_ns + PROBATION);
    expect(RESTART_ON_TIME, RESTART_COMMITTING, RESTART_DO_COMMIT);
    assert_int_equal(restart.due_ns, now_ns + TIMEOUT);
    expect(RESTART_ON_SETTLED, RESTART_HANDED, RESTART_DO_RETIRE);
    assert_int_equal(restart.due_ns, CLOCK_NEVER);
    expect(RESTART_ON_REQUEST, RESTART_HANDED, RESTART_DO_REFUSE);
    expect(RESTART_ON_EXIT, RESTART_HANDED, 0);
    expect(RESTART_ON_STOP, RESTART_HANDED, 0); /* it drains already */
}

static void test_exit_rolls_back_from_every_state(void **state)
{
    static const struct {
        enum restart_state state;
        enum restart_failure failure;
        unsigned actions;
    } rows[] = {
        {RESTART_STARTING, RESTART_FAILED_BEFORE_READY, RESTART_DO_REPORT},
        {RESTART_PROBATION, RESTART_FAILED_PROBATION, RESTART_DO_REPORT},
        {RESTART_COMMITTING, RESTART_FAILED_COMMIT, RESTART_DO_REPORT | RESTART_DO_RECLAIM},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        reach(rows[i].state);
        expect(RESTART_ON_EXIT, RESTART_IDLE, rows[i].actions);
        assert_int_equal(restart.failure, rows[i].failure);
        assert_int_equal(restart.due_ns, CLOCK_NEVER);
    }
    reach(RESTART_COMMITTING); /* and it can be tried again, each time */
}

static void test_successor_that_hangs_is_killed_and_only_then_reported(void **state)
{
    (void)state;
    reach(RESTART_STARTING);
    expect(RESTART_ON_TIME, RESTART_ENDING, RESTART_DO_KILL);
    assert_int_equal(restart.due_ns, CLOCK_NEVER);
    expect(RESTART_ON_READY, RESTART_ENDING, 0); /* too late */
    expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
    assert_int_equal(restart.failure, RESTART_FAILED_TIMEOUT);
}

static void test_nonsense_is_the_end_of_it_in_every_state(void **state)
{
    static const enum restart_state states[] = {RESTART_STARTING, RESTART_PROBATION,
                                                RESTART_COMMITTING};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        reach(states[i]);
        expect(RESTART_ON_BROKEN, RESTART_ENDING, RESTART_DO_KILL);
        expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
        assert_int_equal(restart.failure, RESTART_FAILED_BROKEN);
    }
}

static void test_ready_and_settled_count_once_and_in_order(void **state)
{
    (void)state;
    expect(RESTART_ON_READY, RESTART_IDLE, 0);
    reach(RESTART_STARTING);
    expect(RESTART_ON_SETTLED, RESTART_STARTING, 0);
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    uint64_t due_ns = restart.due_ns;
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    expect(RESTART_ON_SETTLED, RESTART_PROBATION, 0); /* without an order to accept: ignored */
    assert_int_equal(restart.due_ns, due_ns);
}

static void test_second_request_is_remembered_once(void **state)
{
    static const enum restart_state states[] = {RESTART_STARTING, RESTART_PROBATION,
                                                RESTART_COMMITTING};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        reach(states[i]);
        expect(RESTART_ON_REQUEST, states[i], RESTART_DO_REMEMBER);
        expect(RESTART_ON_REQUEST, states[i], RESTART_DO_REMEMBER);
        assert_false(restart_take_again(&restart)); /* not yet */
        (void)on(RESTART_ON_EXIT);
        assert_true(restart_take_again(&restart));
        assert_false(restart_take_again(&restart));
    }
    reach(RESTART_COMMITTING);
    expect(RESTART_ON_REQUEST, RESTART_COMMITTING, RESTART_DO_REMEMBER);
    expect(RESTART_ON_SETTLED, RESTART_HANDED, RESTART_DO_RETIRE);
    assert_true(restart_take_again(&restart)); /* the successor's to do */
}

static void test_stop_ends_a_restart_and_what_was_remembered(void **state)
{
    static const struct {
        enum restart_state state;
        unsigned actions;
    } rows[] = {{RESTART_STARTING, RESTART_DO_KILL}, {RESTART_PROBATION, RESTART_DO_KILL}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        reach(rows[i].state);
        expect(RESTART_ON_REQUEST, rows[i].state, RESTART_DO_REMEMBER);
        expect(RESTART_ON_STOP, RESTART_STOPPED, rows[i].actions);
        expect(RESTART_ON_EXIT, RESTART_STOPPED, 0); /* as it should: nothing is reported */
        expect(RESTART_ON_SETTLED, RESTART_STOPPED, 0);
        expect(RESTART_ON_REQUEST, RESTART_STOPPED, RESTART_DO_REFUSE);
        expect(RESTART_ON_RESUME, RESTART_IDLE, 0); /* the drain was called off */
        assert_false(restart_take_again(&restart));
    }
}

/* After the order to accept, both processes hold the sockets: the stop waits until only one of them
 * does. */
static void test_stop_waits_for_a_successor_that_is_to_accept(void **state)
{
    (void)state;
    reach(RESTART_COMMITTING);
    expect(RESTART_ON_REQUEST, RESTART_COMMITTING, RESTART_DO_REMEMBER);
    uint64_t due_ns = restart.due_ns;
    expect(RESTART_ON_STOP, RESTART_COMMITTING, 0);
    assert_int_equal(restart.due_ns, due_ns);
    expect(RESTART_ON_REQUEST, RESTART_COMMITTING, RESTART_DO_REFUSE);
    expect(RESTART_ON_SETTLED, RESTART_HANDED, RESTART_DO_RETIRE);
    assert_false(restart_take_again(&restart));
}

static void test_stop_that_waits_may_be_called_off(void **state)
{
    (void)state;
    reach(RESTART_COMMITTING);
    expect(RESTART_ON_STOP, RESTART_COMMITTING, 0);
    expect(RESTART_ON_RESUME, RESTART_COMMITTING, 0);
    expect(RESTART_ON_REQUEST, RESTART_COMMITTING, RESTART_DO_REMEMBER);
    expect(RESTART_ON_SETTLED, RESTART_HANDED, RESTART_DO_RETIRE);
}

static void test_stop_waits_in_vain_for_a_successor_that_fails(void **state)
{
    (void)state;
    reach(RESTART_COMMITTING);
    expect(RESTART_ON_STOP, RESTART_COMMITTING, 0);
    expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
    expect(RESTART_ON_REQUEST, RESTART_IDLE, RESTART_DO_REFUSE);
    expect(RESTART_ON_RESUME, RESTART_IDLE, 0);
    expect(RESTART_ON_REQUEST, RESTART_STARTING, RESTART_DO_SPAWN);
}

static void test_stop_that_is_final_does_not_wait(void **state)
{
    static const enum restart_state states[] = {RESTART_STARTING, RESTART_PROBATION};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        reach(states[i]);
        expect(RESTART_ON_STOP, RESTART_STOPPED, RESTART_DO_KILL);
        expect(RESTART_ON_CLOSE, RESTART_STOPPED, 0);
        (void)set_up(state);
    }
    reach(RESTART_COMMITTING);
    expect(RESTART_ON_STOP, RESTART_COMMITTING, 0);
    uint64_t due_ns = restart.due_ns;
    expect(RESTART_ON_CLOSE, RESTART_LEAVING, RESTART_DO_STOP);
    assert_int_equal(restart.due_ns, due_ns); /* it has no more time than before */
    expect(RESTART_ON_SETTLED, RESTART_STOPPED, RESTART_DO_TRANSFER);
    assert_int_equal(restart.due_ns, CLOCK_NEVER);
}

/* Both stop, and it says nothing: it is not waited for longer than before the stop. */
static void test_successor_that_hangs_in_a_stop_is_killed(void **state)
{
    static const enum restart_event ends[] = {RESTART_ON_TIME, RESTART_ON_BROKEN};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        reach(RESTART_COMMITTING);
        expect(RESTART_ON_STOP, RESTART_COMMITTING, 0);
        expect(RESTART_ON_CLOSE, RESTART_LEAVING, RESTART_DO_STOP);
        expect(ends[i], RESTART_LEAVING, RESTART_DO_KILL);
        if (ends[i] == RESTART_ON_TIME)
            assert_int_equal(restart.due_ns, CLOCK_NEVER);
        expect(RESTART_ON_EXIT, RESTART_STOPPED, RESTART_DO_RECLAIM); /* its name in our file */
        (void)set_up(state);
    }
}

/* The process that served is gone: clients wait for the successor. */
static void test_without_a_serving_process_the_probation_is_skipped(void **state)
{
    (void)state;
    reach(RESTART_PROBATION);
    expect(RESTART_ON_ALONE, RESTART_COMMITTING, RESTART_DO_COMMIT);
    expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
    expect(RESTART_ON_REQUEST, RESTART_STARTING, RESTART_DO_SPAWN); /* still no server */
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    assert_int_equal(restart.due_ns, now_ns);
    expect(RESTART_ON_TIME, RESTART_COMMITTING, RESTART_DO_COMMIT);
    restart.config.stays = true;
    expect(RESTART_ON_SETTLED, RESTART_IDLE, RESTART_DO_RETIRE);
    reach(RESTART_STARTING);
    expect(RESTART_ON_ALONE, RESTART_STARTING, 0);
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    assert_int_equal(restart.due_ns, now_ns);
    expect(RESTART_ON_TIME, RESTART_COMMITTING, RESTART_DO_COMMIT);
    expect(RESTART_ON_SETTLED, RESTART_IDLE, RESTART_DO_RETIRE);
    reach(RESTART_STARTING); /* a process serves: the next one has its probation */
    expect(RESTART_ON_READY, RESTART_PROBATION, 0);
    assert_int_equal(restart.due_ns, now_ns + PROBATION);
}

/* Its process is still there, and with it the descriptors that the next one would need. */
static void test_what_was_killed_is_waited_for_when_the_stop_is_called_off(void **state)
{
    (void)state;
    reach(RESTART_PROBATION);
    expect(RESTART_ON_STOP, RESTART_STOPPED, RESTART_DO_KILL);
    expect(RESTART_ON_RESUME, RESTART_ENDING, 0);
    expect(RESTART_ON_REQUEST, RESTART_ENDING, RESTART_DO_REMEMBER);
    expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
    assert_int_equal(restart.failure, RESTART_FAILED_NOT); /* the reason was reported before */
    assert_true(restart_take_again(&restart));
    reach(RESTART_STARTING);
    expect(RESTART_ON_TIME, RESTART_ENDING, RESTART_DO_KILL);
    expect(RESTART_ON_STOP, RESTART_STOPPED, 0);
    expect(RESTART_ON_RESUME, RESTART_ENDING, 0);
    expect(RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM);
    assert_int_equal(restart.failure, RESTART_FAILED_TIMEOUT);
}

static void test_master_can_do_it_again(void **state)
{
    (void)state;
    restart.config.stays = true;
    for (unsigned i = 0; i < 3; i++) {
        reach(RESTART_COMMITTING);
        expect(RESTART_ON_SETTLED, RESTART_IDLE, RESTART_DO_RETIRE);
    }
    expect(RESTART_ON_STOP, RESTART_STOPPED, 0);
    expect(RESTART_ON_RESUME, RESTART_IDLE, 0); /* the worker does not have to end */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    static const struct CMUnitTest tests[] = {
        TEST(test_all_goes_well),
        TEST(test_exit_rolls_back_from_every_state),
        TEST(test_successor_that_hangs_is_killed_and_only_then_reported),
        TEST(test_nonsense_is_the_end_of_it_in_every_state),
        TEST(test_ready_and_settled_count_once_and_in_order),
        TEST(test_second_request_is_remembered_once),
        TEST(test_stop_ends_a_restart_and_what_was_remembered),
        TEST(test_stop_waits_for_a_successor_that_is_to_accept),
        TEST(test_stop_that_waits_may_be_called_off),
        TEST(test_stop_waits_in_vain_for_a_successor_that_fails),
        TEST(test_stop_that_is_final_does_not_wait),
        TEST(test_successor_that_hangs_in_a_stop_is_killed),
        TEST(test_without_a_serving_process_the_probation_is_skipped),
        TEST(test_what_was_killed_is_waited_for_when_the_stop_is_called_off),
        TEST(test_master_can_do_it_again),
    };
    return cmocka_run_group_tests_name("restart_rules", tests, NULL, NULL);
}

/* The drain of a server of the library: what it waits for, its limits, its verdict, who may call it
 * off or cut it short. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "with_library.h"

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- verdicts ---- */

static void test_a_request_in_flight_is_answered_before_the_end(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    struct lc_cut cut = LC_CUT_INIT;
    lc_server *server = library_start(NULL);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=300");
    assert_int_equal(lc_shutdown(server, 60000, &result), LC_OK);
    assert_int_equal(library_answer(fd), 200);
    assert_int_equal(result.status, 0);
    assert_int_equal(result.answered, 1);
    assert_int_equal(result.unfinished, 0);
    assert_int_equal(result.stuck, 0);
    assert_true(result.took_ms >= 0);
    assert_int_equal(lc_unfinished(server, 0, &cut), LC_E_ARG);
    assert_int_equal(lc_phase(server), LC_DONE);
    assert_int_equal(lc_undrain(server), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_the_callers_limit_ends_the_drain_and_names_what_was_cut(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    struct lc_cut cut = LC_CUT_INIT;
    struct library_log log;
    lc_server *server = library_start(&log);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=60000");
    int64_t begun = now_ms();
    assert_int_equal(lc_shutdown(server, 1500, &result), LC_E_DEADLINE);
    assert_true(now_ms() - begun >= 1500);
    assert_int_equal(result.status, 3);
    assert_int_equal(result.unfinished, 1);
    assert_int_equal(result.tasks, 0);
    assert_int_equal(lc_unfinished(server, 0, &cut), LC_OK);
    assert_string_equal(cut.method, "GET");
    assert_string_equal(cut.path, "/sleep?ms=60000");
    assert_string_equal(cut.state, "running");
    assert_int_equal(lc_unfinished(server, 1, &cut), LC_E_ARG);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(lc_free(server), LC_OK); /* the handler has noticed */
    assert_contains(log.text, "drain-deadline");
}

static void test_the_setting_is_the_limit_of_a_caller_without_one(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "drain.deadline", "1s"), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    int fd = library_ask(lc_port(server), "/sleep?ms=60000");
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_E_DEADLINE);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_an_earlier_limit_counts_a_later_one_does_not(void **state)
{
    lc_server *server = library_start(NULL);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=60000");
    int64_t begun = now_ms();
    assert_int_equal(lc_drain(server, 60000, "for long"), LC_OK);
    assert_int_equal(lc_wait(server, 300, NULL), LC_E_TIMEOUT);
    assert_int_equal(lc_shutdown(server, 500, NULL), LC_E_DEADLINE);
    assert_true(now_ms() - begun < 30000);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_cut_short(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    lc_server *server = library_start(NULL);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=60000");
    assert_int_equal(lc_drain(server, -1, NULL), LC_OK);
    assert_int_equal(lc_wait(server, 300, NULL), LC_E_TIMEOUT);
    assert_int_equal(lc_cut_short(server), LC_OK);
    assert_int_equal(lc_wait(server, -1, &result), LC_E_FORCED);
    assert_int_equal(result.status, 4);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_a_handler_that_does_not_return_is_named_and_left_alone(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    struct lc_cut cut = LC_CUT_INIT;
    lc_server *server = library_start(NULL);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=6000&ignore-cancel=1");
    assert_int_equal(lc_shutdown(server, 1500, &result), LC_E_DEADLINE);
    assert_int_equal(result.stuck, 1);
    assert_int_equal(lc_unfinished(server, 0, &cut), LC_OK);
    assert_string_equal(cut.path, "/sleep?ms=6000&ignore-cancel=1");
    assert_int_equal(lc_free(server), LC_E_STUCK);
    assert_int_equal(lc_phase(server), LC_DONE); /* it is still there */
    assert_int_equal(library_answer(fd), 0);
    while (lc_free(server) == LC_E_STUCK) /* until the handler has returned */
        ;
}

/* An old program has a shorter structure: nothing behind its end is written. */
static void test_a_shorter_structure_is_respected(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    lc_server *server = library_start(NULL);

    (void)state;
    result.size = offsetof(struct lc_result, answered);
    result.answered = 77;
    assert_int_equal(lc_shutdown(server, -1, &result), LC_OK);
    assert_int_equal(result.answered, 77);
    assert_int_equal(result.size, offsetof(struct lc_result, answered));
    assert_int_equal(lc_free(server), LC_OK);
}

/* The deadline comes before the listeners are closed. The kernel refuses newcomers then, too: they
 * do not wait for the server's end. */
static void test_newcomers_are_refused_after_a_deadline(void **state)
{
    (void)state;
    for (int ms = 0; ms < 8; ms++) {
        lc_server *server = library_start(NULL);
        int fd = library_ask(lc_port(server), "/sleep?ms=60000");
        int result = lc_shutdown(server, ms % 2, NULL);
        assert_true(result == LC_E_DEADLINE || result == LC_OK); /* it had not arrived */
        time_t asked = time(NULL);
        assert_int_equal(library_connect(lc_port(server)), -1);
        assert_true(time(NULL) - asked < 60); /* SYNs that are dropped: 127 s */
        (void)close(fd);
        assert_int_equal(lc_free(server), LC_OK);
    }
}

/* ---- calling it off ---- */

static void test_undrain_and_its_point_of_no_return(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "drain.lame-duck", "1h"), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    assert_int_equal(lc_undrain(server), LC_OK); /* there is none: nothing changes */
    assert_int_equal(lc_drain(server, -1, "a rehearsal"), LC_OK);
    assert_int_equal(library_get(lc_port(server), "/hello"), 200); /* it still accepts */
    assert_int_equal(lc_undrain(server), LC_OK);
    assert_int_equal(lc_wait(server, 50, NULL), LC_E_TIMEOUT);
    assert_int_equal(library_get(lc_port(server), "/hello"), 200);
    assert_int_equal(lc_shutdown(server, 2000, NULL), LC_OK); /* half of that is lame duck */
    assert_int_equal(lc_undrain(server), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
}

/* ---- waiting ---- */

struct waiter {
    lc_server *server;
    pthread_t thread;
    struct lc_result result;
    int returned;
};

static void *wait_for_end(void *arg)
{
    struct waiter *waiter = arg;

    waiter->result = (struct lc_result)LC_RESULT_INIT;
    waiter->returned = lc_wait(waiter->server, -1, &waiter->result);
    return NULL;
}

static void *shut_down(void *arg)
{
    struct waiter *waiter = arg;

    waiter->returned = lc_shutdown(waiter->server, -1, NULL);
    return NULL;
}

/* Whoever waits in it would wait for a drain that nobody may begin. */
static void test_a_shutdown_that_is_called_off_returns(void **state)
{
    struct waiter waiter = {.server = library_new(NULL)};
    lc_server *server = waiter.server;

    (void)state;
    assert_int_equal(lc_set(server, "drain.lame-duck", "1h"), LC_OK);
    assert_int_equal(lc_set(server, "drain.deadline", "3h"), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    for (unsigned i = 0; i < library_cycles(20); i++) {
        assert_int_equal(pthread_create(&waiter.thread, NULL, shut_down, &waiter), 0);
        while (lc_phase(server) != LC_LAME_DUCK)
            (void)sched_yield();
        /* Every second time another one begins at once, and it goes on with that. */
        assert_int_equal(lc_undrain(server), LC_OK);
        if (i % 2 != 0) {
            assert_int_equal(lc_drain(server, -1, "once more"), LC_OK);
            while (lc_phase(server) != LC_LAME_DUCK)
                (void)sched_yield();
            assert_int_equal(lc_undrain(server), LC_OK);
        }
        assert_int_equal(pthread_join(waiter.thread, NULL), 0);
        assert_int_equal(waiter.returned, LC_E_STATE);
        /* Else the next round may take the end of this lame duck for its own, and call off what has
         * not begun. */
        while (lc_phase(server) != LC_RUNNING)
            (void)sched_yield();
        assert_int_equal(library_get(lc_port(server), "/hello"), 200);
    }
    assert_int_equal(lc_shutdown(server, 100, NULL), LC_OK);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_several_threads_wait_and_all_hear_the_same(void **state)
{
    struct waiter waiters[4] = {{0}};
    lc_server *server = library_start(NULL);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        waiters[i].server = server;
        assert_int_equal(pthread_create(&waiters[i].thread, NULL, wait_for_end, &waiters[i]), 0);
    }
    int fd = library_ask(lc_port(server), "/sleep?ms=200");
    assert_int_equal(lc_shutdown(server, 60000, NULL), LC_OK);
    assert_int_equal(library_answer(fd), 200);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(waiters[i].thread, NULL), 0);
        assert_int_equal(waiters[i].returned, LC_OK);
        assert_int_equal(waiters[i].result.answered, 1);
    }
    assert_int_equal(lc_free(server), LC_OK);
}

/* ---- the phase ---- */

struct steps {
    int phases[16];
    size_t count;
    lc_server *server;
    int of_wait, of_shutdown, of_free;
};

static void on_phase(int phase, void *user)
{
    struct steps *steps = user;

    if (steps->count < 16)
        steps->phases[steps->count++] = phase;
    if (phase == LC_CLOSING) { /* a thread of the server's must not wait for its end */
        steps->of_wait = lc_wait(steps->server, -1, NULL);
        steps->of_shutdown = lc_shutdown(steps->server, -1, NULL);
        steps->of_free = lc_free(steps->server);
    }
}

static void test_each_phase_is_told_once(void **state)
{
    struct steps steps = {{0}, .of_wait = 0};
    lc_server *server = library_new(NULL);

    (void)state;
    steps.server = server;
    assert_int_equal(lc_on_phase(server, on_phase, &steps), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    struct pollfd changed = {.fd = lc_phase_fd(server), .events = POLLIN};
    assert_true(changed.fd >= 0);
    assert_int_equal(lc_phase(server), LC_RUNNING);
    assert_int_equal(poll(&changed, 1, 0), 0);
    assert_int_equal(lc_drain(server, -1, "phases"), LC_OK);
    int last = LC_RUNNING;
    while (last != LC_DONE) { /* as a program's main loop does */
        assert_int_equal(poll(&changed, 1, 30000), 1);
        int phase = lc_phase(server);
        assert_true(phase >= last);
        last = phase;
    }
    assert_int_equal(lc_wait(server, 0, NULL), LC_OK); /* DONE is told when it is over */
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(steps.count, 3);
    assert_int_equal(steps.phases[0], LC_CLOSING);
    assert_int_equal(steps.phases[1], LC_DRAINING);
    assert_int_equal(steps.phases[2], LC_DONE);
    assert_int_equal(steps.of_wait, LC_E_THREAD);
    assert_int_equal(steps.of_shutdown, LC_E_THREAD);
    assert_int_equal(steps.of_free, LC_E_THREAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_in_flight_is_answered_before_the_end),
        cmocka_unit_test(test_the_callers_limit_ends_the_drain_and_names_what_was_cut),
        cmocka_unit_test(test_the_setting_is_the_limit_of_a_caller_without_one),
        cmocka_unit_test(test_an_earlier_limit_counts_a_later_one_does_not),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_a_handler_that_does_not_return_is_named_and_left_alone),
        cmocka_unit_test(test_a_shorter_structure_is_respected),
        cmocka_unit_test(test_newcomers_are_refused_after_a_deadline),
        cmocka_unit_test(test_undrain_and_its_point_of_no_return),
        cmocka_unit_test(test_a_shutdown_that_is_called_off_returns),
        cmocka_unit_test(test_several_threads_wait_and_all_hear_the_same),
        cmocka_unit_test(test_each_phase_is_told_once),
    };
    return cmocka_run_group_tests_name("library_drain", tests, library_group_setup,
                                       library_group_teardown);
}

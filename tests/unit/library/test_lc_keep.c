/* Requests that are answered later, and requests that are cut. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_exchange.h"
#include "library_double.h"
#include "log_seen.h"

static lc_server *server;
static struct fake fake;
static lc_req *handlers_handle;

static int told_what;

static void told(lc_server *of, lc_token token, int what, void *user)
{
    assert_ptr_equal(of, server);
    assert_int_equal(token, FAKE_TOKEN);
    assert_string_equal(user, "user");
    told_what = what;
}

static void keep(lc_req *r, void *user)
{
    (void)user;
    handlers_handle = r;
    assert_int_equal(lc_on_kept(r, told, "user"), LC_E_STATE); /* it is not kept */
    assert_int_equal(lc_set_header(r, "x-kept", "1"), 0);
    assert_int_equal(lc_keep(r), FAKE_TOKEN);
    assert_int_equal(lc_keep(r), FAKE_TOKEN);
    assert_int_equal(lc_on_kept(r, told, "user"), 0);
    assert_int_equal(lc_finish(r), LC_E_STATE); /* the handler has not returned */
    lc_let_go(r);
    assert_int_equal(fake.let_go, 0);
}

static void answer_then_keep(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 200, NULL, "x"), 0);
    assert_int_equal(lc_keep(r), 0);
}

static int set_up(void **state)
{
    (void)state;
    server = lc_new();
    assert_int_equal(lc_name(server, "keep", keep, NULL), 0);
    assert_int_equal(lc_name(server, "answer", answer_then_keep, NULL), 0);
    fake_init(&fake);
    log_seen_reset();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_release(&fake);
    return lc_free(server);
}

static void keep_one(void)
{
    fake_run(&fake, server, "keep");
    assert_true(fake.was_kept);
    assert_null(fake.exchange.text); /* and no 500 */
    fake_can_be_held(&fake);
    double_start(server, (struct server *)&fake);
    log_seen_reset();
}

static void *answer_elsewhere(void *arg)
{
    lc_req *r = NULL;

    (void)arg;
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), 0);
    assert_int_equal(lc_send(handlers_handle, 200, NULL, "stale"), LC_E_THREAD);
    assert_int_equal(lc_on_cancel(r, free, NULL), 0);
    lc_let_go(r);
    assert_int_equal(fake.let_go, 1);
    assert_int_equal(fake.taken_back, 1); /* what lc_on_cancel() had set */
    assert_int_equal(lc_send(r, 200, NULL, "let go"), LC_E_THREAD);
    lc_req *again = NULL;
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &again), 0);
    assert_ptr_not_equal(r, again);
    assert_int_equal(lc_send(again, 200, NULL, "later"), 0);
    assert_int_equal(lc_finish(again), 0);
    assert_int_equal(lc_finish(again), LC_E_THREAD);
    assert_int_equal(lc_send(again, 200, NULL, "after finish"), LC_E_THREAD);
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &again), LC_E_GONE);
    return NULL;
}

static void test_a_kept_request_is_answered_by_another_thread(void **state)
{
    pthread_t thread;

    (void)state;
    keep_one();
    assert_int_equal(lc_send(handlers_handle, 200, NULL, "after return"), LC_E_THREAD);
    assert_int_equal(pthread_create(&thread, NULL, answer_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(fake.finished, 1);
    assert_memory_equal(fake.exchange.text, "later", 5);
    assert_string_equal(fake.exchange.answer_fields->name, "x-kept");
}

static void test_a_kept_request_does_not_wait_for_its_client(void **state)
{
    lc_req *r = NULL;

    (void)state;
    keep_one();
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), 0);
    assert_int_equal(lc_write(r, "a", 1), 0);
    assert_int_equal(fake.write_wait_ms, 0);
    fake.write_result = EXCHANGE_AGAIN;
    assert_int_equal(lc_event(r, NULL, "b"), LC_E_AGAIN);
    fake.write_result = 0;
    assert_int_equal(lc_flush(r), 0);
    assert_int_equal(fake.write_wait_ms, 0);
    assert_null(lc_own(r));
    assert_int_equal(lc_finish(r), 0);
    assert_string_equal(fake.written, "a");
    assert_false(fake.exchange.broken);
}

static void test_a_kept_request_without_an_answer_is_500(void **state)
{
    lc_req *r = NULL;

    (void)state;
    keep_one();
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), 0);
    assert_int_equal(lc_finish(r), 0);
    assert_int_equal(fake.exchange.status, 500);
    assert_int_equal(log_seen("no-answer", "keep"), 1);
}

static void test_what_becomes_of_a_kept_request_is_told(void **state)
{
    (void)state;
    keep_one();
    static const int pairs[][2] = {{EXCHANGE_GONE, LC_E_GONE},
                                   {EXCHANGE_ABORTED, LC_E_ABORTED},
                                   {EXCHANGE_TIMEOUT, LC_E_TIMEOUT},
                                   {EXCHANGE_DRAINING, LC_E_DRAINING},
                                   {0, 0}};
    for (size_t i = 0; i < 5; i++) {
        told_what = 1;
        fake.told(FAKE_TOKEN, pairs[i][0], fake.told_arg);
        assert_int_equal(told_what, pairs[i][1]);
    }
    lc_req *r = NULL;
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), 0);
    assert_int_equal(lc_on_kept(r, NULL, NULL), 0);
    assert_null(fake.told);
    assert_int_equal(lc_finish(r), 0);
}

static void test_what_cannot_be_held(void **state)
{
    lc_req *r = NULL;

    (void)state;
    fake_run(&fake, server, "answer");
    assert_false(fake.was_kept);
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), LC_E_STATE); /* not started */
    double_start(server, (struct server *)&fake);
    assert_int_equal(lc_hold(server, 1, &r), LC_E_GONE);
    assert_int_equal(lc_hold(server, 1, NULL), LC_E_ARG);
    assert_int_equal(lc_hold(NULL, 1, &r), LC_E_ARG);
    fake_can_be_held(&fake);
    fake.hold_result = -EBUSY;
    assert_int_equal(lc_hold(server, FAKE_TOKEN, &r), LC_E_BUSY);
}

/* ---- cancellation ---- */

static void *cancelled_with;

static void cancel(void *arg)
{
    cancelled_with = arg;
}

static void wait_for_it(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_sleep(r, 100), 0);
    assert_int_equal(fake.wait_ms, 100);
    assert_false(fake.also_drain);
    fake.wait_result = EXCHANGE_DRAINING;
    assert_int_equal(lc_wait_for(r, -1, LC_ON_DRAIN), LC_E_DRAINING);
    assert_int_equal(fake.wait_ms, -1);
    assert_int_equal(lc_wait_for(r, INT64_MAX, LC_ON_DRAIN), LC_E_DRAINING);
    assert_int_equal(fake.wait_ms, -1);
    assert_true(fake.also_drain);
    fake.left_ms = 1234;
    assert_int_equal(lc_time_left(r), 1234);
    assert_int_equal(lc_cancel_fd(r), 77);
    assert_int_equal(lc_on_cancel(r, cancel, "first"), 0);
    assert_int_equal(fake.taken_back, 0);
    assert_int_equal(lc_on_cancel(r, cancel, r), 0); /* in its place */
    assert_int_equal(fake.taken_back, 1);
    fake.cancel(fake.cancel_arg);
    assert_ptr_equal(cancelled_with, r);
    fake.cancelled_result = EXCHANGE_ABORTED;
    assert_int_equal(lc_cancelled(r), LC_E_ABORTED);
    fake.wait_result = EXCHANGE_GONE;
    assert_int_equal(lc_sleep(r, 100), LC_E_GONE);
}

static void test_a_cancelled_request_needs_no_answer(void **state)
{
    (void)state;
    assert_int_equal(lc_name(server, "wait", wait_for_it, NULL), 0);
    fake_run(&fake, server, "wait");
    assert_null(fake.cancel); /* the handler's return took it back */
    assert_int_equal(fake.taken_back, 2);
    assert_int_equal(fake.exchange.status, 503);
    assert_int_equal(log_seen_all(), 0);
}

static void wait_inline(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_sleep(r, 1), LC_E_STATE);
    assert_int_equal(lc_wait_for(r, 0, LC_ON_DRAIN), 0);
    assert_int_equal(lc_write(r, "a", 1), LC_E_STATE);
    assert_int_equal(lc_send(r, 200, NULL, "inline"), 0);
}

static void test_a_handler_on_a_loop_does_not_wait(void **state)
{
    (void)state;
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;
    struct lc_answer answer = LC_ANSWER_INIT;

    options.flags = LC_INLINE;
    assert_int_equal(lc_handle_with(server, "/", wait_inline, NULL, &options), 0);
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &answer), 0);
    assert_string_equal(answer.body, "inline");
    lc_answer_free(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_kept_request_is_answered_by_another_thread, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_kept_request_does_not_wait_for_its_client, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_kept_request_without_an_answer_is_500, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_becomes_of_a_kept_request_is_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_cancelled_request_needs_no_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_handler_on_a_loop_does_not_wait, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

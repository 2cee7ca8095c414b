/* Answers that leave while they are made. */

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

static void run(lc_handler handler, void (*prepare)(void))
{
    if (server != NULL)
        (void)lc_free(server);
    server = lc_new();
    fake_release(&fake);
    fake_init(&fake);
    if (prepare != NULL)
        prepare();
    log_seen_reset();
    assert_int_equal(lc_name(server, "handler", handler, NULL), 0);
    fake_run(&fake, server, "handler");
}

static void write_some(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_status(r, 202), 0);
    assert_int_equal(lc_set_header(r, "content-type", "text/csv"), 0);
    assert_int_equal(lc_write(r, "a", 1), 0);
    assert_int_equal(fake.write_wait_ms, 30000);
    assert_int_equal(fake.exchange.status, 202);
    assert_int_equal(lc_writef(r, "%d,%0600d", 1, 2), 0);
    assert_int_equal(lc_try_write(r, "z", 1), 0);
    assert_int_equal(fake.write_wait_ms, 0);
    assert_int_equal(lc_flush(r), 0);
    assert_int_equal(lc_write(r, "", 0), 0);
    /* too late */
    assert_int_equal(lc_set_header(r, "x-a", "1"), LC_E_STATE);
    assert_int_equal(lc_status(r, 200), LC_E_STATE);
    assert_int_equal(lc_length(r, 5), LC_E_STATE);
    assert_int_equal(lc_send(r, 200, NULL, "x"), LC_E_TWICE);
    assert_int_equal(lc_write(r, "!", 1), 0); /* goes on all the same */
}

static void test_a_stream(void **state)
{
    (void)state;
    run(write_some, NULL);
    assert_int_equal(fake.written_bytes, 1 + 602 + 1 + 1);
    assert_string_equal(fake.exchange.content_type, "text/csv");
    assert_int_equal(fake.flushes, 1);
    assert_false(fake.exchange.broken);
    assert_null(fake.exchange.text);
    assert_int_equal(log_seen("answered-twice", ""), 1);
}

static void only_flush(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_flush(r), 0);
}

static void test_a_flush_sends_the_head(void **state)
{
    (void)state;
    run(only_flush, NULL);
    assert_int_equal(fake.writes, 1);
    assert_int_equal(fake.flushes, 1);
    assert_int_equal(log_seen_all(), 0);
}

/* ---- lengths ---- */

static void write_exactly(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_length(r, 5), 0);
    assert_int_equal(lc_write(r, "123", 3), 0);
    assert_int_equal(lc_write(r, "45", 2), 0);
    assert_int_equal(lc_write(r, "6", 1), LC_E_LENGTH);
    assert_int_equal(lc_write(r, "", 0), LC_E_LENGTH);
}

static void write_too_much(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_length(r, 5), 0);
    assert_int_equal(lc_write(r, "123", 3), 0);
    assert_int_equal(lc_write(r, "456", 3), LC_E_LENGTH);
}

static void write_too_little(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_length(r, 5), 0);
    assert_int_equal(lc_write(r, "123", 3), 0);
}

static void negative_length(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_length(r, -1), LC_E_ARG);
}

static void test_a_length_that_was_announced_is_kept(void **state)
{
    (void)state;
    run(write_exactly, NULL);
    assert_string_equal(fake.written, "12345");
    assert_int_equal(fake.exchange.length, 5);
    assert_false(fake.exchange.broken);
    run(write_too_much, NULL);
    assert_string_equal(fake.written, "123");
    assert_true(fake.exchange.broken);
    run(write_too_little, NULL);
    assert_true(fake.exchange.broken);
    assert_int_equal(log_seen("short-answer", "lc_length()"), 1);
    run(negative_length, NULL);
    assert_int_equal(fake.exchange.status, 500);
}

/* ---- clients ---- */

static int expected;

static void write_and_see(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_write(r, "a", 1), expected);
    fake.write_result = 0;
    assert_int_equal(lc_write(r, "b", 1), expected == LC_E_AGAIN ? 0 : expected);
    assert_int_equal(lc_flush(r), expected == LC_E_AGAIN ? 0 : expected);
}

static void gone(void)
{
    fake.write_result = EXCHANGE_GONE;
    expected = LC_E_GONE;
}

static void aborted(void)
{
    fake.write_result = EXCHANGE_ABORTED;
    expected = LC_E_ABORTED;
}

static void timeout(void)
{
    fake.write_result = EXCHANGE_TIMEOUT;
    expected = LC_E_TIMEOUT;
}

static void again(void)
{
    fake.write_result = EXCHANGE_AGAIN;
    expected = LC_E_AGAIN;
}

static void test_a_client_that_left_is_said_by_every_later_call(void **state)
{
    (void)state;
    void (*const reasons[])(void) = {gone, aborted, timeout};

    for (size_t i = 0; i < 3; i++) {
        run(write_and_see, reasons[i]);
        assert_int_equal(fake.writes, 1);
        assert_true(fake.exchange.broken);
        assert_int_equal(log_seen_all(), 0); /* a client may leave */
    }
}

static void test_no_room_is_no_failure(void **state)
{
    (void)state;
    run(write_and_see, again);
    assert_string_equal(fake.written, "b");
    assert_false(fake.exchange.broken);
}

static void fail_within(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_write(r, "a", 1), 0);
    assert_int_equal(lc_fail(r, 500, "the disk is full"), LC_E_TWICE);
    assert_int_equal(lc_write(r, "b", 1), LC_E_TWICE);
}

static void test_a_failure_within_a_stream_breaks_it(void **state)
{
    (void)state;
    run(fail_within, NULL);
    assert_string_equal(fake.written, "a");
    assert_true(fake.exchange.broken);
    assert_int_equal(log_seen("handler-failed", "the disk is full"), 1);
}

static void write_with_204(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_status(r, 204), 0);
    assert_int_equal(lc_write(r, "a", 1), LC_E_ARG);
}

static void test_a_status_without_content_has_none(void **state)
{
    (void)state;
    run(write_with_204, NULL);
    assert_int_equal(fake.writes, 0);
    assert_int_equal(fake.exchange.status, 500);
}

/* ---- events ---- */

static void send_events(lc_req *r, void *user)
{
    char long_data[1001];

    (void)user;
    assert_int_equal(lc_event(r, "time", "12:00"), 0);
    assert_int_equal(lc_event(r, NULL, "a\nb\r\nc\rd\n"), 0);
    assert_int_equal(lc_event(r, "", ""), 0);
    assert_int_equal(lc_event(r, NULL, NULL), 0);
    memset(long_data, 'x', 1000);
    long_data[1000] = '\0';
    assert_int_equal(lc_event(r, "long", long_data), 0);
    assert_int_equal(fake.writes, 5); /* each in one piece */
    assert_int_equal(lc_event(r, "a\nb", "x"), LC_E_ARG);
}

static void test_events(void **state)
{
    (void)state;
    run(send_events, NULL);
    static const char begin[] = "event: time\ndata: 12:00\n\n"
                                "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
                                "data: \n\n"
                                ":\n\n"
                                "event: long\ndata: xxx";
    assert_memory_equal(fake.written, begin, strlen(begin));
    assert_string_equal(fake.written + fake.written_bytes - 4, "xx\n\n");
    assert_string_equal(fake.exchange.content_type, "text/event-stream");
    assert_string_equal(fake.exchange.answer_fields->name, "cache-control");
    assert_string_equal(fake.exchange.answer_fields->value, "no-cache");
    assert_true(fake.exchange.broken); /* by the last one */
}

static void send_typed_event(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "content-type", "text/event-stream; charset=utf-8"), 0);
    assert_int_equal(lc_set_header(r, "cache-control", "no-store"), 0);
    assert_int_equal(lc_event(r, NULL, "x"), 0);
}

static void test_events_leave_headers_that_are_set(void **state)
{
    (void)state;
    run(send_typed_event, NULL);
    assert_string_equal(fake.exchange.content_type, "text/event-stream; charset=utf-8");
    assert_string_equal(fake.exchange.answer_fields->value, "no-store");
    assert_null(fake.exchange.answer_fields->next);
}

/* ---- through lc_call() ---- */

static void test_a_streamed_answer_is_collected(void **state)
{
    (void)state;
    struct lc_answer answer = LC_ANSWER_INIT;
    lc_server *other = lc_new();

    assert_int_equal(lc_handle(other, "GET /", send_typed_event, NULL), 0);
    assert_int_equal(lc_handle(other, "GET /short", write_too_little, NULL), 0);
    assert_int_equal(lc_call(other, "GET /", NULL, NULL, 0, &answer), 0);
    assert_string_equal(answer.body, "data: x\n\n");
    lc_answer_free(&answer);
    assert_int_equal(lc_call(other, "GET /short", NULL, NULL, 0, &answer), LC_E_LENGTH);
    assert_string_equal(answer.body, "123");
    lc_answer_free(&answer);
    (void)lc_free(other);
}

static int tear_down(void **state)
{
    (void)state;
    fake_release(&fake);
    return lc_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream),
        cmocka_unit_test(test_a_flush_sends_the_head),
        cmocka_unit_test(test_a_length_that_was_announced_is_kept),
        cmocka_unit_test(test_a_client_that_left_is_said_by_every_later_call),
        cmocka_unit_test(test_no_room_is_no_failure),
        cmocka_unit_test(test_a_failure_within_a_stream_breaks_it),
        cmocka_unit_test(test_a_status_without_content_has_none),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_events_leave_headers_that_are_set),
        cmocka_unit_test(test_a_streamed_answer_is_collected),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}

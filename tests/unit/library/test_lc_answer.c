/* Whole answers, and what becomes of those that are not. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "library_double.h"
#include "log_seen.h"

static struct lc_answer answer;

/* Call `handler` for "GET /": the answer is in `answer`. */
static void call_it(lc_handler handler)
{
    lc_server *server = lc_new();

    lc_answer_free(&answer);
    answer.size = sizeof(answer);
    log_seen_reset();
    assert_int_equal(lc_handle(server, "/", handler, NULL), 0);
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &answer), 0);
    (void)lc_free(server);
}

static void expect(int status, const char *headers, const char *body)
{
    assert_int_equal(answer.status, status);
    assert_string_equal(answer.headers, headers);
    assert_string_equal(answer.body, body);
    assert_int_equal(answer.count, strlen(body));
}

/* ---- answers ---- */

static void send_text(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "X-One", "1"), 0);
    assert_int_equal(lc_add_header(r, "x-two", "a"), 0);
    assert_int_equal(lc_add_header(r, "X-Two", "b"), 0);
    assert_int_equal(lc_set_header(r, "x-one", "2"), 0);
    assert_int_equal(lc_set_header(r, "x-gone", "2"), 0);
    assert_int_equal(lc_set_header(r, "x-gone", NULL), 0);
    assert_int_equal(lc_send(r, 201, "text/plain", "made\n"), 0);
    assert_int_equal(lc_add_header(r, "x-late", "\tcaf\xc3\xa9 "), 0); /* as a middleware does */
}

static void test_a_text_with_headers(void **state)
{
    (void)state;
    call_it(send_text);
    expect(201,
           "content-type: text/plain\r\nx-two: a\r\nx-two: b\r\nx-one: 2\r\nx-late: \tcaf\xc3\xa9 "
           "\r\n",
           "made\n");
    assert_int_equal(log_seen_all(), 0);
}

static void send_long(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_sendf(r, 200, "text/plain", "%0*d", 10000, 7), 0);
}

static void send_short(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "Content-Type", "text/html"), 0);
    assert_int_equal(lc_sendf(r, 404, NULL, "%d", 7), 0);
}

static void test_formatted_texts(void **state)
{
    (void)state;
    call_it(send_long);
    assert_int_equal(answer.count, 10000);
    assert_int_equal(answer.body[9999], '7');
    call_it(send_short);
    expect(404, "content-type: text/html\r\n", "7");
}

static void send_bytes(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_bytes(r, 200, NULL, "a\0b", 3), 0);
}

static void send_nothing(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 204, NULL, NULL), 0);
}

static void test_bytes_and_nothing(void **state)
{
    (void)state;
    call_it(send_bytes);
    assert_int_equal(answer.count, 3);
    assert_memory_equal(answer.body, "a\0b", 3);
    call_it(send_nothing);
    expect(204, "", "");
}

static int freed;

static void free_it(void *owner)
{
    assert_string_equal(owner, "owner");
    freed++;
}

static void send_owned(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_owned(r, 200, NULL, "text", 4, free_it, "owner"), 0);
    assert_int_equal(freed, 0);
    assert_int_equal(lc_send_owned(r, 200, NULL, "text", 4, free_it, "owner"), LC_E_TWICE);
    assert_int_equal(freed, 1);
}

static void send_owned_wrongly(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_owned(r, 99, NULL, "text", 4, free_it, "owner"), LC_E_ARG);
    assert_int_equal(lc_send_owned(NULL, 200, NULL, "text", 4, free_it, "owner"), LC_E_THREAD);
    assert_int_equal(freed, 2);
}

static void send_owned_nothing(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_owned(r, 200, NULL, NULL, 0, free_it, "owner"), 0);
}

static void test_what_is_taken_over_is_freed_once(void **state)
{
    (void)state;
    freed = 0;
    call_it(send_owned);
    expect(200, "", "text");
    assert_int_equal(freed, 2);
    freed = 0;
    call_it(send_owned_wrongly);
    assert_int_equal(freed, 2);
    freed = 0;
    call_it(send_owned_nothing);
    expect(200, "", "");
    assert_int_equal(freed, 1);
}

static void redirect(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "cache-control", "no-store"), 0);
    assert_int_equal(lc_redirect(r, 303, "/elsewhere?a=b"), 0);
}

static void redirect_wrongly(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_redirect(r, 200, "/elsewhere"), LC_E_ARG);
    assert_int_equal(lc_fail(r, 500, NULL), 0);
}

static void test_redirects(void **state)
{
    (void)state;
    call_it(redirect);
    expect(303,
           "content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n"
           "location: /elsewhere?a=b\r\n",
           "303 See Other\n");
    call_it(redirect_wrongly);
    assert_int_equal(answer.status, 500);
}

/* ---- failures ---- */

static void fail_it(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "etag", "\"1\""), 0);
    assert_int_equal(lc_set_header(r, "x-cors", "*"), 0);
    assert_int_equal(lc_fail(r, 503, "the database is away"), 0);
}

static void test_a_failure_is_a_page_that_says_nothing_of_why(void **state)
{
    (void)state;
    call_it(fail_it);
    expect(503, "content-type: text/plain; charset=utf-8\r\nx-cors: *\r\n",
           "503 Service Unavailable\n");
    assert_int_equal(log_seen("handler-failed", "GET /: 503: the database is away"), 1);
}

static void answer_nothing(lc_req *r, void *user)
{
    (void)r, (void)user;
}

static void answer_half(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_status(r, 201), 0);
    assert_int_equal(lc_set_header(r, "x-one", "1"), 0);
}

static void test_no_answer_is_500(void **state)
{
    (void)state;
    call_it(answer_nothing);
    expect(500, "content-type: text/plain; charset=utf-8\r\n", "500 Internal Server Error\n");
    assert_int_equal(log_seen("no-answer", "GET / (route /): the handler has returned"), 1);
    call_it(answer_half);
    expect(500, "content-type: text/plain; charset=utf-8\r\nx-one: 1\r\n",
           "500 Internal Server Error\n");
    assert_int_equal(log_seen("no-answer", "sent nothing"), 1);
}

static void answer_twice(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 200, NULL, "first"), 0);
    assert_int_equal(lc_send(r, 500, NULL, "second"), LC_E_TWICE);
    assert_int_equal(lc_sendf(r, 500, NULL, "%d", 2), LC_E_TWICE);
    assert_int_equal(lc_redirect(r, 302, "/"), LC_E_TWICE);
    assert_int_equal(lc_send_file(r, "/dev/null", NULL), LC_E_TWICE);
    assert_int_equal(lc_status(r, 404), LC_E_TWICE);
    assert_int_equal(lc_length(r, 4), LC_E_TWICE);
    assert_int_equal(lc_write(r, "x", 1), LC_E_TWICE);
    assert_int_equal(lc_flush(r), LC_E_TWICE);
    assert_int_equal(lc_event(r, NULL, "x"), LC_E_TWICE);
    assert_int_equal(lc_fail(r, 500, "an exception after the answer"), LC_E_TWICE);
}

static void test_the_first_of_two_answers_stands(void **state)
{
    (void)state;
    call_it(answer_twice);
    expect(200, "", "first");
    assert_int_equal(log_seen("answered-twice", "(route /)"), 1);
    assert_int_equal(log_seen("handler-failed", "an exception"), 1);
    assert_int_equal(log_seen_all(), 2);
}

/* ---- what is refused; after that the answer fails ---- */

static const char *bad_name, *bad_value;

static void put_bad_header(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_add_header(r, bad_name, bad_value), LC_E_ARG);
    assert_int_equal(lc_send(r, 200, NULL, "sent all the same"), LC_E_ARG); /* the first failure */
    assert_int_equal(lc_set_header(r, "x-good", "1"), LC_E_ARG);
}

static void test_a_header_that_could_split_the_answer_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"x-a", "1\r\nset-cookie: b=2"},
        {"x-a", "1\nb: 2"},
        {"x-a", "1\r"},
        {"x-a", "\x01"},
        {"x-a", "\x7f"},
        {"x-a\r\nb", "1"},
        {"x a", "1"},
        {"x:a", "1"},
        {"", "1"},
        {"caf\xc3\xa9", "1"},
        {"x{", "1"},
        {"x-a", NULL},
        {NULL, "1"},
        {"Content-Length", "5"},
        {"transfer-encoding", "chunked"},
        {"Connection", "close"},
        {"date", "today"},
        {"Upgrade", "h2c"},
        {"server", "mine"},
        {"content-type", "text/html\r\nb: 2"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bad_name = bad[i][0];
        bad_value = bad[i][1];
        call_it(put_bad_header);
        expect(500, "content-type: text/plain; charset=utf-8\r\n", "500 Internal Server Error\n");
        assert_int_equal(log_seen("answer-failed", "an argument is not valid"), 1);
    }
}

static void redirect_to_bad(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_redirect(r, 302, "/\r\nset-cookie: b=2"), LC_E_ARG);
}

static void send_bad_type(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 200, "text/html\r\nb: 2", "x"), LC_E_ARG);
}

static void send_status_99(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 99, NULL, "x"), LC_E_ARG);
}

static void set_status_600(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_status(r, 600), LC_E_ARG);
    assert_int_equal(lc_send(r, 200, NULL, "x"), LC_E_ARG);
}

static void send_body_with_304(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send(r, 304, NULL, "x"), LC_E_ARG);
}

static void send_null_format(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_bytes(r, 200, NULL, NULL, 5), LC_E_ARG);
}

static void set_too_many(lc_req *r, void *user)
{
    (void)user;
    for (int i = 0; i < 100; i++)
        assert_int_equal(lc_add_header(r, "x-many", "1"), 0);
    assert_int_equal(lc_add_header(r, "x-many", "1"), LC_E_FULL);
}

static void test_answers_that_are_none_become_500(void **state)
{
    (void)state;
    static const lc_handler handlers[] = {redirect_to_bad,   send_bad_type,    send_status_99,
                                          set_status_600,    send_null_format, set_too_many,
                                          send_body_with_304};

    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        call_it(handlers[i]);
        assert_int_equal(answer.status, 500);
        assert_int_equal(log_seen("answer-failed", ""), 1);
    }
}

static void recover(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "x-name", "a\nb"), LC_E_ARG);
    assert_int_equal(lc_fail(r, 400, "no such name"), 0);
}

static void test_a_failed_answer_can_still_be_a_page(void **state)
{
    (void)state;
    call_it(recover);
    expect(400, "content-type: text/plain; charset=utf-8\r\n", "400 Bad Request\n");
}

static void test_every_result_has_a_text(void **state)
{
    (void)state;
    for (int i = LC_E_FULL; i <= LC_E_THREAD; i++)
        assert_string_not_equal(lc_strerror(i), "an unknown result");
    assert_string_equal(lc_strerror(0), "success");
    assert_string_equal(lc_strerror(-ENOENT), "No such file or directory");
    assert_string_equal(lc_strerror(-999), "an unknown result");
    assert_string_equal(lc_strerror(7), "an unknown result");
    assert_string_equal(lc_strerror(-5000), "an unknown result");
}

static int tear_down(void **state)
{
    (void)state;
    lc_answer_free(&answer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_text_with_headers),
        cmocka_unit_test(test_formatted_texts),
        cmocka_unit_test(test_bytes_and_nothing),
        cmocka_unit_test(test_what_is_taken_over_is_freed_once),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_a_failure_is_a_page_that_says_nothing_of_why),
        cmocka_unit_test(test_no_answer_is_500),
        cmocka_unit_test(test_the_first_of_two_answers_stands),
        cmocka_unit_test(test_a_header_that_could_split_the_answer_is_refused),
        cmocka_unit_test(test_answers_that_are_none_become_500),
        cmocka_unit_test(test_a_failed_answer_can_still_be_a_page),
        cmocka_unit_test(test_every_result_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}

/* The real process in front of a FastCGI application that fails in every phase: what its client
 * gets, what the log says, and when a request is sent once more. What FastCGI shares with HTTP/1
 * upstreams, test_proxy_faults.c looks at in more detail. */

#include "admin_client.h"
#include "with_fastcgi.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"

#define TEXT "Content-Type: text/plain\r\n"
#define MB ((size_t)1024 * 1024)
#define PATH                                                                                       \
    "hosts: {default: {paths: {/: {fastcgi.connect: {host: 127.0.0.1, port: @, type: tcp}}}}}\n"

static int set_up(void **state)
{
    return fixture_start(state, "fastcgi.timeout.keepalive: 5000\n" PATH);
}

static int set_up_without_keepalive(void **state)
{
    return fixture_start(state, PATH);
}

/* Short is only the time that is to be over: however long this machine stands still, no other one
 * is. */
static int set_up_hasty(void **state)
{
    return fixture_start(state, "fastcgi.timeout.first_byte: 300\nfastcgi.timeout.io: 20000\n"
                                "fastcgi.timeout.keepalive: 5000\n" PATH);
}

static int set_up_hasty_bytes(void **state)
{
    return fixture_start(state, "fastcgi.timeout.first_byte: 20000\nfastcgi.timeout.io: 400\n"
                                "fastcgi.timeout.keepalive: 5000\n" PATH);
}

static int set_up_for_uploads(void **state)
{
    return fixture_start(state,
                         "fastcgi.timeout.first_byte: 10000\nfastcgi.timeout.io: 400\n" PATH);
}

/* No time-out does the work of what is tested. */
static int set_up_patient(void **state)
{
    return fixture_start(state, "fastcgi.timeout.io: 3600000\n" PATH);
}

static void answer_ok(struct fixture *f)
{
    send_text(f, TEXT "\r\nok");
    send_end(f);
    expect_status(f, 200);
}

/* A first request, whose connection the front keeps. */
static void begin_with_one(struct fixture *f)
{
    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    answer_ok(f);
}

/* ---- connections ---- */

static void test_the_application_is_told_to_keep_the_connection(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    struct fastcgi_request request = take_fastcgi_request(f);
    assert_int_equal(request.flags, 1);
    release_fastcgi_request(&request);
    answer_ok(f);
    int before = f->upstream;
    begin_with_one(f);
    assert_int_equal(f->upstream, before);
}

static void test_without_keepalive_it_is_told_to_close(void **state)
{
    struct fixture *f = *state;
    char byte;

    ask(f, ANSWER_HTTP11, false);
    struct fastcgi_request request = take_fastcgi_request(f);
    assert_int_equal(request.flags, 0);
    release_fastcgi_request(&request);
    answer_ok(f);
    assert_int_equal(client_recv(f->upstream, &byte, 1, 0), 0); /* the front closes, too */
}

static void test_a_get_that_a_kept_connection_loses_is_sent_again(void **state)
{
    static const enum upstream_end ends[] = {CLOSE, RESET};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        begin_with_one(f);
        int before = f->upstream;
        ask(f, ANSWER_HTTP11, false);
        take_fastcgi(f);
        assert_int_equal(f->upstream, before);
        end_upstream(f, ends[i]);
        take_fastcgi(f); /* the same, on a connection of its own */
        answer_ok(f);
    }
    assert_lacks(f->front.log, "upstream-failed");
}

static void test_a_post_that_was_read_is_not_sent_again(void **state)
{
    struct fixture *f = *state;

    begin_with_one(f);
    client_send(f->client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    struct fastcgi_request request = take_fastcgi_request(f);
    assert_int_equal(request.body_size, 1);
    assert_non_null(memmem(request.params, request.params_size, "CONTENT_LENGTH1", 15));
    release_fastcgi_request(&request);
    end_upstream(f, CLOSE);
    expect_status(f, 502);
    assert_false(has_connection(f, 0));
}

static void test_an_abort_closes_the_connection(void **state)
{
    struct fixture *f = *state;
    char bytes[4096], byte;
    size_t size = 0;

    ask(f, ANSWER_HTTP2, false);
    take_fastcgi(f);
    send_text(f, TEXT "\r\nbegun");
    do {
        ssize_t n = client_recv(f->client, bytes + size, sizeof(bytes) - size, 0);
        assert_true(n > 0);
        size += (size_t)n;
    } while (memmem(bytes, size, "begun", 5) == NULL);
    hang_up(f);
    assert_int_equal(client_recv(f->upstream, &byte, 1, 0), 0);
}

/* ---- faults ---- */

static void test_an_application_that_is_not_there_is_502(void **state)
{
    struct fixture *f = *state;

    (void)close(f->listener);
    ask(f, ANSWER_HTTP11, false);
    expect_status(f, 502);
    process_wait_log(&f->front, "upstream fastcgi://127.0.0.1:");
    process_wait_log(&f->front, ": Connection refused (connect, ");
    f->listener = -1;
}

static void test_an_overloaded_application_is_503(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    send_end_with(f, 0, 2);
    expect_status(f, 503);
    process_wait_log(&f->front, "the application is overloaded (answer, ");
    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    send_end_with(f, 0, 3); /* FCGI_UNKNOWN_ROLE */
    expect_status(f, 502);
    process_wait_log(&f->front, "the application refused the request (");
}

static void test_an_application_that_speaks_http_is_502(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    client_send(f->upstream, "HTTP/1.1 400 Bad Request\r\n\r\n");
    expect_status(f, 502);
    process_wait_log(&f->front, "the application sent a record of an unknown version (answer, ");
}

static void test_its_words_are_lines_of_the_log(void **state)
{
    static const char words[] = "PHP message: one\nand two\n";
    struct fixture *f = *state;

    ask_for(f, ANSWER_HTTP11, false, "/path?secret");
    take_fastcgi(f);
    send_record(f, STDERR, words, sizeof(words) - 1, 0);
    answer_ok(f);
    process_wait_log(&f->front, ": PHP message: one (GET /path)\n");
    process_wait_log(&f->front, ": and two (GET /path)\n");
    for (unsigned i = 0; i < 100; i++) {
        ask(f, ANSWER_HTTP11, false);
        take_fastcgi(f);
        send_record(f, STDERR, words, sizeof(words) - 1, 0);
        answer_ok(f);
    }
    assert_in_range(count_in(f->front.log, "PHP message"), 1, 100);
    assert_lacks(f->front.log, "secret");
}

/* ---- time ---- */

static void test_no_answer_in_time_is_504(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    expect_status(f, 504);
    static const char line[] = "the upstream did not answer in time (first byte, ";
    process_wait_log(&f->front, line);
    long age_ms = strtol(strstr(f->front.log, line) + strlen(line), NULL, 10);
    assert_in_range(age_ms, 300, 20000 - 1);
}

static void test_an_answer_that_stops_is_cut(void **state)
{
    struct fixture *f = *state;
    struct answer answer;

    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    send_text(f, TEXT "\r\nhalf");
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_CUT);
    answer_release(&answer);
    process_wait_log(&f->front, "the upstream stopped in the middle of its answer (between bytes");
}

/* It has all that Content-Length announces: the client is content, the connection is not kept. */
static void test_a_whole_body_without_an_end_is_whole_in_time(void **state)
{
    struct fixture *f = *state;
    char byte;

    ask(f, ANSWER_HTTP2, false);
    take_fastcgi(f);
    send_text(f, TEXT "Content-Length: 2\r\n\r\nok");
    struct answer answer;
    assert_int_equal(read_answer(f, ANSWER_HTTP2, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 200);
    answer_release(&answer);
    assert_int_equal(client_recv(f->upstream, &byte, 1, 0), 0);
    assert_lacks(f->front.log, "upstream-failed");
}

static char *begin_upload(struct fixture *f, size_t size)
{
    char head[128], *body = malloc(size + 1);

    assert_non_null(body);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + (i / 1000 + i) % 26);
    body[size] = '\0';
    (void)snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
                   size);
    f->client = client_connect(&f->front);
    client_send(f->client, head);
    client_send(f->client, body);
    return body;
}

static void test_a_request_that_is_not_taken_is_504(void **state)
{
    struct fixture *f = *state;

    free(begin_upload(f, 12 * MB));
    take_connection(f); /* and nothing is read */
    expect_status(f, 504);
    process_wait_log(&f->front, "the upstream did not take the request in time (send");
}

static void test_a_large_body_comes_whole(void **state)
{
    struct fixture *f = *state;
    char *body = begin_upload(f, 12 * MB + 1);

    struct fastcgi_request request = take_fastcgi_request(f);
    assert_int_equal(request.body_size, 12 * MB + 1);
    assert_int_equal(memcmp(request.body, body, request.body_size), 0);
    release_fastcgi_request(&request);
    answer_ok(f);
    free(body);
}

/* The front closes the application's connection, whatever it has sent on it before. */
static void expect_closed(struct fixture *f)
{
    static char bytes[64 * 1024];
    const struct timeval patience = {.tv_sec = 20};
    ssize_t n;

    assert_int_equal(setsockopt(f->upstream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    do
        n = client_recv(f->upstream, bytes, sizeof(bytes), 0);
    while (n > 0);
    assert_true(n == 0 || errno == ECONNRESET); /* EAGAIN: it is still open */
}

static void test_an_answer_before_the_end_of_the_request_is_passed_on(void **state)
{
    struct fixture *f = *state;

    free(begin_upload(f, 12 * MB));
    take_connection(f);
    send_text(f, "Status: 413 Too Large\r\n\r\ntoo large");
    send_end(f);
    expect_status(f, 413);
    expect_closed(f); /* the connection is not used again */
}

/* It has not read the request, and owes no FCGI_END_REQUEST before that. */
static void test_an_early_answer_is_whole_without_its_end(void **state)
{
    static const struct {
        const char *text;
        int status;
    } answers[] = {
        {"Status: 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large", 413},
        {"Status: 204 No Content\r\n\r\n", 204},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        free(begin_upload(f, 12 * MB));
        take_connection(f);
        send_text(f, answers[i].text);
        expect_status(f, answers[i].status);
        expect_closed(f);
        (void)close(f->upstream);
        f->upstream = -1;
        hang_up(f);
    }
    assert_lacks(f->front.log, "upstream-failed");
}

/* ---- back-pressure ---- */

/* Both buffers of the kernel, on both sides, hold some megabytes. */
static void test_a_client_that_does_not_read_holds_up_its_application(void **state)
{
    enum { CONTENT = 65528, SIZE = 1024 * (8 + CONTENT) };
    struct fixture *f = *state;
    char *record = calloc(1, 8 + CONTENT), *bytes = malloc(MB);
    size_t at = 0, got = 0;

    assert_true(record != NULL && bytes != NULL);
    memcpy(record, "\1\6\0\1\xff\xf8\0\0", 8);
    ask(f, ANSWER_HTTP10, false);
    take_fastcgi(f);
    send_text(f, TEXT "\r\n");
    struct pollfd ready = {.fd = f->upstream, .events = POLLOUT};
    while (at < SIZE && poll(&ready, 1, 500) > 0) {
        size_t from = at % (8 + CONTENT);
        ssize_t n =
            send(f->upstream, record + from, 8 + CONTENT - from, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += n > 0 ? (size_t)n : 0;
    }
    assert_in_range(at, 1, 32 * MB);
    for (bool is_ended = false;;) {
        size_t from = at % (8 + CONTENT);
        ssize_t n = at == SIZE ? 0
                               : send(f->upstream, record + from, 8 + CONTENT - from,
                                      MSG_NOSIGNAL | MSG_DONTWAIT);
        at += n > 0 ? (size_t)n : 0;
        if (at == SIZE && !is_ended) {
            is_ended = true;
            send_end(f);
        }
        n = client_recv(f->client, bytes, MB, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    assert_int_equal(at, SIZE);
    assert_in_range(got, 1024 * CONTENT, 1024 * CONTENT + 1000);
    free(record);
    free(bytes);
}

/* ---- settings and metrics ---- */

static void test_what_happens_is_counted(void **state)
{
    struct fixture *f = *state;
    struct process admin = admin_of(&f->front);

    begin_with_one(f);
    ask(f, ANSWER_HTTP11, false);
    take_fastcgi(f);
    send_end_with(f, 0, 2);
    expect_status(f, 503);
    char *text = admin_call(&admin, "GET", "/metrics", "", NULL);
    assert_contains(text, "\nlastcall_upstream_connects_total 1\n");
    assert_contains(text, "\nlastcall_upstream_failures_total{kind=\"overloaded\"} 1\n");
    free(text);
}

static void test_numbers_out_of_range_are_refused(void **state)
{
    static const char *const lines[] = {"fastcgi.buffer: 100", "fastcgi.timeout.connect: 0",
                                        "fastcgi.timeout.first_byte: 100000000"};
    struct process p;
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        FILE *file = fopen(in_directory("bad"), "w");
        assert_non_null(file);
        (void)fprintf(file,
                      "listen: {host: 127.0.0.1, port: 0}\n%s\nhosts: {default: {paths: {/: "
                      "{fastcgi.connect: 1}}}}\n",
                      lines[i]);
        (void)fclose(file);
        process_spawn(&p, (const char *const[]){"--conf", in_directory("bad"), NULL});
        process_expect(&p, 20000, 78);
        assert_contains(p.log, "want ");
        process_release(&p);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, fixture_tear_down)
#define CLOSING(f) cmocka_unit_test_setup_teardown(f, set_up_without_keepalive, fixture_tear_down)
#define UPLOAD(f) cmocka_unit_test_setup_teardown(f, set_up_for_uploads, fixture_tear_down)
#define PATIENT(f) cmocka_unit_test_setup_teardown(f, set_up_patient, fixture_tear_down)
#define HASTY(f) cmocka_unit_test_setup_teardown(f, set_up_hasty, fixture_tear_down)
#define HASTY_BYTES(f) cmocka_unit_test_setup_teardown(f, set_up_hasty_bytes, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_application_is_told_to_keep_the_connection),
        CLOSING(test_without_keepalive_it_is_told_to_close),
        TEST(test_a_get_that_a_kept_connection_loses_is_sent_again),
        TEST(test_a_post_that_was_read_is_not_sent_again),
        PATIENT(test_an_abort_closes_the_connection),
        TEST(test_an_application_that_is_not_there_is_502),
        TEST(test_an_overloaded_application_is_503),
        TEST(test_an_application_that_speaks_http_is_502),
        TEST(test_its_words_are_lines_of_the_log),
        HASTY(test_no_answer_in_time_is_504),
        HASTY_BYTES(test_an_answer_that_stops_is_cut),
        HASTY_BYTES(test_a_whole_body_without_an_end_is_whole_in_time),
        UPLOAD(test_a_request_that_is_not_taken_is_504),
        CLOSING(test_a_large_body_comes_whole),
        PATIENT(test_an_answer_before_the_end_of_the_request_is_passed_on),
        PATIENT(test_an_early_answer_is_whole_without_its_end),
        TEST(test_a_client_that_does_not_read_holds_up_its_application),
        TEST(test_what_happens_is_counted),
        cmocka_unit_test_setup_teardown(test_numbers_out_of_range_are_refused, NULL,
                                        process_kill_left),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

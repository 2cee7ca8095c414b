/* Event streams of an upstream in a drain: they end whole, between two events, when tunnels do; or
 * are cut, if no event ends in time. */

#include "with_upstream.h"

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

#define LIMIT_MS 20000
#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

static const char conf[] = "drain: {deadline: 20s, deadlines: {tunnel: %s}, spread: 1ms}\n"
                           "hosts: {default: {paths: {/: {proxy.reverse.url: "
                           "\"http://127.0.0.1:@/\"}}}}\n";

/* The deadline of tunnels: of those that are to be cut, and of those that are to end, however long
 * this machine may stand still. With a spread they are asked to at once. */
#define SOON "500ms"
#define LATE "20s"

static struct fixture *begin(void **state, const char *tunnel)
{
    char text[512];

    (void)snprintf(text, sizeof(text), conf, tunnel);
    assert_int_equal(fixture_start(state, text), 0);
    return *state;
}

static void expect_process_end(struct fixture *f, int status)
{
    process_expect(&f->front, LIMIT_MS, status);
    (void)close(f->upstream);
    (void)close(f->listener);
    hang_up(f);
    process_release(&f->front);
}

/* The front has closed its connection; whether in order does not matter. */
static void assert_upstream_is_left(struct fixture *f)
{
    char byte;
    assert_int_equal(client_recv(f->upstream, &byte, 1, 0), 0);
}

static void expect_whole(struct fixture *f, enum answer_protocol protocol, const char *body)
{
    struct answer answer;

    assert_int_equal(read_answer(f, protocol, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.body_size, strlen(body));
    assert_memory_equal(answer.body, body, strlen(body));
    answer_release(&answer);
}

static void stop_front(struct fixture *f)
{
    process_signal(&f->front, SIGTERM);
    process_wait_log(&f->front, "listeners closed");
}

/* Another stream, which is between two events: when it has ended, all were asked to. Returns the
 * client. */
static int begin_silent(struct fixture *f, int *ret_upstream)
{
    int client = client_connect(&f->front);

    client_send(client, GET("/silent"));
    take_request(f);
    client_send(f->upstream, CHUNKED "9\r\ndata: a\n\n\r\n");
    *ret_upstream = f->upstream;
    f->upstream = -1;
    return client;
}

/* The event under way is waited for, and what comes after it is left out. */
static void test_it_ends_with_the_event_under_way(void **state)
{
    int silent, silent_upstream;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct fixture *f = begin(state, LATE);
        silent = begin_silent(f, &silent_upstream);
        ask(f, protocol, false);
        take_request(f);
        client_send(f->upstream, CHUNKED "f\r\ndata: a\n\ndata: \r\n");
        process_signal(&f->front, SIGTERM);
        free(client_read_until(silent, "\r\n0\r\n\r\n"));
        client_send(f->upstream, "a\r\nb\n\ndata: c\r\n");
        expect_whole(f, protocol, "data: a\n\ndata: b\n\n");
        assert_upstream_is_left(f);
        (void)close(silent);
        (void)close(silent_upstream);
        expect_process_end(f, 0);
    }
}

static void test_one_that_is_silent_between_two_events_ends_at_once(void **state)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct fixture *f = begin(state, LATE);
        ask(f, protocol, false);
        take_request(f);
        client_send(f->upstream, CHUNKED "9\r\ndata: a\r\r\r\n");
        process_signal(&f->front, SIGTERM);
        expect_whole(f, protocol, "data: a\r\r");
        assert_upstream_is_left(f);
        expect_process_end(f, 0);
    }
}

/* Its deadline is that of tunnels, not of streams. */
static void test_one_whose_event_does_not_end_is_cut(void **state)
{
    struct answer answer;
    struct fixture *f = begin(state, SOON);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, CHUNKED "7\r\ndata: a\r\n");
    process_signal(&f->front, SIGTERM);
    process_wait_log(&f->front, "unfinished: GET /x, cut by the deadline of tunnels");
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_CUT);
    answer_release(&answer);
    expect_process_end(f, 3);
}

static void test_one_of_comments_after_a_byte_order_mark_ends_at_once(void **state)
{
    struct fixture *f = begin(state, LATE);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, CHUNKED "a\r\n\xef\xbb\xbf: ping\n\r\n");
    process_signal(&f->front, SIGTERM);
    expect_whole(f, ANSWER_HTTP11, "\xef\xbb\xbf: ping\n");
    expect_process_end(f, 0);
}

static void assert_reported(const char *want)
{
    char text[8192];
    FILE *file = fopen(in_directory("report.json"), "re");

    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    assert_contains(text, want);
}

static void report_too(char *text, size_t size, const char *tunnel)
{
    (void)snprintf(text, size,
                   "user: %s\ndrain: {deadline: 20s, deadlines: {tunnel: %s}, report: %s}\n"
                   "hosts: {default: {paths: {/: {proxy.reverse.url: \"http://127.0.0.1:@/\"}}}}\n",
                   own_user_name(), tunnel, in_directory("report.json"));
}

static void test_one_that_has_ended_is_counted(void **state)
{
    char text[512];

    report_too(text, sizeof(text), "2s"); /* it is asked to a second before */
    assert_int_equal(fixture_start(state, text), 0);
    struct fixture *f = *state;
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, CHUNKED "9\r\ndata: a\n\n\r\n");
    process_signal(&f->front, SIGTERM);
    expect_whole(f, ANSWER_HTTP11, "data: a\n\n");
    expect_process_end(f, 0);
    assert_reported("\"event_streams_ended\": 1");
}

/* It is between two events, wherever it stops; but its client has not got the end of the last one.
 */
static void test_one_whose_client_takes_no_bytes_is_cut_and_not_ended(void **state)
{
    enum { MB = 1024 * 1024, LINES = 4096 };
    static char chunk[LINES + 16];
    char text[512];
    int size = snprintf(chunk, sizeof(chunk), "%x\r\n", LINES);

    memset(chunk + size, '\n', LINES);
    memcpy(chunk + size + LINES, "\r\n", 2);
    size += LINES + 2;
    report_too(text, sizeof(text), SOON);
    assert_int_equal(fixture_start(state, text), 0);
    struct fixture *f = *state;
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, CHUNKED);
    for (size_t at = 0, n = 1, sent = 0; n > 0 && sent < (size_t)64 * MB; sent += n) {
        n = send_what_is_taken(f, chunk + at, (size_t)size - at, (size_t)size - at);
        at = (at + n) % (size_t)size;
    }
    process_signal(&f->front, SIGTERM);
    process_wait_log(&f->front, "unfinished: GET /x, cut by the deadline of tunnels");
    expect_process_end(f, 3);
    assert_reported("\"event_streams_ended\": 0");
}

/* Its bytes are not known. */
static void test_a_compressed_one_is_cut(void **state)
{
    struct answer answer;
    struct fixture *f = begin(state, SOON);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, HEAD "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "2\r\n\n\n\r\n");
    process_signal(&f->front, SIGTERM);
    process_wait_log(&f->front, "unfinished: GET /x, cut by the deadline of tunnels");
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_CUT);
    answer_release(&answer);
    expect_process_end(f, 3);
}

static void test_another_answer_is_not_ended(void **state)
{
    struct fixture *f = begin(state, LATE);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n");
    stop_front(f);
    client_send(f->upstream, "2\r\nab\r\n0\r\n\r\n");
    expect_whole(f, ANSWER_HTTP11, "\n\nab");
    expect_process_end(f, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_it_ends_with_the_event_under_way),
        TEST(test_one_that_is_silent_between_two_events_ends_at_once),
        TEST(test_one_whose_event_does_not_end_is_cut),
        TEST(test_one_of_comments_after_a_byte_order_mark_ends_at_once),
        TEST(test_one_that_has_ended_is_counted),
        TEST(test_one_whose_client_takes_no_bytes_is_cut_and_not_ended),
        TEST(test_a_compressed_one_is_cut),
        TEST(test_another_answer_is_not_ended),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

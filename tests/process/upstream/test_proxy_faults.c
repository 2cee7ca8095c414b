/* The real process in front of an upstream that fails in every phase: what its client gets, what
 * the log says, and when a request is sent once more. */

#include "admin_client.h"
#include "with_upstream.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define TWO OK "Content-Length: 2\r\n\r\nok"
#define MB ((size_t)1024 * 1024)
#define PATH "hosts: {default: {paths: {/: {proxy.reverse.url: \"http://127.0.0.1:@/\"}}}}\n"

static int set_up(void **state)
{
    return fixture_start(state, PATH);
}

/* Short is only the time that is to be over: however long this machine stands still, no other one
 * is. */
static int set_up_hasty(void **state)
{
    return fixture_start(state, "proxy.timeout.first_byte: 300\nproxy.timeout.io: 20000\n" PATH);
}

static int set_up_hasty_bytes(void **state)
{
    return fixture_start(state, "proxy.timeout.first_byte: 20000\nproxy.timeout.io: 400\n" PATH);
}

static int set_up_for_uploads(void **state)
{
    return fixture_start(state, "proxy.timeout.first_byte: 20000\nproxy.timeout.io: 3000\n" PATH);
}

static int set_up_for_patience(void **state)
{
    return fixture_start(state, "proxy.timeout.io: 3000\n" PATH);
}

/* And not a byte more. */
static void read_head(int fd)
{
    char last[4] = "";

    while (memcmp(last, "\r\n\r\n", 4) != 0) {
        memmove(last, last + 1, 3);
        assert_int_equal(client_recv(fd, last + 3, 1, 0), 1);
    }
}

static void answer_ok(struct fixture *f)
{
    client_send(f->upstream, TWO);
    expect_status(f, 200);
}

/* A first request, whose connection the front keeps. */
static void begin_with_one(struct fixture *f)
{
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    answer_ok(f);
}

/* ---- once more ---- */

static void test_a_get_that_a_kept_connection_loses_is_sent_again(void **state)
{
    static const enum upstream_end ends[] = {CLOSE, RESET};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        begin_with_one(f);
        int before = f->upstream;
        ask(f, ANSWER_HTTP11, false);
        take_request(f);
        assert_int_equal(f->upstream, before);
        end_upstream(f, ends[i]);
        take_request(f); /* the same, on a connection of its own */
        answer_ok(f);
    }
    assert_lacks(f->front.log, "upstream-failed");
}

static void test_it_is_sent_again_once(void **state)
{
    struct fixture *f = *state;

    begin_with_one(f);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    end_upstream(f, CLOSE);
    take_request(f);
    end_upstream(f, CLOSE);
    expect_status(f, 502);
    process_wait_log(&f->front, "the upstream closed the connection without an answer (first byte");
}

static void test_a_post_that_was_read_is_not_sent_again(void **state)
{
    struct fixture *f = *state;

    begin_with_one(f);
    client_send(f->client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    take_request(f);
    end_upstream(f, CLOSE);
    expect_status(f, 502);
    assert_false(has_connection(f, 0));
}

/* The front sees the end before it sends anything. */
static void test_a_post_does_not_meet_a_connection_that_has_ended(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 20; i++) {
        begin_with_one(f);
        end_upstream(f, CLOSE);
        client_send(f->client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        take_request(f);
        answer_ok(f);
    }
}

static void test_nothing_is_sent_again_after_a_byte_of_an_answer(void **state)
{
    struct fixture *f = *state;

    begin_with_one(f);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "H");
    end_upstream(f, CLOSE);
    expect_status(f, 502);
    assert_false(has_connection(f, 0));
    process_wait_log(&f->front, "the upstream ended the connection in the head of its answer");
}

/* ---- faults ---- */

static void test_an_upstream_that_refuses_is_502(void **state)
{
    struct fixture *f = *state;

    (void)close(f->listener);
    ask(f, ANSWER_HTTP11, false);
    expect_status(f, 502);
    process_wait_log(&f->front, ": Connection refused (connect, ");
    f->listener = -1;
}

static void test_an_upstream_that_accepts_and_closes_is_502(void **state)
{
    static const enum upstream_end ends[] = {CLOSE, RESET};
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        ask(f, ANSWER_HTTP11, false);
        take_request(f);
        end_upstream(f, ends[i]);
        expect_status(f, 502);
    }
    process_wait_log(&f->front, "without an answer (first byte");
}

static void test_garbage_is_502_before_it_ends(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "220 mail.example ESMTP\r\n");
    expect_status(f, 502);
    process_wait_log(&f->front, "the upstream sent no HTTP/1 answer (answer");
}

static void test_150_fields_are_passed_on(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    char reply[4096] = OK "Content-Length: 2\r\n";

    for (unsigned i = 0; i < 150; i++)
        (void)strcat(reply, "X-Field: value\r\n");
    (void)strcat(reply, "\r\nok");
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, reply);
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 200);
    answer_release(&answer);
}

/* ---- time ---- */

static void test_no_answer_in_time_is_504(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    expect_status(f, 504);
    static const char line[] = "the upstream did not answer in time (first byte, ";
    process_wait_log(&f->front, line);
    long age_ms = strtol(strstr(f->front.log, line) + strlen(line), NULL, 10);
    assert_in_range(age_ms, 300, 20000 - 1);
    assert_contains(f->front.log, " ms; GET /x");
}

static void test_a_head_alone_is_504_in_time(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, OK "Content-Length: 9\r\n\r\n");
    expect_status(f, 504);
}

static void test_an_answer_that_stops_is_cut(void **state)
{
    struct fixture *f = *state;
    struct answer answer;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, OK "Content-Length: 9\r\n\r\nhalf");
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_CUT);
    answer_release(&answer);
    process_wait_log(&f->front, "the upstream stopped in the middle of its answer (between bytes");
}

static void *begin_upload(struct fixture *f, size_t size)
{
    char head[128], *body = malloc(size + 1);

    assert_non_null(body);
    memset(body, 'b', size);
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

/* All of it takes longer than proxy.timeout.io, and a piece far less: a busy machine may be late.
 */
static void test_a_request_that_is_taken_slowly_is_not_cut(void **state)
{
    enum { SIZE = 12 * 1024 * 1024 };
    const int buffer = 65536; /* the rest waits on our side */
    struct fixture *f = *state;
    uint64_t begin = now_ns();
    assert_int_equal(setsockopt(f->listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)), 0);
    char *body = begin_upload(f, SIZE);

    take_connection(f);
    read_head(f->upstream);
    for (size_t left = SIZE; left > 0;) {
        size_t piece = left < SIZE / 24 ? left : SIZE / 24;
        assert_int_equal(client_recv(f->upstream, body, piece, MSG_WAITALL), (ssize_t)piece);
        left -= piece;
        assert_int_equal(poll(NULL, 0, 140), 0);
    }
    answer_ok(f);
    assert_true(now_ns() - begin >= 3000 * NS_PER_MS);
    free(body);
}

/* What the kernel on our side still holds of the request is on its way for most of the time of the
 * first byte; the answer takes another half of it. */
static bool time_begins_when_it_has_the_request(void *arg)
{
    enum { SIZE = 6 * 1024 * 1024, PIECE = SIZE / 12 };
    const int buffer = 65536;
    struct fixture *f = arg;
    bool in_time = true;
    uint64_t took_ns = now_ns();
    assert_int_equal(setsockopt(f->listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)), 0);
    char *body = begin_upload(f, SIZE);

    take_connection(f);
    read_head(f->upstream);
    for (unsigned i = 0; in_time && i < SIZE / PIECE; i++) {
        uint64_t takes_ns = now_ns();
        ssize_t n = client_recv(f->upstream, body, PIECE, MSG_WAITALL);
        in_time = is_in_time(took_ns, 2000); /* it looks every 750 ms */
        if (in_time)
            assert_int_equal(n, PIECE);
        took_ns = takes_ns;
        assert_int_equal(poll(NULL, 0, 300), 0);
    }
    free(body);
    if (in_time) {
        assert_int_equal(poll(NULL, 0, 1200), 0);
        client_send(f->upstream, TWO);
        in_time = is_in_time(took_ns, 2900);
    }
    if (in_time)
        expect_status(f, 200);
    else {
        hang_up(f);
        end_upstream(f, CLOSE);
    }
    return in_time;
}

static void test_time_for_an_answer_begins_when_the_upstream_has_the_request(void **state)
{
    repeat_until_in_time(time_begins_when_it_has_the_request, *state);
}

/* ---- early answers ---- */

static void test_an_answer_before_the_end_of_the_request_is_passed_on(void **state)
{
    static const enum upstream_end ends[] = {KEEP, CLOSE, RESET};
    struct fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        free(begin_upload(f, 12 * MB));
        take_request(f);
        client_send(f->upstream,
                    "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
                    "too large");
        /* A reset overtakes what the front has not read; so does a close with unread bytes. */
        if (ends[i] == KEEP)
            (void)shutdown(f->upstream, SHUT_WR);
        else
            end_upstream(f, ends[i]);
        expect_status(f, 413);
        hang_up(f);
        if (f->upstream >= 0)
            end_upstream(f, CLOSE);
    }
}

/* ---- clients that leave ---- */

/* Also with bytes of its next request that nobody has read. */
static void test_a_client_that_resets_ends_its_request_at_the_upstream(void **state)
{
    static const char *const next[] = {"", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"};
    const struct linger now = {.l_onoff = 1};
    struct fixture *f = *state;
    siginfo_t stopped;
    char byte;

    for (size_t i = 0; i < 2; i++) {
        ask(f, ANSWER_HTTP11, false);
        take_request(f);
        assert_int_equal(setsockopt(f->client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
        process_signal(&f->front, SIGSTOP);
        assert_int_equal(waitid(P_PID, (id_t)f->front.pid, &stopped, WSTOPPED), 0);
        client_send(f->client, next[i]);
        (void)close(f->client);
        f->client = -1;
        process_signal(&f->front, SIGCONT);
        assert_int_equal(client_recv(f->upstream, &byte, 1, 0), 0);
    }
}

static void test_a_client_that_ends_its_side_gets_its_answer(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    assert_int_equal(shutdown(f->client, SHUT_WR), 0);
    answer_ok(f);
}

/* ---- back-pressure ---- */

/* Both buffers of the kernel, on both sides, hold some megabytes. */
static void test_a_client_that_does_not_read_holds_up_its_upstream(void **state)
{
    enum { SIZE = 96 * 1024 * 1024 };
    struct fixture *f = *state;
    char *bytes = calloc(1, MB), head[96];
    size_t sent, got = 0;

    assert_non_null(bytes);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    (void)snprintf(head, sizeof(head), OK "Content-Length: %d\r\n\r\n", SIZE);
    client_send(f->upstream, head);
    sent = send_what_is_taken(f, bytes, MB, SIZE);
    assert_in_range(sent, 1, 32 * MB);
    read_head(f->client);
    while (got < SIZE) {
        size_t piece = SIZE - sent < MB ? SIZE - sent : MB;
        ssize_t n = piece > 0 ? send(f->upstream, bytes, piece, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (n > 0)
            sent += (size_t)n;
        n = client_recv(f->client, bytes, MB, 0);
        assert_true(n > 0);
        memset(bytes, 0, (size_t)n);
        got += (size_t)n;
    }
    assert_int_equal(got, SIZE);
    free(bytes);
    ask(f, ANSWER_HTTP11, false); /* both connections are good for more */
    take_request(f);
    answer_ok(f);
}

/* ---- metrics ---- */

static void test_what_happens_is_counted(void **state)
{
    struct fixture *f = *state;
    struct process admin = admin_of(&f->front);

    begin_with_one(f);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    end_upstream(f, CLOSE);
    take_request(f);
    answer_ok(f); /* once more */
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 200 OK\r\nX");
    end_upstream(f, CLOSE);
    expect_status(f, 502);
    char *text = admin_call(&admin, "GET", "/metrics", "", NULL);
    assert_contains(text, "\nlastcall_upstream_repeats_total 1\n");
    assert_contains(text, "\nlastcall_upstream_connects_total 2\n");
    assert_contains(text, "\nlastcall_upstream_failures_total{kind=\"ended\"} 1\n");
    assert_contains(text, "\nlastcall_upstream_failures_total{kind=\"connect\"} 0\n");
    assert_contains(text, "\nlastcall_upstream_connections 0\n");
    assert_contains(text, "\nlastcall_upstream_connections_idle 0\n");
    free(text);
    begin_with_one(f);
    text = admin_call(&admin, "GET", "/metrics", "", NULL);
    assert_contains(text, "\nlastcall_upstream_connections_idle 1\n");
    free(text);
}

/* ---- settings ---- */

static void test_numbers_out_of_range_are_refused(void **state)
{
    static const char *const lines[] = {"proxy.buffer: 100", "proxy.buffer: 100000000",
                                        "proxy.timeout.connect: 0",
                                        "proxy.timeout.first_byte: 100000000"};
    struct process p;
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        FILE *file = fopen(in_directory("bad"), "w");
        assert_non_null(file);
        (void)fprintf(file,
                      "listen: {host: 127.0.0.1, port: 0}\n%s\nhosts: {default: {paths: {/: "
                      "{proxy.reverse.url: \"http://127.0.0.1:1/\"}}}}\n",
                      lines[i]);
        (void)fclose(file);
        process_spawn(&p, (const char *const[]){"--conf", in_directory("bad"), NULL});
        process_expect(&p, 20000, 78);
        assert_contains(p.log, "want ");
        process_release(&p);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, fixture_tear_down)
#define UPLOAD(f) cmocka_unit_test_setup_teardown(f, set_up_for_uploads, fixture_tear_down)
#define PATIENT(f) cmocka_unit_test_setup_teardown(f, set_up_for_patience, fixture_tear_down)
#define HASTY(f) cmocka_unit_test_setup_teardown(f, set_up_hasty, fixture_tear_down)
#define HASTY_BYTES(f) cmocka_unit_test_setup_teardown(f, set_up_hasty_bytes, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_get_that_a_kept_connection_loses_is_sent_again),
        TEST(test_it_is_sent_again_once),
        TEST(test_a_post_that_was_read_is_not_sent_again),
        TEST(test_a_post_does_not_meet_a_connection_that_has_ended),
        TEST(test_nothing_is_sent_again_after_a_byte_of_an_answer),
        TEST(test_an_upstream_that_refuses_is_502),
        TEST(test_an_upstream_that_accepts_and_closes_is_502),
        TEST(test_garbage_is_502_before_it_ends),
        TEST(test_150_fields_are_passed_on),
        HASTY(test_no_answer_in_time_is_504),
        HASTY_BYTES(test_a_head_alone_is_504_in_time),
        HASTY_BYTES(test_an_answer_that_stops_is_cut),
        HASTY_BYTES(test_a_request_that_is_not_taken_is_504),
        UPLOAD(test_a_request_that_is_taken_slowly_is_not_cut),
        PATIENT(test_time_for_an_answer_begins_when_the_upstream_has_the_request),
        TEST(test_an_answer_before_the_end_of_the_request_is_passed_on),
        TEST(test_a_client_that_resets_ends_its_request_at_the_upstream),
        TEST(test_a_client_that_ends_its_side_gets_its_answer),
        TEST(test_a_client_that_does_not_read_holds_up_its_upstream),
        TEST(test_what_happens_is_counted),
        cmocka_unit_test(test_numbers_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

/* An upstream that takes connections and fails, a row for each fault: it ends, sends no answer,
 * hangs, or fails over TLS. The upstream is played by the test, the front is the real process. */

#include "tls_client.h"
#include "tls_server.h"
#include "with_fault.h"

#include <errno.h>
#include <netinet/in.h>
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

#define OK "HTTP/1.1 200 OK\r\n"
#define TWO OK "Content-Length: 2\r\n\r\nok"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define URL(url) "hosts: {default: {paths: {/: {proxy.reverse.url: \"" url "\"}}}}\n"
#define PLAIN URL("http://127.0.0.1:@/")
#define OVER_TLS "proxy.ssl.verify-peer: OFF\n" URL("https://127.0.0.1:@/")
/* Short is only the time that is to be over: however long this machine stands still, no other one
 * is. */
#define HASTY_HEAD "proxy.timeout.first_byte: 300\n"
#define HASTY_BYTES "proxy.timeout.first_byte: 20000\nproxy.timeout.io: 500\n"
#define HASTY_CONNECT "proxy.timeout.connect: 400\n"

/* ---- it ends ---- */

static void prepare_to_refuse(struct fixture *f)
{
    (void)close(f->listener);
    f->listener = -1;
}

static void play_nothing(struct fixture *f)
{
    (void)f;
}

static void play_reset_unread(struct fixture *f)
{
    take_connection(f);
    end_upstream(f, RESET);
}

static void test_an_upstream_that_ends_its_connection(void **state)
{
#define BEFORE(how)                                                                                \
    "the upstream " how " the connection without an answer", "first byte", "ended", NULL
#define IN_HEAD                                                                                    \
    "the upstream ended the connection in the head of its answer", "first byte", "ended", NULL
#define IN_BODY(how)                                                                               \
    "the upstream " how " the connection in the middle of its answer", "body", "cut", NULL
    static const struct fault faults[] = {
        {"refuses", NULL, 0, play_nothing, 502, "Connection refused", "connect", "connect",
         prepare_to_refuse},
        {"resets before it reads", NULL, 0, play_reset_unread, 502, BEFORE("reset")},
        {"closes without a word", "", CLOSE, NULL, 502, BEFORE("closed")},
        {"resets without a word", "", RESET, NULL, 502, BEFORE("reset")},
        {"closes in the status line", "HTTP/1.1 2", CLOSE, NULL, 502, IN_HEAD},
        {"resets in the status line", "HTTP/1.1 2", RESET, NULL, 502, IN_HEAD},
        {"closes in a field", OK "X-Fie", CLOSE, NULL, 502, IN_HEAD},
        {"closes before the empty line", OK "X: y\r\n", CLOSE, NULL, 502, IN_HEAD},
        {"closes after an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", CLOSE, NULL, 502,
         IN_HEAD},
        {"closes after the head", OK "Content-Length: 9\r\n\r\n", CLOSE, NULL, 502,
         IN_BODY("ended")},
        {"resets after the head", OK "Content-Length: 9\r\n\r\n", RESET, NULL, 502,
         IN_BODY("reset")},
        {"closes after the head of chunks", CHUNKED, CLOSE, NULL, 502, IN_BODY("ended")},
        {"closes in the body", OK "Content-Length: 9\r\n\r\nhalf", CLOSE, NULL, CUT,
         IN_BODY("ended")},
        {"resets in the body", OK "Content-Length: 9\r\n\r\nhalf", RESET, NULL, CUT,
         IN_BODY("reset")},
        {"closes in the size of a chunk", CHUNKED "4\r\nhalf\r\n1", CLOSE, NULL, CUT,
         IN_BODY("ended")},
        {"closes in a chunk", CHUNKED "8\r\nhalf", CLOSE, NULL, CUT, IN_BODY("ended")},
        {"resets in a chunk", CHUNKED "8\r\nhalf", RESET, NULL, CUT, IN_BODY("reset")},
        {"closes before the last chunk", CHUNKED "4\r\nhalf\r\n", CLOSE, NULL, CUT,
         IN_BODY("ended")},
        {"closes in the trailer", CHUNKED "4\r\nhalf\r\n0\r\nX: y\r\n", CLOSE, NULL, CUT,
         IN_BODY("ended")},
    };
    (void)state;
    expect_faults(PLAIN, faults, COUNT(faults));
}

/* ---- what it sends is no answer ---- */

/* Until the front has enough. */
static void send_endlessly(struct fixture *f, const char *begin, const char *bytes, size_t most)
{
    size_t size = strlen(bytes), sent = 0;

    take_request(f);
    client_send(f->upstream, begin);
    while (sent < most) {
        ssize_t n = send(f->upstream, bytes, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    assert_true(sent < most || most <= 1024 * 1024);
    end_upstream(f, CLOSE);
}

static void play_large_head(struct fixture *f)
{
    static char value[65536];

    memset(value, 'a', sizeof(value) - 1);
    send_endlessly(f, OK "X: ", value, 1024 * 1024);
}

static void play_many_fields(struct fixture *f)
{
    take_request(f);
    client_send(f->upstream, OK);
    for (unsigned i = 0; i < 201; i++)
        client_send(f->upstream, "X: y\r\n");
    client_send(f->upstream, "\r\n");
}

static void play_endless_interims(struct fixture *f)
{
    send_endlessly(f, "", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", (size_t)1 << 30);
}

static void test_an_upstream_that_sends_no_answer(void **state)
{
#define NO_HTTP "the upstream sent no HTTP/1 answer", "answer", "malformed", NULL
#define BAD(what) "the upstream sent " what, "answer", "malformed", NULL
    static const struct fault faults[] = {
        {"speaks SMTP", "220 mail.example ESMTP\r\n", KEEP, NULL, 502, NO_HTTP},
        {"speaks TLS", "\x15\x03\x03\x01", KEEP, NULL, 502, NO_HTTP},
        {"speaks HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", KEEP, NULL, 502, NO_HTTP},
        {"sends a page without a head", "<html>", KEEP, NULL, 502, NO_HTTP},
        {"sends a line without a colon", OK "nothing\r\n\r\n", KEEP, NULL, 502,
         BAD("a malformed head")},
        {"sends two lengths", OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", KEEP, NULL, 502,
         BAD("Content-Length twice")},
        {"sends a chunk of no size", CHUNKED "zz\r\n", KEEP, NULL, 502, BAD("a malformed chunk")},
        {"sends a head of a megabyte", NULL, 0, play_large_head, 502,
         BAD("a head of more than 64 KiB")},
        {"sends 201 fields", NULL, 0, play_many_fields, 502,
         BAD("a head with more than 200 fields")},
        {"sends interim answers without end", NULL, 0, play_endless_interims, 502,
         BAD("more than 64 interim answers")},
    };
    (void)state;
    expect_faults(PLAIN, faults, COUNT(faults));
}

/* ---- it hangs ---- */

/* The queue of the listener is full: no connection is accepted. */
static void prepare_full_queue(struct fixture *f)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);

    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(f->listener, 0), 0);
    f->upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(f->upstream, (struct sockaddr *)&address, len), 0);
}

#define NO_ANSWER "the upstream did not answer in time", "first byte", "first-byte-time"

static void test_an_upstream_that_hangs_before_its_answer(void **state)
{
    static const struct fault faults[] = {
        {"takes no connection", NULL, 0, play_nothing, 504,
         "the upstream did not accept the connection in time", "connect", "connect-time",
         prepare_full_queue},
    };
    static const struct fault later[] = {
        {"says nothing", "", KEEP, NULL, 504, NO_ANSWER, NULL},
        {"stops in the status line", "HTTP/1.1 2", KEEP, NULL, 504, NO_ANSWER, NULL},
        {"stops in a field", OK "X: ", KEEP, NULL, 504, NO_ANSWER, NULL},
        {"stops after an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", KEEP, NULL, 504,
         NO_ANSWER, NULL},
    };
    (void)state;
    expect_faults(HASTY_CONNECT PLAIN, faults, COUNT(faults));
    expect_faults(HASTY_HEAD PLAIN, later, COUNT(later));
}

static void test_an_upstream_that_hangs_in_its_answer(void **state)
{
#define STOPPED                                                                                    \
    "the upstream stopped in the middle of its answer", "between bytes", "between-bytes-time"
    static const struct fault faults[] = {
        {"stops after the head", OK "Content-Length: 9\r\n\r\n", KEEP, NULL, 504, STOPPED, NULL},
        {"stops in the body", OK "Content-Length: 9\r\n\r\nhalf", KEEP, NULL, CUT, STOPPED, NULL},
        {"stops in the size of a chunk", CHUNKED "4\r\nhalf\r\n1", KEEP, NULL, CUT, STOPPED, NULL},
        {"stops in a chunk", CHUNKED "8\r\nhalf", KEEP, NULL, CUT, STOPPED, NULL},
        {"stops before the last chunk", CHUNKED "4\r\nhalf\r\n", KEEP, NULL, CUT, STOPPED, NULL},
        {"stops in a body without a length", OK "\r\nhalf", KEEP, NULL, CUT, STOPPED, NULL},
    };
    (void)state;
    expect_faults(HASTY_BYTES PLAIN, faults, COUNT(faults));
}

/* Larger than the buffers of both kernels. */
static void test_an_upstream_that_does_not_take_a_request(void **state)
{
    enum { SIZE = 16 * 1024 * 1024 };
    static const struct fault fault = {"takes no request",
                                       NULL,
                                       0,
                                       NULL,
                                       504,
                                       "the upstream did not take the request in time",
                                       "send",
                                       "send-time",
                                       NULL};
    char *body = malloc(SIZE + 1), head[128];
    struct fixture *f = *state;

    assert_non_null(body);
    memset(body, 'b', SIZE);
    body[SIZE] = '\0';
    (void)snprintf(head, sizeof(head), "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
                   SIZE);
    struct process admin = admin_of(&f->front);
    f->client = client_connect(&f->front);
    client_send(f->client, head);
    client_send(f->client, body);
    free(body);
    take_connection(f);
    expect_answer(f, ANSWER_HTTP11, &fault);
    expect_counts(&admin, &fault, 1);
    expect_line(f, &fault);
}

static int set_up_hasty(void **state)
{
    return fixture_start(state, HASTY_BYTES PLAIN);
}

/* ---- over TLS ---- */

/* In the one before, the handshake may be unread. */
static void take_new_connection(struct fixture *f)
{
    end_upstream(f, CLOSE);
    take_connection(f);
}

static void play_no_handshake(struct fixture *f)
{
    take_new_connection(f);
}

static void play_end_in_handshake(struct fixture *f)
{
    take_new_connection(f);
    end_upstream(f, CLOSE);
}

static void play_plain_answer(struct fixture *f)
{
    take_new_connection(f);
    client_send(f->upstream, TWO);
}

/* With the request read. The SSL owns the socket. */
static SSL *take_request_over_tls(struct fixture *f)
{
    char request[4096];

    take_connection(f);
    SSL *ssl = tls_serve(f->upstream);
    assert_non_null(ssl);
    f->upstream = -1;
    tls_read_until(ssl, request, sizeof(request), "\r\n\r\n");
    return ssl;
}

static void play_end_over_tls(struct fixture *f)
{
    tls_hang_up(take_request_over_tls(f));
}

static void play_cut_over_tls(struct fixture *f)
{
    SSL *ssl = take_request_over_tls(f);

    tls_write(ssl, OK "Content-Length: 9\r\n\r\nhalf");
    tls_hang_up(ssl);
}

static void test_an_upstream_that_fails_over_tls(void **state)
{
    static const struct fault faults[] = {
        {"does not shake hands", NULL, 0, play_no_handshake, 504,
         "the TLS handshake with the upstream took too long", "connect", "connect-time", NULL},
    };
    static const struct fault others[] = {
        {"ends in the handshake", NULL, 0, play_end_in_handshake, 502, "", "TLS handshake", "tls",
         NULL},
        {"speaks without TLS", NULL, 0, play_plain_answer, 502, "", "TLS handshake", "tls", NULL},
        {"ends before its answer", NULL, 0, play_end_over_tls, 502, "without an answer",
         "first byte", "ended", NULL},
        {"ends in its answer", NULL, 0, play_cut_over_tls, CUT, "in the middle of its answer",
         "body", "cut", NULL},
    };
    (void)state;
    expect_faults(HASTY_CONNECT OVER_TLS, faults, COUNT(faults));
    expect_faults(OVER_TLS, others, COUNT(others));
}

static int set_up_all(void **state)
{
    (void)signal(SIGPIPE, SIG_IGN); /* see tls_client.h */
    return make_directory(state);
}

#define ROWS(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROWS(test_an_upstream_that_ends_its_connection),
        ROWS(test_an_upstream_that_sends_no_answer),
        ROWS(test_an_upstream_that_hangs_before_its_answer),
        ROWS(test_an_upstream_that_hangs_in_its_answer),
        cmocka_unit_test_setup_teardown(test_an_upstream_that_does_not_take_a_request, set_up_hasty,
                                        fixture_tear_down),
        ROWS(test_an_upstream_that_fails_over_tls),
    };
    return cmocka_run_group_tests(tests, set_up_all, remove_directory);
}

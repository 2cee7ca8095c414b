/* Interim answers (1xx) of an upstream, on their way to every kind of client: they come before the
 * final answer, or not at all, and never harm it. Client and upstream are sockets of the test's
 * own. */

#include "with_config.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "h2_by_hand.h"
#include "loopback.h"
#include "tls_client.h"

#define HINT "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; nopush\r\n\r\n"
#define FINAL "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define UPGRADE "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"
#define SWITCHES "HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"
#define PIECE 1500

static struct {
    struct process front;
    int listener, client, upstream;
} t;

/* ---- the fixture ---- */

static void start_front(const char *listen, const char *more)
{
    char conf[1024];
    uint16_t port;

    t.client = t.upstream = -1;
    t.listener = listen_here(&port, 16);
    (void)snprintf(conf, sizeof(conf),
                   "listen: {host: 127.0.0.1, port: 0%s}\nnum-threads: 1\n%s%shosts:\n"
                   "  default:\n    paths:\n      /:\n        proxy.websocket: ON\n"
                   "        proxy.reverse.url: http://127.0.0.1:%u/\n",
                   listen, strstr(more, "drain:") == NULL ? "drain: {idle-grace: 0s}\n" : "", more,
                   port);
    start(&t.front, conf);
}

/* Nothing after `end` is read: more than one head may have come. */
static char *read_to(int fd, const char *end)
{
    enum { ROOM = 65536 };
    char *text = calloc(1, ROOM);
    size_t size = 0, end_size = strlen(end);

    assert_non_null(text);
    while (size < end_size || memcmp(text + size - end_size, end, end_size) != 0) {
        assert_true(size + 1 < ROOM);
        if (client_recv(fd, text + size, 1, 0) != 1)
            fail_msg("no end of this: %s", text);
        size++;
    }
    return text;
}

static void skip_to(int fd, const char *end)
{
    free(read_to(fd, end));
}

static void take_upstream(void)
{
    const struct timeval patience = {.tv_sec = 30};

    t.upstream = accept(t.listener, NULL, NULL);
    assert_true(t.upstream >= 0);
    assert_int_equal(setsockopt(t.upstream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    skip_to(t.upstream, "\r\n\r\n");
}

static void ask(const char *request)
{
    t.client = client_connect(&t.front);
    client_send(t.client, request);
    take_upstream();
}

/* The next head that the client gets; it has `want`. */
static void expect_head(const char *want)
{
    char *head = read_to(t.client, "\r\n\r\n");
    assert_contains(head, want);
    free(head);
}

static void expect_final(void)
{
    expect_head("HTTP/1.1 200 ");
    skip_to(t.client, "ok");
}

static void close_all(void)
{
    process_release(&t.front);
    (void)close(t.client);
    (void)close(t.upstream);
    (void)close(t.listener);
}

static void stop_and_close_all(void)
{
    process_signal(&t.front, SIGTERM);
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

/* A client to whom the front's kernel can give little: it reads nothing, and has small segments,
 * for which the kernel makes a small buffer. */
static void connect_narrow(void)
{
    const struct timeval patience = {.tv_sec = 30};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(t.front.port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int least = 1, segment = 88;

    t.client = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(t.client >= 0);
    assert_int_equal(setsockopt(t.client, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    assert_int_equal(setsockopt(t.client, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
    assert_int_equal(setsockopt(t.client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(t.client, (const struct sockaddr *)&address, sizeof(address)), 0);
}

/* `count` of them, number I with the field `n: I`, and long enough that 40 do not fit. */
static void send_hints(unsigned count)
{
    char hint[PIECE + 128];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(hint, sizeof(hint), "HTTP/1.1 103 Early\r\nN: %u\r\nX: %0*d\r\n\r\n", i,
                       PIECE, 0);
        client_send(t.upstream, hint);
    }
}

static void expect_hints(unsigned count)
{
    char want[32];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(want, sizeof(want), "\r\nN: %u\r\n", i);
        expect_head(want);
    }
}

/* The front has read all that the upstream has sent. */
static void wait_until_read(void)
{
    client_wait_taken(t.upstream);
}

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(fd);
}

/* The front has closed its connection to the upstream, whether in order or not. */
static void expect_upstream_is_left(void)
{
    char byte;
    assert_true(client_recv(t.upstream, &byte, 1, 0) <= 0);
}

/* ---- HTTP/1 ---- */

static void test_a_hint_comes_before_its_answer(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, HINT);
    expect_head("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; nopush\r\n\r\n");
    client_send(t.upstream, "HTTP/1.1 102 Processing\r\n\r\n");
    expect_head("HTTP/1.1 102 Processing\r\n\r\n");
    client_send(t.upstream, FINAL);
    expect_final();
    stop_and_close_all();
}

/* The write of the first one is under way when the next one comes, and the final answer. The
 * connections are good for more. */
static void test_all_may_come_at_once(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    for (unsigned i = 0; i < 10; i++) {
        if (i > 0) {
            client_send(t.client, GET("/"));
            skip_to(t.upstream, "\r\n\r\n");
        }
        client_send(t.upstream, HINT "HTTP/1.1 199 \r\nN: 2\r\n\r\n" HINT FINAL);
        expect_head("HTTP/1.1 103 ");
        expect_head("HTTP/1.1 199 \r\nN: 2\r\n\r\n");
        expect_head("HTTP/1.1 103 ");
        expect_final();
    }
    stop_and_close_all();
}

static void test_fields_of_a_connection_are_not_passed_on(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\nconnection: Close, X-Hop\r\nX-Hop: 1\r\n"
                            "Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 7\r\n"
                            "Server: other\r\nDate: today\r\nX-Compress-Hint: on\r\n"
                            "X-kEPT: yes\r\n\r\n");
    char *head = read_to(t.client, "\r\n\r\n");
    assert_string_equal(head, "HTTP/1.1 103 Early Hints\r\nX-kEPT: yes\r\n\r\n");
    free(head);
    client_send(t.upstream, FINAL);
    expect_final();
    stop_and_close_all();
}

static void test_100_is_not_for_the_client(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, "HTTP/1.1 100 Continue\r\n\r\n" FINAL);
    expect_final();
    stop_and_close_all();
}

static void test_a_client_of_http10_gets_none(void **state)
{
    (void)state;
    start_front("", "");
    ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client_send(t.upstream, HINT);
    wait_until_read();
    client_send(t.upstream, HINT FINAL);
    expect_final();
    stop_and_close_all();
}

/* The first 1xx is the library's, of which the upstream knows nothing. */
static void test_a_body_that_was_asked_for_and_hints(void **state)
{
    (void)state;
    start_front("", "");
    t.client = client_connect(&t.front);
    client_send(t.client, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                          "Content-Length: 4\r\n\r\n");
    expect_head("HTTP/1.1 100 Continue\r\n\r\n");
    client_send(t.client, "body");
    take_upstream();
    skip_to(t.upstream, "body");
    client_send(t.upstream, "HTTP/1.1 100 Continue\r\n\r\n" HINT FINAL);
    expect_head("HTTP/1.1 103 ");
    expect_final();
    stop_and_close_all();
}

static void test_a_hint_may_be_followed_by_502(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, HINT "nonsense\r\n\r\n");
    expect_head("HTTP/1.1 103 ");
    expect_head("HTTP/1.1 502 ");
    stop_and_close_all();
}

static void test_a_hint_may_be_followed_by_another_protocol(void **state)
{
    char got[9];
    (void)state;
    start_front("", "");
    ask(UPGRADE);
    client_send(t.upstream, HINT SWITCHES "early");
    expect_head("HTTP/1.1 103 ");
    expect_head("HTTP/1.1 101 ");
    client_send(t.client, "pass");
    assert_int_equal(client_recv(t.client, got, 5, MSG_WAITALL), 5);
    assert_memory_equal(got, "early", 5);
    assert_int_equal(client_recv(t.upstream, got, 4, MSG_WAITALL), 4);
    assert_memory_equal(got, "pass", 4);
    reset(t.client);
    t.client = -1;
    expect_upstream_is_left();
    stop_and_close_all();
}

/* ---- other answers that follow ---- */

static void test_a_hint_of_a_request_that_is_sent_on(void **state)
{
    (void)state;
    start_front("", "reproxy: ON\n");
    ask(GET("/"));
    client_send(t.upstream, HINT "HTTP/1.1 200 OK\r\nX-Reproxy-URL: /on\r\n"
                                 "Content-Length: 0\r\n\r\n");
    char *request = read_to(t.upstream, "\r\n\r\n");
    assert_contains(request, "GET /on ");
    free(request);
    client_send(t.upstream, HINT FINAL);
    expect_head("HTTP/1.1 103 ");
    expect_head("HTTP/1.1 103 ");
    expect_final();
    stop_and_close_all();
}

/* Sent on to an error at once: that is the final answer. */
static void test_a_hint_of_a_request_that_is_sent_nowhere(void **state)
{
    (void)state;
    start_front("", "reproxy: ON\n");
    ask(GET("/"));
    client_send(t.upstream, HINT "HTTP/1.1 200 OK\r\nX-Reproxy-URL: http://[::1/\r\n"
                                 "Content-Length: 0\r\n\r\n");
    expect_head("HTTP/1.1 103 ");
    expect_head("HTTP/1.1 502 ");
    stop_and_close_all();
}

/* An answer that begins while a hint is being written, and that another one replaces. */
static void test_a_hint_and_the_document_of_an_error(void **state)
{
    (void)state;
    start_front("", "error-doc: {status: 502, url: \"/doc\"}\n");
    ask(GET("/"));
    client_send(t.upstream, HINT "nonsense\r\n\r\n");
    expect_head("HTTP/1.1 103 ");
    (void)close(t.upstream);
    take_upstream();
    client_send(t.upstream, HINT FINAL);
    expect_head("HTTP/1.1 103 ");
    expect_head("HTTP/1.1 502 ");
    skip_to(t.client, "ok");
    stop_and_close_all();
}

static void test_filters_of_the_answer_do_their_work(void **state)
{
    (void)state;
    start_front("", "throttle-response: ON\ncompress: ON\n");
    ask("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    client_send(t.upstream, HINT "HTTP/1.1 200 OK\r\nX-Traffic: 100000\r\nX-Compress-Hint: off\r\n"
                                 "Content-Length: 2\r\n\r\nok");
    expect_head("HTTP/1.1 103 ");
    expect_final();
    client_send(t.client, "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    skip_to(t.upstream, "\r\n\r\n");
    client_send(t.upstream, HINT "HTTP/1.1 200 OK\r\nX-Traffic: 100000\r\n"
                                 "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "4\r\nbody\r\n0\r\n\r\n");
    expect_head("HTTP/1.1 103 ");
    expect_head("content-encoding: gzip");
    skip_to(t.client, "\r\n0\r\n\r\n");
    stop_and_close_all();
}

/* ---- limits ---- */

/* In all 64 KiB of heads for one request: what comes after that is dropped. */
static void test_too_much_is_dropped(void **state)
{
    enum { LARGE = 30000 };
    static char hint[LARGE + 128];
    (void)state;
    start_front("", "");
    ask(GET("/"));
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(hint, sizeof(hint), "HTTP/1.1 103 Early\r\nN: %u\r\nX: %0*d\r\n\r\n", i,
                       LARGE, 0);
        client_send(t.upstream, hint);
    }
    client_send(t.upstream, HINT FINAL); /* a small one has room again */
    expect_hints(2);
    expect_head("HTTP/1.1 103 Early Hints\r\n");
    expect_final();
    stop_and_close_all();
}

/* The front writes what the client does not take: the next ones wait, and the final answer after
 * them. */
static void test_a_client_that_does_not_read_gets_all_in_order(void **state)
{
    (void)state;
    start_front("", "");
    connect_narrow();
    client_send(t.client, GET("/"));
    take_upstream();
    send_hints(40);
    wait_until_read();
    client_send(t.upstream, FINAL);
    wait_until_read();
    expect_hints(40);
    expect_final();
    client_send(t.client, GET("/"));
    skip_to(t.upstream, "\r\n\r\n");
    client_send(t.upstream, HINT FINAL);
    expect_head("HTTP/1.1 103 ");
    expect_final();
    stop_and_close_all();
}

/* 101 waits, too, and what follows it. */
static void test_a_tunnel_waits_for_a_client_that_does_not_read(void **state)
{
    char got[5];
    (void)state;
    start_front("", "");
    connect_narrow();
    client_send(t.client, UPGRADE);
    take_upstream();
    send_hints(40);
    client_send(t.upstream, SWITCHES "early");
    wait_until_read();
    expect_hints(40);
    expect_head("HTTP/1.1 101 ");
    assert_int_equal(client_recv(t.client, got, 5, MSG_WAITALL), 5);
    assert_memory_equal(got, "early", 5);
    reset(t.client);
    t.client = -1;
    expect_upstream_is_left();
    stop_and_close_all();
}

/* ---- the client leaves ---- */

static void test_a_client_may_leave_after_a_hint(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, HINT);
    expect_head("HTTP/1.1 103 ");
    reset(t.client);
    t.client = -1;
    expect_upstream_is_left();
    stop_and_close_all();
}

/* With interim answers that are being written, and with a final one (or 101) that waits for them.
 */
static void leave_unread(const char *listen, const char *request, const char *last)
{
    start_front(listen, "");
    connect_narrow();
    client_send(t.client, request);
    take_upstream();
    send_hints(40);
    client_send(t.upstream, last);
    wait_until_read();
    reset(t.client);
    t.client = -1;
    /* The front may keep the upstream's connection; it has to live, and to be free for others. */
    stop_and_close_all();
}

static void test_a_client_may_leave_with_hints_unread(void **state)
{
    (void)state;
    leave_unread("", GET("/"), "");
    leave_unread("", GET("/"), FINAL);
    leave_unread("", GET("/"), "HTTP/1.1 200 OK\r\n\r\nwithout an end");
    leave_unread("", UPGRADE, SWITCHES);
}

/* ---- TLS ---- */

static void test_a_hint_goes_through_tls(void **state)
{
    char text[4096];
    (void)state;
    start_front(", " SSL("a"), "");
    t.client = client_connect(&t.front);
    SSL *ssl = tls_connect(t.client, NULL);
    assert_non_null(ssl);
    tls_write(ssl, GET("/"));
    take_upstream();
    client_send(t.upstream, HINT);
    tls_read_until(ssl, text, sizeof(text), "\r\n\r\n");
    assert_contains(text, "HTTP/1.1 103 Early Hints\r\n");
    client_send(t.upstream, HINT HINT FINAL);
    tls_read_until(ssl, text, sizeof(text), "ok");
    assert_int_equal(count_in(text, "HTTP/1.1 103 "), 2);
    assert_contains(text, "HTTP/1.1 200 ");
    tls_hang_up(ssl);
    t.client = -1;
    stop_and_close_all();
}

/* The socket lives on until its close_notify is written, and the request does not. */
static void test_a_client_may_leave_tls_with_hints_unread(void **state)
{
    static const char *const last[] = {"", FINAL};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        start_front(", " SSL("a"), "");
        connect_narrow();
        SSL *ssl = tls_connect(t.client, NULL);
        assert_non_null(ssl);
        tls_write(ssl, GET("/"));
        take_upstream();
        send_hints(40);
        client_send(t.upstream, last[i]);
        wait_until_read();
        tls_cut(ssl);
        t.client = -1;
        stop_and_close_all();
    }
}

/* ---- HTTP/2 ---- */

static void expect_h2_hint(uint32_t stream)
{
    static struct h2_got got;

    assert_true(h2_await(t.client, H2_HEADERS, stream, &got));
    assert_int_equal(got.flags, H2_END_HEADERS);
    assert_memory_equal(got.payload,
                        "\x08\x03"
                        "103",
                        5);
}

static void ask_h2(void)
{
    t.client = h2_connect(&t.front, false);
    h2_send_get(t.client, 1, "/");
    take_upstream();
}

static void test_a_hint_comes_before_its_answer_in_http2(void **state)
{
    (void)state;
    start_front("", "");
    ask_h2();
    client_send(t.upstream, HINT);
    expect_h2_hint(1);
    client_send(t.upstream, "HTTP/1.1 100 Continue\r\n\r\n" HINT HINT FINAL);
    expect_h2_hint(1);
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    h2_send_get(t.client, 3, "/");
    skip_to(t.upstream, "\r\n\r\n");
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(3);
    assert_int_equal(h2_await_status(t.client, 3), 200);
    stop_and_close_all();
}

/* The client waits for a change of the table to be confirmed. */
static void test_a_client_with_a_smaller_table_gets_no_hint(void **state)
{
    (void)state;
    start_front("", "");
    t.client = h2_connect(&t.front, false);
    h2_send_frame(t.client, H2_SETTINGS, 0, 0, "\0\x01\0\0\x0f\xff", 6);
    h2_send_get(t.client, 1, "/");
    take_upstream();
    client_send(t.upstream, HINT FINAL);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    stop_and_close_all();
}

/* More than SETTINGS_MAX_FRAME_SIZE; the final answer gets as many frames as it takes. */
static void test_a_hint_larger_than_a_frame_is_dropped_in_http2(void **state)
{
    enum { LARGE = 30000 };
    static char hint[LARGE + 128];
    (void)state;
    start_front("", "");
    ask_h2();
    (void)snprintf(hint, sizeof(hint), "HTTP/1.1 103 Early\r\nX: %0*d\r\n\r\n", LARGE, 0);
    client_send(t.upstream, hint);
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    stop_and_close_all();
}

static void test_a_stream_may_be_reset_after_a_hint(void **state)
{
    (void)state;
    start_front("", "");
    ask_h2();
    client_send(t.upstream, HINT);
    expect_h2_hint(1);
    h2_send_number(t.client, H2_RST, 1, 8);
    expect_upstream_is_left();
    (void)close(t.upstream);
    h2_send_get(t.client, 3, "/");
    take_upstream();
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(3);
    assert_int_equal(h2_await_status(t.client, 3), 200);
    stop_and_close_all();
}

/* It reads nothing, and then all: as many as the buffer has taken, and the final answer. */
static void test_an_http2_client_that_does_not_read_gets_its_answer(void **state)
{
    (void)state;
    start_front("", "");
    connect_narrow();
    h2_send(t.client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    h2_send_frame(t.client, H2_SETTINGS, 0, 0, NULL, 0);
    h2_send_get(t.client, 1, "/");
    take_upstream();
    send_hints(40);
    client_send(t.upstream, FINAL);
    wait_until_read();
    expect_h2_hint(1);
    int status;
    do
        status = h2_await_status(t.client, 1);
    while (status == 103);
    assert_int_equal(status, 200);
    stop_and_close_all();
}

/* ---- a drain ---- */

static void begin_drain(void)
{
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "listeners closed");
}

static void test_a_drain_between_a_hint_and_its_answer(void **state)
{
    (void)state;
    start_front("", "");
    ask(GET("/"));
    client_send(t.upstream, HINT);
    expect_head("HTTP/1.1 103 ");
    begin_drain();
    client_send(t.upstream, HINT FINAL);
    expect_head("HTTP/1.1 103 ");
    expect_head("Connection: close");
    skip_to(t.client, "ok");
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

static void test_a_drain_between_a_hint_and_its_answer_in_http2(void **state)
{
    (void)state;
    start_front("", "");
    ask_h2();
    client_send(t.upstream, HINT);
    expect_h2_hint(1);
    begin_drain();
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

/* The client takes nothing: the deadline ends it, with and without a final answer that waits. */
static void test_the_deadline_ends_a_client_that_does_not_read(void **state)
{
    static const char *const last[] = {"", FINAL};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        start_front("", "drain: {deadline: 500ms}\n");
        connect_narrow();
        client_send(t.client, GET("/"));
        take_upstream();
        send_hints(40);
        client_send(t.upstream, last[i]);
        wait_until_read();
        process_signal(&t.front, SIGTERM);
        process_expect(&t.front, LIMIT_MS, 3);
        assert_contains(t.front.log, "unfinished: GET /");
        close_all();
    }
}

/* What it takes before the deadline is whole. */
static void test_a_drain_waits_for_a_client_that_reads_late(void **state)
{
    (void)state;
    start_front("", "drain: {deadline: 20s}\n");
    connect_narrow();
    client_send(t.client, GET("/"));
    take_upstream();
    send_hints(40);
    client_send(t.upstream, FINAL);
    wait_until_read();
    begin_drain();
    expect_hints(40);
    expect_final();
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_hint_comes_before_its_answer),
        TEST(test_all_may_come_at_once),
        TEST(test_fields_of_a_connection_are_not_passed_on),
        TEST(test_100_is_not_for_the_client),
        TEST(test_a_client_of_http10_gets_none),
        TEST(test_a_body_that_was_asked_for_and_hints),
        TEST(test_a_hint_may_be_followed_by_502),
        TEST(test_a_hint_may_be_followed_by_another_protocol),
        TEST(test_a_hint_of_a_request_that_is_sent_on),
        TEST(test_a_hint_of_a_request_that_is_sent_nowhere),
        TEST(test_a_hint_and_the_document_of_an_error),
        TEST(test_filters_of_the_answer_do_their_work),
        TEST(test_too_much_is_dropped),
        TEST(test_a_client_that_does_not_read_gets_all_in_order),
        TEST(test_a_tunnel_waits_for_a_client_that_does_not_read),
        TEST(test_a_client_may_leave_after_a_hint),
        TEST(test_a_client_may_leave_with_hints_unread),
        TEST(test_a_hint_goes_through_tls),
        TEST(test_a_client_may_leave_tls_with_hints_unread),
        TEST(test_a_hint_comes_before_its_answer_in_http2),
        TEST(test_a_client_with_a_smaller_table_gets_no_hint),
        TEST(test_a_hint_larger_than_a_frame_is_dropped_in_http2),
        TEST(test_a_stream_may_be_reset_after_a_hint),
        TEST(test_an_http2_client_that_does_not_read_gets_its_answer),
        TEST(test_a_drain_between_a_hint_and_its_answer),
        TEST(test_a_drain_between_a_hint_and_its_answer_in_http2),
        TEST(test_the_deadline_ends_a_client_that_does_not_read),
        TEST(test_a_drain_waits_for_a_client_that_reads_late),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

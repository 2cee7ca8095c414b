/* Interim answers (1xx) of an upstream: clients of HTTP/2 get them before the final answer, or not
 * at all; clients of HTTP/1 get none. They never harm the final one. Client and upstream are
 * sockets of the test's own. */

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

/* Many of them lose their answer after one: see interim.h. */
static void test_clients_of_http1_get_none(void **state)
{
    static const char *const requests[] = {GET("/"),
                                           "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        start_front("", "");
        ask(requests[i]);
        client_send(t.upstream, HINT);
        wait_until_read();
        client_send(t.upstream, HINT "HTTP/1.1 100 Continue\r\n\r\n" FINAL);
        expect_final();
        stop_and_close_all();
    }
}

static void test_a_hint_may_be_followed_by_another_protocol(void **state)
{
    char got[5];
    (void)state;
    start_front("", "");
    ask(UPGRADE);
    client_send(t.upstream, HINT SWITCHES "early");
    expect_head("HTTP/1.1 101 ");
    assert_int_equal(client_recv(t.client, got, 5, MSG_WAITALL), 5);
    assert_memory_equal(got, "early", 5);
    reset(t.client);
    t.client = -1;
    expect_upstream_is_left();
    stop_and_close_all();
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

/* Both hints are the same to the client: what is for a connection, or for this server, is left out.
 */
static void test_fields_that_are_not_for_the_client_are_left_out(void **state)
{
    static struct h2_got all, kept;
    (void)state;
    start_front("", "");
    ask_h2();
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\nX-kEPT: yes\r\n\r\n");
    assert_true(h2_await(t.client, H2_HEADERS, 1, &kept));
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\nconnection: Close, X-Hop\r\nX-Hop: 1\r\n"
                            "Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 7\r\n"
                            "Server: other\r\nDate: today\r\nX-Compress-Hint: on\r\n"
                            "X-Reproxy-URL: http://inside/\r\nX-Traffic: 5\r\n"
                            "X-kEPT: yes\r\n\r\n");
    assert_true(h2_await(t.client, H2_HEADERS, 1, &all));
    assert_int_equal(all.size, kept.size);
    assert_memory_equal(all.payload, kept.payload, kept.size);
    client_send(t.upstream, FINAL);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    stop_and_close_all();
}

#define HEADER_DIRECTIVES                                                                          \
    "header.unset: X-Secret\nheader.unset: Via\nheader.set: \"X-Set: ours\"\n"                     \
    "header.append: \"X-Append: ours\"\nheader.merge: \"Cache-Control: private\"\n"                \
    "header.add: \"X-Add: ours\"\nheader.setifempty: \"X-Empty: ours\"\n"
/* The directives change none of these fields, and each of the next. */
#define AS_THEY_ARE "X-Own: theirs\r\nX-Add: theirs\r\nX-Empty: theirs\r\n"
#define CHANGED                                                                                    \
    "x-SECRET: theirs\r\nVia: theirs\r\nX-Set: theirs\r\nX-Append: theirs\r\n"                     \
    "Cache-Control: max-age=5\r\n"

static void test_a_field_that_the_configuration_changes_is_not_in_a_hint(void **state)
{
    static struct h2_got all, kept;
    (void)state;
    start_front("", HEADER_DIRECTIVES);
    ask_h2();
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\n" AS_THEY_ARE "\r\n");
    assert_true(h2_await(t.client, H2_HEADERS, 1, &kept));
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\n" CHANGED AS_THEY_ARE CHANGED "\r\n");
    assert_true(h2_await(t.client, H2_HEADERS, 1, &all));
    assert_int_equal(all.size, kept.size);
    assert_memory_equal(all.payload, kept.payload, kept.size);
    assert_true(kept.size > strlen("X-OwnX-AddX-Empty")); /* they are in it */
    client_send(t.upstream, FINAL);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    stop_and_close_all();
}

static void test_the_final_answer_is_as_the_configuration_has_it(void **state)
{
    (void)state;
    start_front("", HEADER_DIRECTIVES);
    ask(GET("/"));
    client_send(t.upstream, "HTTP/1.1 103 Early Hints\r\n" CHANGED AS_THEY_ARE "\r\n");
    client_send(t.upstream,
                "HTTP/1.1 200 OK\r\n" CHANGED AS_THEY_ARE "Content-Length: 2\r\n\r\nok");
    char *head = read_to(t.client, "\r\n\r\n");
    assert_contains(head, AS_THEY_ARE);
    assert_contains(head, "\r\nX-Append: theirs, ours\r\n");
    assert_contains(head, "\r\nCache-Control: max-age=5, private\r\n");
    assert_contains(head, "\r\nx-set: ours\r\n");
    assert_contains(head, "\r\nx-add: ours\r\n");
    assert_null(strcasestr(head, "x-secret"));
    assert_null(strcasestr(head, "via:"));
    assert_null(strcasestr(head, "x-set: theirs"));
    assert_null(strcasestr(head, "x-empty: ours"));
    free(head);
    skip_to(t.client, "ok");
    stop_and_close_all();
}

static void test_a_hint_may_be_followed_by_502(void **state)
{
    (void)state;
    start_front("", "");
    ask_h2();
    client_send(t.upstream, HINT "nonsense\r\n\r\n");
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 502);
    stop_and_close_all();
}

static void test_a_hint_of_a_request_that_is_sent_on(void **state)
{
    (void)state;
    start_front("", "reproxy: ON\n");
    ask_h2();
    client_send(t.upstream, HINT "HTTP/1.1 200 OK\r\nX-Reproxy-URL: /on\r\n"
                                 "Content-Length: 0\r\n\r\n");
    skip_to(t.upstream, "\r\n\r\n");
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(1);
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 200);
    stop_and_close_all();
}

static void test_a_hint_and_the_document_of_an_error(void **state)
{
    (void)state;
    start_front("", "error-doc: {status: 502, url: \"/doc\"}\n");
    ask_h2();
    client_send(t.upstream, HINT "nonsense\r\n\r\n");
    expect_h2_hint(1);
    (void)close(t.upstream);
    take_upstream();
    client_send(t.upstream, HINT FINAL);
    expect_h2_hint(1);
    assert_int_equal(h2_await_status(t.client, 1), 502);
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

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_clients_of_http1_get_none),
        TEST(test_a_hint_may_be_followed_by_another_protocol),
        TEST(test_a_hint_comes_before_its_answer_in_http2),
        TEST(test_fields_that_are_not_for_the_client_are_left_out),
        TEST(test_a_field_that_the_configuration_changes_is_not_in_a_hint),
        TEST(test_the_final_answer_is_as_the_configuration_has_it),
        TEST(test_a_hint_may_be_followed_by_502),
        TEST(test_a_hint_of_a_request_that_is_sent_on),
        TEST(test_a_hint_and_the_document_of_an_error),
        TEST(test_a_client_with_a_smaller_table_gets_no_hint),
        TEST(test_a_hint_larger_than_a_frame_is_dropped_in_http2),
        TEST(test_a_stream_may_be_reset_after_a_hint),
        TEST(test_an_http2_client_that_does_not_read_gets_its_answer),
        TEST(test_a_drain_between_a_hint_and_its_answer_in_http2),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

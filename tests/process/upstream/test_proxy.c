/* The real process in front of another server: what a drain does with requests that are handed on,
 * with tunnels, and with what the upstream sees of it. The upstream is a socket of the test's own.
 */

#include "process.h"

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

#include "expect.h"
#include "loadgen.h"
#include "loopback.h"

#define LIMIT_MS 20000

static void start_front(struct process *front, uint16_t upstream_port, const char *deadline)
{
    static char url[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", upstream_port);
    const char *const args[] = {"--proxy", url, "--deadline", deadline, "--threads", "1", NULL};
    process_start(front, NULL, args);
}

/* The next request that comes in from the front, up to the end of its header. */
static int take_request(int listener)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    const struct timeval patience = {.tv_sec = 15};

    while (poll(&ready, 1, 15000) < 0)
        assert_int_equal(errno, EINTR);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    free(client_read_until(fd, "\r\n\r\n"));
    return fd;
}

/* The other side has closed in good order: an end of file, and no reset before it. */
static void assert_ends_cleanly(int fd)
{
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), 0);
}

static void test_request_in_flight_is_answered(void **state)
{
    struct process front;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&front, port, "10s");
    int fd = client_connect(&front);
    client_send(fd, GET("/"));
    int up = take_request(listener);
    process_signal(&front, SIGTERM);
    process_wait_log(&front, "1 request in flight");
    process_wait_log(&front, "listeners closed");
    client_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    client_send(up, "there");
    char *answer = client_read_answer(fd);
    assert_contains(answer, "HTTP/1.1 200 ");
    assert_contains(answer, "Connection: close\r\n");
    assert_contains(answer, "\r\n\r\nthere");
    process_expect(&front, LIMIT_MS, 0);
    assert_ends_cleanly(fd);
    assert_ends_cleanly(up);
    free(answer);
    (void)close(up);
    (void)close(fd);
    (void)close(listener);
    process_release(&front);
}

/* The upstream takes its time to take the body, which waits in the front. */
static void test_buffered_upload_survives_the_drain(void **state)
{
    enum { BODY = 4 << 20 };
    struct process front;
    uint16_t port;
    char *body = malloc(BODY + 1), *seen = malloc(BODY);
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&front, port, "10s");
    int fd = client_connect(&front);
    memset(body, 'b', BODY);
    body[BODY] = '\0';
    client_send(fd, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4194304\r\n\r\n");
    client_send(fd, body);
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    while (poll(&ready, 1, 15000) < 0)
        assert_int_equal(errno, EINTR);
    int up = accept(listener, NULL, NULL);
    assert_true(up >= 0); /* nothing is read from it before the drain */
    process_signal(&front, SIGTERM);
    process_wait_log(&front, "listeners closed");
    char byte = 0, *head = malloc(65536);
    size_t n = 0;
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        assert_true(n < 65535);
        assert_int_equal(client_recv(up, &byte, 1, 0), 1);
        head[n++] = byte;
    }
    assert_int_equal(client_recv(up, seen, BODY, MSG_WAITALL), BODY);
    assert_memory_equal(seen, body, BODY);
    client_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole");
    char *answer = client_read_answer(fd);
    assert_contains(answer, "\r\n\r\nwhole");
    process_expect(&front, LIMIT_MS, 0);
    assert_ends_cleanly(up);
    free(answer);
    free(head);
    free(seen);
    free(body);
    (void)close(up);
    (void)close(fd);
    (void)close(listener);
    process_release(&front);
}

static void test_deadline_names_what_the_upstream_did_not_answer(void **state)
{
    struct process front;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&front, port, "300ms");
    int fd = client_connect(&front);
    client_send(fd, GET("/never"));
    int up = take_request(listener);
    process_signal(&front, SIGTERM);
    process_expect(&front, LIMIT_MS, 3);
    assert_contains(front.log, "unfinished: GET /never");
    assert_ends_cleanly(up);
    assert_ends_cleanly(fd);
    (void)close(up);
    (void)close(fd);
    (void)close(listener);
    process_release(&front);
}

/* A connection that is kept for the next request ends with the process, in good order. */
static void test_kept_upstream_connection_is_closed_not_reset(void **state)
{
    struct process front;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&front, port, "10s");
    int fd = client_connect(&front);
    client_send(fd, GET("/"));
    int up = take_request(listener);
    client_send(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    char *answer = client_read_answer(fd);
    assert_contains(answer, "\r\n\r\nok");
    (void)close(fd);
    process_signal(&front, SIGTERM);
    process_expect(&front, LIMIT_MS, 0);
    assert_ends_cleanly(up);
    free(answer);
    (void)close(up);
    (void)close(listener);
    process_release(&front);
}

/* ---- load ---- */

/* An upstream that is named, and asked on a new connection each time: every request takes a message
 * from the resolver's threads to a loop, and several loops do so at once. */
static void test_nothing_is_lost_on_the_way_to_a_named_upstream(void **state)
{
    struct process front, upstream;
    struct load_result result;
    char conf[] = "/tmp/lastcall-named-XXXXXX";
    (void)state;
    process_start(&upstream, "localhost:0", (const char *const[]){"--deadline", "60s", NULL});
    int fd = mkstemp(conf);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 4\n"
                  "drain: {deadline: 60s}\nhosts:\n  default:\n    paths:\n"
                  "      /:\n        proxy.timeout.keepalive: 0\n"
                  "        proxy.reverse.url: http://localhost:%u/hello\n"
                  "      /st: {status: ON}\n",
                  upstream.port);
    (void)fclose(file);
    process_start_configured(&front, (const char *const[]){"-c", conf, NULL});
    struct load_options load = {
        .protocol = LOAD_HTTP1_KEEPALIVE,
        .path = "/st/json", /* this, too, sends messages between loops */
        .address = front.address,
        .connections = 32,
        .duration_ms = 500,
        .patience_ms = 60000,
    };
    assert_int_equal(load_run(&load, &result), 0);
    assert_int_equal(result.lost, 0);
    load = (struct load_options){
        .protocol = LOAD_HTTP1_KEEPALIVE,
        .address = front.address,
        .connections = 64,
        .duration_ms = 60000,
        .patience_ms = 60000,
        .signal_after_ms = 1500,
        .signal_after_answers = 128,
        .on_signal = send_term,
        .on_signal_arg = &front,
        .server_is_gone = is_gone,
        .server_is_gone_arg = &front,
    };
    assert_int_equal(load_run(&load, &result), 0);
    process_expect(&front, 60000, 0);
    assert_int_equal(result.lost, 0);
    assert_int_equal(result.waiting, 0);
    assert_true(result.answered_after_signal > 0);
    (void)unlink(conf);
    process_signal(&upstream, SIGTERM);
    process_expect(&upstream, LIMIT_MS, 0);
    process_release(&front);
    process_release(&upstream);
}

/* ---- tunnels ---- */

struct tunnel {
    struct process front;
    char conf[64];
    int listener, client, upstream;
};

static void open_tunnel(struct tunnel *t, const char *deadline)
{
    uint16_t port;
    char byte[5];

    t->listener = listen_here(&port, 16);
    (void)strcpy(t->conf, "/tmp/lastcall-tunnel-XXXXXX");
    int fd = mkstemp(t->conf);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\ndrain: {deadline: %s}\n"
                  "hosts:\n  default:\n    paths:\n      /:\n        proxy.websocket: ON\n"
                  "        proxy.reverse.url: http://127.0.0.1:%u/\n",
                  deadline, port);
    (void)fclose(file);
    process_start_configured(&t->front, (const char *const[]){"-c", t->conf, NULL});
    t->client = client_connect(&t->front);
    client_send(t->client, "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    t->upstream = take_request(t->listener);
    client_send(t->upstream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Accept: "
                             "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    char *head = client_read_until(t->client, "\r\n\r\n");
    assert_contains(head, " 101 ");
    free(head);
    client_send(t->client, "there");
    assert_int_equal(client_recv(t->upstream, byte, 5, MSG_WAITALL), 5);
}

static void close_tunnel(struct tunnel *t)
{
    (void)close(t->client);
    (void)close(t->upstream);
    (void)close(t->listener);
    (void)unlink(t->conf);
    process_release(&t->front);
}

static bool tunnel_is_cut_at_the_deadline(void *arg)
{
    struct tunnel t;
    char byte[4];
    (void)arg;
    open_tunnel(&t, "1500ms");
    uint64_t stopped_ns = now_ns();
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "0 requests in flight on 1 connection");
    process_wait_log(&t.front, "listeners closed");
    ssize_t sent = send(t.upstream, "back", 4, MSG_NOSIGNAL);
    bool in_time = is_in_time(stopped_ns, 1200);
    if (in_time) {
        assert_int_equal(sent, 4);
        assert_int_equal(client_recv(t.client, byte, 4, MSG_WAITALL), 4);
        process_expect(&t.front, LIMIT_MS, 0);
        assert_contains(t.front.log, "nothing unfinished, 1 connection without a request cut");
        assert_ends_cleanly(t.client);
        assert_ends_cleanly(t.upstream);
    }
    close_tunnel(&t);
    return in_time;
}

/* It is a connection, not a request: the proxy forwards its bytes during the drain, too. */
static void test_tunnel_is_cut_at_the_deadline_and_counted(void **state)
{
    (void)state;
    repeat_until_in_time(tunnel_is_cut_at_the_deadline, NULL);
}

static void test_tunnel_that_ends_ends_the_drain(void **state)
{
    struct tunnel t;
    (void)state;
    open_tunnel(&t, "60s");
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "listeners closed");
    (void)shutdown(t.client, SHUT_RDWR);
    process_expect(&t.front, LIMIT_MS, 0);
    assert_contains(t.front.log, "drained in ");
    close_tunnel(&t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_request_in_flight_is_answered),
        TEST(test_buffered_upload_survives_the_drain),
        TEST(test_deadline_names_what_the_upstream_did_not_answer),
        TEST(test_kept_upstream_connection_is_closed_not_reset),
        TEST(test_nothing_is_lost_on_the_way_to_a_named_upstream),
        TEST(test_tunnel_is_cut_at_the_deadline_and_counted),
        TEST(test_tunnel_that_ends_ends_the_drain),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}

/* Slow clients of HTTP/1: those that make no progress are cut, and those that are slow but honest,
 * or wait for the server, are not. Windows are short here; a client that is to stay moves a hundred
 * times as much as it must, for longer than a window. */

#include "with_slow_clients.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"

#define STRICT ARGS("--progress-window", "1s", "--progress-rate", "10000")

/* A client with the smallest receive buffer that the kernel allows. */
static int connect_narrow(const struct process *p)
{
    const struct timeval patience = {.tv_sec = 15};
    const int least = 1;
    struct sockaddr_storage to;
    socklen_t length = sizeof(to);
    int model = client_connect(p);
    assert_int_equal(getpeername(model, (struct sockaddr *)&to, &length), 0);
    (void)close(model);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
    return fd;
}

/* Wait until the other side has ended the connection; true: by a reset. */
static bool wait_for_end(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    int err = 0;
    socklen_t length = sizeof(err);
    assert_int_equal(poll(&end, 1, LIMIT_MS), 1);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &length), 0);
    return err == ECONNRESET;
}

/* ---- answers ---- */

static void test_a_client_that_takes_nothing_of_an_answer_is_reset(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = connect_narrow(&p);
    client_send(fd, GET("/big"));
    assert_true(wait_for_end(fd));
    process_wait_log(&p, "it takes its answer too slowly: ");
    process_wait_log(&p, "(progress.rate 10000 bytes a second, progress.window 1s)");
    (void)close(fd);
    finish(&p);
}

static void test_a_client_that_takes_a_byte_now_and_then_is_reset(void **state)
{
    struct process p;
    char byte;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = connect_narrow(&p);
    client_send(fd, GET("/big"));
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    for (unsigned i = 0; i < LIMIT_MS / 100 && poll(&end, 1, 100) == 0; i++)
        (void)recv(fd, &byte, 1, MSG_DONTWAIT);
    assert_true(wait_for_end(fd));
    (void)close(fd);
    finish(&p);
}

static void test_a_client_of_a_proxied_answer_is_reset_too(void **state)
{
    struct process front, back;
    char conf[512];
    (void)state;
    start(&back, FILES);
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "hosts: {default: {paths: {/: {proxy.reverse.url: "
                          "\"http://127.0.0.1:%u/\"}}}}\n",
                   back.port);
    start_with(&front, conf, STRICT);
    int fd = connect_narrow(&front);
    client_send(fd, GET("/big"));
    assert_true(wait_for_end(fd));
    process_wait_log(&front, "it takes its answer too slowly: ");
    (void)close(fd);
    finish(&front);
    finish(&back);
}

static void test_a_slow_client_that_moves_gets_the_whole_answer(void **state)
{
    struct process p;
    char bytes[4096];
    size_t got = 0;
    (void)state;
    start_with(&p, FILES, MILD);
    FILE *file = fopen(in_directory("slow"), "w");
    assert_true(file != NULL && ftruncate(fileno(file), 200000) == 0 && fclose(file) == 0);
    int fd = connect_narrow(&p);
    client_send(fd, "GET /slow HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    for (ssize_t n; (n = client_recv(fd, bytes, sizeof(bytes), 0)) != 0; got += (size_t)n) {
        assert_true(n > 0);
        pause_ms(75); /* more than a window in all */
    }
    assert_true(got > 200000);
    (void)close(fd);
    assert_lacks(p.log, "cut ");
    finish(&p);
}

static void test_a_client_that_waits_for_the_server_is_not_cut(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int poll_fd = client_connect(&p), stream_fd = client_connect(&p);
    client_send(poll_fd, GET("/sleep?ms=3500"));
    client_send(stream_fd, "GET /stream?kb=2&ms=3500 HTTP/1.1\r\nHost: t\r\n"
                           "Connection: close\r\n\r\n");
    client_expect(poll_fd, "200 OK");
    char *answer = client_read_until(stream_fd, NULL);
    assert_contains(answer, "200 OK");
    assert_true(strlen(answer) > 2048);
    free(answer);
    (void)close(poll_fd);
    (void)close(stream_fd);
    finish(&p);
}

static void test_a_tunnel_may_be_silent(void **state)
{
    struct process p;
    char conf[512], bytes[1024] = "";
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 4);
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "hosts: {default: {paths: {/: {proxy.websocket: ON, proxy.reverse.url: "
                          "\"http://127.0.0.1:%u/\"}}}}\n",
                   port);
    start_with(&p, conf, STRICT);
    int fd = client_connect(&p);
    client_send(fd,
                "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    int upstream = accept(listener, NULL, NULL);
    assert_true(upstream >= 0);
    assert_true(client_recv(upstream, bytes, sizeof(bytes) - 1, 0) > 0);
    client_send(upstream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                          "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
    char *answer = client_read_until(fd, "\r\n\r\n");
    assert_contains(answer, " 101 ");
    free(answer);
    pause_ms(3000);
    client_send(upstream, "down");
    assert_int_equal(client_recv(fd, bytes, 4, MSG_WAITALL), 4);
    client_send(fd, "up");
    assert_int_equal(client_recv(upstream, bytes, 2, MSG_WAITALL), 2);
    (void)close(fd);
    (void)close(upstream);
    (void)close(listener);
    finish(&p);
}

/* ---- bodies ---- */

/* Send a byte of a body every 100 ms until there is an answer. */
static void assert_drip_is_refused(const struct process *p, const char *head, const char *drop)
{
    int fd = client_connect(p);
    client_send(fd, head);
    struct pollfd answered = {.fd = fd, .events = POLLIN};
    for (unsigned i = 0; i < LIMIT_MS / 100 && poll(&answered, 1, 100) == 0; i++)
        client_send(fd, drop);
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, "HTTP/1.1 408 Request Timeout");
    assert_contains(answer, "Connection: close");
    free(answer);
    (void)close(fd);
}

static void test_a_body_that_drips_is_answered_with_408(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    assert_drip_is_refused(
        &p, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n", "x");
    process_wait_log(&p, "the body of a request comes too slowly: ");
    assert_drip_is_refused(
        &p, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        "1\r\nx\r\n");
    finish(&p);
}

static void test_a_client_that_gets_100_and_sends_no_body_is_refused(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = client_connect(&p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n"
                    "Content-Length: 1000\r\n\r\n");
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, "HTTP/1.1 100 Continue");
    assert_contains(answer, "HTTP/1.1 408 Request Timeout");
    free(answer);
    (void)close(fd);
    finish(&p);
}

static void test_an_upload_may_take_longer_than_the_time_for_a_header(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "http1-request-timeout: 3\n" FILES, MILD);
    int fd = client_connect(&p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 40000\r\n\r\n");
    char part[1001];
    memset(part, 'x', 1000);
    part[1000] = '\0';
    for (unsigned i = 0; i < 40; i++) {
        client_send(fd, part);
        pause_ms(100);
    }
    char *answer = client_read_answer(fd);
    assert_contains(answer, "200 OK");
    assert_contains(answer, "40000");
    free(answer);
    (void)close(fd);
    finish(&p);
}

static void test_a_header_that_drips_still_has_its_own_time(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "http1-request-timeout: 1\n" FILES, MILD);
    int fd = client_connect(&p);
    client_send(fd, "GET / HTTP/1.1\r\n");
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    unsigned drops = 0;
    while (drops < LIMIT_MS / 100 && poll(&end, 1, 100) == 0) {
        client_send(fd, "X: y\r\n");
        drops++;
    }
    assert_true(drops < LIMIT_MS / 100);
    (void)close(fd);
    finish(&p);
}

/* ---- a drain ---- */

static bool drain_does_not_wait_for_it(void *arg)
{
    struct process p;
    (void)arg;
    start_with(&p, FILES,
               ARGS("--progress-window", "1s", "--progress-rate", "10000", "--deadline", "10m"));
    int fd = connect_narrow(&p);
    uint64_t asked_ns = now_ns();
    client_send(fd, GET("/big"));
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), 1);
    process_signal(&p, SIGTERM);
    bool in_time = is_in_time(asked_ns, 800); /* else it may have been cut before */
    if (in_time) {
        process_expect(&p, LIMIT_MS, 3);
        assert_contains(p.log, "unfinished: GET /big, cut by progress.rate");
    }
    (void)close(fd);
    process_release(&p);
    return in_time;
}

static void test_a_drain_does_not_wait_for_a_client_that_takes_nothing(void **state)
{
    (void)state;
    repeat_until_in_time(drain_does_not_wait_for_it, NULL);
}

static void test_a_client_that_was_cut_before_a_drain_is_not_its_concern(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = connect_narrow(&p);
    client_send(fd, GET("/big"));
    assert_true(wait_for_end(fd));
    (void)close(fd);
    finish(&p); /* status 0 */
}

/* ---- settings ---- */

static void test_a_rate_of_0_cuts_no_client(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "progress: {rate: 0, window: 1s}\n" FILES, NULL);
    int fd = connect_narrow(&p), other = client_connect(&p);
    client_send(fd, GET("/big"));
    client_send(other, GET("/sleep?ms=3500")); /* three windows */
    client_expect(other, "200 OK");
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    assert_int_equal(poll(&end, 1, 0), 0);
    (void)close(fd);
    (void)close(other);
    finish(&p);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_client_that_takes_nothing_of_an_answer_is_reset),
        claim(test_a_client_that_takes_a_byte_now_and_then_is_reset),
        claim(test_a_client_of_a_proxied_answer_is_reset_too),
        claim(test_a_slow_client_that_moves_gets_the_whole_answer),
        claim(test_a_client_that_waits_for_the_server_is_not_cut),
        claim(test_a_tunnel_may_be_silent),
        claim(test_a_body_that_drips_is_answered_with_408),
        claim(test_a_client_that_gets_100_and_sends_no_body_is_refused),
        claim(test_an_upload_may_take_longer_than_the_time_for_a_header),
        claim(test_a_header_that_drips_still_has_its_own_time),
        claim(test_a_drain_does_not_wait_for_a_client_that_takes_nothing),
        claim(test_a_client_that_was_cut_before_a_drain_is_not_its_concern),
        claim(test_a_rate_of_0_cuts_no_client),
    };
    return cmocka_run_group_tests_name("progress", tests, with_slow_clients_set_up,
                                       remove_directory);
}

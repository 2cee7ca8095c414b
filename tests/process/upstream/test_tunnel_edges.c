/* Upgraded connections at their edges: requests that are none. Client and upstream are sockets of
 * the test's own. */

#include "with_config.h"

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
#include "loopback.h"

#define ASKS "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: raw\r\nConnection: Upgrade\r\n"
#define SWITCHES "HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"

static struct {
    struct process front;
    int listener, client, upstream;
} t;

/* ---- the fixture ---- */

static void start_front(void)
{
    char conf[512];
    uint16_t port;

    t.listener = listen_here(&port, 16);
    (void)snprintf(conf, sizeof(conf),
                   "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nhosts:\n"
                   "  default:\n    paths:\n      /:\n        proxy.websocket: ON\n"
                   "        proxy.reverse.url: http://127.0.0.1:%u/\n",
                   port);
    start(&t.front, conf);
}

static void ask(const char *after)
{
    t.client = client_connect(&t.front);
    client_send(t.client, ASKS);
    client_send(t.client, after);
}

static void take_upstream(void)
{
    const struct timeval patience = {.tv_sec = 30};

    t.upstream = accept(t.listener, NULL, NULL);
    assert_true(t.upstream >= 0);
    assert_int_equal(setsockopt(t.upstream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
}

static void expect_status(const char *line)
{
    char *head = client_read_until(t.client, "\r\n\r\n");
    assert_contains(head, line);
    free(head);
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

/* ---- the beginning ---- */

/* A server may switch before it has read the body, and what it has not read is no part of the
 * other protocol. */
static void test_a_request_with_a_body_is_no_upgrade(void **state)
{
    enum { BODY = 8 << 20 };
    char *body = malloc(BODY);
    (void)state;
    assert_non_null(body);
    memset(body, 'b', BODY);
    start_front();
    ask("Content-Length: 8388608\r\n\r\n");
    for (ssize_t sent = 0, n; sent < BODY; sent += n) {
        n = send(t.client, body + sent, (size_t)(BODY - sent), MSG_NOSIGNAL);
        assert_true(n > 0);
    }
    free(body);
    take_upstream();
    char *request = client_read_until(t.upstream, "\r\n\r\n");
    assert_contains(request, "\r\nconnection: keep-alive\r\n");
    assert_lacks(request, "upgrade");
    free(request);
    client_send(t.upstream, SWITCHES);
    expect_status("HTTP/1.1 502 ");
    stop_and_close_all();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_a_request_with_a_body_is_no_upgrade),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

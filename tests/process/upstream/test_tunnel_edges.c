/* Upgraded connections at their edges: requests that are none, answers that come too early, ends
 * that could be taken for other ones, and what a drain could take a tunnel for. Client and upstream
 * are sockets of the test's own. */

#include "with_config.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "loopback.h"
#include "tls_client.h"
#include "tls_server.h"

#define ASKS "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: raw\r\nConnection: Upgrade\r\n"
#define SWITCHES "HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"

static struct {
    struct process front;
    int listener, client, upstream;
} t;

/* ---- the fixture ---- */

static void start_front(const char *listen, const char *drain, const char *directives,
                        const char *scheme)
{
    char conf[512];
    uint16_t port;

    t.listener = listen_here(&port, 16);
    (void)snprintf(conf, sizeof(conf),
                   "listen: {host: 127.0.0.1, port: 0%s}\nnum-threads: 1\ndrain: %s\nhosts:\n"
                   "  default:\n    paths:\n      /:\n        proxy.websocket: ON\n%s"
                   "        proxy.reverse.url: %s://127.0.0.1:%u/\n",
                   listen, drain, directives, scheme, port);
    start(&t.front, conf);
}

static void ask(const char *before, const char *after)
{
    t.client = client_connect(&t.front);
    client_send(t.client, before);
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

static void open_tunnel(const char *listen, const char *drain, const char *before)
{
    start_front(listen, drain, "", "http");
    ask(before, "\r\n");
    take_upstream();
    char *request = client_read_until(t.upstream, "\r\n\r\n");
    assert_contains(request, "\r\nupgrade: raw\r\n");
    free(request);
    client_send(t.upstream, SWITCHES);
    char *head = client_read_until(t.client, "\r\n\r\n");
    assert_contains(head, "HTTP/1.1 101 ");
    free(head);
}

static void expect_head(const char *line)
{
    char *head = client_read_until(t.client, "\r\n\r\n");
    assert_contains(head, line);
    free(head);
}

/* The upstream speaks TLS, and sends `first` with its answer, which the client has not read. */
static SSL *open_tunnel_to_tls_upstream(const char *first)
{
    char bytes[1024];

    start_front("", "{}", "        proxy.ssl.verify-peer: OFF\n", "https");
    ask("", "\r\n");
    take_upstream();
    SSL *ssl = tls_serve(t.upstream);
    assert_non_null(ssl);
    tls_read_until(ssl, bytes, sizeof(bytes), "\r\n\r\n");
    (void)snprintf(bytes, sizeof(bytes), SWITCHES "%s", first);
    tls_write(ssl, bytes);
    return ssl;
}

static void expect_passes(int from, int to)
{
    char got[4];

    client_send(from, "pass");
    assert_int_equal(client_recv(to, got, 4, MSG_WAITALL), 4);
    assert_memory_equal(got, "pass", 4);
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

/* Send until `fd` takes nothing for half a second. */
static void fill(int fd)
{
    static char bytes[65536];
    struct pollfd ready = {.fd = fd, .events = POLLOUT};

    for (unsigned i = 0; i < 1024 && poll(&ready, 1, 500) > 0; i++)
        (void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
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
    start_front("", "{}", "", "http");
    ask("", "Content-Length: 8388608\r\n\r\n");
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
    expect_head("HTTP/1.1 502 ");
    stop_and_close_all();
}

static void listen_at_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    assert_true(strlen(path) < sizeof(address.sun_path));
    (void)strcpy(address.sun_path, path);
    t.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(t.listener >= 0);
    assert_int_equal(bind(t.listener, (void *)&address, sizeof(address)), 0);
    assert_int_equal(listen(t.listener, 16), 0);
}

/* The head is larger than what a Unix socket takes: the library is still writing it. */
static void test_101_before_the_request_is_sent_is_a_failure(void **state)
{
    enum { VALUE = 1 << 20 };
    static char conf[VALUE + 512];
    struct pollfd ready;
    (void)state;
    listen_at_path(in_directory("edge.sock"));
    int size = snprintf(conf, sizeof(conf),
                        "listen: {host: 127.0.0.1, port: 0}\nuser: %s\nhosts:\n  default:\n"
                        "    paths:\n      /:\n        proxy.websocket: ON\n"
                        "        proxy.reverse.url: \"http://[unix:@/edge.sock]/\"\n"
                        "        proxy.header.set: \"x-fill: ",
                        getpwuid(getuid())->pw_name);
    memset(conf + size, 'f', VALUE);
    (void)strcpy(conf + size + VALUE, "\"\n");
    start(&t.front, conf);
    ask("", "\r\n");
    ready = (struct pollfd){.fd = t.listener, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, LIMIT_MS), 1);
    take_upstream();
    client_send(t.upstream, SWITCHES);
    expect_head("HTTP/1.1 502 ");
    process_wait_log(&t.front, "the upstream switched protocols before it had the request");
    stop_and_close_all();
}

static void test_an_upgrade_is_a_request_that_was_answered(void **state)
{
    (void)state;
    open_tunnel("", "{}", "");
    expect_passes(t.client, t.upstream); /* the request has ended */
    struct process admin = admin_of(&t.front);
    assert_true(admin_metric(&admin, "lastcall_requests_total{route=\"proxy\",status=\"1xx\"}") ==
                1);
    assert_true(admin_metric(&admin, "lastcall_requests_aborted_total{route=\"proxy\"}") == 0);
    (void)shutdown(t.client, SHUT_WR);
    (void)shutdown(t.upstream, SHUT_WR);
    stop_and_close_all();
}

/* ---- how it ends ---- */

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(fd);
}

/* The write learns of it, and the reads after it only see an end. */
static void test_a_reset_that_a_write_meets_is_passed_on(void **state)
{
    char byte;
    (void)state;
    open_tunnel("", "{}", "");
    fill(t.upstream);
    reset(t.client);
    assert_int_equal(client_recv(t.upstream, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET); /* EPIPE: after an end */
    stop_and_close_all();
}

/* A close_notify would be an end in order. */
static void test_a_reset_is_passed_on_over_tls_without_close_notify(void **state)
{
    char byte;
    (void)state;
    SSL *ssl = open_tunnel_to_tls_upstream("");
    expect_head("HTTP/1.1 101 ");
    reset(t.client);
    assert_true(tls_read(ssl, &byte, 1) <= 0);
    assert_int_equal(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, 0);
    tls_cut(ssl);
    t.client = t.upstream = -1;
    stop_and_close_all();
}

/* ---- over TLS ---- */

static SSL *open_tunnel_of_tls_client(const char *protocol)
{
    char request[128], bytes[1024];

    start_front(", " SSL("a"), "{}", "", "http");
    t.client = client_connect(&t.front);
    SSL *ssl = tls_connect(t.client, NULL);
    assert_non_null(ssl);
    (void)snprintf(request, sizeof(request),
                   "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n",
                   protocol);
    tls_write(ssl, request);
    take_upstream();
    free(client_read_until(t.upstream, "\r\n\r\n"));
    client_send(t.upstream, SWITCHES);
    tls_read_until(ssl, bytes, sizeof(bytes), "\r\n\r\n");
    return ssl;
}

static void expect_end(int fd)
{
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), 0);
}

/* The metric is there soon after the last byte. */
static void expect_ended(const char *how)
{
    struct process admin = admin_of(&t.front);
    char name[96];

    (void)snprintf(name, sizeof(name), "lastcall_tunnels_ended_total{how=\"%s\"}", how);
    for (unsigned i = 0; i < 2000 && admin_metric(&admin, name) < 1; i++)
        (void)poll(NULL, 0, 10);
    assert_true(admin_metric(&admin, name) == 1);
}

/* TLS 1.3 has halves of a connection (RFC 8446 section 6.1). */
static void test_close_notify_of_a_client_ends_its_half(void **state)
{
    static const char *const protocols[] = {"raw", "websocket"};
    char bytes[8];
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        SSL *ssl = open_tunnel_of_tls_client(protocols[i]);
        tls_write(ssl, "last");
        assert_true(SSL_shutdown(ssl) >= 0); /* the connection stays */
        assert_int_equal(client_recv(t.upstream, bytes, 4, MSG_WAITALL), 4);
        expect_end(t.upstream);
        client_send(t.upstream, "answer");
        assert_int_equal(tls_read(ssl, bytes, 6), 6);
        assert_memory_equal(bytes, "answer", 6);
        (void)shutdown(t.upstream, SHUT_WR);
        assert_int_equal(tls_read(ssl, bytes, 1), 0);
        expect_ended("peer");
        tls_cut(ssl);
        t.client = -1;
        stop_and_close_all();
    }
}

static void test_close_notify_of_an_upstream_ends_its_half(void **state)
{
    char bytes[8];
    (void)state;
    SSL *ssl = open_tunnel_to_tls_upstream("last");
    assert_true(SSL_shutdown(ssl) >= 0); /* the connection stays */
    char *got = client_read_until(t.client, "last");
    assert_contains(got, "HTTP/1.1 101 ");
    free(got);
    expect_end(t.client);
    client_send(t.client, "answer");
    assert_int_equal(tls_read(ssl, bytes, 6), 6);
    (void)shutdown(t.client, SHUT_WR);
    assert_int_equal(tls_read(ssl, bytes, 1), 0);
    expect_ended("peer");
    tls_cut(ssl);
    t.upstream = -1;
    stop_and_close_all();
}

/* It may be the work of another: only a protocol with frames shows what is missing. */
static void test_an_end_without_close_notify_is_no_end_in_order(void **state)
{
    char byte;
    (void)state;
    tls_cut(open_tunnel_of_tls_client("raw"));
    t.client = -1;
    assert_int_equal(client_recv(t.upstream, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    expect_ended("broken");
    stop_and_close_all();
    tls_cut(open_tunnel_of_tls_client("websocket"));
    t.client = -1;
    expect_end(t.upstream);
    expect_ended("peer");
    stop_and_close_all();
}

static void test_an_upstreams_end_without_close_notify_is_none_in_order(void **state)
{
    char byte;
    (void)state;
    SSL *ssl = open_tunnel_to_tls_upstream("");
    expect_head("HTTP/1.1 101 ");
    tls_cut(ssl);
    t.upstream = -1;
    assert_int_equal(client_recv(t.client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    expect_ended("broken");
    stop_and_close_all();
}

/* ---- a drain ---- */

#define PROXY_LINE "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"

/* The library has not read a byte of a tunnel, but its connection is not one that is silent. */
static void test_a_tunnel_behind_a_proxy_line_outlives_the_idle_grace(void **state)
{
    struct pollfd ended;
    (void)state;
    open_tunnel(", proxy-protocol: ON", "{deadline: 20s, idle-grace: 100ms}", PROXY_LINE);
    expect_passes(t.client, t.upstream);
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "listeners closed");
    ended = (struct pollfd){.fd = t.upstream, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 1500), 0);
    expect_passes(t.client, t.upstream);
    expect_passes(t.upstream, t.client);
    (void)shutdown(t.client, SHUT_WR);
    (void)shutdown(t.upstream, SHUT_WR);
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

static void test_what_waits_in_a_tunnel_is_no_unread_request(void **state)
{
    (void)state;
    open_tunnel("", "{deadline: 300ms}", "");
    fill(t.client);
    process_signal(&t.front, SIGTERM);
    process_expect(&t.front, LIMIT_MS, 0);
    close_all();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_a_request_with_a_body_is_no_upgrade),
        TEST(test_101_before_the_request_is_sent_is_a_failure),
        TEST(test_an_upgrade_is_a_request_that_was_answered),
        TEST(test_a_reset_that_a_write_meets_is_passed_on),
        TEST(test_a_reset_is_passed_on_over_tls_without_close_notify),
        TEST(test_close_notify_of_a_client_ends_its_half),
        TEST(test_close_notify_of_an_upstream_ends_its_half),
        TEST(test_an_end_without_close_notify_is_no_end_in_order),
        TEST(test_an_upstreams_end_without_close_notify_is_none_in_order),
        TEST(test_a_tunnel_behind_a_proxy_line_outlives_the_idle_grace),
        TEST(test_what_waits_in_a_tunnel_is_no_unread_request),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

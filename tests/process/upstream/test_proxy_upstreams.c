/* Ways to an upstream: over TLS, a Unix socket, a name with two addresses, and through 101 into a
 * tunnel. The upstream is another lastcall, or a socket of the test's own. */

#include "with_config.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "expect.h"
#include "loopback.h"
#include "skip.h"

#define FRONT(directives, url)                                                                     \
    LISTEN "num-threads: 1\n" directives "hosts: {default: {paths: {/: {proxy.reverse.url: \"" url \
           "\"}}}}\n"

/* `text` with a %u for the port of the upstream. */
static void start_front(struct process *front, const char *text, unsigned port)
{
    char conf[2048];

    (void)snprintf(conf, sizeof(conf), text, port);
    start(front, conf);
}

/* ---- TLS ---- */

static void start_tls_upstream(struct process *upstream, const char *names)
{
    certificate_write_for(in_directory("up.key"), in_directory("up.crt"), names);
    start(upstream, "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/up.crt, "
                    "key-file: @/up.key}}\n" HELLO);
}

static void expect_over_tls(const char *directives, const char *names, const char *want,
                            const char *log)
{
    struct process upstream, front;
    char text[1024];

    start_tls_upstream(&upstream, names);
    (void)snprintf(text, sizeof(text),
                   LISTEN "num-threads: 1\n%shosts: {default: {paths: {/: {proxy.reverse.url: "
                          "\"https://127.0.0.1:%u/\"}}}}\n",
                   directives, upstream.port);
    start(&front, text);
    for (unsigned i = 0; i < 3; i++)
        assert_answer(&front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", want);
    if (log != NULL)
        process_wait_log(&front, log);
    process_signal(&front, SIGTERM);
    process_expect(&front, LIMIT_MS, 0);
    process_release(&front);
    process_release(&upstream);
}

static void test_an_upstream_over_tls_is_verified(void **state)
{
    (void)state;
    expect_over_tls("proxy.ssl.verify-peer: OFF\n", "DNS:other", " 200 ", NULL);
    expect_over_tls("", "DNS:other", " 502 ", "(TLS handshake, ");
    expect_over_tls("proxy.ssl.cafile: @/up.crt\n", "DNS:other", " 502 ", "(TLS handshake, ");
    expect_over_tls("proxy.ssl.cafile: @/up.crt\n", "DNS:other,IP:127.0.0.1", " 200 ", NULL);
}

/* Each answer is larger than the buffers on the way. */
static void test_a_large_answer_comes_whole_over_tls(void **state)
{
    enum { SIZE = 8 * 1024 * 1024 };
    struct process upstream, front;
    char *body = calloc(1, SIZE + 1), text[1024];
    (void)state;
    assert_non_null(body);
    memset(body, 'x', SIZE);
    (void)write_file("large", body);
    certificate_write_for(in_directory("up.key"), in_directory("up.crt"), "DNS:other");
    start(&upstream, "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/up.crt, "
                     "key-file: @/up.key}}\nhosts: {default: {paths: {/: {file.dir: @}}}}\n");
    (void)snprintf(text, sizeof(text),
                   FRONT("proxy.ssl.verify-peer: OFF\n", "https://127.0.0.1:%u/"), upstream.port);
    start(&front, text);
    for (unsigned i = 0; i < 3; i++) {
        int fd = client_connect(&front);
        client_send(fd, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        char last[4] = "";
        while (memcmp(last, "\r\n\r\n", 4) != 0) {
            memmove(last, last + 1, 3);
            assert_int_equal(client_recv(fd, last + 3, 1, 0), 1);
        }
        memset(body, 0, SIZE);
        assert_int_equal(client_recv(fd, body, SIZE, MSG_WAITALL), SIZE);
        assert_int_equal(strspn(body, "x"), SIZE);
        (void)close(fd);
    }
    free(body);
    process_release(&front);
    process_release(&upstream);
}

/* ---- addresses ---- */

static void test_a_unix_socket(void **state)
{
    struct process upstream, front;
    (void)state;
    char text[512];
    start(&upstream, "listen: {port: @/up.sock, type: unix}\n" HELLO);
    (void)snprintf(text, sizeof(text),
                   "user: %s\n" FRONT("proxy.preserve-host: ON\n", "http://[unix:@/up.sock]/"),
                   own_user_name());
    start(&front, text);
    for (unsigned i = 0; i < 3; i++)
        assert_serves(&front);
    process_release(&upstream);
    assert_answer(&front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", " 502 ");
    process_wait_log(&front, "/up.sock]: ");
    process_release(&front);
}

/* In a mount namespace, where the name has two addresses. */
static void give_name_two_addresses(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(in_directory("hosts"), "/etc/hosts", NULL, MS_BIND, NULL) != 0)
        _exit(99);
}

static void test_all_addresses_of_a_name_are_tried(void **state)
{
    struct process upstream, front;
    char text[512];
    (void)state;
    skip_unless_root();
    if (unshare(0) != 0)
        skip_test("no namespaces");
    (void)write_file("hosts", "::1 two.test\n127.0.0.2 two.test\n127.0.0.1 two.test\n");
    start(&upstream, LISTEN HELLO);
    (void)snprintf(text, sizeof(text),
                   LISTEN "num-threads: 1\nhosts: {default: {paths: {/: {proxy.timeout.keepalive: "
                          "0, proxy.reverse.url: \"http://two.test:%u/\"}}}}\n",
                   upstream.port);
    process_in_child = give_name_two_addresses;
    start(&front, text);
    process_in_child = NULL;
    for (unsigned i = 0; i < 20; i++)
        assert_serves(&front);
    assert_lacks(front.log, "upstream http");
    process_release(&front);
    process_release(&upstream);
}

static void test_a_name_that_is_none_is_502(void **state)
{
    struct process front;
    (void)state;
    start(&front, FRONT("", "http://name.invalid:1/"));
    assert_answer(&front, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", " 502 ");
    process_wait_log(&front, "upstream http://name.invalid:1: ");
    assert_contains(front.log, "(look-up, ");
    process_release(&front);
}

/* ---- tunnels ---- */

/* What both sides say at once, with 101 and with the request, is not lost. */
static void test_first_words_of_a_tunnel_are_passed_on(void **state)
{
    struct process front;
    uint16_t port;
    char byte[8];
    (void)state;
    int listener = listen_here(&port, 1);
    start_front(&front, FRONT("proxy.websocket: ON\n", "http://127.0.0.1:%u/"), port);
    int client = client_connect(&front);
    client_send(client, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "\r\n");
    int upstream = accept(listener, NULL, NULL);
    assert_true(upstream >= 0);
    char *request = client_read_until(upstream, "\r\n\r\n");
    assert_contains(request, "upgrade: websocket\r\n");
    free(request);
    client_send(upstream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\n\r\nfirst");
    char *answer = client_read_until(client, "first");
    assert_contains(answer, " 101 ");
    assert_contains(answer, "\r\n\r\nfirst");
    free(answer);
    client_send(client, "there");
    assert_int_equal(client_recv(upstream, byte, 5, MSG_WAITALL), 5);
    assert_memory_equal(byte, "there", 5);
    (void)close(client);
    assert_int_equal(client_recv(upstream, byte, 1, 0), 0);
    (void)close(upstream);
    (void)close(listener);
    process_release(&front);
}

/* The upstream may decline. */
static void test_an_upgrade_that_is_declined_is_an_answer(void **state)
{
    struct process front;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 1);
    start_front(&front, FRONT("proxy.websocket: ON\n", "http://127.0.0.1:%u/"), port);
    int client = client_connect(&front);
    client_send(client, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "\r\n");
    int upstream = accept(listener, NULL, NULL);
    free(client_read_until(upstream, "\r\n\r\n"));
    client_send(upstream, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    client_expect(client, " 403 ");
    (void)close(client);
    (void)close(upstream);
    (void)close(listener);
    process_release(&front);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_an_upstream_over_tls_is_verified),
        TEST(test_a_large_answer_comes_whole_over_tls),
        TEST(test_a_unix_socket),
        TEST(test_all_addresses_of_a_name_are_tried),
        TEST(test_a_name_that_is_none_is_502),
        TEST(test_first_words_of_a_tunnel_are_passed_on),
        TEST(test_an_upgrade_that_is_declined_is_an_answer),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

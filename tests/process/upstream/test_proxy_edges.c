/* The real process in front of an upstream, where one exchange could touch another, or an end could
 * be taken for a better one: two addresses that connect, bytes after an answer, a reset behind a
 * request that was read, an end of TLS that was not announced, a request that nobody acknowledges.
 */

#include "tls_client.h"
#include "tls_server.h"
#include "with_upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
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

#include "directory.h"
#include "expect.h"
#include "loopback.h"
#include "skip.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define TWO OK "Content-Length: 2\r\n\r\nok"
#define PATH_TO(url) "hosts: {default: {paths: {/: {proxy.reverse.url: \"" url "\"}}}}\n"

static int set_up(void **state)
{
    return fixture_start(state, PATH_TO("http://127.0.0.1:@/"));
}

static int set_up_tls(void **state)
{
    return fixture_start(state, "proxy.ssl.verify-peer: OFF\n" PATH_TO("https://127.0.0.1:@/"));
}

static int set_up_hasty(void **state)
{
    return fixture_start(state, "proxy.timeout.first_byte: 2000\nproxy.timeout.io: 20000\n" PATH_TO(
                                    "http://127.0.0.1:@/"));
}

/* A first request, whose connection the front keeps. */
static void begin_with_one(struct fixture *f)
{
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, TWO);
    expect_status(f, 200);
}

/* ---- two addresses of a name ---- */

/* A listener whose queue is full: the kernel drops the SYN of whoever comes, who sends it again a
 * second later. */
struct busy_listener {
    int fd;
    int queued; /* the client whose connection fills the queue */
};

static struct sockaddr_in address_of(const char *ip, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

    assert_int_equal(inet_pton(AF_INET, ip, &address.sin_addr), 1);
    return address;
}

static void busy_listener_open(struct busy_listener *busy, const char *ip, uint16_t port)
{
    struct sockaddr_in address = address_of(ip, port);

    busy->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    busy->queued = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(busy->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(busy->fd, 0), 0);
    assert_int_equal(connect(busy->queued, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void busy_listener_make_room(struct busy_listener *busy)
{
    (void)close(accept(busy->fd, NULL, NULL));
    (void)close(busy->queued);
    busy->queued = -1;
}

/* Connections to the port of which the first SYN is sent, and no answer has come. */
static unsigned count_syns(uint16_t port)
{
    FILE *table = fopen("/proc/net/tcp", "re");
    char line[256];
    unsigned to, state, count = 0;

    assert_non_null(table);
    while (fgets(line, sizeof(line), table) != NULL)
        if (sscanf(line, " %*u: %*8x:%*4x %*8x:%4x %2x", &to, &state) == 2 && to == port &&
            state == TCP_SYN_SENT)
            count++;
    (void)fclose(table);
    return count;
}

static void wait_for_syns(uint16_t port, unsigned count)
{
    for (unsigned i = 0; count_syns(port) != count; i++) {
        assert_true(i < 3000);
        assert_true(poll(NULL, 0, 10) == 0 || errno == EINTR);
    }
}

static void name_two_addresses(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(in_directory("hosts"), "/etc/hosts", NULL, MS_BIND, NULL) != 0)
        _exit(99);
}

static void start_front_with_two(struct process *front, uint16_t port)
{
    FILE *hosts = fopen(in_directory("hosts"), "we"), *conf = fopen(in_directory("conf"), "we");

    assert_true(hosts != NULL && conf != NULL);
    (void)fputs("127.0.0.1 two.test\n127.0.0.2 two.test\n", hosts);
    (void)fprintf(conf,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nproxy.ssl.verify-peer: OFF\n"
                  "hosts: {default: {paths: {/: {proxy.reverse.url: \"https://two.test:%u/\"}}}}\n",
                  port);
    assert_true(fclose(hosts) == 0 && fclose(conf) == 0);
    process_in_child = name_two_addresses;
    process_start_configured(front, (const char *const[]){"--conf", in_directory("conf"), NULL});
    process_in_child = NULL;
}

/* Whatever comes of the late one: the front shakes hands with the other. Returns the late one's
 * connection, or -1. */
static int late_one_comes(struct busy_listener *late, uint16_t port, bool refuses)
{
    struct pollfd ready = {.fd = late->fd, .events = POLLIN};

    if (refuses)
        (void)close(late->fd);
    else
        busy_listener_make_room(late);
    wait_for_syns(port, 0); /* it was given up, connected or refused */
    return !refuses && poll(&ready, 1, 0) > 0 ? accept(late->fd, NULL, NULL) : -1;
}

static void expect_to_be_closed(int fd)
{
    const struct timeval patience = {.tv_sec = 10};
    char bytes[4096];
    ssize_t n;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    while ((n = client_recv(fd, bytes, sizeof(bytes), 0)) > 0)
        continue;
    if (n < 0 && errno == EAGAIN)
        fail_msg("the front keeps a connection that it does not use");
}

static void expect_answer_of_the_first(bool other_refuses)
{
    struct busy_listener first, late;
    struct process front;
    uint16_t port = free_port();
    char request[4096];

    skip_unless_root();
    busy_listener_open(&first, "127.0.0.1", port);
    busy_listener_open(&late, "127.0.0.2", port);
    start_front_with_two(&front, port);
    int client = client_connect(&front);
    client_send(client, GET("/"));
    wait_for_syns(port, 2);
    busy_listener_make_room(&first);
    int fd = accept(first.fd, NULL, NULL);
    int late_fd = late_one_comes(&late, port, other_refuses);
    SSL *ssl = tls_serve(fd);
    assert_non_null(ssl);
    tls_read_until(ssl, request, sizeof(request), "\r\n\r\n");
    tls_write(ssl, TWO);
    client_expect(client, " 200 OK");
    if (late_fd >= 0)
        expect_to_be_closed(late_fd);
    assert_false(process_is_gone(&front));
    tls_hang_up(ssl);
    (void)close(late_fd);
    (void)close(client);
    (void)close(first.fd);
    (void)close(late.fd);
    (void)close(late.queued);
    process_release(&front);
}

static void test_an_address_that_connects_during_the_handshake_with_another(void **state)
{
    (void)state;
    expect_answer_of_the_first(false);
}

static void test_an_address_that_refuses_during_the_handshake_with_another(void **state)
{
    (void)state;
    expect_answer_of_the_first(true);
}

/* ---- bytes after an answer ---- */

/* Both requests come at once, so the second is sent in the same turn in which the first answer is
 * whole, before the loop asks the kernel what else has come. */
static void test_bytes_after_an_answer_are_not_the_next_answer(void **state)
{
    struct fixture *f = *state;
    char half[4];

    f->client = client_connect(&f->front);
    client_send(f->client, GET("/1") GET("/2"));
    take_request(f);
    client_send(f->upstream, OK "Content-Length: 8\r\n\r\nhalf");
    free(client_read_until(f->client, "half"));
    client_send(f->upstream, "half" OK "Content-Length: 4\r\n\r\nevil");
    assert_int_equal(client_recv(f->client, half, sizeof(half), MSG_WAITALL), sizeof(half));
    take_request(f);
    client_send(f->upstream, OK "Content-Length: 4\r\n\r\ngood");
    client_expect(f->client, "\r\n\r\ngood");
}

/* ---- a reset behind a request that was read ---- */

/* 1: the client has something; 0: the front connects once more. */
static bool client_is_answered(struct fixture *f)
{
    struct pollfd ready[] = {{.fd = f->client, .events = POLLIN},
                             {.fd = f->listener, .events = POLLIN}};
    int n;

    do
        n = poll(ready, 2, 20000);
    while (n < 0 && errno == EINTR);
    assert_true(n > 0);
    return ready[1].revents == 0;
}

/* The upstream's kernel does not acknowledge the request at once, and a reset acknowledges nothing:
 * so the front cannot know that the request was not read. */
static void test_a_post_is_not_sent_again_after_a_reset(void **state)
{
    struct fixture *f = *state;
    const int off = 0;

    for (unsigned i = 0; i < 10; i++) {
        begin_with_one(f);
        assert_int_equal(setsockopt(f->upstream, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off)), 0);
        client_send(f->client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        take_request(f);
        end_upstream(f, RESET);
        if (!client_is_answered(f))
            fail_msg("a request that was read is sent once more");
        expect_status(f, 502);
    }
}

/* ---- an end of TLS ---- */

static void expect_end_of_tls(struct fixture *f, bool is_announced, enum answer_state want)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer;
        char request[4096], byte;
        ask(f, protocol, false);
        take_connection(f);
        SSL *ssl = tls_serve(f->upstream);
        assert_non_null(ssl);
        f->upstream = -1;
        tls_read_until(ssl, request, sizeof(request), "\r\n\r\n");
        tls_write(ssl, OK "\r\nhalf");
        assert_int_equal(client_recv(f->client, &byte, 1, MSG_PEEK), 1);
        if (is_announced)
            tls_hang_up(ssl);
        else
            tls_cut(ssl);
        enum answer_state got = read_answer(f, protocol, false, &answer);
        if (got != want)
            fail_msg("%s: the answer is %s", protocol_name(protocol), answer_state_name(got));
        answer_release(&answer);
        hang_up(f);
    }
}

static void test_an_end_of_tls_that_is_announced_ends_an_answer(void **state)
{
    expect_end_of_tls(*state, true, ANSWER_WHOLE);
}

/* RFC 9112 section 9.8: anyone on the way can end a connection without close_notify. */
static void test_an_end_of_tls_that_is_not_announced_cuts_an_answer(void **state)
{
    expect_end_of_tls(*state, false, ANSWER_CUT);
    process_wait_log(&((struct fixture *)*state)->front, "without close_notify (body");
}

/* ---- time ---- */

/* The upstream's machine is gone: nothing is acknowledged any more. Some kernels let only root
 * attach a filter. */
static void drop_all(int fd)
{
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    const struct sock_fprog program = {.len = 1, .filter = code};

    int done = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
    if (done != 0 && errno == EPERM)
        skip_test("needs the right to attach a socket filter");
    assert_int_equal(done, 0);
}

#define TRIES 5 /* the machine may be busy: one that was in time shows that it can be */

static void test_the_time_for_the_first_byte_is_granted_once(void **state)
{
    struct fixture *f = *state;

    uint64_t took_ms = UINT64_MAX;

    for (unsigned i = 0; i < TRIES && took_ms > 3800; i++) {
        begin_with_one(f);
        drop_all(f->upstream);
        uint64_t begin_ns = now_ns();
        ask(f, ANSWER_HTTP11, false);
        expect_status(f, 504);
        took_ms = (now_ns() - begin_ns) / NS_PER_MS;
        assert_true(took_ms >= 1900);
    }
    assert_true(took_ms <= 3800);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, fixture_tear_down)
#define TLS(f) cmocka_unit_test_setup_teardown(f, set_up_tls, fixture_tear_down)
#define HASTY(f) cmocka_unit_test_setup_teardown(f, set_up_hasty, fixture_tear_down)
#define ALONE(f) cmocka_unit_test_teardown(f, process_kill_left)

static int set_up_all(void **state)
{
    (void)signal(SIGPIPE, SIG_IGN); /* see tls_client.h */
    return make_directory(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(test_an_address_that_connects_during_the_handshake_with_another),
        ALONE(test_an_address_that_refuses_during_the_handshake_with_another),
        TEST(test_bytes_after_an_answer_are_not_the_next_answer),
        TEST(test_a_post_is_not_sent_again_after_a_reset),
        TLS(test_an_end_of_tls_that_is_announced_ends_an_answer),
        TLS(test_an_end_of_tls_that_is_not_announced_cuts_an_answer),
        HASTY(test_the_time_for_the_first_byte_is_granted_once),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests(tests, set_up_all, remove_directory);
}

/* Upgraded connections through the real process, with a client and an upstream that are sockets of
 * the test's own: what passes, how it ends, and what a drain does with it. */

#include "with_config.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "loopback.h"
#include "tls_client.h"

/* A drain that asks tunnels to leave at once, and waits long for them. */
#define SOON "{deadline: 20s, spread: 1ms}"
#define PAYLOAD_MOST 125

enum { CLOSE = 0x88, TEXT = 0x81, FIRST_OF_TWO = 0x01, LAST = 0x80 };

static struct {
    struct process front;
    int listener, client, upstream;
} t;

/* ---- frames ---- */

static void send_bytes(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* With a mask of zeros the payload stays as it is. Returns the size. */
static size_t frame(char *bytes, unsigned first, bool masked, const void *payload, size_t size)
{
    size_t at = 2;

    assert_true(size <= PAYLOAD_MOST);
    bytes[0] = (char)first;
    bytes[1] = (char)((masked ? 0x80 : 0) | size);
    if (masked)
        at = (size_t)((char *)memset(bytes + at, 0, 4) + 4 - bytes);
    memcpy(bytes + at, payload, size);
    return at + size;
}

static void send_frame(int fd, unsigned first, const void *payload, size_t size)
{
    char bytes[6 + PAYLOAD_MOST];
    send_bytes(fd, bytes, frame(bytes, first, fd == t.client, payload, size));
}

static void expect_bytes(int fd, const void *bytes, size_t size)
{
    char got[1024];
    assert_true(size <= sizeof(got));
    assert_int_equal(client_recv(fd, got, size, MSG_WAITALL), (ssize_t)size);
    assert_memory_equal(got, bytes, size);
}

/* The next frame, unmasked. Returns how long the payload is. */
static size_t read_frame(int fd, unsigned first, uint8_t *payload)
{
    uint8_t head[2], mask[4] = {0};

    assert_int_equal(client_recv(fd, head, 2, MSG_WAITALL), 2);
    assert_int_equal(head[0], first);
    assert_int_equal(head[1] & 0x80, fd == t.upstream ? 0x80 : 0); /* RFC 6455 section 5.1 */
    if (fd == t.upstream)
        assert_int_equal(client_recv(fd, mask, 4, MSG_WAITALL), 4);
    size_t size = head[1] & 0x7f;
    assert_true(size <= PAYLOAD_MOST);
    if (size > 0)
        assert_int_equal(client_recv(fd, payload, size, MSG_WAITALL), (ssize_t)size);
    for (size_t i = 0; i < size; i++)
        payload[i] ^= mask[i % 4];
    return size;
}

static void expect_going_away(int fd)
{
    uint8_t payload[PAYLOAD_MOST];
    assert_int_equal(read_frame(fd, CLOSE, payload), 2);
    assert_memory_equal(payload, "\x03\xe9", 2);
}

static void answer_close(int fd)
{
    send_frame(fd, CLOSE, "\x03\xe9", 2);
}

static void expect_end(int fd)
{
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), 0);
}

static void expect_reset(int fd)
{
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

/* ---- the fixture ---- */

static void start_front(const char *drain, const char *directives)
{
    char conf[1024];
    uint16_t port;

    t.listener = listen_here(&port, 16);
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "num-threads: 1\ndrain: %s\nhosts:\n  default:\n    paths:\n      /:\n"
                          "        proxy.websocket: ON\n%s"
                          "        proxy.reverse.url: http://127.0.0.1:%u/\n",
                   drain, directives, port);
    start(&t.front, conf);
}

static void take_upgrade(const char *protocol)
{
    const struct timeval patience = {.tv_sec = 30};
    char want[64];

    t.upstream = accept(t.listener, NULL, NULL);
    assert_true(t.upstream >= 0);
    assert_int_equal(setsockopt(t.upstream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    char *request = client_read_until(t.upstream, "\r\n\r\n");
    (void)snprintf(want, sizeof(want), "\r\nconnection: upgrade\r\nupgrade: %s\r\n", protocol);
    assert_contains(request, want);
    free(request);
    char answer[128];
    (void)snprintf(answer, sizeof(answer),
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n",
                   protocol);
    client_send(t.upstream, answer);
}

static void ask_for_upgrade(const char *protocol)
{
    char request[128];

    t.client = client_connect(&t.front);
    (void)snprintf(request, sizeof(request),
                   "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n",
                   protocol);
    client_send(t.client, request);
}

static void expect_upgrade(const char *protocol)
{
    char want[64];
    char *head = client_read_until(t.client, "\r\n\r\n");

    assert_contains(head, "HTTP/1.1 101 ");
    (void)snprintf(want, sizeof(want), "\r\nupgrade: %s\r\n", protocol);
    assert_contains(head, want);
    free(head);
}

static void open_tunnel(const char *drain, const char *directives, const char *protocol)
{
    start_front(drain, directives);
    ask_for_upgrade(protocol);
    take_upgrade(protocol);
    expect_upgrade(protocol);
}

static void release_all(void)
{
    process_release(&t.front);
    (void)close(t.client);
    (void)close(t.upstream);
    (void)close(t.listener);
}

static void close_all(int status)
{
    process_expect(&t.front, LIMIT_MS, status);
    release_all();
}

/* The tunnel has ended; so does the process. */
static void stop_and_close_all(void)
{
    process_signal(&t.front, SIGTERM);
    close_all(0);
}

static void stop_front(void)
{
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "listeners closed");
}

/* ---- what passes ---- */

/* Whatever the client sends with the request, before the upstream has answered, and after. */
static void test_early_bytes_are_passed_on_once_and_in_order(void **state)
{
    enum { EARLY = 100 * 1024, PIECES = 50 };
    char *bytes = malloc(EARLY), *got = malloc(EARLY), number[8];
    (void)state;
    start_front("{}", "");
    ask_for_upgrade("websocket");
    memset(bytes, 'e', EARLY);
    send_bytes(t.client, bytes, EARLY);
    take_upgrade("websocket");
    for (unsigned i = 0; i < PIECES; i++) { /* while the answer is being written, and after */
        (void)snprintf(number, sizeof(number), "%07u", i);
        send_bytes(t.client, number, 7);
    }
    assert_int_equal(client_recv(t.upstream, got, EARLY, MSG_WAITALL), EARLY);
    assert_memory_equal(got, bytes, EARLY);
    for (unsigned i = 0; i < PIECES; i++) {
        (void)snprintf(number, sizeof(number), "%07u", i);
        expect_bytes(t.upstream, number, 7);
    }
    expect_upgrade("websocket");
    free(bytes);
    free(got);
    (void)shutdown(t.client, SHUT_WR);
    expect_end(t.upstream);
    stop_and_close_all();
}

static unsigned long memory_kib(void)
{
    char path[64], line[128];
    unsigned long kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", t.front.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtoul(line + 6, NULL, 10);
    (void)fclose(file);
    assert_true(kib > 0);
    return kib;
}

/* Send until `fd` takes nothing for half a second. */
static size_t fill(int fd, size_t most)
{
    static char bytes[65536];
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    size_t sent = 0;

    memset(bytes, 'f', sizeof(bytes));
    while (sent < most && poll(&ready, 1, 500) > 0) {
        ssize_t n = send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        else
            sent += (size_t)n;
    }
    return sent;
}

static void expect_count(int fd, size_t count)
{
    static char bytes[65536];

    while (count > 0) {
        ssize_t n = client_recv(fd, bytes, count < sizeof(bytes) ? count : sizeof(bytes), 0);
        assert_true(n > 0);
        count -= (size_t)n;
    }
}

/* What waits is in the kernel's buffers. */
static void assert_is_held_back(int from, int to)
{
    enum { MOST = 64 << 20 };
    unsigned long before = memory_kib();

    size_t sent = fill(from, MOST);
    assert_true(sent < MOST);
    assert_true(memory_kib() < before + 2048);
    expect_count(to, sent);
    send_bytes(from, "end", 3);
    expect_bytes(to, "end", 3);
}

static void test_a_side_that_reads_nothing_holds_the_other_back(void **state)
{
    (void)state;
    open_tunnel("{}", "", "websocket");
    send_frame(t.client, TEXT, "warm", 4);
    expect_bytes(t.upstream, "\x81\x84\0\0\0\0warm", 10);
    assert_is_held_back(t.upstream, t.client);
    assert_is_held_back(t.client, t.upstream);
    (void)close(t.client);
    expect_end(t.upstream);
    stop_and_close_all();
}

/* ---- how it ends ---- */

static void test_half_of_a_tunnel_goes_on(void **state)
{
    (void)state;
    open_tunnel("{}", "", "raw/1");
    client_send(t.client, "question");
    (void)shutdown(t.client, SHUT_WR);
    expect_bytes(t.upstream, "question", 8);
    expect_end(t.upstream);
    client_send(t.upstream, "answer");
    expect_bytes(t.client, "answer", 6);
    (void)shutdown(t.upstream, SHUT_WR);
    expect_end(t.client);
    stop_and_close_all();
}

static void test_what_one_side_has_sent_before_its_end_is_passed_on(void **state)
{
    (void)state;
    open_tunnel("{}", "", "websocket");
    send_frame(t.upstream, TEXT, "last", 4);
    send_frame(t.upstream, CLOSE, "\x03\xe8", 2);
    (void)close(t.upstream);
    expect_bytes(t.client, "\x81\x04last\x88\x02\x03\xe8", 10);
    expect_end(t.client);
    stop_and_close_all();
}

/* One side of a WebSocket that has ended does not keep the tunnel for long. */
static void test_half_of_a_websocket_ends(void **state)
{
    (void)state;
    open_tunnel("{}", "", "websocket");
    (void)shutdown(t.client, SHUT_WR);
    expect_end(t.upstream);
    expect_end(t.client); /* though the upstream has not ended */
    stop_and_close_all();
}

static void test_a_reset_is_passed_on(void **state)
{
    const struct linger now = {.l_onoff = 1};
    (void)state;
    open_tunnel("{}", "", "raw");
    assert_int_equal(setsockopt(t.client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(t.client);
    expect_reset(t.upstream);
    stop_and_close_all();
}

static void test_a_silent_tunnel_ends_after_its_time(void **state)
{
    (void)state;
    open_tunnel("{}", "        proxy.websocket.timeout: 300\n", "websocket");
    expect_end(t.client);
    expect_end(t.upstream);
    stop_and_close_all();
}

/* ---- a drain ---- */

static bool both_sides_get_1001(void *arg)
{
    char last[2 * (2 + PAYLOAD_MOST)];
    (void)arg;
    open_tunnel(SOON, "", "websocket");
    uint64_t before_ns = now_ns();
    process_signal(&t.front, SIGTERM);
    before_ns = client_wait_readable(t.upstream, before_ns);
    expect_going_away(t.upstream);
    size_t size = frame(last, TEXT, false, "before", 6); /* it may end what it was sending */
    size += frame(last + size, CLOSE, false, "\x03\xe9", 2);
    send_bytes(t.upstream, last, size);
    if (!is_in_time(before_ns, 200)) { /* the client is told after 250 ms in any case */
        release_all();
        return false;
    }
    expect_end(t.upstream);
    expect_bytes(t.client,
                 "\x81\x06"
                 "before",
                 8);
    expect_going_away(t.client);
    answer_close(t.client);
    expect_end(t.client);
    close_all(0);
    return true;
}

static void test_both_sides_get_1001_and_answer(void **state)
{
    (void)state;
    repeat_until_in_time(both_sides_get_1001, NULL);
}

/* A Close frame comes where a frame ends, and not before. */
static void test_no_frame_is_torn(void **state)
{
    char up[64], down[64];
    struct pollfd ready;
    size_t up_size, down_size;
    (void)state;
    open_tunnel(SOON, "", "websocket");
    up_size = frame(up, TEXT, true, "from the client", 15);
    down_size = frame(down, TEXT, false, "from the upstream", 17);
    send_bytes(t.client, up, 9);
    send_bytes(t.upstream, down, 9);
    expect_bytes(t.upstream, up, 9);
    expect_bytes(t.client, down, 9);
    stop_front();
    ready = (struct pollfd){.fd = t.upstream, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 1500), 0);
    ready.fd = t.client;
    assert_int_equal(poll(&ready, 1, 0), 0);
    send_bytes(t.client, up + 9, up_size - 9);
    send_bytes(t.upstream, down + 9, down_size - 9);
    expect_bytes(t.upstream, up + 9, up_size - 9);
    expect_bytes(t.client, down + 9, down_size - 9);
    expect_going_away(t.upstream);
    expect_going_away(t.client);
    answer_close(t.client);
    answer_close(t.upstream);
    expect_end(t.client);
    close_all(0);
}

static void test_a_side_that_does_not_answer_is_closed_in_order(void **state)
{
    (void)state;
    open_tunnel(SOON, "", "websocket");
    stop_front();
    expect_going_away(t.upstream);
    expect_going_away(t.client);
    expect_end(t.client);
    expect_end(t.upstream);
    close_all(0);
}

/* Both sides are closing already: nothing is added. */
static void test_a_websocket_that_closes_gets_no_second_close(void **state)
{
    uint8_t status[PAYLOAD_MOST];
    (void)state;
    open_tunnel(SOON, "", "websocket");
    send_frame(t.client, CLOSE, "\x03\xe8", 2);
    expect_bytes(t.upstream, "\x88\x82\0\0\0\0\x03\xe8", 8);
    stop_front();
    send_frame(t.upstream, CLOSE, "\x03\xe8", 2);
    expect_end(t.upstream);
    assert_int_equal(read_frame(t.client, CLOSE, status), 2); /* ours, if the upstream is slow */
    expect_end(t.client);
    close_all(0);
}

static void test_a_tunnel_is_asked_before_its_deadline(void **state)
{
    (void)state;
    open_tunnel("{deadlines: {tunnel: 2s}}", "", "websocket");
    process_signal(&t.front, SIGTERM);
    expect_going_away(t.upstream);
    answer_close(t.upstream);
    expect_going_away(t.client);
    answer_close(t.client);
    expect_end(t.client);
    close_all(0);
}

/* Reconnecting clients must not all come at once. */
static void test_a_spread_does_not_ask_all_at_once(void **state)
{
    enum { MANY = 6 };
    struct pollfd upstreams[MANY];
    int clients[MANY], told;
    (void)state;
    start_front("{deadline: 20s, spread: 4s}", "");
    for (unsigned i = 0; i < MANY; i++) {
        ask_for_upgrade("websocket");
        take_upgrade("websocket");
        expect_upgrade("websocket");
        clients[i] = t.client;
        upstreams[i] = (struct pollfd){.fd = t.upstream, .events = POLLIN};
    }
    process_signal(&t.front, SIGTERM);
    while ((told = poll(upstreams, MANY, LIMIT_MS)) < 0)
        assert_int_equal(errno, EINTR);
    assert_in_range(told, 1, MANY - 1);
    for (unsigned i = 0; i < MANY - 1; i++) {
        (void)close(clients[i]);
        (void)close(upstreams[i].fd);
    }
    (void)close(t.client);
    (void)close(t.upstream);
    t.client = t.upstream = -1;
    close_all(0);
}

static char *report(void)
{
    return read_file(in_directory("report.json"));
}

#define REPORTED(rest) "{report: @/report.json, " rest "}"

static void test_what_is_in_the_middle_of_a_frame_is_cut_at_the_deadline(void **state)
{
    (void)state;
    open_tunnel(REPORTED("deadlines: {tunnel: 300ms}"), "", "websocket");
    send_bytes(t.upstream,
               "\x81\x7d"
               "half",
               6);
    expect_bytes(t.client,
                 "\x81\x7d"
                 "half",
                 6);
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "unfinished: a tunnel, cut by the deadline of tunnels");
    expect_end(t.client); /* without a Close frame, that is no end in order */
    close_all(3);
    char *text = report();
    assert_contains(text, "\"tunnels_closed\": 0");
    assert_contains(text, "\"tunnels_cut\": 1");
    free(text);
}

static void test_the_report_counts_what_was_closed(void **state)
{
    (void)state;
    open_tunnel(REPORTED("spread: 1ms"), "", "websocket");
    stop_front();
    expect_going_away(t.upstream);
    answer_close(t.upstream);
    expect_going_away(t.client);
    answer_close(t.client);
    close_all(0);
    char *text = report();
    assert_contains(text, "\"tunnels_closed\": 1");
    assert_contains(text, "\"tunnels_cut\": 0");
    free(text);
}

/* The upstream cannot be told within a frame, and needs not be when it has ended. */
static void test_one_side_that_knows_and_one_that_has_gone_is_closed(void **state)
{
    static const char half[] = "\x81\xfd\0\0\0\0half";
    (void)state;
    open_tunnel(REPORTED("spread: 1ms"), "", "websocket");
    send_bytes(t.client, half, sizeof(half) - 1);
    expect_bytes(t.upstream, half, sizeof(half) - 1);
    stop_front();
    expect_going_away(t.client);
    (void)shutdown(t.client, SHUT_WR);
    expect_end(t.upstream);
    (void)close(t.upstream);
    t.upstream = -1;
    close_all(0);
    char *text = report();
    assert_contains(text, "\"tunnels_closed\": 1");
    assert_contains(text, "\"tunnels_cut\": 0");
    free(text);
}

static void test_the_last_deadline_cuts_and_counts(void **state)
{
    (void)state;
    open_tunnel(REPORTED("deadline: 300ms"), "", "websocket");
    send_bytes(t.upstream,
               "\x81\x7d"
               "half",
               6);
    expect_bytes(t.client,
                 "\x81\x7d"
                 "half",
                 6);
    process_signal(&t.front, SIGTERM);
    close_all(0);
    char *text = report();
    assert_contains(text, "\"tunnels_cut\": 1");
    free(text);
}

/* Nothing can be said in a protocol that is not known: a reset cannot be taken for its end. */
static void test_another_protocol_is_cut_and_shows_it(void **state)
{
    (void)state;
    open_tunnel("{deadlines: {tunnel: 300ms}}", "", "raw");
    client_send(t.client, "up");
    expect_bytes(t.upstream, "up", 2);
    client_send(t.upstream, "down");
    expect_bytes(t.client, "down", 4);
    process_signal(&t.front, SIGTERM);
    process_wait_log(&t.front, "unfinished: a tunnel, cut by the deadline of tunnels");
    expect_reset(t.client);
    expect_reset(t.upstream);
    close_all(3);
}

static void test_the_last_deadline_resets_another_protocol(void **state)
{
    (void)state;
    open_tunnel("{deadline: 300ms}", "", "raw");
    process_signal(&t.front, SIGTERM);
    expect_reset(t.client);
    expect_reset(t.upstream);
    close_all(0);
}

/* ---- metrics ---- */

static void wait_metric(const struct process *admin, const char *name, double want)
{
    for (unsigned i = 0; i < 1000 && admin_metric(admin, name) != want; i++)
        (void)sched_yield();
    assert_true(admin_metric(admin, name) == want);
}

static void test_tunnels_are_counted(void **state)
{
    (void)state;
    open_tunnel("{}", "", "raw");
    struct process admin = admin_of(&t.front);
    wait_metric(&admin, "lastcall_tunnels", 1); /* soon after the client has its answer */
    (void)close(t.upstream);
    expect_end(t.client);
    (void)close(t.client);
    wait_metric(&admin, "lastcall_tunnels_ended_total{how=\"peer\"}", 1);
    wait_metric(&admin, "lastcall_tunnels", 0);
    t.client = t.upstream = -1;
    stop_and_close_all();
}

/* ---- over TLS ---- */

static void test_a_client_over_tls_gets_1001(void **state)
{
    static const char conf[] = "listen: {host: 127.0.0.1, port: 0, " SSL(
        "a") "}\n"
             "num-threads: 1\ndrain: " SOON "\nhosts: {default: {paths: {/: {"
             "proxy.websocket: ON, proxy.reverse.url: \"http://127.0.0.1:%u/\"}}}}\n";
    char text[1024], bytes[1024];
    uint16_t port;
    (void)state;
    t.listener = listen_here(&port, 4);
    (void)snprintf(text, sizeof(text), conf, port);
    start(&t.front, text);
    t.client = client_connect(&t.front);
    SSL *ssl = tls_connect(t.client, NULL);
    assert_non_null(ssl);
    tls_write(ssl, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                   "early");
    take_upgrade("websocket");
    tls_read_until(ssl, bytes, sizeof(bytes), "\r\n\r\n");
    expect_bytes(t.upstream, "early", 5);
    tls_write(ssl, "abc");
    expect_bytes(t.upstream, "abc", 3);
    send_frame(t.upstream, TEXT, "hi", 2);
    assert_int_equal(tls_read(ssl, bytes, 4), 4);
    assert_memory_equal(bytes, "\x81\x02hi", 4);
    /* "earlyabc" is no frame that ends, so the upstream cannot be told; it leaves by itself. */
    stop_front();
    assert_int_equal(tls_read(ssl, bytes, 4), 4);
    assert_memory_equal(bytes, "\x88\x02\x03\xe9", 4);
    (void)close(t.upstream);
    assert_int_equal(tls_read(ssl, bytes, 1), 0);
    tls_hang_up(ssl);
    t.client = t.upstream = -1;
    close_all(0);
}

/* ---- without a configuration ---- */

static void test_the_flag_proxy_passes_upgrades_on(void **state)
{
    char url[64];
    uint16_t port;
    (void)state;
    t.listener = listen_here(&port, 4);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
    process_start(&t.front, NULL, ARGS("--proxy", url, "--threads", "1"));
    ask_for_upgrade("websocket");
    take_upgrade("websocket");
    expect_upgrade("websocket");
    (void)close(t.client);
    expect_end(t.upstream);
    stop_and_close_all();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_early_bytes_are_passed_on_once_and_in_order),
        TEST(test_a_side_that_reads_nothing_holds_the_other_back),
        TEST(test_half_of_a_tunnel_goes_on),
        TEST(test_what_one_side_has_sent_before_its_end_is_passed_on),
        TEST(test_half_of_a_websocket_ends),
        TEST(test_a_reset_is_passed_on),
        TEST(test_a_silent_tunnel_ends_after_its_time),
        TEST(test_both_sides_get_1001_and_answer),
        TEST(test_no_frame_is_torn),
        TEST(test_a_side_that_does_not_answer_is_closed_in_order),
        TEST(test_a_websocket_that_closes_gets_no_second_close),
        TEST(test_a_tunnel_is_asked_before_its_deadline),
        TEST(test_a_spread_does_not_ask_all_at_once),
        TEST(test_what_is_in_the_middle_of_a_frame_is_cut_at_the_deadline),
        TEST(test_the_report_counts_what_was_closed),
        TEST(test_one_side_that_knows_and_one_that_has_gone_is_closed),
        TEST(test_the_last_deadline_cuts_and_counts),
        TEST(test_another_protocol_is_cut_and_shows_it),
        TEST(test_the_last_deadline_resets_another_protocol),
        TEST(test_tunnels_are_counted),
        TEST(test_a_client_over_tls_gets_1001),
        TEST(test_the_flag_proxy_passes_upgrades_on),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

/* The limit on connections and the one on open files: how many are accepted, what becomes of the
 * next one, and what a process does that has too few descriptors. */

#include "with_process.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "directory.h"
#include "expect.h"

#define CONNECTIONS 4
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define GOAWAY 7

static double metric(struct process *p, const char *name)
{
    char line[128];
    struct process admin = admin_of(p);
    char *text = admin_call(&admin, "GET", "/metrics", "", NULL);

    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(text, line);
    if (at == NULL)
        fail_msg("no %s in:\n%s", name, text);
    double value = strtod(at + strlen(line), NULL);
    free(text);
    return value;
}

static void wait_metric(struct process *p, const char *name, double want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    double value;

    while ((value = metric(p, name)) != want && now_ns() < until_ns)
        (void)poll(NULL, 0, 5);
    assert_true(value == want);
}

static void get(int fd)
{
    client_send(fd, GET("/hello"));
    client_expect(fd, "Hello World");
    (void)poll(NULL, 0, 5); /* it has idled for longer than the next one, in a clock of ms */
}

static bool is_closed(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&readable, 1, 0) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void fill(struct process *p, int *fds)
{
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        fds[i] = client_connect(p);
        get(fds[i]);
    }
}

static void close_all(const int *fds)
{
    for (unsigned i = 0; i < CONNECTIONS; i++)
        (void)close(fds[i]);
}

/* ---- the limit ---- */

static void longest_idle_gives_way(const char *listen, const char *threads)
{
    struct process p;
    int fds[CONNECTIONS];

    process_start(&p, listen, ARGS("--max-connections", "4", "--threads", threads));
    fill(&p, fds);
    get(fds[0]); /* so that fds[1] has idled longest */
    int newcomer = client_connect(&p);
    get(newcomer);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        assert_int_equal(is_closed(fds[i]), i == 1);
    assert_true(metric(&p, "lastcall_connections_gave_way_total") == 1);
    assert_true(metric(&p, "lastcall_connections_limit_reached_total") >= 1);
    assert_true(metric(&p, "lastcall_connections_released_total") == 0);

    int second = client_connect(&p);
    get(second);
    assert_true(is_closed(fds[2]));
    close_all(fds);
    (void)close(newcomer);
    (void)close(second);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "all 4 connections are in use"), 1);
    process_release(&p);
}

static void test_longest_idle_connection_gives_way(void **state)
{
    (void)state;
    longest_idle_gives_way(NULL, "1");
}

static void test_longest_idle_connection_of_all_loops_gives_way(void **state)
{
    (void)state;
    longest_idle_gives_way(NULL, "3");
}

static void test_longest_idle_connection_gives_way_on_a_unix_socket(void **state)
{
    char listen[128];

    (void)state;
    (void)snprintf(listen, sizeof(listen), "unix:%s", in_directory("limit.sock"));
    longest_idle_gives_way(listen, "2");
}

static void test_idle_ones_stay_while_no_client_needs_their_place(void **state)
{
    struct process p;
    int fds[CONNECTIONS];

    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "4", "--threads", "1"));
    fill(&p, fds);
    (void)poll(NULL, 0, 400); /* longer than a connection has to idle before it gives way */
    for (unsigned i = 0; i < CONNECTIONS; i++)
        get(fds[i]);
    assert_true(metric(&p, "lastcall_connections_gave_way_total") == 0);
    assert_true(metric(&p, "lastcall_connections_limit_reached_total") == 0);
    close_all(fds);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "connections are in use");
    process_release(&p);
}

static void test_busy_connection_does_not_give_way(void **state)
{
    struct process p;

    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "2", "--threads", "1"));
    int asks = client_connect(&p), sends = client_connect(&p);
    client_send(asks, GET("/sleep?ms=700"));
    client_send(sends, "POST /sleep?ms=0 HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nab");
    int newcomer = client_connect(&p);
    client_send(newcomer, GET("/hello"));
    client_expect(asks, " 200 ");
    char *answer = client_read_answer(newcomer); /* the first one idles by now */
    assert_contains(answer, "Hello World");
    free(answer);
    assert_true(is_closed(asks));
    client_send(sends, "cd");
    client_expect(sends, "\r\n\r\n4\n");
    (void)close(asks);
    (void)close(sends);
    (void)close(newcomer);
    process_release(&p);
}

/* Reads frames up to the end of file. */
static void assert_says_goaway(int fd)
{
    unsigned char head[9], payload[16384];
    bool has = false;

    while (client_recv(fd, head, sizeof(head), MSG_WAITALL) == (ssize_t)sizeof(head)) {
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        has |= head[3] == GOAWAY;
        assert_true(length <= sizeof(payload));
        if (length > 0)
            assert_int_equal(client_recv(fd, payload, length, MSG_WAITALL), (int)length);
    }
    assert_true(has);
}

static void test_idle_http2_connection_gives_way_with_goaway(void **state)
{
    static const char settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    struct process p;

    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "1", "--threads", "1"));
    int h2 = client_connect(&p);
    client_send(h2, H2_PREFACE);
    assert_int_equal(send(h2, settings, sizeof(settings), 0), sizeof(settings));
    wait_metric(&p, "lastcall_connections_accepted_total", 1);
    int newcomer = client_connect(&p);
    get(newcomer);
    assert_says_goaway(h2);
    (void)close(h2);
    (void)close(newcomer);
    process_release(&p);
}

/* Many connections without a request, and one with a request: it has to wait for them, not long. */
static void test_flood_of_silent_connections_gives_way(void **state)
{
    enum { MANY = 300 };
    struct process p;
    int fds[MANY];

    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "20", "--threads", "2"));
    for (unsigned i = 0; i < MANY; i++)
        fds[i] = client_connect(&p);
    assert_serves(&p);
    assert_true(metric(&p, "lastcall_connections_gave_way_total") >= MANY - 20);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    for (unsigned i = 0; i < MANY; i++)
        (void)close(fds[i]);
    process_release(&p);
}

static void test_readiness_turns_at_the_limit(void **state)
{
    struct process p;
    int fds[CONNECTIONS];

    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "4", "--threads", "1"));
    struct process admin = admin_of(&p);
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "ready\n");
    fill(&p, fds);
    admin_expect(&admin, "GET", "/readyz", "", NULL, 503, "full\n");
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live\n");
    (void)close(fds[0]);
    (void)close(fds[1]);
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char *answer = admin_call(&admin, "GET", "/readyz", "", NULL);
    while (strstr(answer, " 200 ") == NULL && now_ns() < until_ns) {
        free(answer);
        (void)poll(NULL, 0, 5);
        answer = admin_call(&admin, "GET", "/readyz", "", NULL);
    }
    assert_contains(answer, "ready\n");
    free(answer);
    (void)close(fds[2]);
    (void)close(fds[3]);
    process_release(&p);
}

/* ---- open files ---- */

static double default_limit(const char *const *args)
{
    struct process p;

    process_open_files = 256;
    process_start(&p, NULL, args);
    process_open_files = 0;
    double limit = metric(&p, "lastcall_connections_limit");
    assert_lacks(p.log, "limit on open files");
    process_release(&p);
    return limit;
}

static void test_default_limit_is_halved_where_requests_take_a_second_descriptor(void **state)
{
    (void)state;
    double whole = default_limit(ARGS("--threads", "2"));
    assert_true(whole > 100);
    unsigned half = (unsigned)whole / 2;
    assert_true(default_limit(ARGS("--threads", "2", "--proxy", "http://127.0.0.1:9")) == half);
    assert_true(default_limit(ARGS("--threads", "2", "--root", in_directory("."))) == half);
}

static void test_configured_limit_is_kept_with_a_line(void **state)
{
    struct process p;

    (void)state;
    process_open_files = 256;
    process_start(
        &p, NULL,
        ARGS("--threads", "2", "--proxy", "http://127.0.0.1:9", "--max-connections", "150"));
    process_open_files = 0;
    assert_true(metric(&p, "lastcall_connections_limit") == 150);
    assert_contains(p.log, "max-connections 150: a request for a proxy, FastCGI or a file takes a "
                           "second descriptor");
    process_release(&p);
}

/* libh2o aborts where it gets no descriptor. */
static void test_too_few_descriptors_are_one_line_and_status_69(void **state)
{
    (void)state;
    for (process_open_files = 8; process_open_files < 40; process_open_files++) {
        struct process p;
        process_spawn(&p, ARGS("--listen", "127.0.0.1:0", "--threads", "2"));
        if (!process_says(&p, "listening on ", LIMIT_MS)) {
            process_expect(&p, LIMIT_MS, 69);
            assert_contains(p.log, "cannot start: the limit on open files is ");
            assert_int_equal(count_in(p.log, "\n"), 1);
        } else {
            process_signal(&p, SIGTERM);
            process_expect(&p, LIMIT_MS, 0);
        }
        process_release(&p);
    }
    process_open_files = 0;
}

/* ---- the queue of TCP Fast Open ---- */

static void start_with_queue(struct process *p, const char *queue)
{
    const char *path = in_directory("fastopen.conf");
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    (void)fprintf(file,
                  "tcp-fastopen: %s\nlisten: {host: 127.0.0.1, port: 0}\n"
                  "hosts: {default: {paths: {/hello: {handler: hello}}}}\n",
                  queue);
    (void)fclose(file);
    process_start_configured(p, ARGS("--conf", path));
    assert_serves(p);
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

static void test_queue_of_fast_open_is_clamped_with_a_line(void **state)
{
    static const char *const too_long[] = {"65536", "4294967296", "99999999999999999999999"};
    struct process p;

    (void)state;
    for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++) {
        char line[128];
        start_with_queue(&p, too_long[i]);
        (void)snprintf(line, sizeof(line),
                       "tcp-fastopen %s: the queue has at most 65535 places; "
                       "using 65535",
                       too_long[i]);
        assert_contains(p.log, line);
        process_release(&p);
    }
    start_with_queue(&p, "65535");
    assert_lacks(p.log, "tcp-fastopen");
    process_release(&p);
}

static int teardown(void **state)
{
    process_open_files = 0;
    return process_kill_left(state);
}

int main(void)
{
    (void)alarm(600);
#define CLAIM(name) cmocka_unit_test_teardown(name, teardown)
    const struct CMUnitTest tests[] = {
        CLAIM(test_longest_idle_connection_gives_way),
        CLAIM(test_longest_idle_connection_of_all_loops_gives_way),
        CLAIM(test_longest_idle_connection_gives_way_on_a_unix_socket),
        CLAIM(test_idle_ones_stay_while_no_client_needs_their_place),
        CLAIM(test_busy_connection_does_not_give_way),
        CLAIM(test_idle_http2_connection_gives_way_with_goaway),
        CLAIM(test_flood_of_silent_connections_gives_way),
        CLAIM(test_readiness_turns_at_the_limit),
        CLAIM(test_default_limit_is_halved_where_requests_take_a_second_descriptor),
        CLAIM(test_configured_limit_is_kept_with_a_line),
        CLAIM(test_too_few_descriptors_are_one_line_and_status_69),
        CLAIM(test_queue_of_fast_open_is_clamped_with_a_line),
    };
    return cmocka_run_group_tests_name("limit", tests, make_directory, remove_directory);
}

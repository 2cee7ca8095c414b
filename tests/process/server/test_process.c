/* The real process: its answers, and its refusals. */

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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "clock.h"
#include "directory.h"
#include "expect.h"

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

/* ---- routes ---- */

static void test_hello_answers_at_once(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    assert_answer(&p, GET("/hello"), "\r\n\r\nHello World\n");
    process_release(&p);
}

static void test_sleep_counts_the_body_of_any_method(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    assert_answer(&p,
                  "PUT /sleep?ms=5 HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\nhello there",
                  "\r\n\r\n11\n");
    assert_answer(&p, GET("/sleep?ms=60001"), " 400 ");
    assert_answer(&p, GET("/sleep?ms=x"), " 400 ");
    assert_answer(&p, GET("/nothing-here"), " 404 ");
    process_release(&p);
}

/* How many milliseconds until the answer. */
static uint64_t time_of(struct process *p, const char *request, const char *answer)
{
    uint64_t begun_ns = clock_now_ns();
    assert_answer(p, request, answer);
    return (clock_now_ns() - begun_ns) / NS_PER_MS;
}

static void test_sleep_one_in_three_sleeps_every_third_time(void **state)
{
    static const char request[] = GET("/sleep?ms=400&one_in=3");
    struct process p;
    unsigned slept = 0;
    (void)state;
    process_start(&p, NULL, NULL);
    for (unsigned i = 0; i < 6; i++) {
        bool long_enough = time_of(&p, request, "\r\n\r\n0\n") >= 400;
        slept += long_enough;
        assert_true(long_enough || i % 3 != 2); /* a slow machine may make others as long */
    }
    assert_true(slept < 6);
    assert_answer(&p, GET("/sleep?ms=1&one_in=0"), " 400 ");
    assert_answer(&p, GET("/sleep?ms=1&one_in=1000001"), " 400 ");
    process_release(&p);
}

static void test_burn_computes_for_so_long(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    assert_answer(&p, GET("/burn"), "\r\n\r\nHello World\n");
    assert_true(time_of(&p, GET("/burn?us=30000"), "\r\n\r\nHello World\n") >= 30);
    assert_answer(&p, GET("/burn?us=1000001"), " 400 ");
    process_release(&p);
}

static void test_stream_sends_every_byte(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    char *answer = client_ask(&p, GET("/stream?kb=300&ms=50"));
    char *body = strstr(answer, "\r\n\r\n") + 4;
    assert_int_equal(strlen(body), 300 * 1024);
    free(answer);
    assert_answer(&p, GET("/stream?kb=-1"), " 400 ");
    process_release(&p);
}

static void test_root_serves_files_and_nothing_above_it(void **state)
{
    struct process p;
    (void)state;
    write_file(in_directory("page.txt"), "a page\n");
    process_start(&p, NULL, ARGS("--root", in_directory(".")));
    assert_answer(&p, GET("/files/page.txt"), "\r\n\r\na page\n");
    assert_answer(&p, GET("/files/../../etc/passwd"), " 404 ");
    assert_answer(&p, GET("/files/%2e%2e/%2e%2e/etc/passwd"), " 404 ");
    process_release(&p);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=30") GET("/hello") GET("/sleep?ms=1"));
    const char *const want[] = {"\r\n\r\n0\n", "Hello World", "\r\n\r\n0\n"};
    for (unsigned i = 0; i < 3; i++)
        client_expect(fd, want[i]);
    (void)close(fd);
    process_release(&p);
}

static void test_malformed_request_gets_400_and_a_closed_connection(void **state)
{
    static const char *const requests[] = {
        "GARBAGE\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: t\r\nno colon here\r\n\r\n",
        "POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: many\r\n\r\n",
        "POST /hello HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    };
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int fd = client_connect(&p);
        client_send(fd, requests[i]);
        char *all = client_read_until(fd, NULL); /* returns at the end of file only */
        assert_contains(all, " 400 ");
        assert_contains(all, "Connection: close");
        free(all);
        (void)close(fd);
    }
    process_release(&p);
}

static void test_full_pool_sheds_with_retry_after(void **state)
{
    struct process p, admin;
    int fds[2];
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "1", "--queue", "1", "--threads", "1"));
    admin = admin_of(&p);
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], i == 0 ? GET("/sleep?ms=60000") : GET("/sleep?ms=1"));
        admin_wait_number(&admin, i == 0 ? "pool.running" : "pool.queued", 1);
    }
    char *answer = client_ask(&p, GET("/sleep?ms=1"));
    assert_contains(answer, " 503 ");
    assert_contains(answer, "retry-after: 1");
    free(answer);
    (void)close(fds[0]); /* whose job is cancelled; then the other one is begun */
    client_expect(fds[1], "200 OK");
    (void)close(fds[1]);
    process_release(&p);
}

static void leave_and_come_back(bool reset)
{
    struct process p;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    process_start(&p, NULL, ARGS("--workers", "1", "--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    wait_until_busy(&p);
    if (reset)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    (void)close(fd);
    /* The only worker is free again: its job was cancelled. Otherwise this would take a minute. */
    assert_answer(&p, GET("/sleep?ms=0"), "200 OK");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_client_that_leaves_cancels_its_job(void **state)
{
    (void)state;
    leave_and_come_back(false);
}

static void test_client_that_resets_cancels_its_job(void **state)
{
    (void)state;
    leave_and_come_back(true);
}

static void test_half_closed_client_gets_its_answer(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=50&ignore-cancel=1"));
    (void)shutdown(fd, SHUT_WR);
    client_expect(fd, "200 OK");
    (void)close(fd);
    process_release(&p);
}

/* Without the timers of the loops, which come with the first connection that lingers, and stay. */
static size_t open_files(const struct process *p)
{
    char path[64], what[64];
    size_t count = 0;
    for (int fd = 0; fd < 200; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)p->pid, fd);
        ssize_t n = readlink(path, what, sizeof(what) - 1);
        if (n < 0)
            continue;
        what[n] = '\0';
        count += strstr(what, "timerfd") == NULL;
    }
    return count;
}

static void test_no_descriptor_leaks_over_many_connections(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--admin", "off")); /* its thread comes up by and by */
    assert_answer(&p, GET("/hello"), "200");
    size_t before = open_files(&p);
    for (unsigned i = 0; i < 500; i++) {
        assert_answer(&p, GET("/sleep?ms=0"), "200");
        /* An early answer to an upload makes the server linger. */
        int fd = client_connect(&p);
        client_send(fd, "POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n");
        char *answer = client_read_until(fd, NULL);
        assert_contains(answer, " 413 ");
        free(answer);
        (void)close(fd);
    }
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    size_t left;
    while ((left = open_files(&p)) > before && now_ns() < until_ns)
        (void)poll(NULL, 0, 5); /* the last ones linger */
    assert_in_range(left, 1, before);
    process_release(&p);
}

static void test_max_connections_holds_others_back(void **state)
{
    struct process p;
    int fds[3];
    (void)state;
    process_start(&p, NULL, ARGS("--max-connections", "2"));
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/hello"));
    }
    for (unsigned i = 0; i < 2; i++) {
        client_expect(fds[i], "200");
        client_send(fds[i], "GET /hello HTTP/1.1\r\n"); /* or it would idle, and give way */
    }
    struct pollfd third = {.fd = fds[2], .events = POLLIN};
    assert_int_equal(poll(&third, 1, 100), 0); /* it waits in the kernel */
    (void)close(fds[0]);
    client_expect(fds[2], "200");
    (void)close(fds[1]);
    (void)close(fds[2]);
    process_release(&p);
}

/* ---- refusals ---- */

static void test_bad_options_are_one_line_and_status_64(void **state)
{
    static const struct {
        const char *args[4];
        const char *line;
    } cases[] = {
        {{"--nonsense"}, "lastcall: --nonsense: no such option"},
        {{"--deadline", "soon"}, "--deadline soon: want a duration"},
        {{"--deadline", "-1s"}, "--deadline -1s: want a duration"},
        {{"--deadline", "10"}, "--deadline 10: want a duration"},
        {{"--deadline"}, "--deadline: wants a value"},
        {{"--workers", "0"}, "--workers 0: want a whole number from 1 to 4096"},
        {{"--threads", "1000"}, "--threads 1000: want a whole number from 1 to 256"},
        {{"--queue", "many"}, "--queue many: want a whole number"},
        {{"--listen", "127.0.0.1:99999"}, "cannot listen on 127.0.0.1:99999: want PORT"},
        {{"--listen", "::1:80"}, "cannot listen on ::1:80: want PORT"},
        {{"--listen", ""}, "cannot listen on "},
        {{"--listen", "unix:"}, "cannot listen on unix:: the path must have 1 to "},
        {{"--log-format", "xml"}, "--log-format xml: want text or json"},
        {{"surplus"}, "surplus: not an option"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct process p;
        process_spawn(&p, cases[i].args);
        process_expect(&p, LIMIT_MS, 64);
        assert_contains(p.log, cases[i].line);
        assert_ptr_equal(strchr(p.log, '\n'), p.log + p.log_bytes - 1); /* one line */
        process_release(&p);
    }
}

static void test_port_in_use_is_status_69_and_says_so(void **state)
{
    struct process first, second;
    char line[256];
    (void)state;
    process_start(&first, NULL, NULL);
    process_spawn(&second, ARGS("--listen", first.address));
    process_expect(&second, LIMIT_MS, 69);
    (void)snprintf(line, sizeof(line), "cannot listen on %s: Address already in use",
                   first.address);
    assert_contains(second.log, line);
    process_release(&second);
    process_release(&first);
}

static void test_one_bad_address_of_two_starts_nothing(void **state)
{
    struct process first, second;
    char address[160];
    struct stat st;
    (void)state;
    process_start(&first, NULL, NULL);
    (void)snprintf(address, sizeof(address), "unix:%s", in_directory("half.sock"));
    process_spawn(&second, ARGS("--listen", address, "--listen", first.address));
    process_expect(&second, LIMIT_MS, 69);
    assert_int_equal(stat(address + 5, &st), -1); /* the socket file is gone again */
    process_release(&second);
    process_release(&first);
}

static void test_unix_socket_in_use_stale_or_no_socket(void **state)
{
    struct process first, second;
    char address[160];
    struct stat st;
    (void)state;
    (void)snprintf(address, sizeof(address), "unix:%s", in_directory("twice.sock"));
    process_start(&first, address, NULL);
    process_spawn(&second, ARGS("--listen", address));
    process_expect(&second, LIMIT_MS, 69);
    assert_contains(second.log, "Address already in use");
    process_release(&second);
    process_signal(&first, SIGKILL); /* its socket file remains */
    process_expect(&first, LIMIT_MS, 128 + SIGKILL);
    process_release(&first);
    assert_int_equal(stat(address + 5, &st), 0);
    process_start(&second, address, NULL);
    assert_answer(&second, GET("/hello"), "200");
    process_signal(&second, SIGTERM);
    process_expect(&second, LIMIT_MS, 0);
    assert_int_equal(stat(address + 5, &st), -1);
    process_release(&second);
    write_file(address + 5, "not a socket");
    process_spawn(&second, ARGS("--listen", address));
    process_expect(&second, LIMIT_MS, 69);
    assert_contains(second.log, "a file that is not a socket is in the way");
    process_release(&second);
}

static void test_privileged_port_without_privilege_says_how(void **state)
{
    struct process p;
    (void)state;
    if (geteuid() == 0) {
        /* Root without the one capability: the bounding set survives execve(2). */
        process_drop_bind_capability = true;
    }
    process_spawn(&p, ARGS("--listen", "127.0.0.1:1"));
    process_drop_bind_capability = false;
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, "cannot listen on 127.0.0.1:1: Permission denied (ports below 1024");
    process_release(&p);
}

static void test_bad_root_is_status_78(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, ARGS("--root", "/no/such/place"));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "cannot serve files from /no/such/place: No such file or directory");
    process_release(&p);
    process_spawn(&p, ARGS("--root", "/etc/passwd"));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "/etc/passwd: not a directory");
    process_release(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hello_answers_at_once),
        TEST(test_sleep_counts_the_body_of_any_method),
        TEST(test_sleep_one_in_three_sleeps_every_third_time),
        TEST(test_burn_computes_for_so_long),
        TEST(test_stream_sends_every_byte),
        TEST(test_root_serves_files_and_nothing_above_it),
        TEST(test_pipelined_requests_are_answered_in_order),
        TEST(test_malformed_request_gets_400_and_a_closed_connection),
        TEST(test_full_pool_sheds_with_retry_after),
        TEST(test_client_that_leaves_cancels_its_job),
        TEST(test_client_that_resets_cancels_its_job),
        TEST(test_half_closed_client_gets_its_answer),
        TEST(test_no_descriptor_leaks_over_many_connections),
        TEST(test_max_connections_holds_others_back),
        TEST(test_bad_options_are_one_line_and_status_64),
        TEST(test_port_in_use_is_status_69_and_says_so),
        TEST(test_one_bad_address_of_two_starts_nothing),
        TEST(test_unix_socket_in_use_stale_or_no_socket),
        TEST(test_privileged_port_without_privilege_says_how),
        TEST(test_bad_root_is_status_78),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("process", tests, make_directory, remove_directory);
}

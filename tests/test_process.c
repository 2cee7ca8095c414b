/* The real process: what it serves, how it drains, what it refuses. */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"

static char directory[] = "/tmp/lastcall-test-XXXXXX";

static const char *in_directory(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

/* Ask on a new connection and return the answer. */
static char *ask(const struct process *process, const char *request)
{
    int fd = client_connect(process);
    client_send(fd, request);
    char *answer = client_read_answer(fd);
    (void)close(fd);
    return answer;
}

static void assert_answer(const struct process *process, const char *request, const char *want)
{
    char *answer = ask(process, request);
    assert_contains(answer, want);
    free(answer);
}

/* Wait until as many requests run in workers as asked for: a request that arrives then is the next.
 */
static void wait_until_busy(const struct process *process)
{
    /* One loop thread reads connections in the order in which data came; so when this answer is
     * here, what was sent before on that loop has been handed over. The end of file behind it comes
     * once the request is off the books: read with its length alone, it may still be counted as
     * active when the drain begins. */
    for (unsigned i = 0; i < 3; i++) {
        int fd = client_connect(process);
        client_send(fd, "GET /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        char *answer = client_read_until(fd, NULL);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(fd);
    }
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

static void test_stream_sends_every_byte(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
    char *answer = ask(&p, GET("/stream?kb=300&ms=50"));
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
    process_start(&p, NULL, ARGS("--root", directory));
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
    for (unsigned i = 0; i < 3; i++) {
        char *answer = client_read_answer(fd);
        assert_contains(answer, want[i]);
        free(answer);
    }
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
    struct process p;
    int fds[2];
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "1", "--queue", "1", "--threads", "1"));
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=1500"));
        wait_until_busy(&p);
    }
    char *answer = ask(&p, GET("/sleep?ms=1"));
    assert_contains(answer, " 503 ");
    assert_contains(answer, "retry-after: 1");
    free(answer);
    for (unsigned i = 0; i < 2; i++) {
        answer = client_read_answer(fds[i]);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(fds[i]);
    }
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
    /* The only worker is free again: its job was told. Else this would take a minute. */
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
    char *answer = client_read_answer(fd);
    assert_contains(answer, "200 OK");
    free(answer);
    (void)close(fd);
    process_release(&p);
}

static size_t open_files(const struct process *p)
{
    char path[64];
    struct stat st;
    size_t n = 0;
    for (int fd = 0; fd < 200; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)p->pid, fd);
        n += lstat(path, &st) == 0;
    }
    return n;
}

static void test_no_descriptor_leaks_over_many_connections(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, NULL);
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
    uint64_t until_ns = now_ns() + 5000 * NS_PER_MS;
    while (open_files(&p) > before + 4 && now_ns() < until_ns)
        assert_answer(&p, GET("/hello"), "200");    /* let its loops turn */
    assert_in_range(open_files(&p), 1, before + 4); /* timers of the loops */
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
        char *answer = client_read_answer(fds[i]);
        assert_contains(answer, "200");
        free(answer);
    }
    struct pollfd third = {.fd = fds[2], .events = POLLIN};
    assert_int_equal(poll(&third, 1, 100), 0); /* it waits in the kernel */
    (void)close(fds[0]);
    char *answer = client_read_answer(fds[2]);
    assert_contains(answer, "200");
    free(answer);
    (void)close(fds[1]);
    (void)close(fds[2]);
    process_release(&p);
}

/* ---- draining ---- */

static void test_idle_process_drains_to_status_0(void **state)
{
    const int signals[] = {SIGTERM, SIGINT, SIGQUIT};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct process p;
        process_start(&p, NULL, NULL);
        process_signal(&p, signals[i]);
        process_expect(&p, LIMIT_MS, 0);
        assert_contains(p.log, "0 requests in flight on 0 connections, deadline 10s");
        assert_contains(p.log, "drained in ");
        process_release(&p);
    }
}

static void test_request_in_flight_is_answered_with_connection_close(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=1500"));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    char *all = client_read_until(fd, NULL);
    assert_contains(all, "200 OK");
    assert_contains(all, "Connection: close");
    assert_contains(all, "\r\n\r\n0\n");
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "SIGTERM received from process");
    assert_contains(p.log, "draining, 1 request in flight on ");
    assert_contains(p.log, "1 answered, 0 idle connections released");
    process_release(&p);
}

static void test_deadline_ends_it_with_status_3_and_names_the_request(void **state)
{
    struct process p;
    const char *report = in_directory("report.json");
    json_error_t error;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "300ms", "--report", report, "--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    wait_until_busy(&p);
    uint64_t before_ns = now_ns();
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_true(p.exited_ns - before_ns >= 300 * NS_PER_MS);
    assert_contains(p.log, "deadline exceeded after ");
    assert_contains(p.log, "1 request unfinished");
    assert_contains(p.log, "unfinished: GET /sleep?ms=60000 from 127.0.0.1:");
    assert_contains(p.log, "running, age ");
    char *all = client_read_until(fd, NULL);
    assert_string_equal(all, ""); /* not answered after it was called unfinished */
    free(all);
    (void)close(fd);

    json_t *root = json_load_file(report, 0, &error);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "exit_status")), 3);
    assert_string_equal(json_string_value(json_object_get(root, "outcome")), "deadline");
    json_t *first = json_array_get(json_object_get(root, "unfinished"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "path")), "/sleep?ms=60000");
    json_decref(root);
    process_release(&p);
}

static void test_deadline_holds_against_handlers_that_ignore_it(void **state)
{
    struct process p;
    int fds[4];
    (void)state;
    process_start(&p, NULL,
                  ARGS("--deadline", "200ms", "--workers", "2", "--queue", "2", "--threads", "1"));
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=60000&ignore-cancel=1"));
    }
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "4 requests unfinished");
    assert_contains(p.log, "queued, age");
    assert_contains(p.log, "running, age");
    for (unsigned i = 0; i < 4; i++)
        (void)close(fds[i]);
    process_release(&p);
}

static void test_second_signal_ends_it_with_status_4(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    wait_until_busy(&p);
    process_signal(&p, SIGINT);
    process_wait_log(&p, "listeners closed");
    process_signal(&p, SIGINT);
    process_expect(&p, 3000, 4);
    assert_contains(p.log, "forced by SIGINT");
    assert_contains(p.log, "unfinished: GET /sleep?ms=60000");
    (void)close(fd);
    process_release(&p);
}

static void test_two_signals_back_to_back_end_it_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        struct process p;
        process_start(&p, NULL, NULL);
        process_signal(&p, SIGTERM);
        (void)kill(p.pid, i % 2 ? SIGTERM : SIGINT);
        int status = process_wait(&p, LIMIT_MS);
        assert_true(status == 0 || status == 4);
        process_release(&p);
    }
}

static void test_signal_at_start_up_ends_it_cleanly(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct process p;
        process_spawn(&p, ARGS("--listen", "127.0.0.1:0"));
        struct pollfd log = {.fd = p.log_fd, .events = POLLIN};
        (void)poll(&log, 1,
                   (int)(i / 4)); /* 0 to 9 ms: before, while and after it opens its port */
        process_signal(&p, SIGTERM);
        int status = process_wait(&p, LIMIT_MS);
        /* Before main() has blocked the signal its default holds. */
        if (status != 0 && status != 128 + SIGTERM)
            fail_msg("status %d after %u ms; log:\n%s", status, i / 4, p.log);
        process_release(&p);
    }
}

static void test_busy_workers_and_a_full_queue_are_drained(void **state)
{
    struct process p;
    int fds[4];
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "2", "--queue", "2", "--threads", "1"));
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=1000"));
    }
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    for (unsigned i = 0; i < 4; i++) {
        char *answer = client_read_answer(fds[i]);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(fds[i]);
    }
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "4 answered");
    process_release(&p);
}

static void test_silent_clients_do_not_hold_the_exit(void **state)
{
    struct process p;
    int fds[10];
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "100ms"));
    for (unsigned i = 0; i < 10; i++)
        fds[i] = client_connect(&p);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, 5000, 0);
    assert_contains(p.log, "10 idle connections released");
    for (unsigned i = 0; i < 10; i++) {
        char *all = client_read_until(fds[i], NULL);
        assert_string_equal(all, "");
        free(all);
        (void)close(fds[i]);
    }
    process_release(&p);
}

static void test_request_on_an_idle_connection_within_grace_is_answered(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "5s"));
    int fd = client_connect(&p);
    client_send(fd, GET("/hello"));
    free(client_read_answer(fd));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    client_send(fd, GET("/hello"));
    char *all = client_read_until(fd, NULL);
    assert_contains(all, "200 OK");
    assert_contains(all, "Connection: close");
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0); /* and it does not wait for the grace to end */
    process_release(&p);
}

/* A response that said keep-alive before the drain, and ends after the grace: its client has been
 * told nothing, and gets a grace of its own. */
static void test_grace_begins_anew_behind_a_response_that_said_keep_alive(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "150ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/stream?kb=64&ms=600"));
    char *head = client_read_until(fd, "\r\n\r\n");
    assert_contains(head, "Connection: keep-alive");
    size_t got = strlen(strstr(head, "\r\n\r\n") + 4);
    free(head);
    process_signal(&p, SIGTERM);
    char bytes[4096];
    while (got < 64 * 1024) {
        ssize_t n = client_recv(fd, bytes, sizeof(bytes), 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    client_send(fd, GET("/hello"));
    char *all = client_read_until(fd, NULL);
    assert_contains(all, "Hello World");
    assert_contains(all, "Connection: close");
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void half_now_half_in_the_drain(const char *half, const char *rest, const char *want)
{
    struct process p;
    process_start(&p, NULL, ARGS("--idle-grace", "20ms"));
    int fd = client_connect(&p);
    client_send(fd, half);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    struct pollfd nothing = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&nothing, 1, 60), 0); /* past the grace: it is not idle */
    client_send(fd, rest);
    char *all = client_read_until(fd, NULL);
    assert_contains(all, want);
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_request_whose_header_is_arriving_is_waited_for(void **state)
{
    (void)state;
    half_now_half_in_the_drain("GET /hello HTTP/1.1\r\nHo", "st: test\r\n\r\n", "Hello World");
}

static void test_request_whose_body_is_arriving_is_waited_for(void **state)
{
    (void)state;
    half_now_half_in_the_drain(
        "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc", "def",
        "\r\n\r\n6\n");
}

static void test_half_a_request_at_the_deadline_is_reported(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "150ms"));
    int fd = client_connect(&p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "unfinished: POST /sleep?ms=1");
    assert_contains(p.log, "receiving, age");
    (void)close(fd);
    process_release(&p);
}

/* The rest of its body lies in the kernel when the deadline passes: it is one request all the same.
 */
static void test_half_read_request_at_the_deadline_is_reported_once(void **state)
{
    struct process p;
    int fds[16];
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "0", "--threads", "1"));
    for (unsigned i = 0; i < 16; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\n");
    }
    wait_until_busy(&p);
    process_signal(&p, SIGSTOP);
    for (unsigned i = 0; i < 16; i++)
        client_send(fds[i], "abc");
    process_signal(&p, SIGTERM); /* both wait for it when it goes on */
    process_signal(&p, SIGCONT);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, " 16 requests unfinished");
    for (unsigned i = 0; i < 16; i++)
        (void)close(fds[i]);
    process_release(&p);
}

/* The response that closes must not be lost to what the client has pipelined behind it. */
static void test_closing_response_survives_a_pipelined_request(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=1000"));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    for (unsigned i = 0; i < 50; i++)
        client_send(fd, GET("/hello"));
    char *all = client_read_until(fd, NULL);
    assert_int_equal(errno == ECONNRESET, 0);
    assert_contains(all, "\r\n\r\n0\n");
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static int connect_with_small_buffer(const struct process *p)
{
    int fd = client_connect(p), small = 262144;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    return fd;
}

static void test_slow_reader_of_a_large_response_gets_all_of_it(void **state)
{
    struct process p;
    char bytes[65536];
    size_t got = 0;
    (void)state;
    process_start(&p, NULL, NULL);
    int fd = connect_with_small_buffer(&p);
    client_send(fd, GET("/stream?kb=16384"));
    char *head = client_read_until(fd, "\r\n\r\n");
    got = strlen(strstr(head, "\r\n\r\n") + 4);
    free(head);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    for (;;) {
        ssize_t n = client_recv(fd, bytes, sizeof(bytes), 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    assert_int_equal(got, 16384 * 1024);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_reader_that_does_not_read_is_cut_and_reported(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "200ms"));
    int fd = connect_with_small_buffer(&p);
    client_send(fd, GET("/stream?kb=65536"));
    free(client_read_until(fd, "\r\n\r\n"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "unfinished: GET /stream?kb=65536");
    assert_contains(p.log, "responding, age");
    (void)close(fd);
    process_release(&p);
}

/* What has reached the kernel and was never read, because the process stood still past its
 * deadline. */
static void test_unread_request_at_the_deadline_is_named(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "0", "--threads", "1"));
    int idle = client_connect(&p);
    client_send(idle, GET("/hello"));
    free(client_read_answer(idle));
    process_signal(&p, SIGSTOP);
    client_send(idle, GET("/sleep?ms=1&unread=1"));
    process_signal(&p, SIGTERM); /* both wait for it when it goes on */
    process_signal(&p, SIGCONT);
    /* Answered or named, as its loop comes to it first or the coordinator does. */
    char *all = client_read_until(idle, NULL);
    int status = process_wait(&p, LIMIT_MS);
    if (strstr(all, "200 OK") == NULL) {
        assert_int_equal(status, 3);
        assert_contains(p.log, "unfinished: GET /sleep?ms=1&unread=1");
    } else {
        assert_int_equal(status, 0);
    }
    free(all);
    (void)close(idle);
    process_release(&p);
}

static void test_unaccepted_request_at_the_deadline_is_named(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "0", "--threads", "1"));
    process_signal(&p, SIGSTOP);
    int fd = client_connect(&p);
    client_send(fd, GET("/hello"));
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGCONT);
    /* Answered or named, as the loops come to it first or the deadline does. */
    char *all = client_read_until(fd, NULL);
    int status = process_wait(&p, LIMIT_MS);
    if (strstr(all, "Hello World") == NULL) {
        assert_int_equal(status, 3);
        assert_contains(p.log, "unfinished: GET /hello");
    } else {
        assert_int_equal(status, 0);
    }
    free(all);
    (void)close(fd);
    process_release(&p);
}

/* A whole answer that the client has not read yet must outlive a drain that is cut short. */
static void test_whole_answer_in_the_kernel_survives_the_cut(void **state)
{
    struct process p;
    char bytes[65536];
    size_t got = 0;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "1ms"));
    int fd = connect_with_small_buffer(&p);
    client_send(fd, GET("/stream?kb=200"));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    for (ssize_t n; (n = client_recv(fd, bytes, sizeof(bytes), 0)) > 0;)
        got += (size_t)n;
    assert_true(got > 200 * 1024);
    (void)close(fd);
    process_release(&p);
}

/* Old clients send an empty line behind a request. It must not cost them the response. */
static void test_bytes_behind_the_last_request_do_not_reset_its_response(void **state)
{
    struct process p;
    char bytes[65536];
    (void)state;
    process_start(&p, NULL, NULL);
    for (unsigned i = 0; i < 10; i++) {
        size_t got = 0;
        int fd = connect_with_small_buffer(&p);
        client_send(fd, "GET /stream?kb=2000 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        free(client_read_until(fd, "\r\n\r\n"));
        client_send(fd, "\r\n");
        for (ssize_t n; (n = client_recv(fd, bytes, sizeof(bytes), 0)) > 0;)
            got += (size_t)n;
        assert_true(got > 1000 * 1024);
        (void)close(fd);
    }
    process_release(&p);
}

/* Descriptors run out: idle connections hold them, and requests wait in the queue behind. */
static void test_idle_connections_do_not_keep_the_queue_from_being_served(void **state)
{
    struct process p;
    int idle[80], asking[5];
    (void)state;
    process_open_files = 120;
    process_start(&p, NULL, ARGS("--threads", "1", "--idle-grace", "100ms"));
    process_open_files = 0;
    for (unsigned i = 0; i < 80; i++)
        idle[i] = client_connect(&p);
    for (unsigned i = 0; i < 5; i++) {
        asking[i] = client_connect(&p);
        client_send(asking[i], GET("/hello"));
    }
    process_signal(&p, SIGTERM);
    for (unsigned i = 0; i < 5; i++) {
        char *answer = client_read_answer(asking[i]);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(asking[i]);
    }
    process_expect(&p, 5000, 0);
    for (unsigned i = 0; i < 80; i++)
        (void)close(idle[i]);
    process_release(&p);
}

/* A log that nobody reads must not hold up the deadline. */
static void test_full_log_does_not_hold_the_exit(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "100ms", "--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    wait_until_busy(&p);
    process_fill_log(&p);
    process_signal(&p, SIGTERM);
    assert_int_equal(process_wait_unread(&p, 5000), 3);
    (void)close(fd);
    process_release(&p);
}

static void test_lame_duck_accepts_and_says_close(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "1500ms"));
    assert_answer(&p, GET("/hello"), "Connection: keep-alive");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for 1.5s");
    assert_answer(&p, GET("/hello"), "Connection: close");
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_connect_after_the_drain_began_is_refused_not_reset(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int busy = client_connect(&p);
    client_send(busy, GET("/sleep?ms=1500"));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(p.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
    assert_int_equal(errno, ECONNREFUSED);
    (void)close(fd);
    free(client_read_until(busy, NULL));
    (void)close(busy);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* Twenty clients that the kernel has accepted while the process stood still. */
static void queue_test(const char *listen)
{
    struct process p;
    int fds[20];

    process_start(&p, listen, NULL);
    process_signal(&p, SIGSTOP);
    for (unsigned i = 0; i < 20; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/hello"));
    }
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGCONT);
    for (unsigned i = 0; i < 20; i++) {
        char *answer = client_read_answer(fds[i]);
        assert_contains(answer, "Hello World");
        free(answer);
        (void)close(fds[i]);
    }
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_accept_queue_of_a_stopped_process_is_answered_tcp(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++)
        queue_test(NULL);
}

static void test_accept_queue_of_a_stopped_process_is_answered_unix(void **state)
{
    char address[160];
    (void)state;
    (void)snprintf(address, sizeof(address), "unix:%s", in_directory("queue.sock"));
    for (unsigned i = 0; i < 30; i++)
        queue_test(address);
}

static void test_json_log_is_one_object_a_line(void **state)
{
    struct process p;
    json_error_t error;
    (void)state;
    process_spawn(&p, ARGS("--listen", "127.0.0.1:0", "--log-format", "json"));
    process_wait_log(&p, "listening");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    unsigned lines = 0;
    for (char *line = strtok(p.log, "\n"); line != NULL; line = strtok(NULL, "\n"), lines++) {
        json_t *object = json_loads(line, 0, &error);
        if (object == NULL || json_object_get(object, "event") == NULL)
            fail_msg("not a log object: %s", line);
        json_decref(object);
    }
    assert_true(lines >= 4);
    process_release(&p);
}

static void test_pid_file_is_there_while_it_runs(void **state)
{
    struct process p;
    const char *path = in_directory("pid");
    struct stat st;
    (void)state;
    process_start(&p, NULL, ARGS("--pid-file", path));
    uint64_t until_ns = now_ns() + 5000 * NS_PER_MS;
    while (stat(path, &st) != 0 && now_ns() < until_ns)
        assert_answer(&p, GET("/hello"), "200");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    long pid = 0;
    assert_int_equal(fscanf(file, "%ld", &pid), 1);
    (void)fclose(file);
    assert_int_equal(pid, p.pid);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(stat(path, &st), -1);
    process_release(&p);
}

/* ---- HTTP/2, by hand: what a well-behaved client never shows ---- */

static void send_frame(int fd, unsigned type, unsigned flags, unsigned stream, const char *payload,
                       size_t bytes)
{
    unsigned char head[9] = {(unsigned char)(bytes >> 16),
                             (unsigned char)(bytes >> 8),
                             (unsigned char)bytes,
                             (unsigned char)type,
                             (unsigned char)flags,
                             0,
                             0,
                             0,
                             (unsigned char)stream};
    assert_int_equal(send(fd, head, 9, MSG_NOSIGNAL), 9);
    if (bytes > 0)
        assert_int_equal(send(fd, payload, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

static int h2_connect(const struct process *p)
{
    int fd = client_connect(p);
    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, 4, 0, 0, NULL, 0);
    return fd;
}

/* POST /sleep?ms=1, its body still to come (RFC 7541: indexed fields and one literal). */
static void h2_begin_post(int fd, unsigned stream)
{
    static const char block[] = "\x83\x86\x04\x0b/sleep?ms=1\x41\x01t";
    send_frame(fd, 1, 4, stream, block, sizeof(block) - 1);
}

/* Read frames until one of `type` on `stream`; its flags and payload. False at the end of file. */
static bool h2_read(int fd, unsigned type, unsigned stream, unsigned *ret_flags, char *payload)
{
    unsigned char head[9];
    for (;;) {
        if (client_recv(fd, head, 9, MSG_WAITALL) != 9)
            return false;
        size_t bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        assert_true(bytes < 16385);
        if (bytes > 0 && client_recv(fd, payload, bytes, MSG_WAITALL) != (ssize_t)bytes)
            return false;
        payload[bytes] = '\0';
        *ret_flags = head[4];
        if (head[3] == type && head[8] == stream)
            return true;
    }
}

static void test_h2_upload_under_way_is_waited_for(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, NULL);
    int fd = h2_connect(&p);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 0, 1, "abc", 3);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload)); /* the first GOAWAY refuses nothing */
    assert_memory_equal(payload, "\x7f\xff\xff\xff", 4);
    struct pollfd nothing = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&nothing, 1, 100), 0); /* and the last one waits for the body */
    send_frame(fd, 0, 1, 1, "def", 3);
    bool answered = false;
    while (!answered && h2_read(fd, 0, 1, &flags, payload))
        answered = strcmp(payload, "6\n") == 0;
    assert_true(answered);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_h2_idle_connection_gets_both_goaways_and_no_grace(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "10s"));
    int fd = h2_connect(&p);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 1, 1, "x", 1);
    assert_true(h2_read(fd, 0, 1, &flags, payload));
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\x7f\xff\xff\xff", 4);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\0\0\0\1\0\0\0\0", 8); /* last stream 1, no error */
    assert_false(h2_read(fd, 7, 0, &flags, payload));    /* then the end of file */
    (void)close(fd);
    process_expect(&p, 5000, 0);
    process_release(&p);
}

static void test_h2_connection_that_begins_in_the_drain_gets_its_goaways(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "10s"));
    int fd = client_connect(&p);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, 4, 0, 0, NULL, 0);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 1, 1, "x", 1);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    (void)close(fd);
    process_expect(&p, 8000, 0);
    process_release(&p);
}

static void h2_get(int fd, unsigned stream, const char *path)
{
    char block[128];
    int n = snprintf(block, sizeof(block), "\x82\x86\x04%c%s\x41\x01t", (int)strlen(path), path);
    send_frame(fd, 1, 5, stream, block, (size_t)n);
}

/* A client that has not read the GOAWAY yet may open one more stream; it, and the one in flight,
 * are answered, whatever frames come with it. */
static void test_h2_stream_opened_behind_the_first_goaway_is_answered(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, NULL);
    int fd = h2_connect(&p);
    h2_get(fd, 1, "/sleep?ms=1000");
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    struct pollfd nothing = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&nothing, 1, 50), 0); /* many round trips later */
    h2_get(fd, 3, "/hello");
    send_frame(fd, 8, 0, 3, "\0\0\1\0", 4); /* WINDOW_UPDATE of that stream */
    assert_true(h2_read(fd, 0, 3, &flags, payload));
    assert_string_equal(payload, "Hello World\n");
    assert_true(h2_read(fd, 0, 1, &flags, payload));
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\0\0\0\3\0\0\0\0", 8);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_h2_reset_of_the_last_stream_ends_the_drain(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "30s"));
    int fd = h2_connect(&p);
    h2_get(fd, 1, "/sleep?ms=60000");
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    send_frame(fd, 3, 0, 1, "\0\0\0\x08", 4);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    process_expect(&p, 10000, 0);
    (void)close(fd);
    process_release(&p);
}

static void test_empty_line_behind_a_body_leaves_the_connection_idle(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "50ms", "--deadline", "30s"));
    int fd = client_connect(&p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi\r\n");
    free(client_read_answer(fd));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, 10000, 0);
    assert_contains(p.log, "1 idle connection released");
    (void)close(fd);
    process_release(&p);
}

static void test_h2_client_that_only_resets_is_told_to_calm_down(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = h2_connect(&p);
    for (unsigned i = 0; i < 120; i++) {
        static const char block[] = "\x82\x86\x04\x0f/sleep?ms=60000\x41\x01t";
        send_frame(fd, 1, 5, 2 * i + 1, block, sizeof(block) - 1);
        send_frame(fd, 3, 0, 2 * i + 1, "\0\0\0\x08", 4);
    }
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload + 4, "\0\0\0\x0b", 4); /* ENHANCE_YOUR_CALM */
    (void)close(fd);
    assert_answer(&p, GET("/sleep?ms=0"), "200"); /* and the workers are free */
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
    process_signal(&first, SIGKILL); /* leaves its file behind */
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

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hello_answers_at_once),
        TEST(test_sleep_counts_the_body_of_any_method),
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
        TEST(test_idle_process_drains_to_status_0),
        TEST(test_request_in_flight_is_answered_with_connection_close),
        TEST(test_deadline_ends_it_with_status_3_and_names_the_request),
        TEST(test_deadline_holds_against_handlers_that_ignore_it),
        TEST(test_second_signal_ends_it_with_status_4),
        TEST(test_two_signals_back_to_back_end_it_once),
        TEST(test_signal_at_start_up_ends_it_cleanly),
        TEST(test_busy_workers_and_a_full_queue_are_drained),
        TEST(test_silent_clients_do_not_hold_the_exit),
        TEST(test_request_on_an_idle_connection_within_grace_is_answered),
        TEST(test_grace_begins_anew_behind_a_response_that_said_keep_alive),
        TEST(test_request_whose_header_is_arriving_is_waited_for),
        TEST(test_request_whose_body_is_arriving_is_waited_for),
        TEST(test_half_a_request_at_the_deadline_is_reported),
        TEST(test_half_read_request_at_the_deadline_is_reported_once),
        TEST(test_closing_response_survives_a_pipelined_request),
        TEST(test_slow_reader_of_a_large_response_gets_all_of_it),
        TEST(test_reader_that_does_not_read_is_cut_and_reported),
        TEST(test_unread_request_at_the_deadline_is_named),
        TEST(test_unaccepted_request_at_the_deadline_is_named),
        TEST(test_whole_answer_in_the_kernel_survives_the_cut),
        TEST(test_bytes_behind_the_last_request_do_not_reset_its_response),
        TEST(test_idle_connections_do_not_keep_the_queue_from_being_served),
        TEST(test_full_log_does_not_hold_the_exit),
        TEST(test_lame_duck_accepts_and_says_close),
        TEST(test_connect_after_the_drain_began_is_refused_not_reset),
        TEST(test_accept_queue_of_a_stopped_process_is_answered_tcp),
        TEST(test_accept_queue_of_a_stopped_process_is_answered_unix),
        TEST(test_json_log_is_one_object_a_line),
        TEST(test_pid_file_is_there_while_it_runs),
        TEST(test_h2_upload_under_way_is_waited_for),
        TEST(test_h2_idle_connection_gets_both_goaways_and_no_grace),
        TEST(test_h2_connection_that_begins_in_the_drain_gets_its_goaways),
        TEST(test_h2_stream_opened_behind_the_first_goaway_is_answered),
        TEST(test_h2_reset_of_the_last_stream_ends_the_drain),
        TEST(test_empty_line_behind_a_body_leaves_the_connection_idle),
        TEST(test_h2_client_that_only_resets_is_told_to_calm_down),
        TEST(test_bad_options_are_one_line_and_status_64),
        TEST(test_port_in_use_is_status_69_and_says_so),
        TEST(test_one_bad_address_of_two_starts_nothing),
        TEST(test_unix_socket_in_use_stale_or_no_socket),
        TEST(test_privileged_port_without_privilege_says_how),
        TEST(test_bad_root_is_status_78),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    if (getenv("LASTCALL_TEST") != NULL)
        cmocka_set_test_filter(getenv("LASTCALL_TEST"));
    return cmocka_run_group_tests_name("process", tests, make_directory, remove_directory);
}

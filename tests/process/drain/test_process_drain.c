/* The real process: how it drains. */

#include "with_process.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
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
#include "directory.h"
#include "expect.h"

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

#ifdef NDEBUG
static long mapped_kb(const struct process *p)
{
    char path[64], text[4096];

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)p->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    const char *found = strstr(text, "RssFile:");
    assert_non_null(found);
    return strtol(found + strlen("RssFile:"), NULL, 10);
}

/* See code_pages.h. */
static void test_code_is_unmapped_while_a_request_is_waited_for(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
    wait_until_busy(&p);
    long before_kb = mapped_kb(&p);
    process_signal(&p, SIGTERM);
    for (uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
         mapped_kb(&p) > before_kb - before_kb / 4 && now_ns() < until_ns;)
        (void)poll(NULL, 0, 5);
    assert_true(mapped_kb(&p) <= before_kb - before_kb / 4);
    client_send(fd, "def");
    char *all = client_read_until(fd, NULL);
    assert_contains(all, "\r\n\r\n6\n");
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}
#endif

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
                  ARGS("--deadline", "200ms", "--workers", "2", "--queue", "4", "--threads", "1"));
    for (unsigned i = 0; i < 4; i++) { /* all four may be there before a worker takes one */
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
    process_expect(&p, LIMIT_MS, 4);
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
    struct process p, admin;
    int fds[4];
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "2", "--queue", "2", "--threads", "1"));
    admin = admin_of(&p);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&p);
        /* none ends before the signal, on a busy machine either */
        client_send(fds[i], GET("/sleep?ms=3000"));
        if (i == 1) /* the queue has room for the other two then */
            admin_wait_number(&admin, "pool.running", 2);
    }
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    for (unsigned i = 0; i < 4; i++) {
        client_expect(fds[i], "200 OK");
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
    process_start(&p, NULL, ARGS("--threads", "1", "--idle-grace", "100ms", "--deadline", "60s"));
    for (unsigned i = 0; i < 10; i++)
        fds[i] = client_connect(&p);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
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

/* False: the connection has ended. */
static bool ask_again(int fd)
{
    static const char request[] = GET("/hello");
    const size_t size = sizeof(request) - 1;

    return send(fd, request, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool grace_begins_anew(void *arg)
{
    struct process p;
    (void)arg;
    process_start(&p, NULL, ARGS("--idle-grace", "500ms"));
    int fd = client_connect(&p);
    uint64_t before_ns = now_ns(); /* the last byte came; see client_wait_readable() */
    client_send(fd, GET("/stream?kb=64&ms=600"));
    char *head = client_read_until(fd, "\r\n\r\n");
    assert_contains(head, "Connection: keep-alive");
    size_t got = strlen(strstr(head, "\r\n\r\n") + 4);
    free(head);
    process_signal(&p, SIGTERM);
    char bytes[4096];
    while (got < 64 * 1024) {
        before_ns = client_wait_readable(fd, before_ns);
        ssize_t n = client_recv(fd, bytes, sizeof(bytes), 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    bool sent = ask_again(fd);
    bool in_time = is_in_time(before_ns, 400);
    char *all = client_read_until(fd, NULL);
    if (in_time) {
        assert_true(sent);
        assert_contains(all, "Hello World");
        assert_contains(all, "Connection: close");
    }
    free(all);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    return in_time;
}

/* A response that said keep-alive before the drain, and ends after the grace: its client knows
 * nothing of the drain, and gets its own grace. */
static void test_grace_begins_anew_after_a_response_with_keep_alive(void **state)
{
    (void)state;
    repeat_until_in_time(grace_begins_anew, NULL);
}

static void half_now_half_in_the_drain(const char *half, const char *rest, const char *want)
{
    struct process p;
    process_start(&p, NULL, ARGS("--threads", "1", "--idle-grace", "20ms"));
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
    process_start(&p, NULL, ARGS("--threads", "1", "--deadline", "150ms"));
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

/* The rest of its body lies in the kernel when the deadline passes: it counts as one request. */
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

/* A pipelined request must not cost the client the response with Connection: close. */
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

struct large {
    const char *listen;
    size_t size;
};

/* The client takes longer than the grace to read what the kernel holds of an answer; it sends the
 * next request right after that. */
static bool read_slowly_and_ask_again(void *arg)
{
    const struct large *large = arg;
    size_t size = large->size;
    struct process p;
    char bytes[65536];
    FILE *file = fopen(in_directory("large"), "w");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++)
        (void)fputc('x', file);
    assert_int_equal(fclose(file), 0);
    process_start(&p, large->listen, ARGS("--threads", "1", "--root", in_directory(".")));
    int fd = connect_with_small_buffer(&p);
    client_send(fd, GET("/files/large"));
    char *head = client_read_until(fd, "\r\n\r\n");
    assert_contains(head, "Connection: keep-alive");
    size_t left = size - strlen(strstr(head, "\r\n\r\n") + 4), part = left / 8 + 1;
    free(head);
    process_signal(&p, SIGTERM);
    /* The grace is a second, and begins again while the client takes what there is. Before the
     * last part but one its kernel cannot have held all the rest. */
    uint64_t begun_ns = now_ns(), held_ns = begun_ns;
    bool in_time = true;
    for (; left > 0; left -= part < left ? part : left) {
        uint64_t before_ns = begun_ns;
        begun_ns = now_ns();
        if (left > part)
            held_ns = begun_ns;
        (void)poll(NULL, 0, 250); /* a slow client has no event */
        for (size_t got = 0; got < part && got < left;) {
            size_t most = part - got < left - got ? part - got : left - got;
            ssize_t n = client_recv(fd, bytes, most < sizeof(bytes) ? most : sizeof(bytes), 0);
            assert_true(n > 0);
            got += (size_t)n;
        }
        in_time = in_time && is_in_time(before_ns, 900);
    }
    bool sent = ask_again(fd);
    in_time = in_time && is_in_time(held_ns, 900);
    char *answer = client_read_until(fd, NULL);
    if (in_time) {
        assert_true(sent);
        assert_contains(answer, " 200 OK");
        assert_contains(answer, "Connection: close");
    }
    free(answer);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    return in_time;
}

static void test_grace_is_for_a_client_that_has_its_answer(void **state)
{
    char path[160];
    struct large over_tcp = {NULL, 4000000}, over_unix = {path, 150000};
    (void)state;
    (void)snprintf(path, sizeof(path), "unix:%s", in_directory("slow.sock"));
    repeat_until_in_time(read_slowly_and_ask_again, &over_tcp);
    repeat_until_in_time(read_slowly_and_ask_again, &over_unix);
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
    process_start(&p, NULL, ARGS("--threads", "1", "--deadline", "1ms"));
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

/* Old clients send an empty line after a request. It must not cost them the response. */
static void test_bytes_after_the_last_request_do_not_reset_its_response(void **state)
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

/* Descriptors run out: idle connections hold them all, and requests wait in the accept queue. */
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
        client_expect(asking[i], "200 OK");
        (void)close(asking[i]);
    }
    process_expect(&p, LIMIT_MS, 0);
    for (unsigned i = 0; i < 80; i++)
        (void)close(idle[i]);
    process_release(&p);
}

/* A log whose reader has stopped must not hold up the deadline. */
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
    client_send(busy, GET("/sleep?ms=60000"));
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
        client_expect(fds[i], "Hello World");
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

static void test_empty_line_after_a_body_leaves_the_connection_idle(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1", "--idle-grace", "50ms", "--deadline", "30s"));
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

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_idle_process_drains_to_status_0),
        TEST(test_request_in_flight_is_answered_with_connection_close),
#ifdef NDEBUG
        TEST(test_code_is_unmapped_while_a_request_is_waited_for),
#endif
        TEST(test_deadline_ends_it_with_status_3_and_names_the_request),
        TEST(test_deadline_holds_against_handlers_that_ignore_it),
        TEST(test_second_signal_ends_it_with_status_4),
        TEST(test_two_signals_back_to_back_end_it_once),
        TEST(test_signal_at_start_up_ends_it_cleanly),
        TEST(test_busy_workers_and_a_full_queue_are_drained),
        TEST(test_silent_clients_do_not_hold_the_exit),
        TEST(test_request_on_an_idle_connection_within_grace_is_answered),
        TEST(test_grace_begins_anew_after_a_response_with_keep_alive),
        TEST(test_request_whose_header_is_arriving_is_waited_for),
        TEST(test_request_whose_body_is_arriving_is_waited_for),
        TEST(test_half_a_request_at_the_deadline_is_reported),
        TEST(test_half_read_request_at_the_deadline_is_reported_once),
        TEST(test_closing_response_survives_a_pipelined_request),
        TEST(test_slow_reader_of_a_large_response_gets_all_of_it),
        TEST(test_grace_is_for_a_client_that_has_its_answer),
        TEST(test_reader_that_does_not_read_is_cut_and_reported),
        TEST(test_unread_request_at_the_deadline_is_named),
        TEST(test_unaccepted_request_at_the_deadline_is_named),
        TEST(test_whole_answer_in_the_kernel_survives_the_cut),
        TEST(test_bytes_after_the_last_request_do_not_reset_its_response),
        TEST(test_idle_connections_do_not_keep_the_queue_from_being_served),
        TEST(test_full_log_does_not_hold_the_exit),
        TEST(test_lame_duck_accepts_and_says_close),
        TEST(test_connect_after_the_drain_began_is_refused_not_reset),
        TEST(test_accept_queue_of_a_stopped_process_is_answered_tcp),
        TEST(test_accept_queue_of_a_stopped_process_is_answered_unix),
        TEST(test_json_log_is_one_object_a_line),
        TEST(test_pid_file_is_there_while_it_runs),
        TEST(test_empty_line_after_a_body_leaves_the_connection_idle),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("process_drain", tests, make_directory, remove_directory);
}

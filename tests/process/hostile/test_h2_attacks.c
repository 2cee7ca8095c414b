/* The real process and HTTP/2 clients that attack it, or send what no client should. Each test
 * fails with LASTCALL_UNMENDED=1 in the environment, unless it says that it does not. */

#include "h2_by_hand.h"

#include <poll.h>
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
#include "directory.h"
#include "expect.h"

#define LIMIT_MS 30000
#define WINDOW_FULL (UINT32_C(1) << 20)
#define MB ((size_t)1024 * 1024)

static char admin_address[128];

#define ARGS(...)                                                                                  \
    ((const char *const[]){"--threads", "1", "--admin", admin_address, __VA_ARGS__, NULL})

static void start(struct process *p, struct process *admin, const char *const *args)
{
    (void)snprintf(admin_address, sizeof(admin_address), "unix:%s", in_directory("admin.sock"));
    process_start(p, NULL, args);
    *admin = admin_of(p);
}

static void stop(struct process *p)
{
    assert_serves(p);
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    process_release(p);
}

static double metric(const struct process *admin, const char *name)
{
    char *answer = admin_call(admin, "GET", "/metrics", "", NULL);
    const char *line = strstr(answer, name);
    double value = -1;

    while (line != NULL && (line[-1] != '\n' || line[strlen(name)] != ' '))
        line = strstr(line + 1, name);
    if (line != NULL)
        value = strtod(line + strlen(name), NULL);
    free(answer);
    return value;
}

#define REFUSED(reason) "lastcall_http2_refused_total{reason=\"" reason "\"}"

/* ---- windows of streams that have ended ---- */

static void make_file(const char *name, size_t size)
{
    FILE *file = fopen(in_directory(name), "w");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(fputc('x', file), 'x');
    assert_int_equal(fclose(file), 0);
}

/* Request so much that the answers cannot leave: the client does not read, so the kernels' buffers
 * fill up, and in the end the server is in the middle of a write. The library allows no more than
 * 100 streams, so requests come in groups. It writes at once, without waiting for room, only to a
 * connection with no other output; hence the pauses. Returns the last stream. */
static uint32_t fill(const struct process *p, int fd, const char *path, unsigned groups,
                     unsigned group)
{
    uint32_t stream = 1;

    h2_send_number(fd, H2_WINDOW, 0, INT32_MAX - 65535);
    for (unsigned i = 0; i < groups; i++) {
        for (unsigned k = 0; k < group; k++, stream += 2)
            h2_send_get(fd, stream, path);
        (void)poll(NULL, 0, 3);
    }
    assert_serves(p);
    return stream - 2;
}

static void test_settings_do_not_wake_a_stream_that_has_ended(void **state)
{
    struct process p, admin;
    (void)state;
    make_file("40k", 40000);
    start(&p, &admin, ARGS("--root", directory));
    for (unsigned round = 0; round < 4; round++) {
        int fd = h2_connect(&p, true);
        h2_send_window_setting(fd, WINDOW_FULL);
        (void)fill(&p, fd, "/files/40k", 200, 1);
        for (unsigned i = 0; i < 20; i++) {
            h2_send_window_setting(fd, 0);
            assert_serves(&p);
            h2_send_window_setting(fd, WINDOW_FULL);
            assert_serves(&p);
        }
        (void)close(fd);
    }
    stop(&p);
}

static void test_window_update_does_not_wake_a_stream_that_has_ended(void **state)
{
    struct process p, admin;
    (void)state;
    make_file("1000", 1000);
    start(&p, &admin, ARGS("--root", directory));
    for (unsigned round = 0; round < 3; round++) {
        int fd = h2_connect(&p, true);
        h2_send_window_setting(fd, 1000); /* an answer uses up its window */
        uint32_t last = fill(&p, fd, "/files/1000", 500, 15);
        for (unsigned i = 0; i < 5; i++) {
            for (uint32_t stream = 1; stream <= last; stream += 2)
                h2_send_number(fd, H2_WINDOW, stream, 1);
            assert_serves(&p);
        }
        (void)close(fd);
    }
    stop(&p);
}

/* A stream that was reset while it waits for a write is in the same state. */
static void test_a_reset_stream_is_not_woken(void **state)
{
    struct process p, admin;
    (void)state;
    make_file("40k", 40000);
    start(&p, &admin, ARGS("--root", directory));
    for (unsigned round = 0; round < 3; round++) {
        int fd = h2_connect(&p, true);
        h2_send_window_setting(fd, WINDOW_FULL);
        uint32_t last = fill(&p, fd, "/files/40k", 200, 1);
        h2_send_window_setting(fd, 0);
        for (uint32_t stream = 1; stream <= last; stream += 2)
            h2_send_number(fd, H2_RST, stream, 8);
        for (unsigned i = 0; i < 20; i++) {
            assert_serves(&p);
            h2_send_window_setting(fd, WINDOW_FULL);
            assert_serves(&p);
            h2_send_window_setting(fd, 0);
        }
        (void)close(fd);
    }
    stop(&p);
}

/* Windows of streams that go on are exact: an answer in pieces is whole.
 * This one passes without the mends as well. */
static void test_an_answer_through_a_window_that_opens_and_closes_is_whole(void **state)
{
    struct process p, admin;
    static struct h2_got got;
    size_t bytes = 0;
    (void)state;
    make_file("40k", 40000);
    start(&p, &admin, ARGS("--root", directory));
    int fd = h2_connect(&p, false);
    h2_send_window_setting(fd, 0);
    h2_send_get(fd, 1, "/files/40k");
    h2_send_window_setting(fd, 15000);
    h2_send_window_setting(fd, 0); /* now it is -15000 or a little more */
    h2_send_number(fd, H2_WINDOW, 1, 20000);
    h2_send_window_setting(fd, 40000);
    for (bool ended = false; !ended && h2_await(fd, H2_DATA, 1, &got);) {
        bytes += got.size;
        ended = (got.flags & H2_END_STREAM) != 0;
    }
    assert_int_equal(bytes, 40000);
    (void)close(fd);
    stop(&p);
}

/* ---- header bombs ---- */

static struct h2_bytes block;

static void begin_block(const char *method, const char *path)
{
    block.size = 0;
    h2_add_head(&block, method, path);
}

static void assert_calmed(struct process *p, struct process *admin)
{
    int fd = h2_connect(p, false);
    h2_send_block(fd, 1, true, &block);
    assert_int_equal(h2_await_error(fd, 1), H2_ENHANCE_YOUR_CALM);
    (void)close(fd);
    assert_true(metric(admin, REFUSED("header")) >= 1);
}

static void test_references_to_a_long_field_are_measured_before_they_are_decoded(void **state)
{
    struct process p, admin;
    char value[4001];
    (void)state;
    start(&p, &admin, ARGS(NULL));
    memset(value, 'c', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    begin_block("GET", "/hello");
    h2_add_field(&block, "cookie", value, true);
    for (unsigned i = 0; i < 250; i++) /* fewer fields than the limit */
        h2_add(&block, "\xbe", 1);
    assert_calmed(&p, &admin);
    stop(&p);
}

static void test_many_small_fields_end_the_connection(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    begin_block("GET", "/hello");
    h2_add_field(&block, "x", "", true);
    for (unsigned i = 0; i < 1000; i++)
        h2_add(&block, "\xbe", 1);
    assert_calmed(&p, &admin);
    stop(&p);
}

static void test_a_block_that_is_too_long_ends_the_connection_before_its_end(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    begin_block("GET", "/hello");
    int fd = h2_connect(&p, false);
    h2_send_frame(fd, H2_HEADERS, H2_END_STREAM, 1, block.bytes, block.size);
    static const uint8_t references[16384] = {0};
    for (unsigned i = 0; i < 4; i++) /* and no END_HEADERS */
        h2_send_frame(fd, H2_CONTINUATION, 0, 1, references, sizeof(references));
    assert_int_equal(h2_await_error(fd, 1), H2_ENHANCE_YOUR_CALM);
    assert_true(metric(&admin, REFUSED("header")) >= 1);
    (void)close(fd);
    stop(&p);
}

/* A well-meaning client gets an error for the request, and keeps its connection. */
static void test_a_header_a_little_too_large_is_answered_with_431(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS("--max-header-fields", "50"));
    begin_block("GET", "/hello");
    for (unsigned i = 0; i < 60; i++)
        h2_add_field(&block, "cookie", "a=b", false);
    int fd = h2_connect(&p, false);
    h2_send_block(fd, 1, true, &block);
    assert_int_equal(h2_await_status(fd, 1), 431);
    h2_send_get(fd, 3, "/hello");
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    stop(&p);
}

static char *ask_with_fields(const struct process *p, unsigned count, unsigned size)
{
    static char request[65536];
    int n = snprintf(request, sizeof(request), "GET /hello HTTP/1.1\r\nHost: t\r\n");

    for (unsigned i = 1; i < count; i++)
        n += snprintf(request + n, sizeof(request) - (size_t)n, "X: %0*u\r\n", (int)size, i);
    (void)snprintf(request + n, sizeof(request) - (size_t)n, "\r\n");
    int fd = client_connect(p);
    client_send(fd, request);
    char *answer = client_read_answer(fd);
    (void)close(fd);
    return answer;
}

static void test_http1_has_the_same_limits(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS("--max-header-fields", "50", "--max-header-size", "8KB"));
    char *answer = ask_with_fields(&p, 50, 1);
    assert_contains(answer, "HTTP/1.1 200 ");
    free(answer);
    answer = ask_with_fields(&p, 51, 1);
    assert_contains(answer, "HTTP/1.1 431 ");
    free(answer);
    answer = ask_with_fields(&p, 10, 1000);
    assert_contains(answer, "HTTP/1.1 431 ");
    free(answer);
    stop(&p);
}

/* ---- clients that only reset ---- */

static void assert_calmed_and_closed(int fd)
{
    static struct h2_got got;
    uint64_t began_ns = now_ns();

    assert_int_equal(h2_await_error(fd, 0), H2_ENHANCE_YOUR_CALM);
    while (h2_next(fd, &got))
        continue;
    assert_true(now_ns() - began_ns < 10000 * NS_PER_MS);
    (void)close(fd);
}

/* The server resets: DATA for a stream that has said END_STREAM. */
static void test_resets_that_the_client_provokes_count(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, false);
    for (uint32_t i = 0; i < 150; i++) {
        h2_send_get(fd, 1 + 2 * i, "/sleep?ms=60000");
        h2_send_frame(fd, H2_DATA, 0, 1 + 2 * i, "x", 1);
    }
    assert_calmed_and_closed(fd);
    assert_true(metric(&admin, REFUSED("calm")) >= 1);
    assert_true(metric(&admin, "lastcall_http2_resets_total") >= 100);
    stop(&p);
}

/* Requests that break a rule never reach a handler, and count as well. */
static void test_resets_of_malformed_requests_count(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, false);
    begin_block("GET", "no-slash");
    for (uint32_t i = 0; i < 150; i++)
        h2_send_block(fd, 1 + 2 * i, true, &block);
    assert_calmed_and_closed(fd);
    stop(&p);
}

static void test_refused_streams_count(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, false);
    for (uint32_t i = 0; i < 250; i++) /* 100 may be open at a time */
        h2_send_get(fd, 1 + 2 * i, "/sleep?ms=60000");
    static struct h2_got got;
    bool calmed = false;
    while (h2_next(fd, &got))
        calmed |= got.type == H2_GOAWAY && got.payload[7] == H2_ENHANCE_YOUR_CALM;
    assert_true(calmed);
    (void)close(fd);
    stop(&p);
}

/* After its last GOAWAY the library takes no byte of a CONTINUATION, and tries again, for ever. */
static void test_a_header_block_after_the_last_goaway_does_not_hold_the_loop(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, false);
    begin_block("POST", "/hello");
    h2_send_block(fd, 1, false, &block); /* its body stays open */
    for (uint32_t i = 1; i < 150; i++) {
        h2_send_get(fd, 1 + 2 * i, "/sleep?ms=60000");
        h2_send_number(fd, H2_RST, 1 + 2 * i, 8);
    }
    h2_send_frame(fd, H2_HEADERS, H2_END_STREAM, 1, "\0\1a\1b", 5); /* a trailer */
    h2_send_frame(fd, H2_CONTINUATION, 0, 1, "\0\1a\1b", 5);
    h2_send_frame(fd, H2_CONTINUATION, H2_END_HEADERS, 1, "\0\1a\1b", 5);
    assert_calmed_and_closed(fd);
    stop(&p);
}

static struct h2_bytes pings;

static void make_pings(void)
{
    pings.size = 0;
    for (unsigned i = 0; i < 20000; i++)
        h2_add_frame(&pings, H2_PING, 0, 0, "12345678", 8);
}

static void test_unread_answers_to_pings_are_bounded(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, true);
    make_pings();
    for (unsigned i = 0; i < 200 && metric(&admin, REFUSED("calm")) < 1; i++)
        h2_send(fd, pings.bytes, pings.size);
    assert_true(metric(&admin, REFUSED("calm")) >= 1);
    (void)close(fd);
    stop(&p);
}

static bool keeps_freed_memory(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return false;
#endif
}

static long peak_kib(const struct process *p)
{
    char path[64], line[128];
    long kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)p->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    (void)fclose(file);
    assert_true(kib > 0);
    return kib;
}

/* The connection closes when its client has read GOAWAY, or after two seconds. */
static void test_what_comes_before_a_connection_closes_is_not_kept(void **state)
{
    struct process p, admin;
    ssize_t n;
    size_t sent = 0;
    (void)state;
    if (keeps_freed_memory() || process_runs_under_valgrind())
        skip();
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, true);
    make_pings();
    long before = peak_kib(&p);
    while ((n = send(fd, pings.bytes, pings.size, MSG_NOSIGNAL)) > 0)
        sent += (size_t)n;
    assert_in_range(sent, 16 * MB, SIZE_MAX); /* else this shows nothing */
    assert_in_range(peak_kib(&p) - before, 0, sent / 2 / 1024);
    (void)close(fd);
    stop(&p);
}

static void test_a_setting_that_makes_a_window_too_large_ends_the_connection(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin, ARGS(NULL));
    int fd = h2_connect(&p, false);
    h2_send_get(fd, 1, "/sleep?ms=60000");
    h2_send_number(fd, H2_WINDOW, 1, INT32_MAX - 65535);
    h2_send_window_setting(fd, 65535); /* as large as it may be */
    h2_send_get(fd, 3, "/hello");
    assert_int_equal(h2_await_status(fd, 3), 200);
    h2_send_window_setting(fd, 65536);
    assert_int_equal(h2_await_error(fd, 1), H2_FLOW_CONTROL_ERROR);
    (void)close(fd);
    stop(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_settings_do_not_wake_a_stream_that_has_ended),
        TEST(test_window_update_does_not_wake_a_stream_that_has_ended),
        TEST(test_a_reset_stream_is_not_woken),
        TEST(test_an_answer_through_a_window_that_opens_and_closes_is_whole),
        TEST(test_references_to_a_long_field_are_measured_before_they_are_decoded),
        TEST(test_many_small_fields_end_the_connection),
        TEST(test_a_block_that_is_too_long_ends_the_connection_before_its_end),
        TEST(test_a_header_a_little_too_large_is_answered_with_431),
        TEST(test_http1_has_the_same_limits),
        TEST(test_resets_that_the_client_provokes_count),
        TEST(test_resets_of_malformed_requests_count),
        TEST(test_refused_streams_count),
        TEST(test_a_header_block_after_the_last_goaway_does_not_hold_the_loop),
        TEST(test_unread_answers_to_pings_are_bounded),
        TEST(test_what_comes_before_a_connection_closes_is_not_kept),
        TEST(test_a_setting_that_makes_a_window_too_large_ends_the_connection),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("h2_attacks", tests, make_directory, remove_directory);
}

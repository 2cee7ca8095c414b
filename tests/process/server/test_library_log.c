/* libh2o's messages become lines of our log: with time and level, in the configured format, without
 * query strings, and rate-limited. */

#include "h2_by_hand.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define LIMIT_MS 30000
#define REQUESTS 100
#define LINES_MOST 40 /* ten a second, on a slow machine */

#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})

/* Port 1 has no listener. The library answers 503. */
static void ask_for_an_upstream_that_is_not_there(const struct process *p)
{
    int fd = client_connect(p);
    for (unsigned i = 0; i < REQUESTS; i++) {
        client_send(fd, "GET /a?secret=1 HTTP/1.1\r\nHost: t\r\n\r\n");
        client_expect(fd, " 503 ");
    }
    (void)close(fd);
}

static void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

/* An application over FastCGI; without the mends, libh2o's own client connects to it. */
static void start_before_nothing(struct process *p, const char *format)
{
    char conf[] = "/tmp/lastcall-log-XXXXXX";
    int fd = mkstemp(conf);

    assert_true(fd >= 0);
    (void)dprintf(fd, "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nhosts:\n  default:\n"
                      "    paths:\n      /: {fastcgi.connect: {host: 127.0.0.1, port: 1, "
                      "type: tcp}}\n");
    (void)close(fd);
    assert_int_equal(setenv("LASTCALL_UNMENDED", "1", 1), 0);
    process_start_configured(p, (const char *const[]){"-c", conf, "--log-format", format, NULL});
    assert_int_equal(unsetenv("LASTCALL_UNMENDED"), 0);
    (void)unlink(conf);
}

static void test_errors_of_requests_are_lines_of_the_log(void **state)
{
    struct process p;
    (void)state;
    start_before_nothing(&p, "text");
    ask_for_an_upstream_that_is_not_there(&p);
    stop(&p);
    assert_contains(p.log, "Z warning: GET /a: ");
    assert_contains(p.log, "(libh2o, lib/handler/fastcgi.c)");
    assert_lacks(p.log, "secret");
    assert_lacks(p.log, "] in request:");
    assert_in_range(count_in(p.log, "(libh2o, lib/handler/fastcgi.c)"), 1, LINES_MOST);
    process_release(&p);
}

static void test_they_are_json_where_the_log_is(void **state)
{
    struct process p;
    (void)state;
    start_before_nothing(&p, "json");
    ask_for_an_upstream_that_is_not_there(&p);
    stop(&p);
    assert_contains(p.log, "\"level\":\"warning\",\"event\":\"library\",\"message\":\"GET /a: ");
    assert_lacks(p.log, "secret");
    process_release(&p);
}

/* Everything else that the library writes to its standard error; without the mends, one line for
 * each frame of an unknown type. */
static void send_unknown_frames(const struct process *p)
{
    static struct h2_bytes frames;
    static struct h2_got got;
    int fd = h2_connect(p, false);

    frames.size = 0;
    for (unsigned i = 0; i < 10000; i++)
        h2_add_frame(&frames, 0x42, 0, 0, NULL, 0);
    h2_send(fd, frames.bytes, frames.size);
    h2_send_frame(fd, H2_PING, 0, 0, "12345678", 8);
    assert_true(h2_await(fd, H2_PING, 0, &got));
    (void)close(fd);
}

static void test_lines_of_the_library_itself_are_caught(void **state)
{
    struct process p;
    (void)state;
    assert_int_equal(setenv("LASTCALL_UNMENDED", "1", 1), 0);
    process_start(&p, NULL, ARGS(NULL));
    send_unknown_frames(&p);
    stop(&p);
    assert_contains(p.log, "Z warning: libh2o: skipping frame (type:66)\n");
    assert_in_range(count_in(p.log, "skipping frame"), 1, LINES_MOST);
    assert_lacks(p.log, "\nskipping frame");
    process_release(&p);
}

static void test_unknown_frames_make_no_line(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS(NULL));
    send_unknown_frames(&p);
    stop(&p);
    assert_lacks(p.log, "skipping frame");
    process_release(&p);
}

static int tear_down(void **state)
{
    (void)unsetenv("LASTCALL_UNMENDED");
    return process_kill_left(state);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_errors_of_requests_are_lines_of_the_log),
        TEST(test_they_are_json_where_the_log_is),
        TEST(test_lines_of_the_library_itself_are_caught),
        TEST(test_unknown_frames_make_no_line),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("library_log", tests, NULL, NULL);
}

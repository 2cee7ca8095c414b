/* Somebody sets the clock of the machine while the server works. Nothing ends early, and nothing
 * waits for ever: time-outs are on a clock that nobody can set. */

#include "with_upstream.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"

#define LIMIT_MS 20000
#define DAY_S 86400
#define REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
/* Long time-outs, which a clock that is set forward could end. */
#define PATIENT                                                                                    \
    "proxy.timeout.io: 3600000\nproxy.timeout.keepalive: 3600000\nhttp1-request-timeout: 3600\n"
/* And short ones, which must end. */
#define BRISK "proxy.timeout.io: 300\nhttp1-request-timeout: 1\n"
#define ROUTES                                                                                     \
    "hosts: {default: {paths: {/: {proxy.reverse.url: \"http://127.0.0.1:@/\"}, "                  \
    "/sleep: {handler: sleep}, /hello: {handler: hello}}}}\n"

static _Atomic int64_t *ahead_s; /* what the server's clock is ahead of ours */

static int make_clock(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    int fd = open(in_directory("clock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*ahead_s)) != 0)
        return -1;
    ahead_s = mmap(NULL, sizeof(*ahead_s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return ahead_s == MAP_FAILED ? -1 : setenv("LASTCALL_TEST_CLOCK", in_directory("clock"), 1);
}

static int start(void **state, const char *text)
{
    atomic_store(ahead_s, 0);
#ifdef __SANITIZE_ADDRESS__
    (void)setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
#endif
    (void)setenv("LD_PRELOAD", LASTCALL_SET_CLOCK, 1);
    int result = fixture_start(state, text);
    (void)unsetenv("LD_PRELOAD");
    return result;
}

static int start_patient(void **state)
{
    return start(state, PATIENT ROUTES);
}

static int start_brisk(void **state)
{
    return start(state, BRISK ROUTES);
}

/* The server notices, and has had many turns since. */
static void set_clock(const struct fixture *f, int64_t seconds)
{
    atomic_store(ahead_s, seconds);
    for (unsigned i = 0; i < 20; i++)
        assert_serves(&f->front);
}

static const char *date_of(const char *answer)
{
    const char *date = strcasestr(answer, "\r\ndate: ");

    assert_non_null(date);
    return date + strlen("\r\ndate: ");
}

static void test_the_clock_of_the_server_is_set(void **state)
{
    struct fixture *f = *state;
    struct tm tm = {0};

    set_clock(f, 400 * DAY_S);
    char *answer = client_ask(&f->front, GET("/hello"));
    assert_non_null(strptime(date_of(answer), "%a, %d %b %Y %H:%M:%S GMT", &tm));
    int64_t ahead = timegm(&tm) - time(NULL);
    assert_in_range(ahead, 399 * DAY_S, 401 * DAY_S);
    free(answer);
}

static void uploads_are_not_cut(struct fixture *f, int64_t seconds)
{
    int upload = client_begin(&f->front), head = client_connect(&f->front);

    client_send(head, "GET /hello HTTP/1.1\r\n");
    client_wait_taken(head);
    set_clock(f, seconds);
    client_end(upload);
    client_send(head, "Host: test\r\n\r\n");
    client_expect(head, "200 OK");
    set_clock(f, 0);
    client_send(head, GET("/hello")); /* the connection was kept */
    client_expect(head, "200 OK");
    (void)close(head);
}

static void test_forward_cuts_no_request_that_arrives(void **state)
{
    uploads_are_not_cut(*state, DAY_S);
}

static void test_back_cuts_no_request_that_arrives(void **state)
{
    uploads_are_not_cut(*state, -DAY_S);
}

static void test_forward_cuts_no_proxied_answer(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    set_clock(f, DAY_S);
    assert_int_equal(send(f->upstream, REPLY, strlen(REPLY) - 1, MSG_NOSIGNAL), strlen(REPLY) - 1);
    set_clock(f, 2 * DAY_S);
    assert_int_equal(send(f->upstream, "k", 1, MSG_NOSIGNAL), 1);
    expect_status(f, 200);
    /* Both connections were kept. */
    set_clock(f, 3 * DAY_S);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    assert_int_equal(send(f->upstream, REPLY, strlen(REPLY), MSG_NOSIGNAL), strlen(REPLY));
    expect_status(f, 200);
}

static void test_back_ends_the_wait_for_an_upstream(void **state)
{
    struct fixture *f = *state;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    set_clock(f, -DAY_S);
    expect_status(f, 504);
}

static void test_back_ends_an_idle_connection(void **state)
{
    struct fixture *f = *state;
    int fd = client_connect(&f->front);
    char byte;

    client_send(fd, GET("/hello"));
    client_expect(fd, "200 OK");
    set_clock(f, -DAY_S);
    assert_int_equal(client_recv(fd, &byte, 1, 0), 0); /* recv(2) waits for 30 seconds */
    (void)close(fd);
}

static void drains(struct fixture *f, int64_t seconds)
{
    int upload = client_begin(&f->front), idle = client_connect(&f->front);

    client_send(idle, GET("/hello"));
    client_expect(idle, "200 OK");
    set_clock(f, seconds);
    process_signal(&f->front, SIGTERM);
    process_wait_log(&f->front, "listeners closed");
    atomic_store(ahead_s, 2 * seconds);
    client_end(upload);
    process_expect(&f->front, LIMIT_MS, 0);
    (void)close(idle);
    process_release(&f->front);
}

static void test_back_does_not_hold_up_a_drain(void **state)
{
    drains(*state, -DAY_S);
}

static void test_forward_does_not_cut_a_drain(void **state)
{
    drains(*state, DAY_S);
}

static int end_drained(void **state)
{
    struct fixture *f = *state;

    (void)close(f->client);
    (void)close(f->upstream);
    (void)close(f->listener);
    return process_kill_left(state);
}

#define TEST(name, set_up) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)
#define DRAIN(name) cmocka_unit_test_setup_teardown(name, start_patient, end_drained)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_clock_of_the_server_is_set, start_patient),
        TEST(test_forward_cuts_no_request_that_arrives, start_patient),
        TEST(test_back_cuts_no_request_that_arrives, start_patient),
        TEST(test_forward_cuts_no_proxied_answer, start_patient),
        TEST(test_back_ends_the_wait_for_an_upstream, start_brisk),
        TEST(test_back_ends_an_idle_connection, start_brisk),
        DRAIN(test_back_does_not_hold_up_a_drain),
        DRAIN(test_forward_does_not_cut_a_drain),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("clock_set", tests, make_clock, remove_directory);
}

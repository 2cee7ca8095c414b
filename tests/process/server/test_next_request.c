/* The wait for the next request on a kept connection: its end, and a request that comes just then.
 */

#include "with_config.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "fault.h"
#include "h2_by_hand.h"
#include "skip.h"

#define WAIT_MS 2000
#define CONF LISTEN "num-threads: 1\nhttp1-request-timeout: 2\nhttp2-idle-timeout: 2\n" HELLO
#define TRIES 5

/* A connection that has had an answer. */
static int ask(const struct process *p)
{
    int fd = client_connect(p);

    client_send(fd, GET("/"));
    client_expect(fd, "Hello World");
    return fd;
}

static int ask_h2(const struct process *p)
{
    int fd = h2_connect(p, false);

    h2_send_get(fd, 1, "/");
    assert_int_equal(h2_await_status(fd, 1), 200);
    return fd;
}

static void ask_again(int fd)
{
    client_send(fd, GET("/"));
}

static void ask_again_h2(int fd)
{
    h2_send_get(fd, 3, "/");
}

static void expect_answer(int fd)
{
    client_expect(fd, "Hello World");
}

static void expect_answer_h2(int fd)
{
    assert_int_equal(h2_await_status(fd, 3), 200);
}

static bool has_ended(int fd, int patience_ms)
{
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};

    return poll(&end, 1, patience_ms) == 1;
}

static void wait_until_ns(uint64_t until_ns)
{
    for (uint64_t now; (now = now_ns()) < until_ns;)
        (void)poll(NULL, 0, (int)((until_ns - now) / NS_PER_MS) + 1);
}

static void test_an_idle_connection_is_closed_when_the_wait_is_over(void **state)
{
    struct process p;
    (void)state;
    start(&p, CONF);
    uint64_t begun_ns = now_ns();
    int fd = ask(&p);
    assert_true(has_ended(fd, LIMIT_MS));
    assert_true(now_ns() - begun_ns > WAIT_MS / 2 * NS_PER_MS); /* not before */
    (void)close(fd);
    finish(&p);
}

static void test_a_part_of_a_request_does_not_prolong_the_wait(void **state)
{
    struct process p;
    (void)state;
    start(&p, CONF);
    int fd = ask(&p);
    client_send(fd, "G");
    for (unsigned i = 0; i < LIMIT_MS / 100 && !has_ended(fd, 100); i++)
        client_send(fd, "E");
    assert_true(has_ended(fd, 0));
    (void)close(fd);
    finish(&p);
}

/* The wait is over, and the request has come, but the loop has not polled since. */
static void assert_answered(int (*begin)(const struct process *p), void (*again)(int fd),
                            void (*expect)(int fd))
{
    struct process p;
    struct fault_hold loop;
    bool ended = true;

    start(&p, CONF);
    for (unsigned i = 0; i < TRIES && ended; i++) { /* the machine may stand still for the wait */
        int fd = begin(&p);
        uint64_t answered_ns = now_ns();
        if (!fault_hold_turn(&loop, p.pid, "loop-0", answered_ns + 300 * NS_PER_MS)) {
            (void)close(fd);
            process_release(&p);
            skip_test("needs ptrace(2)");
        }
        ended = has_ended(fd, 0);
        wait_until_ns(answered_ns + (WAIT_MS + 10) * NS_PER_MS);
        if (!ended)
            again(fd);
        fault_let_go(&loop);
        if (!ended)
            expect(fd);
        (void)close(fd);
    }
    assert_false(ended);
    finish(&p);
}

static void test_a_request_that_comes_with_the_end_of_the_wait_is_answered(void **state)
{
    (void)state;
    assert_answered(ask, ask_again, expect_answer);
}

static void test_a_stream_that_comes_with_the_end_of_the_wait_is_answered(void **state)
{
    (void)state;
    assert_answered(ask_h2, ask_again_h2, expect_answer_h2);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_idle_connection_is_closed_when_the_wait_is_over),
        TEST(test_a_part_of_a_request_does_not_prolong_the_wait),
        TEST(test_a_request_that_comes_with_the_end_of_the_wait_is_answered),
        TEST(test_a_stream_that_comes_with_the_end_of_the_wait_is_answered),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("next_request", tests, with_config_set_up, remove_directory);
}

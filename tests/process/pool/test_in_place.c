/* Handlers in place, in the real process: `place` in a configuration, which routes move in place
 * and which do not, and what a handler that blocks there does to a drain. One loop: its estimate of
 * a route is the only one. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "skip.h"

#define PATIENCE_MS 240000 /* thousands of round trips, on a busy machine */
#define PLACED "lastcall_placed_total"
#define HANDED_OFF "lastcall_handed_off_total"

#define HOSTS                                                                                      \
    LISTEN "num-threads: 1\npool: {workers: 3}\nhosts:\n  default:\n    paths:\n"                  \
           "      /: {handler: hello}\n"
#define SLEEP(path, more) "      " path ": {handler: sleep" more "}\n"

/* After the deadline. Debug builds give threads a second to end, and loops longer to list. */
#define LATE_MS 15000

static struct process admin;

static void start_sleeps(struct process *p, const char *paths, const char *deadline)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), HOSTS "%s", paths);
    start_with(p, text, ARGS("--admin", expanded("unix:@/admin"), "--deadline", deadline));
    admin = admin_of(p);
}

/* On a busy machine each round trip takes long. But what comes in one turn of the loop shares the
 * time that a turn has for handlers in place. */
#define AT_ONCE 5

/* On one connection, `n` of them. */
static void ask(int fd, const char *path, const char *query, unsigned n)
{
    char request[256];

    (void)snprintf(request, sizeof(request), GET("%s?%s"), path, query);
    for (unsigned asked = 0, answered = 0; answered < n; answered++) {
        for (; asked < n && asked < answered + AT_ONCE; asked++)
            client_send(fd, request);
        client_expect(fd, "200 OK");
    }
}

/* The next handler of this route will be called in place: its last ones were. */
static void bring_in_place(const struct process *p, const char *path)
{
    const uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;

    if (process_runs_under_valgrind())
        skip_test("valgrind: no handler is short");
    int fd = client_connect(p);
    for (;;) {
        double before = admin_metric(&admin, PLACED);
        ask(fd, path, "ms=0", 20);
        if (admin_metric(&admin, PLACED) >= before + 20)
            break;
        if (now_ns() > until_ns)
            fail_msg("%s does not come in place", path);
    }
    (void)close(fd);
}

/* ---- the configuration ---- */

struct refusal {
    const char *text, *line;
};

static void test_a_wrong_place_is_refused(void **state)
{
    static const struct refusal cases[] = {
        {PATH("{handler: sleep, place: fast}"),
         "@/x.conf:6:33: place: expected auto or queue, not fast"},
        {PATH("{handler: sleep, place: ''}"), "@/x.conf:6:33: place: expected auto or queue, not "},
        {PATH("{handler: sleep, place: [queue]}"),
         "@/x.conf:6:33: place: argument cannot be a sequence"},
        {PATH("{handler: hello, place: queue}"), "and this path has none"},
        {PATH("{handler: stream, place: auto}"), "and this path has none"},
        {PATH("place: queue"), "and this path has none"},
        {LISTEN "place: queue\n" HELLO, "@/x.conf:2:1: "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *path = write_file("x.conf", cases[i].text);
        assert_ends(ARGS("-t", "-c", path), 78, 1, cases[i].line);
        assert_ends(ARGS("-c", path), 78, 1, cases[i].line);
    }
}

static void test_both_places_are_accepted_wherever_they_stand(void **state)
{
    static const char *const cases[] = {
        PATH("{handler: sleep, place: queue}"),
        PATH("{place: queue, handler: sleep}"),
        PATH("{handler: burn, place: auto}"),
        PATH("{handler: hello-later, place: queue}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_accepted(cases[i]);
}

/* ---- where handlers are called ---- */

static void test_a_route_for_the_queue_is_never_in_place(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/queue", ", place: queue"), "60s");
    int fd = client_connect(&p);
    ask(fd, "/queue", "ms=0", 500);
    assert_true(admin_metric(&admin, PLACED) == 0);
    assert_true(admin_metric(&admin, "lastcall_pool_jobs_total") == 500);
    (void)close(fd);
    finish(&p);
}

static void test_a_short_route_moves_in_place(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/auto", ", place: auto"), "60s");
    int fd = client_connect(&p);
    ask(fd, "/auto", "ms=0", 1);
    assert_true(admin_metric(&admin, PLACED) == 0); /* it begins in the queue */
    (void)close(fd);
    bring_in_place(&p, "/auto");
    finish(&p);
}

static void test_that_is_the_default(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/default", ""), "60s");
    bring_in_place(&p, "/default");
    finish(&p);
}

static void test_a_route_that_sleeps_stays_in_the_queue(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/auto", ""), "60s");
    int fd = client_connect(&p);
    ask(fd, "/auto", "ms=2", 100);
    assert_true(admin_metric(&admin, PLACED) == 0);
    (void)close(fd);
    finish(&p);
}

static void test_a_route_that_begins_to_sleep_moves_into_the_queue(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/auto", ""), "60s");
    bring_in_place(&p, "/auto");
    double before = admin_metric(&admin, PLACED);
    int fd = client_connect(&p);
    ask(fd, "/auto", "ms=20", 10);
    assert_true(admin_metric(&admin, PLACED) <= before + 1);
    assert_true(admin_metric(&admin, HANDED_OFF) >= 1);
    bring_in_place(&p, "/auto"); /* and back */
    (void)close(fd);
    finish(&p);
}

/* ---- drains ---- */

/* All of them at once, so that all threads exist: handlers in place start none. */
static void have_all_threads(const struct process *p, unsigned workers)
{
    int fds[8];

    for (unsigned i = 0; i < workers; i++) {
        fds[i] = client_connect(p);
        client_send(fds[i], GET("/warm?ms=300"));
    }
    for (unsigned i = 0; i < workers; i++) {
        client_expect(fds[i], "200 OK");
        (void)close(fds[i]);
    }
}

static void test_the_deadline_holds_with_every_worker_stuck_in_place(void **state)
{
    static const char *const paths[] = {"/a", "/b", "/c"};
    struct process p;
    char request[128];
    int fds[3];

    (void)state;
    start_sleeps(&p,
                 SLEEP("/a", "") SLEEP("/b", "") SLEEP("/c", "") SLEEP("/warm", ", place: queue"),
                 "500ms");
    have_all_threads(&p, 3);
    for (unsigned i = 0; i < 3; i++)
        bring_in_place(&p, paths[i]);
    double before = admin_metric(&admin, HANDED_OFF);
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(request, sizeof(request), GET("%s?ms=60000&ignore-cancel=1"), paths[i]);
        fds[i] = client_connect(&p);
        client_send(fds[i], request);
        admin_wait_number(&admin, "pool.running", i + 1);
    }
    assert_serves(&p); /* the loop turns on */
    assert_true(admin_metric(&admin, HANDED_OFF) == before + 3);

    uint64_t asked_ns = now_ns();
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    uint64_t took_ns = p.exited_ns - asked_ns;
    assert_true(took_ns >= 500 * NS_PER_MS);
    assert_true(took_ns < (500 + LATE_MS) * NS_PER_MS);
    assert_int_equal(count_in(p.log, "running, age "), 3);
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(request, sizeof(request), "GET %s?ms=60000&ignore-cancel=1", paths[i]);
        assert_contains(p.log, request);
        (void)close(fds[i]);
    }
    process_release(&p);
}

/* Until the loop has left the handler to its thread. */
static void wait_for_hand_off(double before)
{
    const uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;

    while (admin_metric(&admin, HANDED_OFF) < before + 1)
        if (now_ns() > until_ns)
            fail_msg("the loop was not handed off");
}

static void test_a_drain_waits_for_a_handler_in_place_whose_client_left(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/a", ""), "60s");
    bring_in_place(&p, "/a");
    double before = admin_metric(&admin, HANDED_OFF);
    uint64_t asked_ns = now_ns();
    int fd = client_connect(&p);
    client_send(fd, GET("/a?ms=1500&ignore-cancel=1"));
    wait_for_hand_off(before);
    (void)close(fd);
    stop(&p);
    assert_true(p.exited_ns - asked_ns >= 1500 * NS_PER_MS);
    process_release(&p);
}

/* Then the request is gone at once, and the handler goes on with its copies. */
static void test_a_drain_waits_for_a_handler_in_place_whose_stream_was_reset(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/a", ""), "60s");
    bring_in_place(&p, "/a");
    double before = admin_metric(&admin, HANDED_OFF);
    uint64_t asked_ns = now_ns();
    int fd = h2_connect(&p, false);
    h2_send_get(fd, 1, "/a?ms=1500&ignore-cancel=1");
    wait_for_hand_off(before);
    h2_send_number(fd, H2_RST, 1, 8);
    admin_wait_number(&admin, "pool.running", 1);
    h2_send_get(fd, 3, "/");
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    stop(&p);
    assert_true(p.exited_ns - asked_ns >= 1500 * NS_PER_MS);
    process_release(&p);
}

/* The client's end of file wakes exchange_sleep() on the thread that the loop has left. */
static void test_a_client_that_leaves_cancels_its_handler_in_place(void **state)
{
    struct process p;

    (void)state;
    start_sleeps(&p, SLEEP("/a", ""), "60s");
    bring_in_place(&p, "/a");
    double before = admin_metric(&admin, HANDED_OFF);
    uint64_t asked_ns = now_ns();
    int fd = client_connect(&p);
    client_send(fd, GET("/a?ms=60000"));
    wait_for_hand_off(before);
    (void)close(fd);
    stop(&p);
    assert_true(p.exited_ns - asked_ns < LIMIT_MS * NS_PER_MS);
    process_release(&p);
}

#define TEST(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_wrong_place_is_refused),
        TEST(test_both_places_are_accepted_wherever_they_stand),
        TEST(test_a_route_for_the_queue_is_never_in_place),
        TEST(test_a_short_route_moves_in_place),
        TEST(test_that_is_the_default),
        TEST(test_a_route_that_sleeps_stays_in_the_queue),
        TEST(test_a_route_that_begins_to_sleep_moves_into_the_queue),
        TEST(test_the_deadline_holds_with_every_worker_stuck_in_place),
        TEST(test_a_drain_waits_for_a_handler_in_place_whose_client_left),
        TEST(test_a_drain_waits_for_a_handler_in_place_whose_stream_was_reset),
        TEST(test_a_client_that_leaves_cancels_its_handler_in_place),
    };
    return cmocka_run_group_tests_name("in_place", tests, with_config_set_up, remove_directory);
}

/* No loss while loops are handed from thread to thread: a load on short handlers of which some
 * sleep, a signal in the middle, and not one request lost. LASTCALL_RUNS says how often each shape
 * is run (2 by default), LASTCALL_TEST which ones alone. See tests/process/drain/test_loss.c. */

#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "directory.h"
#include "loadgen.h"
#include "skip.h"
#include "with_journal.h"

#define CONNECTIONS 64
#define SIGNAL_AFTER_MS 250
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The rest of the handlers end at once. The fewer sleep, the longer is a route in place. */
#define SOME_SLEEP "/sleep?ms=20&one_in=50"
#define FEW_SLEEP "/sleep?ms=20&one_in=500"

struct shape {
    const char *name;
    struct load_options load;
};

static const struct shape shapes[] = {
    {"keep-alive, one in 50 sleeps", {.protocol = LOAD_HTTP1_KEEPALIVE, .path = SOME_SLEEP}},
    {"keep-alive, one in 500 sleeps", {.protocol = LOAD_HTTP1_KEEPALIVE, .path = FEW_SLEEP}},
    {"keep-alive with bodies, one in 50 sleeps",
     {.protocol = LOAD_HTTP1_KEEPALIVE, .path = SOME_SLEEP, .body_bytes = 4096}},
    {"new connections, one in 50 sleeps", {.protocol = LOAD_HTTP1_CLOSE, .path = SOME_SLEEP}},
    {"new connections, one in 500 sleeps", {.protocol = LOAD_HTTP1_CLOSE, .path = FEW_SLEEP}},
    {"HTTP/2, one in 50 sleeps", {.protocol = LOAD_HTTP2, .streams = 10, .path = SOME_SLEEP}},
    {"HTTP/2, one in 500 sleeps", {.protocol = LOAD_HTTP2, .streams = 10, .path = FEW_SLEEP}},
    {"HTTP/2 with bodies, one in 500 sleeps",
     {.protocol = LOAD_HTTP2, .streams = 10, .path = FEW_SLEEP, .body_bytes = 4096}},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

struct middle {
    struct process p, admin;
    double placed, handed_off;
};

/* Of all shapes. */
static double placed, handed_off;

static unsigned runs(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 2;
    return n >= 1 && n <= 10000 ? (unsigned)n : 2;
}

static void look_and_stop(void *arg)
{
    struct middle *middle = arg;

    middle->placed = admin_metric(&middle->admin, "lastcall_placed_total");
    middle->handed_off = admin_metric(&middle->admin, "lastcall_handed_off_total");
    process_signal(&middle->p, SIGTERM);
}

static void run_once(const struct shape *shape, unsigned run)
{
    struct load_options load = shape->load;
    struct load_result result;
    struct middle middle = {0};

    process_start(&middle.p, NULL,
                  ARGS("--threads", "2", "--workers", "64", "--deadline", "60s", "--idle-grace",
                       "10s", "--admin", admin_address));
    middle.admin = admin_of(&middle.p);
    load.address = middle.p.address;
    load.connections = CONNECTIONS;
    load.duration_ms = 60000;
    load.patience_ms = 60000;
    load.signal_after_ms = SIGNAL_AFTER_MS + run % 10; /* not always at the same point */
    load.signal_after_answers = 1000;                  /* the route comes in place */
    load.on_signal = look_and_stop;
    load.on_signal_arg = &middle;
    load.server_is_gone = is_gone;
    load.server_is_gone_arg = &middle.p;
    assert_int_equal(load_run(&load, &result), 0);
    int status = process_wait(&middle.p, 60000);
    if (result.lost != 0 || result.waiting != 0 || status != 0)
        fail_msg("run %u: %llu lost (%llu reset, %llu eof, %llu truncated), %llu waiting of %llu "
                 "sent, status %d; first: %s; log:\n%s",
                 run, (unsigned long long)result.lost, (unsigned long long)result.lost_reset,
                 (unsigned long long)result.lost_eof, (unsigned long long)result.lost_truncated,
                 (unsigned long long)result.waiting, (unsigned long long)result.sent, status,
                 result.first_loss, middle.p.log);
    assert_true(result.answered >= 1000);
    assert_true(result.answered_after_signal > 0);
    assert_int_equal(result.answered_2xx, result.answered);
    placed += middle.placed;
    handed_off += middle.handed_off;
    print_message("%llu answered; until the signal %.0f placed, %.0f handed off\n",
                  (unsigned long long)result.answered, middle.placed, middle.handed_off);
    process_release(&middle.p);
}

static void test_nothing_is_lost(void **state)
{
    const struct shape *shape = *state;

    assert_int_equal(with_journal_set_up(NULL), 0);
    for (unsigned run = 0; run < runs(); run++)
        run_once(shape, run);
}

/* Else the loads above met no hand-off. */
static void test_loops_were_handed_off(void **state)
{
    (void)state;
    if (getenv("LASTCALL_TEST") != NULL)
        return;
    if (process_runs_under_valgrind())
        skip_test("valgrind: no handler is short");
    assert_true(placed > 0);
    assert_true(handed_off > 0);
}

int main(void)
{
    struct CMUnitTest tests[SHAPES + 1];

    (void)alarm(60 + runs() * 40);
    for (size_t i = 0; i < SHAPES; i++)
        tests[i] = (struct CMUnitTest){.name = shapes[i].name,
                                       .test_func = test_nothing_is_lost,
                                       .teardown_func = process_kill_left,
                                       .initial_state = (void *)(uintptr_t)&shapes[i]};
    tests[SHAPES] = (struct CMUnitTest)cmocka_unit_test(test_loops_were_handed_off);
    return cmocka_run_group_tests_name("in_place_loss", tests, make_directory, remove_directory);
}

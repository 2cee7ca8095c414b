/* Which threads of the real process give way when they wake up: a loop, the workers and the monitor
 * while the loop is busy, none at rest. See server/driver/give_way.c. A thread that gives way has
 * the policy SCHED_BATCH. */

#include "with_config.h"

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "loadgen.h"
#include "skip.h"
#include "threads.h"

#define PATIENCE_MS 60000
#define PACE_MS 50 /* of a client that asks now and then */

/* One worker: it takes each job of the queue. */
#define CONF                                                                                       \
    LISTEN "num-threads: 1\npool: {workers: 1}\nhosts:\n  default:\n    paths:\n"                  \
           "      /hello: {handler: hello}\n"                                                      \
           "      /queued: {handler: sleep, place: queue}\n"                                       \
           "      /placed: {handler: sleep}\n"

/* A thread, and the path whose requests it has to do with. */
struct part {
    const char *thread;
    const char *path;
};

static const struct part loop = {"loop-", "/hello"};
static const struct part worker = {"worker-", "/queued"};
static const struct part monitor = {"monitor", "/placed"}; /* it sleeps while nothing is placed */

static void start_quietly(struct process *p)
{
    if (process_runs_under_valgrind())
        skip_test("valgrind: every loop is busy");
    start(p, CONF);
}

/* ---- a load until the thread gives way ---- */

struct look {
    pid_t pid;
    const char *thread;
    bool gave_way;
};

static bool gave_way(void *arg)
{
    struct look *look = arg;

    if (policy_of_threads(look->pid, look->thread) == SCHED_BATCH)
        look->gave_way = true;
    return look->gave_way;
}

/* A loop that wants a whole processor, but gets less than a fifth beside others, is not busy. */
static bool gets_its_part(pid_t pid, uint64_t used_ns, uint64_t since_ns)
{
    uint64_t spent_ns = used_ns_of_thread(pid, thread_named(pid, loop.thread)) - used_ns;

    return spent_ns > (now_ns() - since_ns) / 4;
}

/* The loop has so many requests at once that it always has one to answer. */
static void load_until_it_gives_way(const struct process *p, const struct part *part)
{
    struct look look = {.pid = p->pid, .thread = part->thread};
    struct load_result result;
    const struct load_options load = {.address = p->address,
                                      .protocol = LOAD_HTTP1_KEEPALIVE,
                                      .path = part->path,
                                      .connections = 8,
                                      .pipeline = 16,
                                      .duration_ms = PATIENCE_MS,
                                      .patience_ms = PATIENCE_MS,
                                      .is_enough = gave_way,
                                      .is_enough_arg = &look};

    const uint64_t since_ns = now_ns();
    const uint64_t used_ns = used_ns_of_thread(p->pid, thread_named(p->pid, loop.thread));
    assert_int_equal(load_run(&load, &result), 0);
    if (!look.gave_way && !gets_its_part(p->pid, used_ns, since_ns))
        skip_test("the machine is so busy that no loop is");
    assert_true(look.gave_way);
    assert_int_equal(result.answered_2xx, result.sent);
}

static void expect_busy(const struct part *part)
{
    struct process p;

    start_quietly(&p);
    load_until_it_gives_way(&p, part);
    process_release(&p);
}

static void test_a_busy_loop_gives_way(void **state)
{
    (void)state;
    expect_busy(&loop);
}

static void test_a_worker_gives_way_while_the_loop_is_busy(void **state)
{
    (void)state;
    expect_busy(&worker);
}

static void test_the_monitor_gives_way_while_the_loop_is_busy(void **state)
{
    (void)state;
    expect_busy(&monitor);
}

/* ---- at rest ---- */

static void test_no_thread_gives_way_at_rest(void **state)
{
    struct process p;

    (void)state;
    start_quietly(&p);
    wait_policy_of_threads(p.pid, loop.thread, SCHED_OTHER);
    wait_policy_of_threads(p.pid, worker.thread, SCHED_OTHER);
    wait_policy_of_threads(p.pid, monitor.thread, SCHED_OTHER);
    process_release(&p);
}

/* A thread finds out when it has something to do. */
static void expect_calm_again(const struct part *part)
{
    struct process p;
    char request[128];

    start_quietly(&p);
    load_until_it_gives_way(&p, part);
    const uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;
    (void)snprintf(request, sizeof(request), GET("%s"), part->path);
    int fd = client_connect(&p);
    while (policy_of_threads(p.pid, part->thread) != SCHED_OTHER) {
        assert_true(now_ns() < until_ns);
        (void)poll(NULL, 0, PACE_MS);
        client_send(fd, request);
        client_expect(fd, "200 OK");
    }
    (void)close(fd);
    process_release(&p);
}

static void test_a_loop_that_is_not_busy_any_more_does_not_give_way(void **state)
{
    (void)state;
    expect_calm_again(&loop);
}

static void test_a_worker_does_not_give_way_when_the_loop_is_not_busy_any_more(void **state)
{
    (void)state;
    expect_calm_again(&worker);
}

static void test_the_monitor_does_not_give_way_when_the_loop_is_not_busy_any_more(void **state)
{
    (void)state;
    expect_calm_again(&monitor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_busy_loop_gives_way, process_kill_left),
        cmocka_unit_test_teardown(test_a_worker_gives_way_while_the_loop_is_busy,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_the_monitor_gives_way_while_the_loop_is_busy,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_no_thread_gives_way_at_rest, process_kill_left),
        cmocka_unit_test_teardown(test_a_loop_that_is_not_busy_any_more_does_not_give_way,
                                  process_kill_left),
        cmocka_unit_test_teardown(
            test_a_worker_does_not_give_way_when_the_loop_is_not_busy_any_more, process_kill_left),
        cmocka_unit_test_teardown(
            test_the_monitor_does_not_give_way_when_the_loop_is_not_busy_any_more,
            process_kill_left),
    };
    return cmocka_run_group_tests_name("give_way", tests, with_config_set_up, remove_directory);
}

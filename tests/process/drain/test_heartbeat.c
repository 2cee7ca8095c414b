/* The real process, watched as a supervisor does: its heartbeat goes on while it moves, a drain
 * included, and stops when a loop or the pool is stuck; the log names that loop or pool.
 *
 * A loop is stopped for real: the test holds its thread by ptrace(2). */

#include "process.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "as_manager.h"
#include "directory.h"
#include "expect.h"
#include "fault.h"
#include "skip.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})
#define STALL "--watchdog-stall", "600ms"

static struct timespec touched(const char *path)
{
    struct stat st = {0};
    (void)stat(path, &st);
    return st.st_mtim;
}

static bool is_same(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Wait for `n` beats from now on. */
static void expect_beats(struct process *p, const char *path, unsigned n)
{
    uint64_t until_ns = now_ns() + 10000 * NS_PER_MS;
    while (n-- > 0) {
        struct timespec before = touched(path);
        while (is_same(touched(path), before)) {
            if (now_ns() > until_ns || process_is_gone(p))
                fail_msg("no heartbeat; log:\n%s", p->log);
            (void)poll(NULL, 0, 5);
        }
    }
}

/* A missing beat raises no event: wait for several of its periods. */
static void expect_no_beat(const char *path)
{
    struct timespec before = touched(path);
    (void)poll(NULL, 0, 400);
    assert_true(is_same(touched(path), before));
}

/* Stop the only loop in the middle of a request; fault_let_go() has it go on. The caller closes the
 * client's descriptor. */
static int get_stuck(struct process *p, struct fault_hold *hold)
{
    int fd = client_connect(p);
    client_send(fd, GET("/stream?kb=100&ms=60000"));
    free(client_read_until(fd, "\r\n\r\n"));
    if (fault_hold_thread(hold, p->pid, "loop-0"))
        return fd;
    (void)close(fd);
    process_release(p);
    skip_test("needs ptrace(2)");
    return -1;
}

/* ---- the file ---- */

static void test_heartbeat_goes_on_in_a_drain(void **state)
{
    struct process p;
    const char *beat = in_directory("beat");
    (void)state;
    process_start(&p, NULL, ARGS("--heartbeat", beat, "--heartbeat-every", "20ms"));
    expect_beats(&p, beat, 3);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    expect_beats(&p, beat, 3);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_file_that_is_taken_away_is_made_again(void **state)
{
    struct process p;
    const char *beat = in_directory("taken");
    (void)state;
    process_start(&p, NULL, ARGS("--heartbeat", beat, "--heartbeat-every", "20ms"));
    expect_beats(&p, beat, 1);
    assert_int_equal(unlink(beat), 0);
    expect_beats(&p, beat, 2);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_file_that_cannot_be_touched_is_logged_once(void **state)
{
    struct process p;
    const char *beat = in_directory("later/beat");
    (void)state;
    process_start(&p, NULL, ARGS("--heartbeat", beat, "--heartbeat-every", "10ms"));
    process_wait_log(&p, "cannot touch the heartbeat ");
    assert_contains(p.log, "later/beat: No such file or directory");
    for (unsigned i = 0; i < 5; i++)
        assert_serves(&p);
    (void)poll(NULL, 0, 100);
    assert_int_equal(mkdir(in_directory("later"), 0755), 0);
    expect_beats(&p, beat, 2);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "cannot touch"), 1);
    process_release(&p);
}

/* ---- what does not move ---- */

static void test_stuck_loop_is_named_and_stops_the_heartbeat(void **state)
{
    struct process p;
    struct fault_hold hold;
    const char *beat = in_directory("loop");
    (void)state;
    process_start(&p, NULL, ARGS(STALL, "--heartbeat", beat, "--heartbeat-every", "20ms"));
    expect_beats(&p, beat, 2);
    int stuck = get_stuck(&p, &hold);
    process_wait_log(&p, "loop 0 has not turned for ");
    process_wait_log(&p, "the last request it began: GET /stream?kb=100&ms=60000");
    process_wait_log(&p, "no heartbeat until loops and pool move again");
    expect_no_beat(beat);
    fault_let_go(&hold);
    (void)close(stuck);
    process_wait_log(&p, "loop 0 turns again");
    process_wait_log(&p, "the heartbeat resumes");
    expect_beats(&p, beat, 2);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "has not turned"), 1);
    process_release(&p);
}

/* Workers may run for long: the log names such a request once, and there is no other effect. */
static void test_long_handler_is_named_and_stops_nothing(void **state)
{
    struct process p;
    const char *beat = in_directory("worker");
    (void)state;
    process_start(&p, NULL,
                  ARGS(STALL, "--workers", "2", "--heartbeat", beat, "--heartbeat-every", "20ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    process_wait_log(&p, "worker ");
    process_wait_log(&p, "has been at GET /sleep?ms=60000 for ");
    expect_beats(&p, beat, 3);
    (void)poll(NULL, 0, 1300); /* two more of the limit */
    (void)close(fd);
    process_wait_log(&p, "has finished that request");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "has been at"), 1);
    assert_int_equal(count_in(p.log, "no heartbeat"), 0);
    process_release(&p);
}

static void test_pool_that_finishes_nothing_stops_the_heartbeat(void **state)
{
    struct process p;
    const char *beat = in_directory("pool");
    (void)state;
    process_start(&p, NULL,
                  ARGS(STALL, "--workers", "1", "--heartbeat", beat, "--heartbeat-every", "20ms"));
    int runs = client_connect(&p), waits = client_connect(&p);
    client_send(runs, GET("/sleep?ms=60000&ignore-cancel=0"));
    client_send(waits, GET("/sleep?ms=60000"));
    process_wait_log(&p, "no job of the pool has finished for ");
    process_wait_log(&p, "and 1 wait for a worker");
    process_wait_log(&p, "no heartbeat until loops and pool move again");
    expect_no_beat(beat);
    (void)close(runs);
    (void)close(waits);
    process_wait_log(&p, "the pool moves again");
    expect_beats(&p, beat, 2);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* After a suspended machine or a paused container: the watchdog itself has not run, either. */
static void test_process_that_was_stopped_is_not_stuck(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--watchdog-stall", "1s", "--workers", "1"));
    int fd = client_connect(&p);
    uint64_t begun_ns = now_ns();
    client_send(fd, GET("/sleep?ms=60000"));
    assert_serves(&p);
    (void)poll(NULL, 0, 300); /* it has been looked at */
    process_signal(&p, SIGSTOP);
    uint64_t stopped_ns = now_ns();
    (void)poll(NULL, 0, 1300);
    uint64_t moves_ns = now_ns();
    process_signal(&p, SIGCONT);
    for (unsigned i = 0; i < 10; i++) { /* it looks eight times in its second */
        assert_serves(&p);
        (void)poll(NULL, 0, 20);
    }
    (void)close(fd);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    /* A slow machine may have let it run for that second after all. */
    if (p.exited_ns - begun_ns - (moves_ns - stopped_ns) < 1000 * NS_PER_MS) {
        assert_int_equal(count_in(p.log, "has not turned"), 0);
        assert_int_equal(count_in(p.log, "has been at"), 0);
    }
    process_release(&p);
}

static void test_off_it_does_not_look(void **state)
{
    struct process p;
    struct fault_hold hold;
    (void)state;
    process_start(&p, NULL, ARGS("--watchdog-stall", "0"));
    int stuck = get_stuck(&p, &hold);
    (void)poll(NULL, 0, 300);
    fault_let_go(&hold);
    (void)close(stuck);
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "turn"), 0);
    process_release(&p);
}

/* ---- the service manager ---- */

static int listen_as_watchdog(const char *every_us, const char *pid)
{
    int fd = listen_as_manager(in_directory("notify"));
    assert_int_equal(setenv("WATCHDOG_USEC", every_us, 1), 0);
    if (pid != NULL)
        assert_int_equal(setenv("WATCHDOG_PID", pid, 1), 0);
    return fd;
}

static void forget_manager(void)
{
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

static unsigned read_beats(int manager)
{
    char text[1024];
    unsigned beats = 0;
    ssize_t n;
    while ((n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
        text[n] = '\0';
        beats += strstr(text, "WATCHDOG=1") != NULL;
    }
    return beats;
}

static void expect_manager_beats(int manager, unsigned n)
{
    char text[1024];
    while (n > 0) {
        ssize_t got = client_recv(manager, text, sizeof(text) - 1, 0);
        if (got <= 0)
            fail_msg("the manager got no message");
        text[got] = '\0';
        n -= strstr(text, "WATCHDOG=1") != NULL;
    }
}

static void test_manager_hears_while_it_moves_and_in_a_drain(void **state)
{
    struct process p;
    struct fault_hold hold;
    (void)state;
    int manager = listen_as_watchdog("100000", NULL);
    process_start(&p, NULL, ARGS(STALL));
    forget_manager();
    expect_manager_beats(manager, 3);
    int stuck = get_stuck(&p, &hold);
    process_wait_log(&p, "no heartbeat until loops and pool move again");
    (void)read_beats(manager);
    (void)poll(NULL, 0, 300);
    assert_int_equal(read_beats(manager), 0);
    fault_let_go(&hold);
    (void)close(stuck);
    expect_manager_beats(manager, 2);

    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    (void)read_beats(manager);
    expect_manager_beats(manager, 2);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    (void)close(manager);
    process_release(&p);
}

/* What the manager wants of our parent is the parent's to give. */
static void test_manager_that_waits_for_another_process_hears_nothing(void **state)
{
    struct process p;
    (void)state;
    int manager = listen_as_watchdog("20000", "1");
    process_start(&p, NULL, ARGS("--deadline", "5s"));
    forget_manager();
    assert_serves(&p);
    (void)poll(NULL, 0, 200);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(read_beats(manager), 0);
    (void)close(manager);
    process_release(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_heartbeat_goes_on_in_a_drain),
        TEST(test_file_that_is_taken_away_is_made_again),
        TEST(test_file_that_cannot_be_touched_is_logged_once),
        TEST(test_stuck_loop_is_named_and_stops_the_heartbeat),
        TEST(test_long_handler_is_named_and_stops_nothing),
        TEST(test_pool_that_finishes_nothing_stops_the_heartbeat),
        TEST(test_process_that_was_stopped_is_not_stuck),
        TEST(test_off_it_does_not_look),
        TEST(test_manager_hears_while_it_moves_and_in_a_drain),
        TEST(test_manager_that_waits_for_another_process_hears_nothing),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("heartbeat", tests, make_directory, remove_directory);
}

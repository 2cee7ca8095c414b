/* The real process gets several stops at once, as from a terminal, npm, timeout(1) or a service
 * manager do it: that is one stop, in every mode, and no request is lost. Two signals of a kind may
 * become one on their way, so the tests send different ones, and read in the log that each was
 * taken. */

#include "with_app_master.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define LONG_APART "--force-after", "60s" /* however slow the machine is */
#define SAME "the same stop"

static int begin_request(struct process *p, const char *request)
{
    int fd = client_connect(p);
    client_send(fd, request);
    wait_taken(p, 1);
    return fd;
}

/* A request is under way when `signals` (0 ends them) come at once: it is answered. */
static void stops_once(const char *const *args, const int *signals)
{
    struct process p;
    unsigned n = 0;

    process_start(&p, NULL, args);
    int fd = client_begin(&p);
    for (; signals[n] != 0; n++)
        process_signal(&p, signals[n]);
    process_wait_log_times(&p, SAME, n - 1);
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "forced");
    process_release(&p);
}

static const int two[] = {SIGTERM, SIGINT, 0}, keyboard_first[] = {SIGINT, SIGTERM, 0},
                 three[] = {SIGINT, SIGQUIT, SIGTERM, 0};

static void test_signals_at_once_are_one_stop(void **state)
{
    const char *const *args = APP(LONG_APART, "--threads", "1");
    (void)state;
    stops_once(args, two);
    stops_once(args, keyboard_first);
    stops_once(args, three);
}

static void test_signals_at_once_are_one_stop_for_a_master(void **state)
{
    const char *const *args = APP(MASTER, LONG_APART, "--threads", "1");
    (void)state;
    stops_once(args, two);
    stops_once(args, keyboard_first);
    stops_once(args, three);
}

/* A service manager tells all processes of the service, a wrapper tells them again, and the master
 * passes on what it hears. */
static void test_signals_to_all_processes_are_one_stop(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, APP(MASTER, LONG_APART, "--threads", "1"));
    pid_t worker = wait_generation(&p, 1);
    int fd = client_begin(&p);
    for (size_t i = 0; three[i] != 0; i++) {
        assert_int_equal(kill(worker, three[i]), 0);
        process_signal(&p, three[i]);
    }
    process_wait_log_times(&p, SAME, 4); /* two of the master's, two of the worker's */
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* The master learns from its worker's configuration how far apart two stops must be. */
static void test_the_master_goes_by_the_file(void **state)
{
    struct process p;
    char path[64], text[512];
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/lastcall-double-%ld.conf", (long)getpid());
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: 0}\nuser: %s\ndrain: {force-after: 0}\n"
                   "hosts: {default: {paths: {/sleep: {handler: sleep}}}}\n",
                   own_user_name());
    (void)fputs(text, file);
    (void)fclose(file);
    process_spawn(&p, APP(MASTER, "-c", path));
    (void)wait_generation(&p, 1);
    process_wait_log(&p, "listening on 127.0.0.1:");
    p.port = (uint16_t)last_pid(&p, "listening on 127.0.0.1:");
    int fd = begin_request(&p, GET("/sleep?ms=60000"));
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGINT);
    process_expect(&p, LIMIT_MS, 4);
    assert_lacks(p.log, SAME);
    (void)close(fd);
    process_release(&p);
    (void)unlink(path);
}

/* A user presses Ctrl+C again and again, so often that some presses follow the one before too
 * closely to count. */
static void keep_on_until_gone(struct process *p)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    for (bool odd = false; !process_is_gone(p); odd = !odd) {
        (void)kill(p->pid, odd ? SIGINT : SIGTERM);
        (void)process_says(p, "there is no such line", 10);
        if (now_ns() > until_ns)
            fail_msg("does not end:\n%s", p->log);
    }
    assert_int_equal(p->status, 4);
}

static void test_a_second_one_after_a_while_forces(void **state)
{
    const char *const *const modes[] = {APP("--threads", "1", "--force-after", "100ms"),
                                        APP(MASTER, "--threads", "1", "--force-after", "100ms")};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct process p;
        process_start(&p, NULL, modes[i]);
        int fd = begin_request(&p, GET("/sleep?ms=60000"));
        keep_on_until_gone(&p);
        assert_contains(p.log, "a second signal cuts it short if it comes 100ms after, or later");
        assert_contains(p.log, SAME);
        (void)close(fd);
        process_release(&p);
    }
}

static void test_by_default_a_quarter_of_a_second_is_one(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, APP("--listen", "127.0.0.1:0"));
    process_wait_log(&p, "listening on ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "a second signal cuts it short if it comes 250ms after, or later");
    process_release(&p);
}

/* ---- in a restart ---- */

static void test_signals_at_once_in_a_probation_are_one_stop(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, APP(LONG_APART, "--threads", "1", "--restart-probation", "60s"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    int fd = client_begin(&p);
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGINT);
    process_wait_log(&p, SAME);
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* A group has the old process in it, too, which drains already. */
static void test_signals_at_once_to_one_that_was_followed_cut_nothing(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, APP(LONG_APART, "--threads", "1", "--restart-probation", "0"));
    int fd = client_begin(&p);
    process_signal(&p, SIGHUP);
    pid_t successor = wait_generation(&p, 2);
    process_wait_log(&p,
                     "has taken over: draining"); /* before that a stop is the successor's, too */
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGINT);
    process_wait_log(&p, SAME);
    assert_int_equal(kill(successor, SIGTERM), 0);
    assert_int_equal(kill(successor, SIGINT), 0);
    process_wait_log_times(&p, SAME, 2);
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* The master does not forward the first stop to a retiring worker; it does forward the second. */
static void test_signals_at_once_cut_nothing_of_a_retiring_worker(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, APP(MASTER, LONG_APART, "--threads", "1"));
    int fd = client_begin(&p);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    for (size_t i = 0; three[i] != 0; i++)
        process_signal(&p, three[i]);
    process_wait_log_times(&p, SAME, 2);
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- with an application ---- */

/* The application ignores SIGTERM, and has all of its grace although a second stop comes in it. */
static void leaves_it_its_grace(const char *const *flags)
{
    struct process p;

    start_up(&p, flags, APP(PYTHON, "deaf"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "stopping the application");
    process_signal(&p, SIGINT);
    process_wait_log(&p, SAME);
    process_expect(&p, LIMIT_MS, 0);
    const char *killed = strstr(p.log, "still runs after ");
    assert_non_null(killed);
    char *unit;
    double waited = strtod(killed + strlen("still runs after "), &unit);
    assert_true(strncmp(unit, "s:", 2) == 0 && waited >= 1);
    process_release(&p);
}

static void test_signals_at_once_leave_the_application_its_grace(void **state)
{
    (void)state;
    leaves_it_its_grace(APP(LONG_APART, "--app-grace", "1s"));
    leaves_it_its_grace(APP(MASTER, LONG_APART, "--app-grace", "1s"));
}

/* A supervisor of all processes reaches the application, too; its requests wait for it no longer,
 * but none of ours is cut. */
static void test_signals_at_once_with_an_application_are_one_stop(void **state)
{
    const char *const *const modes[] = {APP(LONG_APART), APP(MASTER, LONG_APART)};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct process p;
        start_up(&p, modes[i], APP(PYTHON));
        int fd = begin_request(&p, GET("/gated"));
        process_signal(&p, SIGINT);
        process_signal(&p, SIGTERM);
        process_wait_log(&p, SAME);
        open_gate(NULL);
        expect_200(fd);
        process_expect(&p, LIMIT_MS, 0);
        process_release(&p);
        shut_gate();
    }
}

#define TEST(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, with_app_master_set_up, with_app_master_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_signals_at_once_are_one_stop),
        TEST(test_signals_at_once_are_one_stop_for_a_master),
        TEST(test_signals_to_all_processes_are_one_stop),
        TEST(test_the_master_goes_by_the_file),
        TEST(test_a_second_one_after_a_while_forces),
        TEST(test_by_default_a_quarter_of_a_second_is_one),
        TEST(test_signals_at_once_in_a_probation_are_one_stop),
        TEST(test_signals_at_once_to_one_that_was_followed_cut_nothing),
        TEST(test_signals_at_once_cut_nothing_of_a_retiring_worker),
        TEST(test_signals_at_once_leave_the_application_its_grace),
        TEST(test_signals_at_once_with_an_application_are_one_stop),
    };
    return cmocka_run_group_tests(tests, with_app_master_begin, NULL);
}

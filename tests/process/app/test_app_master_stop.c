/* A master with an application, as in test_app_master.c: the application ends, a stop is called off
 * or not, the service stops. */

#include "with_app_master.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

/* ---- it ends ---- */

static void ends_with(const char *request, int want, const char *said)
{
    struct process p;
    start_up(&p, APP(MASTER), APP(PYTHON));
    char *answer = client_ask(&p, request);
    assert_contains(answer, "HTTP/1.1 502 "); /* the one that ended it */
    free(answer);
    process_expect(&p, LIMIT_MS, want);
    assert_contains(p.log, said);
    assert_contains(p.log, "drained in ");
    assert_contains(p.log, "application: python3 ");
    process_release(&p);
    (void)with_app_set_up(NULL); /* another port */
}

static void test_its_status_is_passed_on(void **state)
{
    (void)state;
    ends_with(GET("/exit?status=7"), 7, "ended with status 7");
    ends_with(GET("/exit?status=0"), 0, "ended with status 0");
    ends_with(GET("/crash"), 128 + SIGSEGV, "was ended by SIGSEGV");
}

static void test_what_it_leaves_unfinished_wins_over_its_status(void **state)
{
    (void)state;
    leaves_a_request_unfinished(APP(MASTER, "--deadline", "200ms"));
}

/* The successor that is on its way goes, too. */
static void test_it_ends_during_a_restart(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("-m", "master", "--restart-probation", "60s"), APP(PYTHON));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    free(client_ask(&p, GET("/exit?status=7")));
    process_expect(&p, LIMIT_MS, 7);
    assert_null(strstr(p.log, "generation 2 serves"));
    process_release(&p);
}

static void fails_to_start(const char *const *command, const char *timeout, int want,
                           const char *said)
{
    struct process p;
    const char *args[24] = {
        MASTER, "--listen", "127.0.0.1:0", "--proxy", url, "--app-start-timeout", timeout, "--"};
    size_t n = 11;

    assert_string_equal(args[n - 1], "--");
    for (; *command != NULL; command++)
        args[n++] = *command;
    process_spawn(&p, args);
    process_expect(&p, LIMIT_MS, want);
    assert_contains(p.log, said);
    assert_null(strstr(p.log, "replaced"));
    process_release(&p);
}

static void test_one_that_does_not_come_up_ends_the_service(void **state)
{
    (void)state;
    fails_to_start(APP("sleep", "1000"), "200ms", 69, "application sleep did not answer at ");
    fails_to_start(APP("sh", "-c", "exit 5"), "30s", 69, "before it answered");
    fails_to_start(APP("/no/such"), "30s", 69,
                   "cannot start: the application /no/such: No such file or directory");
    struct process other;
    start_up(&other, NULL, APP(PYTHON));
    fails_to_start(APP(PYTHON), "30s", 69, " answers at 127.0.0.1:");
    stop(&other);
}

/* ---- a stop that is called off, or not ---- */

/* The application has ended, so the stop cannot be called off. */
static void can_not_be_called_off(const char *const *flags)
{
    struct process p;
    start_up(&p, flags, APP(PYTHON));
    struct process admin = admin_of(&p);
    free(client_ask(&p, GET("/exit?status=7")));
    process_wait_log(&p, "still accepting, the drain cannot be called off");
    admin_order(&admin, "/undrain", "{}", 409, "the application has ended");
    process_expect(&p, LIMIT_MS, 7);
    process_release(&p);
}

static void test_its_end_cannot_be_called_off(void **state)
{
    (void)state;
    can_not_be_called_off(APP(MASTER, "--admin", admin_address, "--lame-duck", "3s"));
    can_not_be_called_off(APP("--admin", admin_address, "--lame-duck", "3s"));
}

static void test_its_end_in_a_lame_duck_cannot_be_called_off_either(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--admin", admin_address, "--lame-duck", "4s"), APP(PYTHON));
    struct process admin = admin_of(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    free(client_ask(&p, GET("/exit?status=7")));
    process_wait_log(&p, "before the drain was over");
    process_wait_log(&p, "can no longer be called off"); /* the worker knows */
    admin_order(&admin, "/undrain", "{}", 409, "the application has ended");
    process_expect(&p, LIMIT_MS, 0); /* the drain's own */
    process_release(&p);
}

static void test_an_order_that_is_called_off_leaves_it_and_its_restarts(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--admin", admin_address, "--lame-duck", "60s"), APP(PYTHON));
    struct process admin = admin_of(&p);
    pid_t app = app_pid(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_int_equal(app_pid(&p), app);
    free(client_ask(&p, GET("/exit?status=7"))); /* and its end is the service's */
    process_wait_log(&p, "ended with status 7: requests that it had are answered 502");
    process_wait_log(&p, "lame duck for 1m");
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGINT);
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
}

/* What the manager has been told so far: never READY; was STOPPING in it? */
static bool reads_stopping(int fd)
{
    char text[512];
    bool stops = false;
    ssize_t n;

    while ((n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT)) >= 0) {
        text[n] = '\0';
        stops |= strstr(text, "STOPPING=1") != NULL;
        if (strstr(text, "READY=1") != NULL)
            fail_msg("told: %s", text);
    }
    return stops;
}

/* A manager takes STOPPING for final. Its queue has room for ten messages, and the rest is lost. */
static void comes_up_in_a_stop(const char *const *flags)
{
    struct process p;
    int fd = listen_for_ready();
    start(&p, flags, APP(PYTHON, "late"));
    (void)unsetenv("NOTIFY_SOCKET");
    int held = client_connect(&p);
    client_send(held, GET("/"));
    wait_taken(&p, 1);
    assert_false(reads_stopping(fd));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    bool stops = reads_stopping(fd);
    open_gate(NULL);
    expect_200(held);
    process_expect(&p, LIMIT_MS, 0);
    stops |= reads_stopping(fd);
    assert_true(stops);
    process_release(&p);
    shut_gate();
    (void)close(fd);
}

static void test_it_comes_up_in_a_stop_and_the_manager_gets_no_ready(void **state)
{
    (void)state;
    comes_up_in_a_stop(APP(MASTER, "--app-hold", "60s", "--deadline", "60s"));
    comes_up_in_a_stop(APP("--threads", "1", "--app-hold", "60s", "--deadline", "60s"));
}

/* ---- the service stops ---- */

static void test_it_is_stopped_after_the_last_worker(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON)); /* which dies on SIGTERM at once */
    int old = client_connect(&p);
    client_send(old, GET("/gated"));
    wait_taken(&p, 1);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    int new = client_connect(&p);
    client_send(new, GET("/"));
    expect_200(new);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM received");
    wait_count(&p, "drained in ", 1); /* the new one; the old one waits for its request */
    open_gate(NULL);
    expect_200(old);
    process_expect(&p, LIMIT_MS, 0);
    const char *told = strstr(p.log, "SIGTERM to process group");
    assert_non_null(told);
    assert_int_equal(count_in(told, "drained in "), 0);
    assert_int_equal(count_in(p.log, "drained in "), 2);
    assert_contains(told, "was ended by SIGTERM");
    process_release(&p);
}

static void test_its_end_in_a_drain_changes_no_status(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON));
    pid_t app = app_pid(&p);
    int half = client_connect(&p); /* keeps the drain going until its end was seen */
    client_send(half, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n");
    wait_taken(&p, 1);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    assert_int_equal(kill(app, SIGTERM), 0);
    process_wait_log(&p, "before the drain was over");
    client_send(half, "12345");
    client_expect(half, "HTTP/1.1 502 ");
    (void)close(half);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_a_deaf_application_is_killed(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--app-grace", "200ms"), APP(PYTHON, "deaf"));
    pid_t app = app_pid(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "SIGKILL to process group");
    wait_dead(app);
    process_release(&p);
}

static void test_another_signal_ends_its_grace(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--app-grace", "5m"), APP(PYTHON, "deaf"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "stopping the application");
    process_signal(&p, SIGHUP); /* too late for that */
    process_wait_log(&p, "no restart: this process is stopping");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_after_the_deadline_its_grace_is_short(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--app-grace", "5m", "--deadline", "100ms"), APP(PYTHON, "deaf"));
    int fd = client_connect(&p);
    client_send(fd, GET("/slow?ms=600000"));
    wait_taken(&p, 1);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(fd);
    process_release(&p);
}

static void test_it_does_not_outlive_a_killed_master(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON, "deaf"));
    pid_t app = app_pid(&p), worker = wait_generation(&p, 1);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    wait_dead(app);
    wait_dead(worker);
    process_release(&p);
}

static void test_a_window_that_changes_its_size_stops_no_command(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON));
    process_signal(&p, SIGWINCH);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_answer(&p, GET("/"), "python\n");
    assert_null(strstr(p.log, "passed on"));
    stop(&p);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, with_app_master_set_up, with_app_master_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_its_status_is_passed_on),
        TEST(test_what_it_leaves_unfinished_wins_over_its_status),
        TEST(test_it_ends_during_a_restart),
        TEST(test_one_that_does_not_come_up_ends_the_service),
        TEST(test_its_end_cannot_be_called_off),
        TEST(test_its_end_in_a_lame_duck_cannot_be_called_off_either),
        TEST(test_an_order_that_is_called_off_leaves_it_and_its_restarts),
        TEST(test_it_comes_up_in_a_stop_and_the_manager_gets_no_ready),
        TEST(test_it_is_stopped_after_the_last_worker),
        TEST(test_its_end_in_a_drain_changes_no_status),
        TEST(test_a_deaf_application_is_killed),
        TEST(test_another_signal_ends_its_grace),
        TEST(test_after_the_deadline_its_grace_is_short),
        TEST(test_it_does_not_outlive_a_killed_master),
        TEST(test_a_window_that_changes_its_size_stops_no_command),
    };

    (void)alarm(600);
    return cmocka_run_group_tests_name("app_master_stop", tests, with_app_master_begin, NULL);
}

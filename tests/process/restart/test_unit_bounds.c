/* The master under the bounds of deploy/systemd/lastcall.service, with workers that run as another
 * user: it is stopped, restarted and made to open its logs again, and has the privileges for that.
 * Some of these take CAP_KILL away as well, as an older unit or a container does. */

#include "unit_bounds.h"
#include "with_restart.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"
#include "loopback.h"
#include "skip.h"

#define NOBODY 65534

static const char *why_not; /* NULL: the bounds can be set */

static void skip_without_bounds(void)
{
    if (why_not != NULL)
        skip_test(why_not);
}

/* With what the unit's folders are for. */
static const char *write_unit_conf(const char *more)
{
    char *whole;
    const char *path = in_folder("unit.conf");

    assert_true(asprintf(&whole,
                         "user: nobody\nnum-threads: 2\nlisten: {host: 127.0.0.1, port: 0}\n"
                         "pid-file: /run/lastcall.pid\nrestart: {probation: 50ms}\n%s"
                         "access-log: /var/log/lastcall/access.log\n"
                         "hosts:\n  default:\n    paths:\n      /hello: {handler: hello}\n"
                         "      /sleep: {handler: sleep}\n      /stream: {handler: stream}\n",
                         more) > 0);
    write_file(path, whole);
    free(whole);
    return path;
}

static uid_t user_of(pid_t pid)
{
    char path[64];
    struct stat st;

    (void)snprintf(path, sizeof(path), "/proc/%ld", (long)pid);
    assert_int_equal(stat(path, &st), 0);
    return st.st_uid;
}

/* Returns the worker. */
static pid_t start_unit(struct process *p, const char *without, const char *more)
{
    unit_bounds_on(without);
    process_start_configured(p, ARGS(MASTER, "-c", write_unit_conf(more)));
    unit_bounds_off();
    process_wait_log(p, "generation 1 serves");
    pid_t worker = only_child(p->pid);
    assert_int_equal(user_of(p->pid), 0);
    assert_int_equal(user_of(worker), NOBODY);
    return worker;
}

/* The load ends then: of a stop, when the process is gone. */
static bool is_restarted(void *process)
{
    static const char serves[] = "generation 2 serves";
    struct process *p = process;
    struct pollfd log = {.fd = p->log_fd, .events = POLLIN};

    return poll(&log, 1, 0) > 0 ? process_says(p, serves, 0) : strstr(p->log, serves) != NULL;
}

static void hold_load(struct process *p, void (*during)(void *), bool (*is_over)(void *))
{
    struct load_result result;
    const struct load_options load = {.address = p->address,
                                      .protocol = LOAD_HTTP1_KEEPALIVE,
                                      .connections = CONNECTIONS,
                                      .path = "/sleep?ms=20",
                                      .duration_ms = 20000,
                                      .patience_ms = 10000,
                                      .signal_after_answers = 100,
                                      .on_signal = during,
                                      .on_signal_arg = p,
                                      .server_is_gone = is_over,
                                      .server_is_gone_arg = p};

    assert_int_equal(load_run(&load, &result), 0);
    if (result.lost != 0 || result.waiting != 0)
        fail_msg("%llu lost, %llu waiting; first: %s; log:\n%s", (unsigned long long)result.lost,
                 (unsigned long long)result.waiting, result.first_loss, p->log);
    assert_true(result.answered_2xx >= 100);
}

/* ---- stop ---- */

static void stops(const char *without)
{
    struct process p;

    (void)start_unit(&p, without, "");
    hold_load(&p, send_term, is_gone);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "SIGTERM from process ");
    assert_lacks(p.log, "cannot send SIG");
    process_release(&p);
}

static void test_a_stop_within_the_bounds_loses_nothing(void **state)
{
    (void)state;
    skip_without_bounds();
    stops(NULL);
}

static void test_a_stop_without_cap_kill_loses_nothing(void **state)
{
    (void)state;
    skip_without_bounds();
    stops("CAP_KILL");
}

static void test_a_second_signal_without_cap_kill_cuts_it_short(void **state)
{
    struct process p;
    (void)state;
    skip_without_bounds();
    (void)start_unit(&p, "CAP_KILL", "");
    int fd = begin_long_request(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "1 request in flight");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    (void)close(fd);
    process_release(&p);
}

/* ---- restart ---- */

static void restarts(const char *without)
{
    struct process p;
    pid_t second;

    (void)start_unit(&p, without, "");
    hold_load(&p, hup, is_restarted);
    assert_generation(&p, 2, &second);
    assert_int_equal(user_of(second), NOBODY);
    process_wait_log(&p, "has drained and exited with status 0");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "cannot send SIG");
    process_release(&p);
}

static void test_a_restart_within_the_bounds_loses_nothing(void **state)
{
    (void)state;
    skip_without_bounds();
    restarts(NULL);
}

static void test_a_restart_without_cap_kill_loses_nothing(void **state)
{
    (void)state;
    skip_without_bounds();
    restarts("CAP_KILL");
}

/* What a retired worker has is cut by the second signal, too. */
static void test_a_second_signal_without_cap_kill_reaches_a_retired_worker(void **state)
{
    struct process p;
    pid_t second;
    (void)state;
    skip_without_bounds();
    (void)start_unit(&p, "CAP_KILL", "drain: {deadline: 60s}\n");
    int fd = begin_long_request(&p);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    process_wait_log(&p, "1 request in flight");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "passed on to the worker");
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    assert_lacks(p.log, "cannot send SIG");
    (void)close(fd);
    process_release(&p);
}

/* ---- logs, and what the folders are for ---- */

static void test_logs_are_opened_again_without_cap_kill(void **state)
{
    char path[128], moved[160];
    struct process p;
    (void)state;
    skip_without_bounds();
    (void)start_unit(&p, "CAP_KILL", "");
    (void)snprintf(path, sizeof(path), "/proc/%ld/root/var/log/lastcall/access.log", (long)p.pid);
    (void)snprintf(moved, sizeof(moved), "%s.1", path);
    assert_int_equal(rename(path, moved), 0);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_true(fd >= 0 && fchown(fd, NOBODY, NOBODY) == 0); /* as logrotate's `create` does */
    (void)close(fd);
    process_signal(&p, SIGUSR1);
    process_wait_log(&p, "opened 1 log file again");
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "drained in ");
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_the_journal_is_kept_in_the_state_directory(void **state)
{
    char text[256];
    struct process p;
    (void)state;
    skip_without_bounds();
    (void)snprintf(text, sizeof(text), "journal: {dir: /var/lib/%s/journal}\n",
                   unit_setting("StateDirectory"));
    (void)start_unit(&p, NULL, text);
    assert_serves(&p);
    struct stat st;
    (void)snprintf(text, sizeof(text), "/proc/%ld/root/var/lib/%s/journal", (long)p.pid,
                   unit_setting("StateDirectory"));
    assert_int_equal(stat(text, &st), 0);
    assert_int_equal(st.st_uid, NOBODY);
    assert_int_equal(st.st_mode & 07777, 0700);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- one that hangs ---- */

static void send_three(struct process *p)
{
    for (unsigned i = 0; i < 3; i++) {
        process_signal(p, SIGTERM);
        process_wait_log_times(p, "passed on to the worker", i + 1);
    }
}

static void test_a_worker_that_hangs_is_killed_within_the_bounds(void **state)
{
    struct process p;
    (void)state;
    skip_without_bounds();
    pid_t worker = start_unit(&p, NULL, "");
    assert_int_equal(kill(worker, SIGSTOP), 0);
    send_three(&p);
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
}

static void test_a_kill_that_fails_is_in_the_log(void **state)
{
    char want[128];
    struct process p;
    (void)state;
    skip_without_bounds();
    pid_t worker = start_unit(&p, "CAP_KILL", "");
    assert_int_equal(kill(worker, SIGSTOP), 0);
    send_three(&p);
    (void)snprintf(want, sizeof(want),
                   "cannot send SIGKILL to worker %ld: Operation not permitted (it runs as another "
                   "user: that takes CAP_KILL)",
                   (long)worker);
    process_wait_log(&p, want);
    assert_int_equal(kill(worker, SIGCONT), 0); /* the messages wait for it */
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
}

/* ---- an application ---- */

static void test_an_application_of_another_user_ends_within_the_bounds(void **state)
{
    char conf[256];
    struct process p;
    (void)state;
    skip_without_bounds();
    (void)snprintf(conf, sizeof(conf),
                   "user: nobody\nlisten: {host: 127.0.0.1, port: 0}\n"
                   "app: {url: 'http://127.0.0.1:%u'}\n"
                   "hosts:\n  default:\n    paths:\n      /hello: {handler: hello}\n",
                   free_port());
    write_file(in_folder("app.conf"), conf);
    unit_bounds_on(NULL);
    process_spawn(&p, ARGS(MASTER, "-c", in_folder("app.conf"), "--app-start-timeout", "60s", "--",
                           "sleep", "100"));
    unit_bounds_off();
    process_wait_log(&p, "application sleep started as process ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "was ended by SIGTERM");
    assert_lacks(p.log, "cannot send SIG");
    process_release(&p);
}

static int set_up(void **state)
{
    why_not = unit_bounds_missing();
    if (why_not == NULL && !unit_bounds_filter())
        print_message("without SystemCallFilter: no libseccomp in this build, or a sanitizer\n");
    return with_restart_set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_stop_within_the_bounds_loses_nothing),
        TEST(test_a_stop_without_cap_kill_loses_nothing),
        TEST(test_a_second_signal_without_cap_kill_cuts_it_short),
        TEST(test_a_restart_within_the_bounds_loses_nothing),
        TEST(test_a_restart_without_cap_kill_loses_nothing),
        TEST(test_a_second_signal_without_cap_kill_reaches_a_retired_worker),
        TEST(test_logs_are_opened_again_without_cap_kill),
        TEST(test_the_journal_is_kept_in_the_state_directory),
        TEST(test_a_worker_that_hangs_is_killed_within_the_bounds),
        TEST(test_a_kill_that_fails_is_in_the_log),
        TEST(test_an_application_of_another_user_ends_within_the_bounds),
    };
    return cmocka_run_group_tests(tests, set_up, with_restart_clean_up);
}

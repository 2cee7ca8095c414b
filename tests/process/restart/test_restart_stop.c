/* The real process gets a stop while a successor takes over. Between COMMIT and
 * SETTLED there are microseconds as a rule; here the successor is stopped (SIGSTOP) in them. */

#include "with_restart.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "as_manager.h"
#include "expect.h"
#include "loadgen.h"
#include "loopback.h"

/* By a second signal. Two of a kind could be one to the kernel. */
static void cut_short(struct process *p, int status)
{
    process_signal(p, SIGTERM);
    process_signal(p, SIGINT);
    process_expect(p, LIMIT_MS, status);
    process_release(p);
}

/* ---- before COMMIT: the successor is as good as not there ---- */

static void test_hangup_in_a_drain_is_refused(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "60s"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for 1m");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "no restart: this process is stopping");
    cut_short(&p, 4);
}

static void test_stop_during_a_restart_stops_the_service(void **state)
{
    struct process p;
    pid_t pids[4];
    (void)state;
    const char *path = use_own_binary();
    process_start(&p, NULL, ARGS("--threads", "1"));
    write_file(path, "#!/bin/sh\necho here I am >&2\nexec sleep 1000\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "here I am");
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=300"));
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    client_expect(fd, " 200 OK");
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    size_t n = list_children(getpid(), pids, 4);
    for (size_t i = 0; i < n; i++) /* killed, and ours to bury */
        assert_true(wait_status(pids[i]) != 0);
    process_release(&p);
}

static void test_stop_in_the_probation_stops_the_service(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "60s"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    pid_t successor = only_child(p.pid);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    int status = wait_status(successor);
    assert_true(status == 128 + SIGKILL || status == -1);
    process_release(&p);
}

/* A successor that gets a stop in its probation must not shut down inherited listeners. */
static void test_successor_that_gets_its_stop_too_early_does_no_harm(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL,
                  ARGS("--restart-probation", "60s", "--threads", "2", "--lame-duck", "60s"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    assert_int_equal(kill(only_child(p.pid), SIGTERM), 0);
    process_wait_log(&p, "restart failed, this process goes on: ");
    assert_null(strstr(p.log, "lame duck for ")); /* it had no client to wait for */
    for (unsigned i = 0; i < 20; i++)
        assert_serves(&p);
    cut_short(&p, 4);
}

static void test_successor_ends_with_a_predecessor_that_is_killed(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "60s", "--lame-duck", "60s"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    pid_t successor = only_child(p.pid);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    assert_int_equal(wait_status(successor), 0); /* soon: it had no client to wait for */
    process_release(&p);
}

/* ---- between COMMIT and SETTLED ---- */

static void wait_until_stopped(pid_t pid)
{
    char path[64];
    const char *state = NULL;
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    do {
        if (now_ns() > until_ns)
            fail_msg("process %ld is not stopped", (long)pid);
        (void)poll(NULL, 0, 1);
        state = strrchr(read_file(path), ')');
    } while (state == NULL || strncmp(state, ") T", 3) != 0);
}

/* Starts `p` and a restart of it, and returns the successor: it is stopped by SIGSTOP, and has the
 * order to accept. On a busy machine SIGSTOP may come too late; then this tries again, with more
 * time. */
static pid_t start_and_hold(struct process *p, const char *const *argv)
{
    for (unsigned probation_ms = 300; probation_ms < 30000; probation_ms *= 3) {
        const char *args[24] = {"--threads", "1"};
        size_t n = 2;
        char text[24];
        (void)snprintf(text, sizeof(text), "%ums", probation_ms);
        for (; *argv != NULL && n < 20; argv++)
            args[n++] = *argv;
        argv -= n - 2;
        args[n++] = "--restart-probation";
        args[n] = text;
        process_start(p, NULL, args);
        if (strcmp(argv[0], "-m") == 0)
            (void)wait_generation(p, 1);
        process_signal(p, SIGHUP);
        process_wait_log(p, "generation 2 is ready: process ");
        pid_t pid = (pid_t)strtol(strstr(p->log, "2 is ready: process ") + 20, NULL, 10);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        wait_until_stopped(pid);
        (void)process_says(p, "there is no such line", 0);
        bool in_time = strstr(p->log, "generation 2 may accept now") == NULL;
        if (in_time) {
            process_wait_log(p, "generation 2 may accept now");
            return pid;
        }
        (void)end_all(NULL);
        process_release(p);
    }
    fail_msg("the successor could not be stopped in its probation");
    return 0;
}

/* The successor goes on, and the old process may end. */
static void undrain_and_part(struct process *p, pid_t next)
{
    struct process admin = admin_of(p);

    admin_wait_text(&admin, "phase", "lame-duck");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_expect(p, LIMIT_MS, 0);
    assert_serves(p);
    assert_int_equal(kill(next, SIGTERM), 0);
    assert_int_equal(kill(next, SIGINT), 0);
    assert_int_equal(wait_status(next), 4);
    process_release(p);
}

/* The sockets of a service that may go on: the stop waits until only one process holds them. */
static void test_stop_that_may_be_called_off_waits_for_the_successor(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS("--lame-duck", "60s"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    assert_serves(&p);
    assert_int_equal(kill(next, SIGCONT), 0);
    process_wait_log(&p, "during the hand-over");
    process_wait_log_times(&p, "lame duck for ", 2); /* its own, which can be called off */
    assert_false(process_is_gone(&p));               /* it must not have exited yet */
    undrain_and_part(&p, next);
}

/* A service manager signals all processes, each once. */
static void test_stop_of_all_processes_is_one_to_the_successor(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS("--lame-duck", "60s"));
    struct process admin = admin_of(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    assert_int_equal(kill(next, SIGCONT), 0);
    process_wait_log(&p, "during the hand-over");
    process_wait_log(&p, "listeners closed after "); /* by the old one: the other one accepts */
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=2000"));
    admin_wait_number(&admin, "requests.in_flight", 1);
    assert_int_equal(kill(next, SIGTERM), 0);
    client_expect(fd, " 200 OK");
    (void)close(fd);
    undrain_and_part(&p, next);
}

/* The old process closes the sockets that both of them have: the successor must not go on with
 * them, and has no lame duck of its own; it accepts, though, and so it is waited for. */
static void final_stop(struct process *p, pid_t next)
{
    process_signal(p, SIGTERM);
    process_wait_log(p, "it already accepts, so it stops as well");
    process_wait_log(p, "drained in ");
    assert_false(process_is_gone(p));
    assert_int_equal(kill(next, SIGCONT), 0);
    process_expect(p, LIMIT_MS, 0);
    assert_drained(next);
    assert_int_equal(count_in(p->log, "lame duck for "), 1);
}

static void test_stop_that_is_final_is_the_successors_too(void **state)
{
    struct process p;
    (void)state;
    const char *pid_file = in_folder("pid");
    pid_t next = start_and_hold(&p, ARGS("--lame-duck", "200ms", "--pid-file", pid_file));
    final_stop(&p, next);
    assert_int_equal(access(pid_file, F_OK), -1);
    process_release(&p);
}

/* A manager kills the rest of a service when its main process exits: that has to be the last. */
static void test_old_process_waits_for_the_end_of_its_successor(void **state)
{
    struct process p;
    char text[512];
    ssize_t n;
    (void)state;
    const char *path = use_own_binary(), *gate = in_folder("gate");
    char *fake;
    int manager = listen_as_manager(in_folder("notify"));
    process_start(&p, NULL, ARGS("--restart-probation", "0", "--threads", "1"));
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unlink(gate);
    assert_true(asprintf(&fake,
                         FAKE "until(3)\nsay(4)\nuntil(5)\nuntil(17)\nsay(6)\n"
                              "while not os.path.exists('%s'): time.sleep(0.01)\n"
                              "print('it has drained', file=sys.stderr)\nsys.stderr.flush()\n"
                              "os._exit(3)\n",
                         gate) > 0);
    write_file(path, fake);
    free(fake);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 may accept now");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "drained in ");
    assert_false(process_is_gone(&p));
    write_file(gate, "");
    process_expect(&p, LIMIT_MS, 3); /* what the other one could not finish is the service's */
    assert_contains(p.log, "it has drained");
    while ((n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
        text[n] = '\0';
        assert_true(strstr(text, "MAINPID=") == NULL || strstr(text, "STATUS=serving") != NULL);
    }
    (void)close(manager);
    process_release(&p);
}

/* It has no work left, and only waits. */
static void test_signal_after_the_drain_ends_the_wait_for_the_successor(void **state)
{
    struct process p;
    (void)state;
    (void)start_and_hold(&p, ARGS("--deadline", "1h"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "drained in ");
    assert_false(process_is_gone(&p));
    process_signal(&p, SIGINT);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "told to accept and then to stop: it did not answer");
    process_release(&p);
}

static void test_stop_of_a_master_that_is_final_is_the_successors_too(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS(MASTER, "--lame-duck", "200ms"));
    final_stop(&p, next);
    process_release(&p);
}

/* Its time ends with the drain: the connections that it had accepted are lost, and the log says so.
 */
static void test_successor_that_hangs_is_killed_with_the_deadline_of_a_stop(void **state)
{
    struct process p;
    (void)state;
    const char *pid_file = in_folder("pid");
    pid_t next = start_and_hold(&p, ARGS("--deadline", "700ms", "--pid-file", pid_file));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "told to accept and then to stop: it did not answer");
    int status = wait_status(next);
    assert_true(status == 128 + SIGKILL || status == -1);
    assert_int_equal(access(pid_file, F_OK), -1);
    process_release(&p);
}

static void test_successor_of_a_worker_that_hangs_is_killed_in_time(void **state)
{
    struct process p;
    (void)state;
    (void)start_and_hold(&p, ARGS(MASTER, "--restart-timeout", "6s"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "told to accept and then to stop: it did not answer");
    process_release(&p);
}

static void test_second_signal_does_not_wait_for_the_successor(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS("--lame-duck", "60s", "--deadline", "60s"));
    cut_short(&p, 4);
    int status = wait_status(next);
    assert_true(status == 128 + SIGKILL || status == -1);
}

/* Neither the worker nor its successor listens any more. */
static void test_third_signal_to_a_master_ends_every_process_left(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS(MASTER, "--deadline", "60s"));
    pid_t worker = wait_generation(&p, 1);
    assert_int_equal(kill(worker, SIGSTOP), 0);
    wait_until_stopped(worker);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM from process ");
    process_signal(&p, SIGINT);
    process_wait_log(&p, "SIGINT from process ");
    assert_false(process_is_gone(&p));
    process_signal(&p, SIGQUIT);
    process_expect(&p, LIMIT_MS, 4);
    assert_int_equal(kill(next, 0), -1);
    assert_int_equal(kill(worker, 0), -1);
    process_release(&p);
}

/* ---- which process gets the stop, and which holds the sockets ---- */

/* How often the restart thread of `pid` has gone to sleep, once it sleeps and has done so more than
 * `more_than` times. */
static long wait_until_restart_thread_sleeps(pid_t pid, long more_than)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char folder[64], path[sizeof(folder) + 280];

    (void)snprintf(folder, sizeof(folder), "/proc/%ld/task", (long)pid);
    for (;;) {
        DIR *tasks = opendir(folder);
        assert_non_null(tasks);
        for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
            (void)snprintf(path, sizeof(path), "%s/%s/status", folder, task->d_name);
            const char *text = task->d_name[0] != '.' ? read_file(path) : "";
            const char *count = strstr(text, "\nvoluntary_ctxt_switches:");
            if (strncmp(text, "Name:\trestart\n", 14) != 0 || count == NULL ||
                strstr(text, "\nState:\tS") == NULL || atol(count + 25) <= more_than)
                continue;
            (void)closedir(tasks);
            return atol(count + 25);
        }
        (void)closedir(tasks);
        if (now_ns() > until_ns)
            fail_msg("the restart thread of process %ld does not sleep again", (long)pid);
        (void)poll(NULL, 0, 1);
    }
}

/* The worker alone got the stop, and dies before it can report that. */
static void test_stop_of_a_worker_that_dies_is_the_successors(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS(MASTER, "--lame-duck", "60s"));
    pid_t worker = wait_generation(&p, 1);
    struct process admin = admin_of(&p);
    long slept = wait_until_restart_thread_sleeps(worker, -1);
    assert_int_equal(kill(worker, SIGTERM), 0);
    process_wait_log(&p, "lame duck for ");
    (void)wait_until_restart_thread_sleeps(worker, slept); /* it has told its master */
    assert_int_equal(kill(worker, SIGSTOP), 0);
    wait_until_stopped(worker);
    assert_int_equal(kill(next, SIGCONT), 0);
    (void)wait_generation(&p, 2);
    assert_int_equal(kill(worker, SIGKILL), 0);
    admin_wait_text(&admin, "phase", "lame-duck");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    cut_short(&p, 4);
}

/* The successor may have the admin socket before it learns of the death of the master; it then
 * says that it knows of no drain. */
static void expect_no_undrain(const struct process *admin)
{
    static const char json[] = "Content-Type: application/json\r\n", early[] = "there is no drain";
    const uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char *answer;

    while (strstr(answer = admin_call(admin, "POST", "/undrain", json, "{}"), early) != NULL) {
        assert_true(now_ns() < until_ns);
        free(answer);
    }
    assert_contains(answer, "409 Conflict");
    assert_contains(answer, "the master has ended");
    free(answer);
}

/* Both have the listeners: of two drains that are called off one by one, one would close them. */
static void test_drain_after_the_masters_death_cannot_be_called_off(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS(MASTER, "--lame-duck", "4s"));
    pid_t worker = wait_generation(&p, 1);
    struct process admin = admin_of(&p);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    assert_int_equal(kill(next, SIGCONT), 0);
    expect_no_undrain(&admin);
    assert_drained(worker);
    assert_drained(next);
    process_release(&p);
}

/* Until the old process has released the listeners it may still shut them down, also for the
 * process that has them by then. */
static void test_successor_is_not_followed_before_it_is_alone(void **state)
{
    struct process p;
    (void)state;
    pid_t next = start_and_hold(&p, ARGS("--lame-duck", "60s"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    process_signal(&p, SIGSTOP);
    assert_int_equal(kill(next, SIGCONT), 0);
    process_wait_log(&p, "listening on ");
    struct process admin = admin_of(&p);
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    assert_int_equal(kill(next, SIGHUP), 0);
    for (unsigned i = 0; i < 50; i++)
        assert_serves(&p);
    assert_null(strstr(p.log, "starting generation 3"));
    process_signal(&p, SIGCONT);
    process_wait_log(&p, "no restart: this process is stopping"); /* it got the stop */
    assert_null(strstr(p.log, "starting generation 3"));
    undrain_and_part(&p, next);
}

/* A successor that fails removes the sockets that it has opened itself. */
static void test_listener_of_a_restart_that_is_given_up_is_closed(void **state)
{
    struct process p;
    char text[256];
    uint16_t first = free_port(), second = free_port();
    (void)state;
    (void)snprintf(text, sizeof(text), "listen: {host: 127.0.0.1, port: %u}\n", first);
    const char *conf = write_conf(text);
    process_start_configured(
        &p, ARGS("-c", conf, MASTER, "--lame-duck", "60s", "--restart-probation", "60s"));
    (void)wait_generation(&p, 1);
    struct process admin = admin_of(&p);
    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: %u}\nlisten: {host: 127.0.0.1, port: %u}\n",
                   first, second);
    (void)write_conf(text);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "the restart is cancelled");
    admin_wait_text(&admin, "phase", "lame-duck");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    assert_serves_at(INADDR_LOOPBACK, first);
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    int fd;
    while ((fd = connect_port(INADDR_LOOPBACK, second)) >= 0) { /* its process has to end first */
        (void)close(fd);
        if (now_ns() > until_ns)
            fail_msg("port %u is still open", second);
        (void)poll(NULL, 0, 5);
    }
    assert_int_equal(fd, -ECONNREFUSED);
    cut_short(&p, 4);
}

/* ---- no process is left to serve ---- */

static void test_worker_that_dies_ends_the_probation_of_its_successor(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    process_start(&p, NULL, ARGS(MASTER, "--restart-probation", "60s"));
    pid_t worker = wait_generation(&p, 1);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    assert_int_equal(kill(worker, SIGKILL), 0);
    assert_generation(&p, 2, &next);
    assert_serves(&p);
    stop(&p, p.pid);
    process_release(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_hangup_in_a_drain_is_refused),
        TEST(test_stop_during_a_restart_stops_the_service),
        TEST(test_stop_in_the_probation_stops_the_service),
        TEST(test_successor_that_gets_its_stop_too_early_does_no_harm),
        TEST(test_successor_ends_with_a_predecessor_that_is_killed),
        TEST(test_stop_that_may_be_called_off_waits_for_the_successor),
        TEST(test_stop_of_all_processes_is_one_to_the_successor),
        TEST(test_stop_that_is_final_is_the_successors_too),
        TEST(test_stop_of_a_master_that_is_final_is_the_successors_too),
        TEST(test_successor_that_hangs_is_killed_with_the_deadline_of_a_stop),
        TEST(test_successor_of_a_worker_that_hangs_is_killed_in_time),
        TEST(test_second_signal_does_not_wait_for_the_successor),
        TEST(test_third_signal_to_a_master_ends_every_process_left),
        TEST(test_old_process_waits_for_the_end_of_its_successor),
        TEST(test_signal_after_the_drain_ends_the_wait_for_the_successor),
        TEST(test_stop_of_a_worker_that_dies_is_the_successors),
        TEST(test_drain_after_the_masters_death_cannot_be_called_off),
        TEST(test_successor_is_not_followed_before_it_is_alone),
        TEST(test_listener_of_a_restart_that_is_given_up_is_closed),
        TEST(test_worker_that_dies_ends_the_probation_of_its_successor),
    };

    (void)alarm(300); /* a hang is a failure */
    return cmocka_run_group_tests_name("restart_stop", tests, with_restart_set_up,
                                       with_restart_clean_up);
}

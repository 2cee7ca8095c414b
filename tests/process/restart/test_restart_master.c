/* The real process under a master, in the foreground and as a daemon, and restarts of its worker.
 * LASTCALL_RUNS says over how many of them a master may not grow (half of 20). */

#include "with_restart.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"
#include "loopback.h"

static void start_master(struct process *p, const char *more)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "listen: {host: 127.0.0.1, port: 0}\npid-file: %s\n%s",
                   in_folder("master.pid"), more);
    process_start_configured(p, ARGS(MASTER, "-c", write_conf(text)));
    process_wait_log(p, "generation 1 serves");
}

static void test_master_keeps_its_process_id_over_a_restart(void **state)
{
    struct process p;
    pid_t second;
    (void)state;
    start_master(&p, "");
    int idle = client_connect(&p);
    assert_serves_on(idle, KEPT);
    pid_t first = only_child(p.pid);
    size_t files = open_files_of(p.pid);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    assert_true(second != first);
    process_wait_log(&p, "has drained and exited with status 0");
    assert_contains(p.log, " 1 handed over");
    assert_serves_on(idle, KEPT);
    assert_int_equal(strtol(read_file(in_folder("master.pid")), NULL, 10), p.pid);
    assert_int_equal(only_child(p.pid), second);
    assert_open_files(p.pid, files);
    process_signal(&p, SIGTERM);
    assert_serves_on(idle, ""); /* it is still in its grace */
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(access(in_folder("master.pid"), F_OK), -1);
    (void)close(idle);
    process_release(&p);
}

static long resident_kb(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    const char *at = strstr(read_file(path), "VmRSS:");
    return at != NULL ? strtol(at + 6, NULL, 10) : 0;
}

static void test_master_does_not_grow(void **state)
{
    struct process p;
    size_t files = 0;
    long memory = 0;
    unsigned count = how_often("LASTCALL_RUNS", 20) / 2;
    (void)state;
    start_master(&p, "");
    int fd = client_connect(&p);
    for (unsigned i = 0; i < count; i++) {
        pid_t next;
        process_signal(&p, SIGHUP);
        assert_generation(&p, i + 2, &next);
        assert_serves_on(fd, KEPT);
        assert_int_equal(only_child(p.pid), next); /* the old worker is gone, and buried */
        if (i == 1) {
            files = open_files_of(p.pid);
            memory = resident_kb(p.pid);
        } else if (i > 1) {
            assert_open_files(p.pid, files);
        }
    }
    if (memory != 0 && resident_kb(p.pid) > memory + 1024)
        fail_msg("%ld kB have become %ld kB over %u restarts", memory, resident_kb(p.pid), count);
    (void)close(fd);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_worker_that_dies_is_replaced_and_no_client_is_refused(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    start_master(&p, "");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kill(only_child(p.pid), SIGKILL), 0);
        assert_serves(&p); /* waits in the listener that the master holds */
        assert_generation(&p, i + 2, &next);
    }
    assert_contains(p.log, "was ended by SIGKILL: starting another one");
    assert_contains(p.log, "starting another worker in 400ms"); /* the third one in a row */
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_master_rolls_back_too(void **state)
{
    struct process p;
    (void)state;
    start_master(&p, "");
    pid_t worker = only_child(p.pid);
    (void)write_conf("listen: {host: 127.0.0.1, port: 0}\nnonsense: 1\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "restart failed, this process goes on: it exited with status 78");
    assert_serves(&p);
    assert_int_equal(only_child(p.pid), worker);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_master_that_cannot_start_passes_the_status_on(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, ARGS(MASTER, "-c", write_conf("nonsense: 1\n")));
    process_expect(&p, LIMIT_MS, 78);
    process_release(&p);
}

static void test_master_passes_the_status_of_a_drain_on(void **state)
{
    struct process p;
    (void)state;
    start_master(&p, "drain: {deadline: 300ms}\n");
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    admin_wait_in_flight(&p, 1);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "/sleep?ms=60000"); /* it is named */
    (void)close(fd);
    process_release(&p);
}

static void test_second_signal_to_the_master_forces(void **state)
{
    struct process p;
    (void)state;
    start_master(&p, "");
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    admin_wait_in_flight(&p, 1);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    (void)close(fd);
    process_release(&p);
}

static void test_master_waits_for_the_old_worker_too(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    start_master(&p, "");
    int fd = client_begin(&p);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "passed on to the worker");
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_workers_end_with_a_master_that_is_killed(void **state)
{
    struct process p;
    (void)state;
    start_master(&p, "");
    pid_t worker = only_child(p.pid);
    process_signal(&p, SIGKILL);
    assert_drained(worker); /* it drains */
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    process_release(&p);
}

static void test_under_load_a_master_restarts_without_loss(void **state)
{
    struct load_options load = {.protocol = LOAD_HTTP1_CLOSE};
    struct load_result result;
    struct process p;
    (void)state;
    start_master(&p, "");
    load.address = p.address;
    load.connections = CONNECTIONS;
    load.duration_ms = 600;
    load.patience_ms = 10000;
    load.idle = 20;
    load.signal_after_ms = 100;
    load.on_signal = hup;
    load.on_signal_arg = &p;
    assert_int_equal(load_run(&load, &result), 0);
    process_wait_log(&p, "has drained and exited with status 0");
    assert_int_equal(result.lost + result.waiting + result.refused + result.idle.closed, 0);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_daemon_detaches_once_it_is_bound(void **state)
{
    struct process p;
    char text[512];
    uint16_t port = free_port();
    (void)state;
    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: %u}\npid-file: %s\nerror-log: %s\n", port,
                   in_folder("daemon.pid"), in_folder("daemon.log"));
    process_spawn(&p, ARGS("-m", "daemon", "-c", write_conf(text)));
    process_expect(&p, LIMIT_MS, 0);
    assert_serves_at(INADDR_LOOPBACK, port);
    pid_t master = (pid_t)strtol(read_file(in_folder("daemon.pid")), NULL, 10);
    assert_true(master > 1 && getsid(master) == master);
    assert_int_equal(kill(master, SIGTERM), 0);
    assert_drained(master);
    assert_contains(read_file(in_folder("daemon.log")), "passed on to the worker");
    assert_contains(read_file(in_folder("daemon.log")), "drained in");
    process_release(&p);
}

static void test_daemon_that_cannot_start_says_so_by_its_status(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p,
                  ARGS("-m", "daemon", "-c", write_conf("listen: {host: 127.0.0.1, port: 0}\n")));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "mode daemon needs an error-log");
    process_release(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_master_keeps_its_process_id_over_a_restart),
        TEST(test_master_does_not_grow),
        TEST(test_worker_that_dies_is_replaced_and_no_client_is_refused),
        TEST(test_master_rolls_back_too),
        TEST(test_master_that_cannot_start_passes_the_status_on),
        TEST(test_master_passes_the_status_of_a_drain_on),
        TEST(test_second_signal_to_the_master_forces),
        TEST(test_master_waits_for_the_old_worker_too),
        TEST(test_workers_end_with_a_master_that_is_killed),
        TEST(test_under_load_a_master_restarts_without_loss),
        TEST(test_daemon_detaches_once_it_is_bound),
        TEST(test_daemon_that_cannot_start_says_so_by_its_status),
    };

    (void)alarm(300 + how_often("LASTCALL_RUNS", 20) * 2); /* a hang is a failure */
    return cmocka_run_group_tests_name("restart_master", tests, with_restart_set_up,
                                       with_restart_clean_up);
}

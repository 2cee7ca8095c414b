/* The logs of a real process are rotated in the middle of a restart, as logrotate(8) does: the test
 * renames the files, then sends SIGUSR1 to the process that the pid file names. The process that
 * serves afterwards must write to the new files. */

#include "with_restart.h"

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
#include "loopback.h"

#define LOGS "access-log: %s/access.log\nerror-log: %s/error.log\npid-file: %s/pid\n"

static uint16_t port;

/* The log of `p` is in a file, so there is no line to wait for in the pipe. */
static void start_logging(struct process *p, const char *mode, const char *probation)
{
    char text[1024];
    const char *folder = in_folder("");

    (void)unlink(in_folder("access.log"));
    (void)unlink(in_folder("error.log"));
    (void)unlink(in_folder("access.log.1"));
    (void)unlink(in_folder("error.log.1"));
    (void)unlink(in_folder("pid"));
    port = free_port();
    (void)snprintf(text, sizeof(text), "listen: {host: 127.0.0.1, port: %u}\n" LOGS, port, folder,
                   folder, folder);
    process_spawn(p, ARGS("-c", write_conf(text), "-m", mode, "--admin", "off",
                          "--restart-probation", probation));
    p->port = port;
}

static void wait_in_file(const char *name, const char *text, unsigned times)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (count_in(read_file(in_folder(name)), text) < times) {
        if (now_ns() > until_ns)
            fail_msg("%s has not %u times `%s`:\n%s", name, times, text,
                     read_file(in_folder(name)));
        (void)poll(NULL, 0, 2);
    }
}

static pid_t pid_in_file(void)
{
    return (pid_t)strtol(read_file(in_folder("pid")), NULL, 10);
}

static void rotate(bool tell)
{
    pid_t pid = 0;

    assert_int_equal(rename(in_folder("access.log"), in_folder("access.log.1")), 0);
    assert_int_equal(rename(in_folder("error.log"), in_folder("error.log.1")), 0);
    if (tell) {
        pid = pid_in_file();
        assert_true(pid > 1);
        assert_int_equal(kill(pid, SIGUSR1), 0);
    }
}

static void assert_has_file(pid_t pid, int fd, const char *name)
{
    char path[64], target[256] = "";
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)pid, fd);
    do {
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        struct stat there, wanted;
        if (stat(path, &there) == 0 && stat(in_folder(name), &wanted) == 0 &&
            there.st_ino == wanted.st_ino)
            return;
        (void)poll(NULL, 0, 2);
    } while (now_ns() < until_ns);
    fail_msg("descriptor %d of process %ld is %s, not %s", fd, (long)pid, target, name);
}

static void ask_for(const struct process *p, const char *request)
{
    int fd = client_connect(p);
    client_send(fd, request);
    client_expect(fd, " 200 OK");
    (void)close(fd);
}

/* When, after the order to restart? */
enum moment { AT_ONCE, READY };

static void rotates_within(const char *mode, enum moment moment, bool tell)
{
    struct process p;

    start_logging(&p, mode, moment == READY ? "2s" : "100ms");
    wait_in_file("pid", "\n", 1);
    wait_in_file("error.log", "listening on ", 1);
    ask_for(&p, GET("/hello?before"));
    wait_in_file("access.log", "before", 1);
    process_signal(&p, SIGHUP);
    if (moment == READY)
        wait_in_file("error.log", "generation 2 is ready", 1);
    rotate(tell);
    wait_in_file("error.log", " again", 1);
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (strstr(read_file(in_folder("error.log")), "generation 2 serves") == NULL &&
           strstr(read_file(in_folder("error.log.1")), "generation 2 serves") == NULL) {
        assert_true(now_ns() < until_ns);
        (void)poll(NULL, 0, 2);
    }
    if (mode[0] == 'w') /* the other process accepts no more */
        process_expect(&p, LIMIT_MS, 0);
    for (unsigned i = 0; i < 4; i++)
        ask_for(&p, GET("/hello?after"));
    wait_in_file("access.log", "after", 4);
    assert_lacks(read_file(in_folder("access.log.1")), "after");
    pid_t pid = pid_in_file();
    for (int fd = 1; fd <= 2; fd++)
        assert_has_file(pid, fd, "error.log");
    assert_int_equal(kill(pid, SIGTERM), 0);
    if (mode[0] == 'w')
        assert_drained(pid);
    else
        process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_within_a_probation(void **state)
{
    (void)state;
    rotates_within("worker", READY, true);
    rotates_within("master", READY, true);
}

static void test_at_once_after_the_order_to_restart(void **state)
{
    (void)state;
    rotates_within("worker", AT_ONCE, true);
    rotates_within("master", AT_ONCE, true);
}

/* logrotate's signal may meet a process that has just ended. */
static void test_within_a_probation_though_the_signal_is_lost(void **state)
{
    (void)state;
    rotates_within("worker", READY, false);
}

/* A tool that had read the pid file before: the old process, which drains for long, passes it on.
 */
static void test_a_signal_to_the_predecessor_is_passed_on(void **state)
{
    struct process p;
    (void)state;
    start_logging(&p, "worker", "0");
    wait_in_file("pid", "\n", 1);
    wait_in_file("error.log", "listening on ", 1);
    int held = begin_long_request(&p);
    ask_for(&p, GET("/hello?before"));
    process_signal(&p, SIGHUP);
    wait_in_file("error.log", "generation 2 serves", 1);
    pid_t successor = pid_in_file();
    assert_int_not_equal(successor, p.pid);
    assert_int_equal(rename(in_folder("access.log"), in_folder("access.log.1")), 0);
    process_signal(&p, SIGUSR1);
    wait_in_file("error.log", "log files again", 2);
    for (unsigned i = 0; i < 4; i++)
        ask_for(&p, GET("/hello?after"));
    wait_in_file("access.log", "after", 4);
    assert_lacks(read_file(in_folder("access.log.1")), "after");
    (void)close(held); /* the request is given up with its client */
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(kill(successor, SIGTERM), 0);
    assert_drained(successor);
    process_release(&p);
}

/* Without a restart, too: the master's own lines would go to the old file for ever. */
static void test_the_master_follows_its_worker(void **state)
{
    struct process p;
    (void)state;
    start_logging(&p, "master", "0");
    wait_in_file("pid", "\n", 1);
    wait_in_file("error.log", "generation 1 serves", 1);
    assert_has_file(p.pid, 2, "error.log");
    ask_for(&p, GET("/hello"));
    rotate(true);
    for (int fd = 1; fd <= 2; fd++)
        assert_has_file(p.pid, fd, "error.log");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(read_file(in_folder("error.log")), "passed on to the worker");
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_within_a_probation),
        TEST(test_at_once_after_the_order_to_restart),
        TEST(test_within_a_probation_though_the_signal_is_lost),
        TEST(test_a_signal_to_the_predecessor_is_passed_on),
        TEST(test_the_master_follows_its_worker),
    };
    return cmocka_run_group_tests(tests, with_restart_set_up, with_restart_clean_up);
}

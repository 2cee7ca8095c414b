/* The real process after a parent that has ignored signals, blocked them, or closed the standard
 * descriptors; and signals that arrive before its first output. env(1) and sh(1) set the process up
 * so, and execve(2) the server. */

#include "with_restart.h"

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"
#include "skip.h"

#define PYTHON "python3", LASTCALL_SUPPORT_FOLDER "/app/app.py"

/* Start `wrapper WORD... PROGRAM ARG...`, which becomes the program. */
static void start_below(struct process *p, const char *wrapper, const char *const *words,
                        const char *const *args)
{
    const char *all[48];
    size_t n = 0;

    for (; *words != NULL; words++)
        all[n++] = *words;
    all[n++] = program;
    for (; *args != NULL; args++)
        all[n++] = *args;
    all[n] = NULL;
    assert_true(n < 47);
    (void)setenv("LASTCALL_BINARY", wrapper, 1);
    process_spawn(p, all);
    (void)setenv("LASTCALL_BINARY", program, 1);
}

static void start_with_env(struct process *p, const char *setting, const char *const *args)
{
    start_below(p, "/usr/bin/env", ARGS(setting), args);
    process_wait_log(p, "listening on 127.0.0.1:");
    process_wait_log(p, "\n");
    p->port = (uint16_t)strtol(strstr(p->log, "listening on 127.0.0.1:") + 23, NULL, 10);
}

#define LISTEN "--listen", "127.0.0.1:0", "--restart-probation", "20ms", "--threads", "1"

static const char *const settings[] = {"--ignore-signal=CHLD", "--block-signal",
                                       "--ignore-signal=TERM,INT,HUP,USR1,CHLD,PIPE"};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static void test_a_dead_worker_is_replaced(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS; i++) {
        struct process p;
        pid_t worker;
        start_with_env(&p, settings[i], ARGS(LISTEN, MASTER));
        assert_generation(&p, 1, &worker);
        assert_int_equal(kill(worker, SIGKILL), 0);
        assert_generation(&p, 2, &worker);
        assert_contains(p.log, "was ended by SIGKILL: starting another one");
        assert_serves(&p);
        stop(&p, p.pid);
        process_release(&p);
    }
}

static void test_a_restart_and_a_stop_work(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETTINGS; i++) {
        struct process p;
        pid_t successor;
        start_with_env(&p, settings[i], ARGS(LISTEN));
        process_signal(&p, SIGHUP);
        assert_generation(&p, 2, &successor);
        assert_serves(&p);
        process_expect(&p, LIMIT_MS, 0);
        stop(&p, successor);
        process_release(&p);
    }
}

/* A successor that fails has ended, and its end is seen. */
static void test_a_successor_that_fails_is_seen(void **state)
{
    struct process p;
    (void)state;
    const char *path = use_own_binary(); /* a link that becomes a script */
    (void)setenv("LASTCALL_BINARY", "/usr/bin/env", 1);
    process_spawn(&p, ARGS("--ignore-signal=CHLD", path, LISTEN));
    (void)setenv("LASTCALL_BINARY", program, 1);
    process_wait_log(&p, "listening on ");
    write_file(path, "#!/bin/sh\nexit 7\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "restart failed, this process goes on: it exited with status 7");
    stop(&p, p.pid);
    process_release(&p);
}

static void test_the_end_of_the_application_is_seen(void **state)
{
    char url[64];
    (void)state;
    (void)setenv("APP_GATE", in_folder("gate"), 1);
    for (size_t i = 0; i < 2 * SETTINGS; i++) {
        struct process p;
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port());
        start_with_env(
            &p, settings[i / 2],
            ARGS(LISTEN, "-m", i % 2 == 0 ? "worker" : "master", "--proxy", url, "--", PYTHON));
        process_wait_log(&p, " answers at ");
        int fd = client_connect(&p);
        client_send(fd, GET("/world"));
        client_expect(fd, "\"blocked\": \"0000000000000000\"");
        client_send(fd, GET("/exit?status=7"));
        process_expect(&p, LIMIT_MS, 7);
        (void)close(fd);
        process_release(&p);
    }
}

static void test_an_application_is_ended_by_sigterm(void **state)
{
    struct process p;
    char url[64];
    (void)state;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port());
    start_with_env(&p, "--ignore-signal=TERM",
                   ARGS(LISTEN, "--app-grace", "60s", "--proxy", url, "--", PYTHON));
    process_wait_log(&p, " answers at ");
    stop(&p, p.pid);
    assert_contains(p.log, "was ended by SIGTERM");
    process_release(&p);
}

/* nohup(1) is for the terminal; an operator's signal is an order. */
static void test_below_nohup_an_order_to_restart_is_one(void **state)
{
    struct process p;
    pid_t successor;
    (void)state;
    start_with_env(&p, "--ignore-signal=HUP", ARGS(LISTEN));
    if (getsid(0) == getpid())
        skip_test("needs a session leader other than itself");
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &successor);
    process_expect(&p, LIMIT_MS, 0);
    stop(&p, successor);
    process_release(&p);
}

/* ---- descriptors ---- */

static pid_t read_pid(const char *path)
{
    return (pid_t)strtol(read_file(path), NULL, 10);
}

static pid_t wait_pid_other_than(const char *path, pid_t not )
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    pid_t pid;

    while ((pid = read_pid(path)) == 0 || pid == not ) {
        if (now_ns() > until_ns)
            fail_msg("%s says %ld", path, (long)pid);
        (void)poll(NULL, 0, 2);
    }
    return pid;
}

static void assert_is_null(pid_t pid, int fd)
{
    char path[64], target[64] = "";

    (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)pid, fd);
    assert_true(readlink(path, target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "/dev/null");
}

static void run_with_closed(const char *script, int first, const char *mode)
{
    struct process p;
    char listen[32];
    const char *pid_file = in_folder("pid"), *log = in_folder("error.log");
    uint16_t port = free_port();

    (void)unlink(pid_file);
    (void)unlink(log);
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", port);
    start_below(&p, "/bin/sh", ARGS("-c", script, "sh"),
                ARGS("--listen", listen, "-m", mode, "--admin", "off", "--pid-file", pid_file,
                     "--restart-probation", "20ms", "--threads", "1"));
    pid_t pid = wait_pid_other_than(pid_file, 0);
    assert_int_equal(pid, p.pid);
    for (int fd = first; fd <= 2; fd++)
        assert_is_null(pid, fd);
    p.port = port;
    for (unsigned i = 0; i < 4; i++)
        assert_serves(&p);
    assert_int_equal(kill(pid, SIGHUP), 0);
    if (mode[0] == 'w') {
        pid = wait_pid_other_than(pid_file, pid);
        process_expect(&p, LIMIT_MS, 0);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_serves(&p);
    assert_int_equal(kill(pid, SIGTERM), 0);
    if (mode[0] == 'w')
        assert_drained(pid);
    else
        process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_it_runs_with_its_standard_descriptors_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *mode = i == 0 ? "worker" : "master";
        run_with_closed("exec \"$@\" 2>&-", 2, mode);
        run_with_closed("exec \"$@\" >&- 2>&-", 1, mode);
        run_with_closed("exec \"$@\" <&- >&- 2>&-", 0, mode);
    }
}

/* The inode of the server's end of a connection, as the kernel lists it (proc_pid_net(5)). Others
 * may have a connection from the same port to another server. */
static unsigned long inode_of_peer(const struct process *server, int fd)
{
    struct sockaddr_in ours;
    socklen_t length = sizeof(ours);
    char line[256];
    unsigned long inode = 0;
    FILE *file = fopen("/proc/net/tcp", "re");

    assert_non_null(file);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ours, &length), 0);
    while (inode == 0 && fgets(line, sizeof(line), file) != NULL) {
        unsigned local, port;
        unsigned long found;
        if (sscanf(line, "%*d: %*x:%x %*x:%x %*x %*x:%*x %*x:%*x %*x %*d %*d %lu", &local, &port,
                   &found) == 3 &&
            local == server->port && port == ntohs(ours.sin_port))
            inode = found;
    }
    (void)fclose(file);
    return inode;
}

static bool has_socket(pid_t pid, unsigned long inode)
{
    char path[64], want[48], target[64];
    bool found = false;

    (void)snprintf(want, sizeof(want), "socket:[%lu]", inode);
    for (int fd = 0; fd < 256 && !found; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)pid, fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, want) == 0;
    }
    return found;
}

/* A connection whose answer is its last has two descriptors (conn_will_close()). */
static void test_a_successor_gets_no_connection_that_closes(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "0", "--threads", "1"));
    int fd = client_connect(&p);
    client_send(fd, "GET /stream?kb=65536 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    free(client_read_until(fd, "\r\n\r\n")); /* the rest stays on its way */
    unsigned long inode = inode_of_peer(&p, fd);
    assert_true(inode != 0 && has_socket(p.pid, inode));
    assert_int_equal(kill(p.pid, SIGHUP), 0);
    assert_generation(&p, 2, &next);
    assert_false(has_socket(next, inode));
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    stop(&p, next);
    process_release(&p);
}

/* The way out is an open one. */
static void test_a_closed_descriptor_is_nothing_to_wait_for(void **state)
{
    struct process p;
    (void)state;
    start_below(&p, "/bin/sh", ARGS("-c", "exec \"$@\" <&-", "sh"), ARGS("--when-closed", "0"));
    process_expect(&p, LIMIT_MS, 64);
    assert_contains(p.log, "want the number of an open descriptor");
    process_release(&p);
}

/* ---- signals in the first instants ---- */

static void test_a_successor_keeps_the_signals_of_its_first_instants(void **state)
{
    struct process p;
    pid_t pid;
    (void)state;
    process_start(&p, NULL, ARGS(QUICK, "-m", "worker"));
    pid = p.pid;
    for (unsigned n = 2; n < 8; n++) {
        pid_t successor;
        assert_int_equal(kill(pid, SIGHUP), 0);
        while (list_children(pid, &successor, 1) == 0)
            (void)sched_yield();
        assert_int_equal(kill(successor, SIGUSR1), 0); /* the loader has hardly begun */
        assert_generation(&p, n, &pid);
        assert_int_equal(pid, successor);
    }
    assert_null(strstr(p.log, "restart failed"));
    assert_serves(&p);
    stop(&p, pid);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_dead_worker_is_replaced),
        TEST(test_a_restart_and_a_stop_work),
        TEST(test_a_successor_that_fails_is_seen),
        TEST(test_the_end_of_the_application_is_seen),
        TEST(test_an_application_is_ended_by_sigterm),
        TEST(test_below_nohup_an_order_to_restart_is_one),
        TEST(test_it_runs_with_its_standard_descriptors_closed),
        TEST(test_a_successor_gets_no_connection_that_closes),
        TEST(test_a_closed_descriptor_is_nothing_to_wait_for),
        TEST(test_a_successor_keeps_the_signals_of_its_first_instants),
    };
    return cmocka_run_group_tests(tests, with_restart_set_up, with_restart_clean_up);
}

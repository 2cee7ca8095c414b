/* The real process, followed by another one: its listeners, those that others have opened, and what
 * others learn of it. */

#include "with_restart.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "as_manager.h"
#include "expect.h"
#include "loadgen.h"
#include "loopback.h"
#include "skip.h"

/* ---- listeners ---- */

static const char *listen_conf(const char *more, ...) __attribute__((format(printf, 1, 2)));

/* For clients whose machine may stand still for longer than the usual second. */
#define PATIENT "--idle-grace", "10s"

static const char *listen_conf(const char *more, ...)
{
    char text[512];
    va_list args;
    va_start(args, more);
    (void)vsnprintf(text, sizeof(text), more, args);
    va_end(args);
    return write_conf(text);
}

static void test_listeners_come_and_go(void **state)
{
    struct process p;
    pid_t second, third;
    uint16_t a = free_port(), b = free_port();
    (void)state;
    process_start_configured(
        &p, ARGS(PATIENT, "-c", listen_conf("listen: {host: 127.0.0.1, port: %u}\n", a)));
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\nlisten: {host: 127.0.0.1, port: %u}\n",
                      a, b);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    assert_serves_at(INADDR_LOOPBACK, a);
    assert_serves_at(INADDR_LOOPBACK, b);
    process_expect(&p, LIMIT_MS, 0); /* until then it answers some, with `Connection: close` */
    int idle = connect_port(INADDR_LOOPBACK, a); /* its listener goes: it ends as in a drain */
    assert_serves_on(idle, KEPT);
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\n", b);
    assert_int_equal(kill(second, SIGHUP), 0);
    assert_generation(&p, 3, &third);
    assert_serves_on(idle, ""); /* in its grace */
    (void)close(idle);
    assert_drained(second);
    assert_serves_at(INADDR_LOOPBACK, b);
    assert_int_equal(connect_port(INADDR_LOOPBACK, a), -ECONNREFUSED);
    stop(&p, third);
    process_release(&p);
}

/* Closed as in a drain: the process serves all connections that the kernel has completed. */
static void test_listener_that_goes_is_closed_without_loss(void **state)
{
    struct load_options load = {.protocol = LOAD_HTTP1_CLOSE};
    struct load_result result;
    struct process p;
    pid_t next;
    char address[64];
    uint16_t a = free_port(), b = free_port();
    (void)state;
    process_start_configured(
        &p, ARGS(PATIENT, "-c",
                 listen_conf(
                     "listen: {host: 127.0.0.1, port: %u}\nlisten: {host: 127.0.0.1, port: %u}\n",
                     a, b)));
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\n", b);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", a);
    load.address = address;
    load.connections = CONNECTIONS;
    load.duration_ms = 20000;
    load.patience_ms = 20000;
    load.signal_after_ms = 100;
    load.on_signal = hup;
    load.on_signal_arg = &p;
    load.server_pid = p.pid; /* the run ends with the process */
    assert_int_equal(load_run(&load, &result), 0);
    if (result.lost != 0 || result.waiting != 0)
        fail_msg("%llu lost, %llu waiting; %s; log:\n%s", (unsigned long long)result.lost,
                 (unsigned long long)result.waiting, result.first_loss, p.log);
    assert_true(result.answered_after_signal > 0 && result.refused > 0);
    assert_generation(&p, 2, &next);
    assert_serves_at(INADDR_LOOPBACK, b);
    process_expect(&p, LIMIT_MS, 0);
    stop(&p, next);
    process_release(&p);
}

static void test_listener_is_bound_again_more_narrowly_and_more_widely(void **state)
{
    struct process p;
    pid_t second, third;
    uint16_t port = free_port();
    (void)state;
    process_start_configured(&p,
                             ARGS("-c", listen_conf("listen: {host: 0.0.0.0, port: %u}\n", port)));
    assert_serves_at(INADDR_LOOPBACK + 1, port);
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\n", port);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    process_expect(&p, LIMIT_MS, 0);
    assert_serves_at(INADDR_LOOPBACK, port);
    assert_int_equal(connect_port(INADDR_LOOPBACK + 1, port), -ECONNREFUSED);
    (void)listen_conf("listen: {host: 0.0.0.0, port: %u}\n", port);
    assert_int_equal(kill(second, SIGHUP), 0);
    assert_generation(&p, 3, &third);
    assert_drained(second);
    assert_serves_at(INADDR_LOOPBACK, port);
    assert_serves_at(INADDR_LOOPBACK + 1, port);
    stop(&p, third);
    process_release(&p);
}

static void test_socket_file_stays_while_it_is_served_and_goes_with_its_listener(void **state)
{
    struct process p;
    struct stat before, after;
    pid_t second, third;
    const char *path = in_folder("x.sock");
    uint16_t port = free_port();
    (void)state;
    process_start_configured(&p, ARGS("-c", listen_conf("listen: {type: unix, port: %s}\n", path)));
    assert_int_equal(stat(path, &before), 0);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_serves(&p);
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\n", port);
    assert_int_equal(kill(second, SIGHUP), 0);
    assert_generation(&p, 3, &third);
    assert_drained(second);
    assert_int_equal(stat(path, &after), -1);
    stop(&p, third);
    process_release(&p);
}

/* A successor that fails does not own inherited sockets yet: it must not remove the file of a
 * listener or of the admin socket, however far it came. */
static void test_socket_files_stay_when_a_successor_fails(void **state)
{
    static const char *const faults[] = {"error-log: /nonexistent/log\n",
                                         "journal: {dir: /nonexistent}\n",
                                         "drain.when-closed: 999\n", "user: nobody-at-all\n"};
    struct process p;
    const char *path = in_folder("x.sock"), *admin = in_folder("admin.sock");
    char address[PATH_MAX + 8];
    (void)state;
    (void)snprintf(address, sizeof(address), "unix:%s", admin);
    process_start_configured(&p, ARGS("-c", listen_conf("listen: {type: unix, port: %s}\n", path),
                                      "--admin", address, "--restart-probation", "60s"));
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        (void)listen_conf("listen: {type: unix, port: %s}\n%s", path, faults[i]);
        process_signal(&p, SIGHUP);
        process_wait_log_times(&p, "restart failed, this process goes on", (unsigned)i + 1);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(access(admin, F_OK), 0);
    }
    (void)listen_conf("listen: {type: unix, port: %s}\n", path);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    assert_int_equal(kill(only_child(p.pid), SIGTERM), 0);
    process_wait_log_times(&p, "restart failed, this process goes on",
                           (unsigned)(sizeof(faults) / sizeof(faults[0])) + 1);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(admin, F_OK), 0);
    assert_serves(&p);
    stop(&p, p.pid);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(admin, F_OK), -1);
    process_release(&p);
}

/* ---- pid file, generation ---- */

struct pid_watch {
    const char *path;
    _Atomic bool stop;
    unsigned looks, bad;
};

static void *watch_pid_file(void *arg)
{
    struct pid_watch *watch = arg;
    while (!watch->stop) {
        char text[32] = "";
        int fd = open(watch->path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        long pid = strtol(text, NULL, 10);
        watch->looks++;
        watch->bad += n <= 0 || pid <= 1 || kill((pid_t)pid, 0) != 0;
        if (fd >= 0)
            (void)close(fd);
        (void)poll(NULL, 0, 1);
    }
    return NULL;
}

static void test_pid_file_names_a_living_process_at_every_instant(void **state)
{
    struct process p;
    pthread_t thread;
    char path[128];
    struct pid_watch watch = {.path = path};
    pid_t pid;
    (void)state;
    (void)snprintf(path, sizeof(path), "%s", in_folder("watched.pid"));
    process_start(&p, NULL, ARGS(QUICK, "--pid-file", path));
    pid = p.pid;
    assert_int_equal(pthread_create(&thread, NULL, watch_pid_file, &watch), 0);
    for (unsigned i = 0; i < 3; i++) {
        (void)kill(pid, SIGHUP);
        pid = wait_generation(&p, 2 + i);
        if (pid == 0)
            break;
    }
    process_expect(&p, LIMIT_MS, 0);
    watch.stop = true;
    (void)pthread_join(thread, NULL);
    assert_true(pid != 0);
    assert_true(watch.looks > 0);
    assert_int_equal(watch.bad, 0);
    assert_int_equal(strtol(read_file(path), NULL, 10), pid);
    stop(&p, pid);
    assert_int_equal(access(path, F_OK), -1);
    process_release(&p);
}

static void test_generation_is_shown(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    process_start_configured(
        &p, ARGS("-c", write_conf("listen: {host: 127.0.0.1, port: 0}\ngeneration-header: ON\n")));
    for (unsigned i = 1; i <= 2; i++) {
        char want[48];
        int fd = client_connect(&p);
        (void)snprintf(want, sizeof(want), "Lastcall-Generation: %u\r\n", i);
        assert_serves_on(fd, want);
        (void)close(fd);
        if (i == 1) {
            process_signal(&p, SIGHUP);
            assert_generation(&p, 2, &next);
            process_expect(&p, LIMIT_MS, 0);
        }
    }
    stop(&p, next);
    process_release(&p);
}

/* ---- sockets that others opened ---- */

/* A listener in this process, and in the environment of the next one, as start_server has it. */
static int hold_listener(uint16_t *ret_port)
{
    char text[64];
    int fd = listen_here(ret_port, 128);

    assert_int_equal(fcntl(fd, F_SETFD, 0), 0); /* inherited */
    (void)snprintf(text, sizeof(text), "127.0.0.1:%u=%d", *ret_port, fd);
    assert_int_equal(setenv("SERVER_STARTER_PORT", text, 1), 0);
    return fd;
}

/* Its owner goes on with it: the process sets no limit, calls no shutdown(2) and resets nothing. */
static void test_stop_only_leaves_a_listener_that_others_hold(void **state)
{
    struct process p;
    uint16_t port;
    pid_t next;
    (void)state;
    int fd = hold_listener(&port);
    process_spawn(&p, ARGS(QUICK));
    process_wait_log(&p, "listening on 127.0.0.1:");
    assert_serves_at(INADDR_LOOPBACK, port);
    process_signal(&p, SIGHUP); /* and so does a successor */
    assert_generation(&p, 2, &next);
    process_expect(&p, LIMIT_MS, 0);
    assert_serves_at(INADDR_LOOPBACK, port);
    stop(&p, next);
    process_release(&p);
    int client = connect_port(INADDR_LOOPBACK, port); /* waits in the queue for the next server */
    assert_true(client >= 0);
    client_send(client, GET("/hello"));
    process_spawn(&p, ARGS(QUICK));
    client_expect(client, " 200 OK");
    (void)close(client);
    (void)unsetenv("SERVER_STARTER_PORT");
    stop(&p, p.pid);
    (void)close(fd);
    process_release(&p);
}

static void test_unconfigured_listener_is_named(void **state)
{
    struct process p;
    char want[128];
    uint16_t port;
    (void)state;
    int fd = hold_listener(&port);
    process_spawn(&p, ARGS("--listen", "127.0.0.1:0"));
    (void)unsetenv("SERVER_STARTER_PORT");
    process_expect(&p, LIMIT_MS, 78);
    (void)snprintf(want, sizeof(want), "a listening socket for 127.0.0.1:%u was passed", port);
    assert_contains(p.log, want);
    (void)close(fd);
    process_release(&p);
}

static void test_master_hands_on_what_it_was_given(void **state)
{
    struct process p;
    uint16_t port;
    (void)state;
    int fd = hold_listener(&port);
    process_spawn(&p, ARGS(MASTER, QUICK));
    (void)unsetenv("SERVER_STARTER_PORT");
    process_wait_log(&p, "generation 1 serves");
    assert_serves_at(INADDR_LOOPBACK, port);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "has drained and exited with status 0");
    assert_serves_at(INADDR_LOOPBACK, port);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    int client = connect_port(INADDR_LOOPBACK, port);
    assert_true(client >= 0);
    (void)close(client);
    (void)close(fd);
    process_release(&p);
}

#define ACTIVATE "/usr/bin/systemd-socket-activate"

/* The real thing: it listens, and starts us at the first connection. */
static void test_systemd_socket_activate(void **state)
{
    struct process p = {.status = -1};
    char address[64];
    uint16_t port = free_port();
    const char *path = in_folder("activated.sock");
    int out[2];
    (void)state;
    if (access(ACTIVATE, X_OK) != 0)
        skip_test("needs " ACTIVATE " (apt-get install systemd)");
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.pid = fork();
    if (p.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDERR_FILENO);
        /* It passes on only the environment that -E names: the sanitizers'. */
        (void)execl(ACTIVATE, ACTIVATE, "-E", "LSAN_OPTIONS", "-E", "TSAN_OPTIONS", "-l", address,
                    "-l", path, program, "--restart-probation=0", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    p.log_fd = out[0];
    (void)fcntl(out[0], F_SETFL, O_NONBLOCK);
    p.log = calloc(1, 1);
    (void)snprintf(p.address, sizeof(p.address), "unix:%s", path);
    process_wait_log(&p, "Listening on");
    process_wait_log(&p, path);
    assert_serves(&p);
    assert_serves_at(INADDR_LOOPBACK, port);
    process_wait_log(&p, "listening on unix:");
    pid_t next;
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    assert_serves(&p);
    assert_serves_at(INADDR_LOOPBACK, port);
    process_expect(&p, LIMIT_MS, 0); /* until then the next one is its child, and not ours */
    assert_int_equal(kill(next, SIGTERM), 0);
    int status = wait_status(next);
    if (status != 0)
        fail_msg("exit status %d; log:\n%s", status, p.log);
    assert_int_equal(access(path, F_OK), 0); /* its file is not ours to remove */
    (void)unlink(path);
    process_release(&p);
}

/* ---- strangers ---- */

static void expect_no_take_over(const char *fd, const char *want)
{
    struct process p;
    assert_int_equal(setenv("LASTCALL_HANDOVER", fd, 1), 0);
    process_spawn(&p, ARGS("--listen", "127.0.0.1:0"));
    (void)unsetenv("LASTCALL_HANDOVER");
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, want);
    process_release(&p);
}

static void test_successor_takes_nothing_from_strangers(void **state)
{
    int pair[2], stream[2];
    char fd[16];
    (void)state;
    expect_no_take_over("99", "cannot take over (LASTCALL_HANDOVER=99): Bad file descriptor");
    expect_no_take_over("x", "cannot take over (LASTCALL_HANDOVER=x)");
    expect_no_take_over("2", "cannot take over (LASTCALL_HANDOVER=2)");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    (void)snprintf(fd, sizeof(fd), "%d", stream[1]);
    expect_no_take_over(fd, "the descriptor is not a hand-over socket");
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    (void)snprintf(fd, sizeof(fd), "%d", pair[1]);
    assert_int_equal(send(pair[0], "let me in", 9, 0), 9);
    expect_no_take_over(fd, "the other process sent an invalid message");
    for (unsigned i = 0; i < 2; i++) {
        (void)close(pair[i]);
        (void)close(stream[i]);
    }
}

/* ---- the service manager ---- */

/* It also receives the sender's process id. */
static int listen_with_senders(void)
{
#ifndef LASTCALL_SYSTEMD
    skip_test("built without libsystemd");
#endif
    int fd = listen_as_manager(in_folder("notify"));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), 0);
    return fd;
}

/* The next message, and its sender: with NotifyAccess=main systemd heeds only the main process. */
static void expect_told(int fd, pid_t by, const char *want, const char *also)
{
    char text[1024];
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {.iov_base = text, .iov_len = sizeof(text) - 1};
    struct msghdr in = {.msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control)};
    struct ucred sender;
    ssize_t n = recvmsg(fd, &in, 0);

    if (n <= 0)
        fail_msg("the manager got no message instead of %s", want);
    text[n] = '\0';
    assert_contains(text, want);
    assert_contains(text, also);
    assert_non_null(CMSG_FIRSTHDR(&in));
    memcpy(&sender, CMSG_DATA(CMSG_FIRSTHDR(&in)), sizeof(sender));
    assert_int_equal(sender.pid, by);
}

static void test_manager_hears_of_a_restart_from_the_main_process(void **state)
{
    struct process p;
    pid_t next;
    char want[64];
    (void)state;
    int manager = listen_with_senders();
    const char *path = use_own_binary();
    process_start(&p, NULL, ARGS(QUICK));
    (void)unsetenv("NOTIFY_SOCKET");
    expect_told(manager, p.pid, "READY=1", "STATUS=serving");
    (void)unlink(path);
    process_signal(&p, SIGHUP); /* nothing comes of it */
    expect_told(manager, p.pid, "RELOADING=1", "MONOTONIC_USEC=");
    expect_told(manager, p.pid, "READY=1", "the last restart failed");
    (void)use_own_binary();
    process_signal(&p, SIGHUP);
    expect_told(manager, p.pid, "RELOADING=1", "MONOTONIC_USEC=");
    assert_generation(&p, 2, &next);
    (void)snprintf(want, sizeof(want), "MAINPID=%ld", (long)next);
    expect_told(manager, p.pid, want, "READY=1");
    process_expect(&p, LIMIT_MS, 0); /* without a message about its exit */
    assert_int_equal(kill(next, SIGTERM), 0);
    expect_told(manager, next, "STOPPING=1", "");
    assert_drained(next);
    (void)close(manager);
    process_release(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_listeners_come_and_go),
        TEST(test_listener_that_goes_is_closed_without_loss),
        TEST(test_listener_is_bound_again_more_narrowly_and_more_widely),
        TEST(test_socket_file_stays_while_it_is_served_and_goes_with_its_listener),
        TEST(test_socket_files_stay_when_a_successor_fails),
        TEST(test_pid_file_names_a_living_process_at_every_instant),
        TEST(test_generation_is_shown),
        TEST(test_stop_only_leaves_a_listener_that_others_hold),
        TEST(test_unconfigured_listener_is_named),
        TEST(test_master_hands_on_what_it_was_given),
        TEST(test_systemd_socket_activate),
        TEST(test_successor_takes_nothing_from_strangers),
        TEST(test_manager_hears_of_a_restart_from_the_main_process),
    };

    (void)alarm(300); /* a hang is a failure */
    return cmocka_run_group_tests_name("restart_listeners", tests, with_restart_set_up,
                                       with_restart_clean_up);
}

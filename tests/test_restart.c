/* The real process, followed by another one: under load of every shape, by successors that come to
 * nothing, with other listeners, under a master, and under a service manager. LASTCALL_RESTARTS
 * says how many restarts a shape of load sees (2 by default), LASTCALL_RUNS how many in a row
 * nothing may grow over (20), LASTCALL_SHAPE which tests to run (a pattern for their names). */

#include "process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "loadgen.h"

#define LIMIT_MS 30000
#define CONNECTIONS 32
#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define QUICK "--restart-probation", "50ms", "--deadline", "20s", "--threads", "2"

static char folder[] = "/tmp/lastcall-restart-XXXXXX";
static char certificate_path[128], key_path[128], program[PATH_MAX];

static const char *in_folder(const char *name)
{
    static char paths[16][128];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    char temporary[160];
    (void)snprintf(temporary, sizeof(temporary), "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    assert_int_equal(rename(temporary, path), 0);
}

static char *read_file(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void assert_contains(const char *text, const char *want)
{
    if (text == NULL || strstr(text, want) == NULL)
        fail_msg("no `%s` in:\n%s", want, text != NULL ? text : "(nothing)");
}

static unsigned times(const char *setting, unsigned usual)
{
    const char *text = getenv(setting);
    long n = text != NULL ? strtol(text, NULL, 10) : 0;
    return n >= 1 && n <= 10000 ? (unsigned)n : usual;
}

/* ---- generations ---- */

/* The process that serves as generation `n`; 0: it does not come about. */
static pid_t wait_generation(struct process *p, unsigned n)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "generation %u serves: process ", n);
    if (!process_says(p, text, LIMIT_MS))
        return 0;
    const char *at = strstr(p->log, text) + strlen(text);
    return process_says(p, "\n", 0) ? (pid_t)strtol(at, NULL, 10) : 0;
}

static void assert_generation(struct process *p, unsigned n, pid_t *ret_pid)
{
    *ret_pid = wait_generation(p, n);
    if (*ret_pid == 0)
        fail_msg("there is no generation %u; log:\n%s", n, p->log);
}

/* This process adopts what its children leave behind: so it can wait for the successors, too. -1:
 * its parent was there to do so. */
static int wait_status(pid_t pid)
{
    int status = 0;
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (errno == ECHILD && kill(pid, 0) != 0)
            return -1;
        if (now_ns() > until_ns)
            fail_msg("process %ld does not end", (long)pid);
        (void)poll(NULL, 0, 2); /* it may not be our child yet: nothing else tells */
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void assert_drained(pid_t pid)
{
    int status = wait_status(pid);
    assert_true(status == 0 || status == -1);
}

static void stop(struct process *p, pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGTERM), 0);
    if (pid == p->pid)
        process_expect(p, LIMIT_MS, 0);
    else if ((status = wait_status(pid)) > 0) {
        (void)process_says(p, "there is no such line", 0);
        fail_msg("exit status %d; log:\n%s", status, p->log);
    }
}

/* The children of a process, also what it has adopted, and zombies: those of each of its threads.
 */
static size_t list_children(pid_t of, pid_t *ret_pids, size_t max)
{
    char path[320];
    size_t n = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/task", (long)of);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/children", (long)of, task->d_name);
        if (task->d_name[0] == '.')
            continue;
        for (char *at = read_file(path), *end; n < max; at = end) {
            pid_t pid = (pid_t)strtol(at, &end, 10);
            if (end == at)
                break;
            ret_pids[n++] = pid;
        }
    }
    if (tasks != NULL)
        (void)closedir(tasks);
    return n;
}

/* There is one, or there will be. */
static pid_t only_child(pid_t of)
{
    pid_t pids[8] = {0};
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (list_children(of, pids, 8) != 1) {
        if (now_ns() > until_ns)
            fail_msg("process %ld has not one child", (long)of);
        (void)poll(NULL, 0, 1);
    }
    return pids[0];
}

static int end_all(void **state)
{
    pid_t pids[64];
    size_t n;

    (void)process_kill_left(state);
    while ((n = list_children(getpid(), pids, 64)) > 0)
        for (size_t i = 0; i < n; i++) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
    (void)setenv("LASTCALL_BINARY", program, 1);
    return 0;
}

/* The binary under a name of its own, for others to take. */
static const char *use_own_binary(void)
{
    const char *path = in_folder("lastcall");
    (void)unlink(path);
    assert_int_equal(symlink(program, path), 0);
    (void)setenv("LASTCALL_BINARY", path, 1);
    return path;
}

static void assert_serves(const struct process *p)
{
    int fd = client_connect(p);
    client_send(fd, GET("/hello"));
    char *answer = client_read_answer(fd);
    assert_contains(answer, " 200 OK");
    free(answer);
    (void)close(fd);
}

static void assert_serves_on(int fd, const char *connection)
{
    client_send(fd, GET("/hello"));
    char *answer = client_read_answer(fd);
    assert_contains(answer, " 200 OK");
    assert_contains(answer, connection);
    free(answer);
}

#define KEPT "Connection: keep-alive\r\n"
#define CLOSED "Connection: close\r\n"

/* ---- under load ---- */

struct shape {
    const char *name;
    const char *listen; /* NULL: a free port of 127.0.0.1; "proxy": in front of another server */
    struct load_options load;
};

#define TLS "tls:127.0.0.1:0"

static const struct shape shapes[] = {
    {"restart: a new connection a request", NULL, {.protocol = LOAD_HTTP1_CLOSE}},
    {"restart: keep-alive without pause", NULL, {.protocol = LOAD_HTTP1_KEEPALIVE}},
    {"restart: keep-alive with 5 ms pauses",
     NULL,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 5}},
    {"restart: keep-alive with 200 ms pauses",
     NULL,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 200}},
    {"restart: 1,000 connections with 5 s pauses",
     NULL,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .connections = 1000, .pause_ms = 5000}},
    {"restart: POST with a body",
     NULL,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .body_bytes = 4096, .path = "/sleep?ms=0"}},
    {"restart: 20 ms in a worker",
     NULL,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .path = "/sleep?ms=20"}},
    {"restart: HTTP/2 with uploads",
     NULL,
     {.protocol = LOAD_HTTP2, .streams = 10, .body_bytes = 40000, .path = "/sleep?ms=0"}},
    {"restart: over a Unix socket, new connections", "unix:", {.protocol = LOAD_HTTP1_CLOSE}},
    {"restart: over a Unix socket, with pauses",
     "unix:",
     {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 5}},
    {"restart: over IPv6, new connections", "[::1]:0", {.protocol = LOAD_HTTP1_CLOSE}},
    {"restart: as a proxy, with pauses",
     "proxy",
     {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 2, .path = "/sleep?ms=2"}},
    {"restart: TLS, new connections", TLS, {.protocol = LOAD_HTTP1_CLOSE, .tls = true}},
    {"restart: TLS, keep-alive with 5 ms pauses",
     TLS,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .tls = true, .pause_ms = 5}},
    {"restart: TLS, HTTP/2", TLS, {.protocol = LOAD_HTTP2, .tls = true, .streams = 10}},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

struct restarts {
    struct process *p;
    unsigned count;
    unsigned done;
    pid_t pid;
    pthread_t thread;
};

/* One restart behind the other, while the load runs. */
static void *do_restarts(void *arg)
{
    struct restarts *restarts = arg;

    for (; restarts->done < restarts->count; restarts->done++) {
        (void)kill(restarts->pid, SIGHUP);
        pid_t next = wait_generation(restarts->p, restarts->done + 2);
        if (next == 0)
            break;
        restarts->pid = next;
    }
    return NULL;
}

static void begin_restarts(void *arg)
{
    struct restarts *restarts = arg;
    assert_int_equal(pthread_create(&restarts->thread, NULL, do_restarts, restarts), 0);
}

static void test_nothing_is_lost_or_refused(void **state)
{
    const struct shape *shape = *state;
    struct load_options load = shape->load;
    struct load_result result;
    struct process p, upstream = {.log = NULL};
    char path[80], url[64];
    const char *listen = shape->listen;
    bool is_proxy = listen != NULL && strcmp(listen, "proxy") == 0;

    (void)snprintf(path, sizeof(path), "unix:%s", in_folder("load.sock"));
    if (listen != NULL && strcmp(listen, "unix:") == 0)
        listen = path;
    if (is_proxy) {
        process_start(&upstream, NULL, ARGS("--threads", "1", "--workers", "16"));
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", upstream.port);
        process_start(&p, NULL, ARGS(QUICK, "--proxy", url));
    } else if (load.tls)
        process_start(&p, listen, ARGS(QUICK, "--cert", certificate_path, "--key", key_path));
    else
        process_start(&p, listen, ARGS(QUICK));
    struct restarts restarts = {.p = &p, .count = times("LASTCALL_RESTARTS", 2), .pid = p.pid};
    load.address = load.tls ? strchr(p.address, ':') + 1 : p.address;
    if (load.connections == 0)
        load.connections = (unsigned)times("LASTCALL_CONNECTIONS", CONNECTIONS);
    load.duration_ms = (load.tls ? 1500 : 300) + 150 * restarts.count + load.pause_ms;
    load.patience_ms = 20000;
    /* The crowd: idle and silent clients that would see any close, and never come again. Longer
     * than ten seconds the library keeps none of them. */
    load.idle = load.tls || load.protocol == LOAD_HTTP2 || load.duration_ms > 9000 ? 0 : 40;
    load.silent = load.idle / 4;
    load.signal_after_ms = 100;
    load.signal_after_answers = 1;
    load.on_signal = begin_restarts;
    load.on_signal_arg = &restarts;
    assert_int_equal(load_run(&load, &result), 0);
    assert_int_equal(pthread_join(restarts.thread, NULL), 0);
    if (result.lost != 0 || result.waiting != 0 || result.refused != 0 ||
        result.failed_handshakes != 0 || result.idle.closed != 0 || result.silent.closed != 0)
        fail_msg("%llu lost (%llu reset, %llu eof, %llu truncated), %llu waiting, %llu refused, "
                 "%llu handshakes failed of %llu sent; %llu of %llu idle and %llu of %llu silent "
                 "connections were closed; first: %s; log:\n%s",
                 (unsigned long long)result.lost, (unsigned long long)result.lost_reset,
                 (unsigned long long)result.lost_eof, (unsigned long long)result.lost_truncated,
                 (unsigned long long)result.waiting, (unsigned long long)result.refused,
                 (unsigned long long)result.failed_handshakes, (unsigned long long)result.sent,
                 (unsigned long long)result.idle.closed, (unsigned long long)result.idle.opened,
                 (unsigned long long)result.silent.closed, (unsigned long long)result.silent.opened,
                 result.first_loss, p.log);
    assert_int_equal(result.answered_2xx, result.answered);
    assert_int_equal(result.idle.still_open, load.idle);
    assert_int_equal(result.silent.still_open, load.silent);
    pid_t last;
    assert_generation(&p, restarts.count + 1, &last);
    (void)close(client_connect(&p)); /* a listener that lets nobody in loses nothing either */
    if (!load.tls && !is_proxy)
        assert_serves(&p);
    stop(&p, last);
    process_release(&p);
    if (is_proxy) {
        stop(&upstream, upstream.pid);
        process_release(&upstream);
    }
}

/* ---- what moves, and what does not ---- */

static void test_idle_connections_move_and_busy_ones_end(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    process_start(&p, NULL, ARGS(QUICK));
    int idle = client_connect(&p), silent = client_connect(&p), half = client_connect(&p),
        busy = client_connect(&p);
    assert_serves_on(idle, KEPT);
    client_send(half, "GET /hello HTTP/1.1\r\nHo");
    client_send(busy, GET("/sleep?ms=700"));
    assert_serves(&p); /* by then all of them have been read */
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    process_wait_log(&p, "listeners closed");
    assert_serves_on(idle, KEPT);
    assert_serves_on(silent, KEPT);
    client_send(half, "st: test\r\n\r\n");
    char *answer = client_read_answer(half);
    assert_contains(answer, CLOSED);
    free(answer);
    answer = client_read_answer(busy);
    assert_contains(answer, " 200 OK");
    assert_contains(answer, CLOSED);
    free(answer);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, " 2 handed over");
    assert_serves_on(idle, KEPT); /* and the old process is gone */
    stop(&p, next);
    (void)close(idle);
    (void)close(silent);
    (void)close(half);
    (void)close(busy);
    process_release(&p);
}

/* It said keep-alive before the restart, so it comes to idle only behind it. */
static void test_connection_that_comes_to_idle_late_moves_too(void **state)
{
    struct process p;
    pid_t next;
    (void)state;
    process_start(&p, NULL, ARGS(QUICK));
    int fd = client_connect(&p);
    client_send(fd, GET("/stream?kb=64&ms=900"));
    char *answer = client_read_until(fd, "\r\n\r\n"); /* the header is out */
    assert_contains(answer, KEPT);
    free(answer);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, " 1 handed over");
    (void)shutdown(fd, SHUT_WR);
    answer = client_read_until(fd, NULL); /* to the end: nothing was cut, nobody has reset it */
    free(answer);
    (void)close(fd);
    stop(&p, next);
    process_release(&p);
}

static void test_successor_that_stops_at_once_loses_nothing(void **state)
{
    struct process p;
    pid_t next;
    enum { CLIENTS = 200 };
    int fds[CLIENTS];
    (void)state;
    process_start(&p, NULL, ARGS(QUICK));
    for (unsigned i = 0; i < CLIENTS; i++)
        fds[i] = client_connect(&p);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    assert_int_equal(kill(next, SIGTERM), 0);
    for (unsigned i = 0; i < CLIENTS; i++) /* by one of the two */
        assert_serves_on(fds[i], "");
    process_expect(&p, LIMIT_MS, 0);
    assert_drained(next);
    for (unsigned i = 0; i < CLIENTS; i++)
        (void)close(fds[i]);
    process_release(&p);
}

/* ---- rollback ---- */

/* What a successor does that is none, in Python; `say(type)` sends a message of the hand-over. */
#define FAKE                                                                                       \
    "#!/usr/bin/env python3\n"                                                                     \
    "import os, signal, socket, struct, sys, time\n"                                               \
    "s = socket.socket(fileno=int(os.environ['LASTCALL_HANDOVER']))\n"                             \
    "s.setblocking(True)\n"                                                                        \
    "def say(type, version=1):\n"                                                                  \
    "    s.send(struct.pack('=4sHH', b'LCHO', version, type))\n"                                   \
    "def until(want):\n"                                                                           \
    "    while struct.unpack('=4sHH', s.recv(4096)[:8])[2] != want: pass\n"

struct failure {
    const char *name;
    const char *program; /* NULL: it is removed */
    const char *want;    /* in the log */
    bool hangs;          /* until restart.timeout */
};

static const struct failure failures[] = {
    {"rollback: missing binary", NULL, "No such file or directory", false},
    {"rollback: no program", "this is none\n", "Exec format error", false},
    {"rollback: exits at once", "#!/bin/sh\necho I do not like it here >&2\nexit 7\n",
     "it exited with status 7; its last words: I do not like it here", false},
    {"rollback: crashes at once", "#!/bin/sh\nkill -SEGV $$\n", "it was ended by SIGSEGV", false},
    {"rollback: hangs", "#!/bin/sh\nexec sleep 1000\n", "it was not ready after 2.5s", true},
    {"rollback: crashes in its probation",
     FAKE "until(3)\nsay(4)\nprint('oh no', file=sys.stderr)\nsys.stderr.flush()\n"
          "os.kill(os.getpid(), signal.SIGABRT)\n",
     "it was ended by SIGABRT after it had been ready, in its probation; its last words: oh no",
     false},
    {"rollback: says nothing when it is to accept",
     FAKE "until(3)\nsay(4)\nuntil(5)\ntime.sleep(99)\n", "when it was to accept", true},
    {"rollback: talks nonsense", FAKE "s.send(b'GET / HTTP/1.1')\ntime.sleep(99)\n",
     "what comes there is no hand-over", false},
    {"rollback: another version", FAKE "say(4, version=7)\ntime.sleep(99)\n", "speaks version 7",
     false},
    {"rollback: closes the line", FAKE "until(3)\ns.close()\nsys.exit(3)\n", "exited with status 3",
     false},
};
#define FAILURES (sizeof(failures) / sizeof(failures[0]))

static void hup(void *arg)
{
    process_signal(arg, SIGHUP);
}

static void test_old_process_goes_on_as_if_nothing_had_been(void **state)
{
    const struct failure *failure = *state;
    struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 2};
    struct load_result result;
    struct process p;
    pid_t next;
    const char *path = use_own_binary();

    process_start(&p, NULL,
                  ARGS("--restart-probation", "200ms", "--restart-timeout",
                       failure->hangs ? "2500ms" : "20s", "--threads", "2", "--pid-file",
                       in_folder("pid")));
    if (failure->program != NULL)
        write_file(path, failure->program);
    else
        assert_int_equal(unlink(path), 0);
    load.address = p.address;
    load.connections = CONNECTIONS;
    load.duration_ms = 400;
    load.patience_ms = 10000;
    load.idle = 10;
    load.signal_after_ms = 50;
    load.on_signal = hup;
    load.on_signal_arg = &p;
    assert_int_equal(load_run(&load, &result), 0);
    process_wait_log(&p, "restart failed, going on as before");
    assert_contains(p.log, failure->want);
    if (result.lost + result.waiting + result.refused + result.idle.closed > 0 ||
        result.closes_announced > 0 || result.connects != CONNECTIONS)
        fail_msg("%llu lost, %llu waiting, %llu refused, %llu idle closed, %llu connects; log:\n%s",
                 (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.refused, (unsigned long long)result.idle.closed,
                 (unsigned long long)result.connects, p.log);
    assert_int_equal(strtol(read_file(in_folder("pid")), NULL, 10), p.pid);
    pid_t left[4];
    assert_int_equal(list_children(p.pid, left, 4), 0); /* nobody is left, not even a zombie */
    (void)unlink(path);
    (void)use_own_binary();
    if (failure->hangs) { /* that time is too short for a slow machine */
        stop(&p, p.pid);
    } else {
        process_signal(&p, SIGHUP); /* and when it is mended, it works */
        assert_generation(&p, 2, &next);
        process_expect(&p, LIMIT_MS, 0);
        stop(&p, next);
    }
    process_release(&p);
}

static const char *write_conf(const char *text)
{
    char *whole;
    const char *path = in_folder("conf");
    assert_true(asprintf(&whole,
                         "user: root\nnum-threads: 2\nrestart: {probation: 50ms}\n%s"
                         "hosts:\n  default:\n    paths:\n      /hello: {handler: hello}\n"
                         "      /ready: {handler: ready}\n      /sleep: {handler: sleep}\n",
                         text) > 0);
    write_file(path, whole);
    free(whole);
    return path;
}

static uint16_t free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t length = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    (void)close(fd);
    return ntohs(in.sin_port);
}

static void test_bad_configuration_is_rolled_back_with_its_line(void **state)
{
    struct process p;
    (void)state;
    process_start_configured(&p, ARGS("-c", write_conf("listen: {host: 127.0.0.1, port: 0}\n")));
    (void)write_conf("listen: {host: 127.0.0.1, port: 0}\nlissten: 8080\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "restart failed, going on as before: it exited with status 78; its last "
                         "words: ");
    process_wait_log(&p, "conf:5:1: unknown command: lissten");
    assert_serves(&p);
    stop(&p, p.pid);
    process_release(&p);
}

/* ---- more than one at a time ---- */

static void test_second_hangup_during_a_restart_is_one_more_restart(void **state)
{
    struct process p;
    pid_t second, third;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "300ms"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "starting generation 2");
    process_signal(&p, SIGUSR2);
    process_wait_log(&p, "another one will follow it");
    process_signal(&p, SIGHUP); /* no more than one */
    assert_generation(&p, 2, &second);
    assert_generation(&p, 3, &third);
    assert_true(second != third);
    process_expect(&p, LIMIT_MS, 0);
    assert_drained(second);
    assert_serves(&p);
    stop(&p, third);
    assert_null(strstr(p.log, "generation 4"));
    process_release(&p);
}

static void test_hangup_in_a_drain_is_refused(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "1s"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for 1s");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "no restart: this process is on its way out");
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* Until COMMIT the successor is as good as not there. */
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
    char *answer = client_read_answer(fd);
    assert_contains(answer, " 200 OK");
    free(answer);
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

/* Told to stop while it is in its probation, it must not close what it was only lent. */
static void test_successor_that_is_told_to_stop_too_early_does_no_harm(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "4s", "--threads", "2"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "generation 2 is ready");
    assert_int_equal(kill(only_child(p.pid), SIGTERM), 0);
    process_wait_log(&p, "restart failed, going on as before: ");
    for (unsigned i = 0; i < 20; i++)
        assert_serves(&p);
    stop(&p, p.pid);
    process_release(&p);
}

static void test_successor_ends_with_a_predecessor_that_is_killed(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "60s"));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "starting generation 2");
    pid_t successor = only_child(p.pid);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    int status = wait_status(successor);
    assert_true(status == 0 || status == 69); /* by how far it had come */
    process_release(&p);
}

/* ---- listeners ---- */

static int connect_port(uint32_t address, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_addr.s_addr = htonl(address);
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0)
        return fd;
    int err = errno;
    (void)close(fd);
    return -err;
}

static void assert_serves_at(uint32_t address, uint16_t port)
{
    int fd = connect_port(address, port);
    if (fd < 0)
        fail_msg("port %u: %s", port, strerror(-fd));
    assert_serves_on(fd, "");
    (void)close(fd);
}

static const char *listen_conf(const char *more, ...) __attribute__((format(printf, 1, 2)));

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
    process_start_configured(&p,
                             ARGS("-c", listen_conf("listen: {host: 127.0.0.1, port: %u}\n", a)));
    (void)listen_conf("listen: {host: 127.0.0.1, port: %u}\nlisten: {host: 127.0.0.1, port: %u}\n",
                      a, b);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &second);
    assert_serves_at(INADDR_LOOPBACK, a);
    assert_serves_at(INADDR_LOOPBACK, b);
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
    process_expect(&p, LIMIT_MS, 0);
    stop(&p, third);
    process_release(&p);
}

/* Closed as in a drain: whoever has come that far is served. */
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
        &p,
        ARGS("-c", listen_conf(
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

/* ---- nothing grows ---- */

static size_t open_files_of(pid_t pid)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory) != NULL)
        n++;
    (void)closedir(directory);
    return n;
}

/* No more than `want`; the last ones may just be on their way. */
static void assert_open_files(pid_t pid, size_t want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (open_files_of(pid) > want && now_ns() < until_ns)
        (void)poll(NULL, 0, 2);
    assert_true(open_files_of(pid) <= want);
}

static void test_nothing_grows_over_many_restarts(void **state)
{
    struct process p;
    size_t files = 0;
    unsigned count = times("LASTCALL_RUNS", 20);
    (void)state;
    process_start(&p, NULL, ARGS("--restart-probation", "0", "--threads", "2"));
    pid_t pid = p.pid;
    int fd = client_connect(&p);
    assert_serves_on(fd, KEPT);
    for (unsigned i = 0; i < count; i++) {
        pid_t before = pid;
        assert_int_equal(kill(pid, SIGHUP), 0);
        assert_generation(&p, i + 2, &pid);
        if (before == p.pid)
            process_expect(&p, LIMIT_MS, 0);
        else
            assert_drained(before);
        assert_serves_on(fd, KEPT);
        pid_t left[4];
        assert_int_equal(list_children(pid, left, 4), 0);
        if (i == 1)
            files = open_files_of(pid);
        if (i == 0)
            continue;
        assert_open_files(pid, files);
    }
    (void)close(fd);
    stop(&p, pid);
    process_release(&p);
}

/* ---- the service manager ---- */

static int listen_as_manager(void)
{
#ifndef LASTCALL_SYSTEMD
    print_message("skipped: built without libsystemd\n");
    skip();
#endif
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = 15};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(here.sun_path, sizeof(here.sun_path), "%s", in_folder("notify"));
    (void)unlink(here.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", here.sun_path, 1), 0);
    return fd;
}

/* The next message, and who sent it: with NotifyAccess=main only the main process is heard. */
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
        fail_msg("the manager was told nothing in place of %s", want);
    text[n] = '\0';
    assert_contains(text, want);
    assert_contains(text, also);
    assert_non_null(CMSG_FIRSTHDR(&in));
    memcpy(&sender, CMSG_DATA(CMSG_FIRSTHDR(&in)), sizeof(sender));
    assert_int_equal(sender.pid, by);
}

static void test_manager_hears_of_a_restart_from_who_is_main(void **state)
{
    struct process p;
    pid_t next;
    char want[64];
    (void)state;
    int manager = listen_as_manager();
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
    process_expect(&p, LIMIT_MS, 0); /* of whose end nothing is said */
    assert_int_equal(kill(next, SIGTERM), 0);
    expect_told(manager, next, "STOPPING=1", "");
    assert_drained(next);
    (void)close(manager);
    process_release(&p);
}

/* ---- the modes master and daemon ---- */

#define MASTER "-m", "master"

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
    process_wait_log(&p, "has drained, and exited with status 0");
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
    unsigned count = times("LASTCALL_RUNS", 20) / 2;
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

static void test_worker_that_dies_is_replaced_and_nobody_is_refused(void **state)
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
    assert_contains(p.log, "was ended by SIGKILL: it is replaced");
    assert_contains(p.log, "another worker is started in 400ms"); /* the third one in a row */
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
    process_wait_log(&p, "restart failed, going on as before: it exited with status 78");
    assert_serves(&p);
    assert_int_equal(only_child(p.pid), worker);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_master_that_can_not_start_passes_the_status_on(void **state)
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
    assert_serves(&p);
    assert_serves(&p);
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
    assert_serves(&p);
    assert_serves(&p);
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
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=1200"));
    assert_serves(&p);
    assert_serves(&p);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    process_signal(&p, SIGTERM);
    char *answer = client_read_answer(fd);
    assert_contains(answer, " 200 OK");
    free(answer);
    (void)close(fd);
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
    process_wait_log(&p, "has drained, and exited with status 0");
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

static void test_daemon_that_can_not_start_says_so_by_its_status(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p,
                  ARGS("-m", "daemon", "-c", write_conf("listen: {host: 127.0.0.1, port: 0}\n")));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "mode daemon wants an error-log");
    process_release(&p);
}

/* ---- sockets that others opened ---- */

/* A listener in this process, and in the environment of the next one, as start_server has it. */
static int hold_listener(uint16_t *ret_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t length = sizeof(in);
    char text[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* inherited */

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
    *ret_port = ntohs(in.sin_port);
    (void)snprintf(text, sizeof(text), "127.0.0.1:%u=%d", *ret_port, fd);
    assert_int_equal(setenv("SERVER_STARTER_PORT", text, 1), 0);
    return fd;
}

/* Who opened it goes on with it: no filter, no shutdown(2), nothing is reset. */
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
    int client = connect_port(INADDR_LOOPBACK, port); /* waits in the queue for whoever comes */
    assert_true(client >= 0);
    client_send(client, GET("/hello"));
    process_spawn(&p, ARGS(QUICK));
    char *answer = client_read_answer(client);
    assert_contains(answer, " 200 OK");
    free(answer);
    (void)close(client);
    (void)unsetenv("SERVER_STARTER_PORT");
    stop(&p, p.pid);
    (void)close(fd);
    process_release(&p);
}

static void test_listener_that_nobody_asked_for_is_named(void **state)
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
    process_wait_log(&p, "has drained, and exited with status 0");
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
    if (access(ACTIVATE, X_OK) != 0) {
        print_message("skipped: there is no " ACTIVATE " (apt-get install systemd)\n");
        skip();
    }
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.pid = fork();
    if (p.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDERR_FILENO);
        /* It passes on no environment but what it is told to: the sanitizers'. */
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
    assert_int_equal(kill(next, SIGTERM), 0);
    int status = wait_status(next);
    process_expect(&p, LIMIT_MS, 0);
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
    expect_no_take_over(fd, "that descriptor is no hand-over socket");
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    (void)snprintf(fd, sizeof(fd), "%d", pair[1]);
    assert_int_equal(send(pair[0], "let me in", 9, 0), 9);
    expect_no_take_over(fd, "what comes there is no hand-over");
    for (unsigned i = 0; i < 2; i++) {
        (void)close(pair[i]);
        (void)close(stream[i]);
    }
}

/* ---- */

static int set_up(void **state)
{
    const char *binary = getenv("LASTCALL_BINARY");
    char *path;
    (void)state;
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0)
        return -1;
    path = realpath(binary != NULL ? binary : "build/release/lastcall", program);
    if (path == NULL || setenv("LASTCALL_BINARY", program, 1) != 0)
        return -1;
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/cert", folder);
    (void)snprintf(key_path, sizeof(key_path), "%s/key", folder);
    certificate_write(key_path, certificate_path);
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static int remove_all(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

#define TEST(test)                                                                                 \
    {                                                                                              \
        .name = #test, .test_func = test, .teardown_func = end_all                                 \
    }

int main(void)
{
    static const struct CMUnitTest others[] = {
        TEST(test_idle_connections_move_and_busy_ones_end),
        TEST(test_connection_that_comes_to_idle_late_moves_too),
        TEST(test_successor_that_stops_at_once_loses_nothing),
        TEST(test_bad_configuration_is_rolled_back_with_its_line),
        TEST(test_second_hangup_during_a_restart_is_one_more_restart),
        TEST(test_hangup_in_a_drain_is_refused),
        TEST(test_stop_during_a_restart_stops_the_service),
        TEST(test_stop_in_the_probation_stops_the_service),
        TEST(test_successor_that_is_told_to_stop_too_early_does_no_harm),
        TEST(test_successor_ends_with_a_predecessor_that_is_killed),
        TEST(test_listeners_come_and_go),
        TEST(test_listener_that_goes_is_closed_without_loss),
        TEST(test_listener_is_bound_again_more_narrowly_and_more_widely),
        TEST(test_socket_file_stays_while_it_is_served_and_goes_with_its_listener),
        TEST(test_pid_file_names_a_living_process_at_every_instant),
        TEST(test_generation_is_shown),
        TEST(test_nothing_grows_over_many_restarts),
        TEST(test_manager_hears_of_a_restart_from_who_is_main),
        TEST(test_master_keeps_its_process_id_over_a_restart),
        TEST(test_master_does_not_grow),
        TEST(test_worker_that_dies_is_replaced_and_nobody_is_refused),
        TEST(test_master_rolls_back_too),
        TEST(test_master_that_can_not_start_passes_the_status_on),
        TEST(test_master_passes_the_status_of_a_drain_on),
        TEST(test_second_signal_to_the_master_forces),
        TEST(test_master_waits_for_the_old_worker_too),
        TEST(test_workers_end_with_a_master_that_is_killed),
        TEST(test_under_load_a_master_restarts_without_loss),
        TEST(test_daemon_detaches_once_it_is_bound),
        TEST(test_daemon_that_can_not_start_says_so_by_its_status),
        TEST(test_stop_only_leaves_a_listener_that_others_hold),
        TEST(test_listener_that_nobody_asked_for_is_named),
        TEST(test_master_hands_on_what_it_was_given),
        TEST(test_systemd_socket_activate),
        TEST(test_successor_takes_nothing_from_strangers),
    };
    enum { OTHERS = sizeof(others) / sizeof(others[0]) };
    static struct CMUnitTest tests[SHAPES + FAILURES + OTHERS];
    size_t n = 0;

    for (size_t i = 0; i < SHAPES; i++)
        tests[n++] = (struct CMUnitTest){.name = shapes[i].name,
                                         .test_func = test_nothing_is_lost_or_refused,
                                         .teardown_func = end_all,
                                         .initial_state = (void *)(uintptr_t)&shapes[i]};
    for (size_t i = 0; i < FAILURES; i++)
        tests[n++] =
            (struct CMUnitTest){.name = failures[i].name,
                                .test_func = test_old_process_goes_on_as_if_nothing_had_been,
                                .teardown_func = end_all,
                                .initial_state = (void *)(uintptr_t)&failures[i]};
    memcpy(&tests[n], others, sizeof(others));
    (void)alarm(300 + times("LASTCALL_RUNS", 20) * 2 +
                times("LASTCALL_RESTARTS", 2) * 60); /* a hang is a failure */
    if (getenv("LASTCALL_SHAPE") != NULL)
        cmocka_set_test_filter(getenv("LASTCALL_SHAPE"));
    return cmocka_run_group_tests_name("restart", tests, set_up, remove_all);
}

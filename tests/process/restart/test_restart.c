/* The real process, followed by another one: under load of every shape, and by successors that come
 * to nothing. LASTCALL_RESTARTS says how many restarts a shape of load sees (2 by default),
 * LASTCALL_RUNS how many in a row nothing may grow over (20). */

#include "with_restart.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "expect.h"
#include "loadgen.h"
#include "loopback.h"

/* A server keeps at most 256 MiB of the bodies that workers are to have. */
#define BODIES_IN_FLIGHT (200 << 20)
#define CLOSED "Connection: close\r\n"

static char certificate_path[128], key_path[128];

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

/* One restart after the other, while the load runs. */
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
    /* On a slow machine a load takes longer than an idle client may by default. */
    const char *patient = write_conf("http1-request-timeout: 300\n");
    bool is_proxy = listen != NULL && strcmp(listen, "proxy") == 0;

    (void)snprintf(path, sizeof(path), "unix:%s", in_folder("load.sock"));
    if (listen != NULL && strcmp(listen, "unix:") == 0)
        listen = path;
    if (is_proxy) {
        process_start(&upstream, NULL, ARGS("--threads", "1", "--workers", "16"));
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", upstream.port);
        process_start(&p, NULL, ARGS(QUICK, "--proxy", url));
    } else if (load.tls)
        /* These do not move: the old process waits for a client that was held up. */
        process_start(&p, listen,
                      ARGS(QUICK, "-c", patient, "--idle-grace", "10s", "--cert", certificate_path,
                           "--key", key_path));
    else
        process_start(&p, listen, ARGS(QUICK, "-c", patient));
    struct restarts restarts = {.p = &p, .count = how_often("LASTCALL_RESTARTS", 2), .pid = p.pid};
    load.address = load.tls ? strchr(p.address, ':') + 1 : p.address;
    if (load.connections == 0)
        load.connections = (unsigned)how_often("LASTCALL_CONNECTIONS", CONNECTIONS);
    /* What is in flight at once must be less than the server takes: a 503 is no loss, but no answer
     * of a worker either. */
    while (load.streams > 1 &&
           (uint64_t)load.connections * load.streams * load.body_bytes > BODIES_IN_FLIGHT)
        load.streams--;
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
    (void)close(client_connect(&p)); /* the load does not notice a listener that refuses all */
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

/* With the test as the upstream of /held: it decides when such a request is over. */
static const char *write_conf_with_upstream(uint16_t port)
{
    const char *path = in_folder("upstream.conf");
    char text[512];

    (void)snprintf(text, sizeof(text),
                   "user: %s\nlisten: {host: 127.0.0.1, port: 0}\nhosts:\n  default:\n    paths:\n"
                   "      /hello: {handler: hello}\n"
                   "      /held: {proxy.reverse.url: 'http://127.0.0.1:%u/'}\n",
                   own_user_name(), port);
    write_file(path, text);
    return path;
}

/* The upstream's connection with a request that waits for its answer. */
static int take_request(int listener)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};

    assert_int_equal(poll(&ready, 1, LIMIT_MS), 1);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    free(client_read_until(fd, "\r\n\r\n"));
    return fd;
}

static void test_idle_connections_move_and_busy_ones_end(void **state)
{
    struct process p;
    uint16_t port;
    pid_t next;
    (void)state;
    int listener = listen_here(&port, 4);
    process_start_configured(&p, ARGS(QUICK, "-c", write_conf_with_upstream(port)));
    int idle = client_connect(&p), silent = client_connect(&p), half = client_connect(&p),
        busy = client_connect(&p);
    assert_serves_on(idle, KEPT);
    client_send(half, "GET /hello HTTP/1.1\r\nHo");
    client_wait_taken(half);
    client_send(busy, GET("/held"));
    int upstream = take_request(listener);
    assert_serves(&p); /* `silent` has been accepted, too */
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    process_wait_log(&p, "listeners closed");
    assert_serves_on(idle, KEPT);
    assert_serves_on(silent, KEPT);
    client_send(half, "st: test\r\n\r\n");
    client_expect(half, CLOSED);
    client_send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere");
    char *answer = client_read_answer(busy);
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
    (void)close(upstream);
    (void)close(listener);
    process_release(&p);
}

/* Its response said keep-alive before the restart, so it becomes idle only after it. */
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
    answer = client_read_until(fd, NULL); /* to the end: the answer is whole, without a reset */
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
    /* No grace ends while the test asks one after the other. */
    process_start(&p, NULL, ARGS(QUICK, "--idle-grace", "60s", "--deadline", "60s"));
    for (unsigned i = 0; i < CLIENTS; i++)
        fds[i] = client_connect(&p);
    process_signal(&p, SIGHUP);
    assert_generation(&p, 2, &next);
    assert_int_equal(kill(next, SIGTERM), 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_serves_on(fds[i], ""); /* by one of the two */
        (void)close(fds[i]);
    }
    process_expect(&p, LIMIT_MS, 0);
    assert_drained(next);
    process_release(&p);
}

/* ---- rollback ---- */

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
     "it exited with status 7; its last lines: I do not like it here", false},
    {"rollback: crashes at once", "#!/bin/sh\nkill -SEGV $$\n", "it was ended by SIGSEGV", false},
    {"rollback: hangs", "#!/bin/sh\nexec sleep 1000\n", "it was not ready after 2.5s", true},
    {"rollback: crashes in its probation",
     FAKE "until(3)\nsay(4)\nprint('oh no', file=sys.stderr)\nsys.stderr.flush()\n"
          "os.kill(os.getpid(), signal.SIGABRT)\n",
     "it was ended by SIGABRT during its probation; its last lines: oh no", false},
    {"rollback: says nothing when it is to accept",
     FAKE "until(3)\nsay(4)\nuntil(5)\ntime.sleep(99)\n", "after it was told to accept", true},
    {"rollback: talks nonsense", FAKE "s.send(b'GET / HTTP/1.1')\ntime.sleep(99)\n",
     "the other process sent an invalid message", false},
    {"rollback: another version", FAKE "say(4, version=7)\ntime.sleep(99)\n", "uses version 7",
     false},
    {"rollback: closes the line", FAKE "until(3)\ns.close()\nsys.exit(3)\n", "exited with status 3",
     false},
};
#define FAILURES (sizeof(failures) / sizeof(failures[0]))

/* Returns false if `timeout` was over before the program failed. */
static bool old_process_goes_on(const struct failure *failure, const char *timeout)
{
    struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 2};
    struct load_result result;
    struct process p;
    pid_t next;
    const char *path = use_own_binary();

    process_start(&p, NULL,
                  ARGS("--restart-probation", "200ms", "--restart-timeout", timeout, "--threads",
                       "2", "--pid-file", in_folder("pid")));
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
    if (!process_says(&p, "restart failed, this process goes on", 60000)) /* > each time-out */
        fail_msg("the restart does not fail; log:\n%s", p.log);
    bool too_slow = failure->hangs && strstr(p.log, failure->want) == NULL &&
                    strstr(p.log, "it was not ready after ") != NULL;
    if (!too_slow)
        assert_contains(p.log, failure->want);
    if (result.lost + result.waiting + result.refused + result.idle.closed > 0 ||
        result.closes_announced > 0 || result.connects != CONNECTIONS)
        fail_msg("%llu lost, %llu waiting, %llu refused, %llu idle closed, %llu connects; log:\n%s",
                 (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.refused, (unsigned long long)result.idle.closed,
                 (unsigned long long)result.connects, p.log);
    assert_int_equal(strtol(read_file(in_folder("pid")), NULL, 10), p.pid);
    pid_t left[4];
    assert_int_equal(list_children(p.pid, left, 4), 0); /* no child is left, not even a zombie */
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
    return !too_slow;
}

/* A failure that takes the whole time-out has a short one, and a longer one on a machine on which
 * the program does not start within it. */
static void test_old_process_goes_on_as_if_nothing_had_been(void **state)
{
    static const char *const timeouts[] = {"2500ms", "10s", "40s"};
    const struct failure *failure = *state;
    size_t i = 0;

    if (!failure->hangs)
        assert_true(old_process_goes_on(failure, "20s"));
    else
        while (!old_process_goes_on(failure, timeouts[i]))
            assert_true(++i < sizeof(timeouts) / sizeof(timeouts[0]));
}

static void test_bad_configuration_is_rolled_back_with_its_line(void **state)
{
    struct process p;
    (void)state;
    process_start_configured(&p, ARGS("-c", write_conf("listen: {host: 127.0.0.1, port: 0}\n")));
    (void)write_conf("listen: {host: 127.0.0.1, port: 0}\nlissten: 8080\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "restart failed, this process goes on: it exited with status 78; its last "
                         "lines: ");
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
    process_wait_log(&p, "another one will follow");
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

/* ---- nothing grows ---- */

static void test_nothing_grows_over_many_restarts(void **state)
{
    struct process p;
    size_t files = 0;
    unsigned count = how_often("LASTCALL_RUNS", 20);
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

/* ---- */

static int set_up(void **state)
{
    if (with_restart_set_up(state) != 0)
        return -1;
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s", in_folder("cert"));
    (void)snprintf(key_path, sizeof(key_path), "%s", in_folder("key"));
    certificate_write(key_path, certificate_path);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest others[] = {
        TEST(test_idle_connections_move_and_busy_ones_end),
        TEST(test_connection_that_comes_to_idle_late_moves_too),
        TEST(test_successor_that_stops_at_once_loses_nothing),
        TEST(test_bad_configuration_is_rolled_back_with_its_line),
        TEST(test_second_hangup_during_a_restart_is_one_more_restart),
        TEST(test_nothing_grows_over_many_restarts),
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
    (void)alarm(300 + how_often("LASTCALL_RUNS", 20) * 2 +
                how_often("LASTCALL_RESTARTS", 2) * 60); /* a hang is a failure */
    return cmocka_run_group_tests_name("restart", tests, set_up, with_restart_clean_up);
}

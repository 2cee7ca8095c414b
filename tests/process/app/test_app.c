/* The real process with an application of its own, `lastcall --proxy URL -- COMMAND`: real servers
 * in Python and Node (tests/support/app/), which behave well, badly, or not at all. How they start,
 * and what they find; how they end is in test_app_stop.c. */

#include "with_app.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"
#include "loopback.h"
#include "skip.h"

/* ---- starting ---- */

static void requests_wait_for(const char *const *command, const char *want)
{
    struct process p;
    start(&p, NULL, command);
    int get = client_connect(&p), post = client_connect(&p);
    client_send(get, GET("/"));
    client_send(post, "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789");
    wait_taken(&p, 2);
    assert_null(strstr(p.log, " answers at "));
    open_gate(NULL);
    char *answer = client_read_answer(get);
    assert_contains(answer, "HTTP/1.1 200 ");
    assert_contains(answer, want);
    free(answer);
    client_expect(post, "\r\n\r\n10\n");
    (void)close(get);
    (void)close(post);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_requests_wait_until_python_answers(void **state)
{
    (void)state;
    requests_wait_for(APP(PYTHON, "late"), "python\n");
}

static void test_requests_wait_until_node_answers(void **state)
{
    (void)state;
    if (!have_node())
        skip_test("needs node (apt-get install nodejs)");
    requests_wait_for(APP(NODE, "late"), "node\n");
}

static void test_http2_requests_wait_too(void **state)
{
    struct process p;
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP2,
                                .connections = 4,
                                .streams = 5,
                                .body_bytes = 20000,
                                .path = "/echo",
                                .expect_body = "20000\n",
                                .max_requests = 100,
                                .duration_ms = 1000,
                                .patience_ms = LIMIT_MS,
                                .signal_after_ms = 50,
                                .on_signal = open_gate};
    (void)state;
    start(&p, NULL, APP(PYTHON, "late"));
    load.address = p.address;
    assert_int_equal(load_run(&load, &result), 0);
    assert_true(result.answered > 0);
    assert_int_equal(result.answered_2xx, result.answered);
    assert_int_equal(result.lost + result.waiting, 0);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_clients_that_leave_while_they_wait_hold_nothing_up(void **state)
{
    struct process p;
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP2,
                                .connections = 4,
                                .streams = 5,
                                .duration_ms = 50,
                                .patience_ms = 300};
    (void)state;
    start(&p, NULL, APP(PYTHON, "late"));
    load.address = p.address;
    assert_int_equal(load_run(&load, &result), 0);
    assert_true(result.waiting > 0); /* and then it closed its connections */
    int fd = client_connect(&p);
    client_send(fd, GET("/"));
    wait_taken(&p, 1);
    const struct linger reset = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)close(fd);
    open_gate(NULL);
    assert_answer(&p, GET("/"), "python\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_a_request_waits_no_longer_than_app_hold(void **state)
{
    struct process p;
    (void)state;
    start(&p, APP("--app-hold", "100ms"), APP(PYTHON, "late"));
    char *answer = client_ask(&p, GET("/"));
    assert_contains(answer, "HTTP/1.1 503 ");
    assert_contains(answer, "retry-after: 1\r\n");
    free(answer);
    open_gate(NULL);
    process_wait_log(&p, " answers at ");
    assert_answer(&p, GET("/"), "python\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void force(void *arg)
{
    process_signal(arg, SIGTERM);
    process_wait_log(arg, "SIGTERM received");
    process_signal(arg, SIGTERM);
}

static void test_no_more_than_a_thousand_requests_wait(void **state)
{
    struct process p;
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                .connections = 1100,
                                .max_requests = 1100,
                                .duration_ms = LIMIT_MS,
                                .patience_ms = LIMIT_MS,
                                .signal_after_answers = 100,
                                .on_signal = force,
                                .on_signal_arg = &p,
                                .server_is_gone = is_gone,
                                .server_is_gone_arg = &p};
    (void)state;
    start(&p, APP("--app-hold", "60s"), APP(PYTHON, "late"));
    load.address = p.address;
    assert_int_equal(load_run(&load, &result), 0);
    assert_int_equal(result.answered_503, 100);
    assert_int_equal(result.answered, 100);
    process_expect(&p, LIMIT_MS, 4);
    assert_contains(p.log, "1000 requests unfinished");
    process_release(&p);
}

static void test_a_health_path_says_when_it_is_up(void **state)
{
    struct process p;
    (void)state;
    start(&p, APP("--app-health", "/health"), APP(PYTHON, "unhealthy"));
    int fd = client_connect(&p);
    client_send(fd, GET("/"));
    wait_taken(&p, 1);
    open_gate(NULL);
    client_expect(fd, "python\n");
    process_wait_log(&p, " answers at ");
    (void)close(fd);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* One request, one answer. */
static void answer_503(int listener)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    const struct timeval patience = {.tv_sec = 15};

    if (poll(&ready, 1, 20) != 1)
        return;
    int fd = accept(listener, NULL, NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    free(client_read_until(fd, "\r\n\r\n"));
    (void)send(fd, "HTTP/1.1 503 Not Yet\r\n\r\n", 24, MSG_NOSIGNAL);
    (void)close(fd);
}

static void test_an_unhealthy_application_is_given_up(void **state)
{
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons(app_port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct process p;
    const int on = 1;
    (void)state;
    start(&p, APP("--app-health", "/health", "--app-start-timeout", "2s"), APP("sleep", "1000"));
    process_wait_log(&p, "started as process ");
    /* The application only sleeps; the test answers for it. */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(listener, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(listener, 16), 0);
    while (!process_is_gone(&p))
        answer_503(listener);
    (void)close(listener);
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, "its answer begins with HTTP/1.1 503");
    process_release(&p);
}

static void test_an_application_on_a_unix_socket(void **state)
{
    struct process p;
    char path[64];
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/lastcall-app-%ld.sock", (long)getpid());
    (void)snprintf(url, sizeof(url), "http://[unix:%s]/", path);
    (void)unlink(path);
    (void)setenv("APP_SOCKET", path, 1);
    start_up(&p, NULL, APP(PYTHON, "unix"));
    assert_answer(&p, GET("/"), "python\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    (void)unlink(path);
    process_release(&p);
}

static void test_it_finds_the_world_as_if_started_alone(void **state)
{
    (void)state;
    finds_the_world_as_if_started_alone(NULL);
}

static void test_the_service_manager_gets_ready_when_it_answers(void **state)
{
    struct process p;
    char text[512];
    (void)state;
    int fd = listen_for_ready();
    start(&p, NULL, APP(PYTHON, "late"));
    (void)unsetenv("NOTIFY_SOCKET");
    process_wait_log(&p, "started as process ");
    int client = client_connect(&p); /* read after a premature READY=1 would be sent */
    client_send(client, GET("/"));
    wait_taken(&p, 1);
    assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), -1);
    open_gate(NULL);
    ssize_t n = client_recv(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    assert_contains(text, "READY=1\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    (void)close(client);
    (void)close(fd);
    process_release(&p);
}

/* ---- not starting ---- */

static void fails_to_start(const char *const *args, int want, const char *said)
{
    struct process p;
    process_spawn(&p, args);
    process_expect(&p, LIMIT_MS, want);
    assert_contains(p.log, said);
    process_release(&p);
}

static void test_what_is_wrong_is_one_clear_line(void **state)
{
    char conf[64];
    (void)state;
    fails_to_start(APP("--proxy", url, "--"), 64, "--: wants the command");
    fails_to_start(APP("stray", "--", "true"), 64, "stray: not an option");
    fails_to_start(APP("--listen", "127.0.0.1:0", "--proxy", url, "--", "/no/such"), 69,
                   "cannot start: the application /no/such: No such file or directory");
    fails_to_start(APP("--proxy", url, "--app-health", "health", "--", "true"), 78,
                   "app.health health: want a path");
    fails_to_start(APP("--listen", "127.0.0.1:0", "--proxy", url, "--app-start-timeout", "100ms",
                       "--", "sleep", "1000"),
                   69, "application sleep did not answer at 127.0.0.1:");
    fails_to_start(APP("--listen", "127.0.0.1:0", "--proxy", url, "--", "sh", "-c", "exit 5"), 69,
                   "before it answered");

    (void)snprintf(conf, sizeof(conf), "/tmp/lastcall-app-%ld.conf", (long)getpid());
    FILE *file = fopen(conf, "w");
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nuser: %s\nhosts: {default: {paths: "
                  "{/: {proxy.reverse.url: '%s'}}}}\n",
                  own_user_name(), url);
    (void)fclose(file);
    fails_to_start(APP("-c", conf, "--", "true"), 78, "where will it answer? app: {url: ...} in ");
    file = fopen(conf, "a");
    (void)fprintf(file, "app: {url: '%s', restart: MAYBE}\n", url);
    (void)fclose(file);
    fails_to_start(APP("-c", conf, "--", "true"), 78, "app.restart MAYBE: want ON or OFF");
    (void)unlink(conf);
}

static void test_another_at_its_address_is_not_taken_for_it(void **state)
{
    uint16_t port;
    (void)state;
    int fd = listen_here(&port, 1);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    fails_to_start(APP("--listen", "127.0.0.1:0", "--proxy", url, "--", PYTHON), 69,
                   "another program already answers at 127.0.0.1:");
    (void)close(fd);
}

/* ---- a configuration ---- */

static void test_a_file_may_say_it_all(void **state)
{
    struct process p;
    char conf[64];
    (void)state;
    (void)snprintf(conf, sizeof(conf), "/tmp/lastcall-app-%ld.conf", (long)getpid());
    FILE *file = fopen(conf, "w");
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\n"
                  "user: %s\n"
                  "hosts:\n  default:\n    paths:\n"
                  "      /ready: {handler: ready}\n"
                  "      /api: {proxy.reverse.url: '%s/api'}\n"
                  "      /: {proxy.reverse.url: '%s'}\n"
                  "app: {url: '%s', health: /health, start-timeout: 20s, hold: 20s, grace: 10s, "
                  "restart: OFF}\n",
                  own_user_name(), url, url, url);
    (void)fclose(file);
    process_start_configured(&p, APP("-c", conf, "--", PYTHON, "unhealthy"));
    assert_answer(&p, GET("/ready"), "HTTP/1.1 503 ");
    int fd = client_connect(&p);
    client_send(fd, GET("/api/"));
    wait_taken(&p, 1);
    open_gate(NULL);
    client_expect(fd, "python\n");
    (void)close(fd);
    assert_answer(&p, GET("/ready"), "HTTP/1.1 200 ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    (void)unlink(conf);
    process_release(&p);
}

/* ---- as process 1 ---- */

static void test_signals_without_a_use_are_handed_on(void **state)
{
    struct process p;
    char *answer = NULL;
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    (void)state;
    start_up(&p, NULL, APP(PYTHON));
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "SIGHUP received: passed on to the application");
    do { /* Python runs its handler between two instructions, soon */
        free(answer);
        answer = client_ask(&p, GET("/hups"));
    } while (strstr(answer, "hups=1\n") == NULL && now_ns() < until_ns);
    assert_contains(answer, "hups=1\n");
    free(answer);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_orphans_are_reaped(void **state)
{
    struct process p;
    int child = 0, orphan = 0;
    pid_t parent = 0;
    (void)state;
    start_up(&p, NULL, APP(PYTHON, "family"));
    char *answer = client_ask(&p, GET("/pids"));
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    assert_int_not_equal(state_of(orphan, &parent), 0);
    assert_int_equal(parent, p.pid); /* it is ours now */
    (void)kill(orphan, SIGKILL);
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (state_of(orphan, NULL) != 0) {
        if (now_ns() > until_ns)
            fail_msg("the orphan was not reaped");
        (void)poll(NULL, 0, 5);
    }
    wait_no_zombies(&p);
    assert_answer(&p, GET("/"), "python\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* Scripts have ended, and what they have left behind holds their output open: so their threads
 * leave them as zombies. waitid(2) for any child finds those first. */
static void test_orphans_are_reaped_beside_scripts_that_are_not(void **state)
{
    enum { SCRIPTS = 12 };
    struct process p;
    char folder[64], path[96], conf[64];
    int fds[SCRIPTS], child = 0, orphan = 0;
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/lastcall-app-cgi-%ld", (long)getpid());
    (void)snprintf(path, sizeof(path), "%s/leaves", folder);
    (void)snprintf(conf, sizeof(conf), "/tmp/lastcall-app-%ld.conf", (long)getpid());
    assert_int_equal(mkdir(folder, 0755), 0);
    FILE *file = fopen(path, "w");
    (void)fputs("#!/bin/sh\nsleep 1000 &\n", file);
    (void)fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    file = fopen(conf, "w");
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nuser: %s\npool: {workers: 32}\n"
                  "hosts:\n  default:\n    paths:\n"
                  "      /cgi: {handler.cgi: {path: %s, timeout: 0}}\n"
                  "      /: {proxy.reverse.url: '%s'}\n"
                  "app: {url: '%s', start-timeout: 60s, hold: 60s}\n",
                  own_user_name(), folder, url, url);
    (void)fclose(file);
    process_start_configured(&p, APP("-c", conf, "--threads", "2", "--", PYTHON, "family"));
    process_wait_log(&p, " answers at ");
    char *answer = client_ask(&p, GET("/pids"));
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    for (size_t i = 0; i < SCRIPTS; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/cgi/leaves"));
    }
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (zombies_of(&p) < SCRIPTS && now_ns() < until_ns)
        (void)poll(NULL, 0, 5);
    assert_int_equal(zombies_of(&p), SCRIPTS);
    (void)kill(orphan, SIGKILL);
    while (state_of(orphan, NULL) != 0) {
        if (now_ns() > until_ns)
            fail_msg("the orphan was not reaped");
        (void)poll(NULL, 0, 5);
    }
    for (size_t i = 0; i < SCRIPTS; i++)
        (void)close(fds[i]); /* which ends what the scripts have left */
    wait_no_zombies(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    (void)unlink(path);
    (void)rmdir(folder);
    (void)unlink(conf);
}

/* The first child of `pid`. */
static pid_t child_of(pid_t pid)
{
    char path[64], text[64] = "";
    (void)snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)pid, (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    (void)!read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return (pid_t)strtol(text, NULL, 10);
}

/* lastcall as process 1 of a namespace of its own, as in a container; `p` is unshare(1), which
 * stands where the container's runtime does. */
static void start_as_process_1(struct process *p, const char *const *argv)
{
    char binary[256];
    const char *was = getenv("LASTCALL_BINARY");
    const char *args[20] = {"--pid", "--fork", "--kill-child", binary, "--listen", "127.0.0.1:0"};

    if (system("unshare --pid --fork true 2>/dev/null") != 0)
        skip_test("needs a process namespace of its own");
    (void)snprintf(binary, sizeof(binary), "%s", was != NULL ? was : "build/release/lastcall");
    for (size_t n = 6; *argv != NULL; argv++)
        args[n++] = *argv;
    (void)setenv("LASTCALL_BINARY", "/usr/bin/unshare", 1);
    process_is_wrapped = true;
    process_start_configured(p, args);
    process_is_wrapped = false;
    (void)setenv("LASTCALL_BINARY", binary, 1);
}

static void test_process_1_reaps_hands_on_and_drains(void **state)
{
    struct process p;
    int child = 0, orphan = 0;
    (void)state;
    start_as_process_1(&p, APP("--proxy", url, "--", PYTHON, "family"));
    process_wait_log(&p, " answers at ");
    pid_t first = child_of(p.pid);
    assert_true(first > 0);
    const struct process inside = {.pid = first};
    char *answer = client_ask(&p, GET("/pids")); /* numbers of the namespace inside */
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    wait_no_zombies(&inside);
    assert_int_equal(kill(first, SIGHUP), 0);
    process_wait_log(&p, "passed on");
    int fd = client_connect(&p);
    client_send(fd, GET("/gated"));
    wait_taken(&p, 1);
    assert_int_equal(kill(first, SIGTERM), 0);
    process_wait_log(&p, "listeners closed");
    open_gate(NULL);
    client_expect(fd, "through\n");
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_process_1_without_an_application_reaps_too(void **state)
{
    struct process p;
    char command[128];
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    (void)state;
    start_as_process_1(&p, APP("--threads", "1"));
    pid_t first = child_of(p.pid);
    (void)snprintf(command, sizeof(command),
                   "nsenter --target %ld --pid sh -c 'sleep 1000 >/dev/null 2>&1 &'", (long)first);
    assert_int_equal(system(command), 0);
    pid_t orphan = child_of(first);
    assert_true(orphan > 0);
    (void)kill(orphan, SIGKILL);
    while (state_of(orphan, NULL) != 0) {
        if (now_ns() > until_ns)
            fail_msg("the orphan was not reaped");
        (void)poll(NULL, 0, 5);
    }
    assert_int_equal(kill(first, SIGTERM), 0);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, with_app_set_up, with_app_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_requests_wait_until_python_answers),
        TEST(test_requests_wait_until_node_answers),
        TEST(test_http2_requests_wait_too),
        TEST(test_clients_that_leave_while_they_wait_hold_nothing_up),
        TEST(test_a_request_waits_no_longer_than_app_hold),
        TEST(test_no_more_than_a_thousand_requests_wait),
        TEST(test_a_health_path_says_when_it_is_up),
        TEST(test_an_unhealthy_application_is_given_up),
        TEST(test_an_application_on_a_unix_socket),
        TEST(test_it_finds_the_world_as_if_started_alone),
        TEST(test_the_service_manager_gets_ready_when_it_answers),
        TEST(test_what_is_wrong_is_one_clear_line),
        TEST(test_another_at_its_address_is_not_taken_for_it),
        TEST(test_a_file_may_say_it_all),
        TEST(test_signals_without_a_use_are_handed_on),
        TEST(test_orphans_are_reaped),
        TEST(test_orphans_are_reaped_beside_scripts_that_are_not),
        TEST(test_process_1_reaps_hands_on_and_drains),
        TEST(test_process_1_without_an_application_reaps_too),
    };

    (void)alarm(900);
    return cmocka_run_group_tests_name("app", tests, NULL, NULL);
}

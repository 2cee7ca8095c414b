/* Does something answer there? Against sockets of the test's own. */

#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"

#define PATIENCE_MS 10000

/* Go on until there is a result. */
static enum probe_result run(struct probe *probe, const struct probe_target *target)
{
    enum probe_result result = probe_begin(probe, target);
    while (result == PROBE_PENDING) {
        struct pollfd fd = {.fd = probe->fd, .events = probe->events};
        assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
        result = probe_go_on(probe, target);
    }
    assert_int_equal(probe->fd, -1); /* nothing is left open */
    return result;
}

struct answerer {
    int listener;
    const char *answer;
    char request[512];
};

/* One connection: read what comes, send the prepared answer, close. */
static void *answer_one(void *arg)
{
    struct answerer *a = arg;
    int fd = accept(a->listener, NULL, NULL);
    size_t got = 0;
    while (strstr(a->request, "\r\n\r\n") == NULL && got < sizeof(a->request) - 1) {
        ssize_t n = recv(fd, a->request + got, sizeof(a->request) - 1 - got, 0);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    for (const char *at = a->answer; *at != '\0'; at++) /* byte by byte */
        (void)send(fd, at, 1, MSG_NOSIGNAL);            /* it may have seen enough */
    (void)close(fd);
    return NULL;
}

static enum probe_result ask(const char *answer, struct probe *probe, char request[512])
{
    struct probe_target target;
    struct answerer a = {.answer = answer};
    pthread_t thread;
    uint16_t port;

    a.listener = listen_here(&port, 8);
    assert_int_equal(probe_target_init(&target, NULL, "127.0.0.1", port, "/healthz?deep=1"), 0);
    assert_int_equal(pthread_create(&thread, NULL, answer_one, &a), 0);
    probe_init(probe);
    enum probe_result result = run(probe, &target);
    (void)pthread_join(thread, NULL);
    (void)close(a.listener);
    memcpy(request, a.request, sizeof(a.request));
    return result;
}

static void test_without_a_path_a_connection_is_an_answer(void **state)
{
    struct probe_target target;
    struct probe probe;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 8);
    assert_int_equal(probe_target_init(&target, NULL, "127.0.0.1", port, NULL), 0);
    probe_init(&probe);
    assert_int_equal(run(&probe, &target), PROBE_ANSWERED);
    (void)close(listener);
    assert_int_equal(run(&probe, &target), PROBE_FAILED);
    assert_string_equal(probe.why, "Connection refused");
}

static void test_with_a_path_2xx_is_an_answer(void **state)
{
    struct probe probe;
    char request[512];
    (void)state;
    assert_int_equal(ask("HTTP/1.1 204 No Content\r\n\r\n", &probe, request), PROBE_ANSWERED);
    assert_non_null(strstr(request, "GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_int_equal(ask("HTTP/1.0 200 OK\r\n\r\n", &probe, request), PROBE_ANSWERED);
}

static void test_anything_else_is_no_answer_and_is_named(void **state)
{
    struct probe probe;
    char request[512];
    (void)state;
    assert_int_equal(ask("HTTP/1.1 503 Not Yet\r\n\r\n", &probe, request), PROBE_FAILED);
    assert_string_equal(probe.why, "its answer begins with HTTP/1.1 503");
    assert_int_equal(ask("SSH-2.0-OpenSSH_9.2\r\n", &probe, request), PROBE_FAILED);
    assert_int_equal(ask("HTTP/1.1", &probe, request), PROBE_FAILED);
    assert_string_equal(probe.why, "it closed without an answer");
}

static void test_each_address_of_a_name_is_asked_in_turn(void **state)
{
    struct probe_target target, other;
    struct probe probe;
    uint16_t port, closed;
    (void)state;
    int listener = listen_here(&port, 8);
    (void)close(listen_here(&closed, 8));
    assert_int_equal(probe_target_init(&target, NULL, "127.0.0.1", closed, NULL), 0);
    assert_int_equal(probe_target_init(&other, NULL, "127.0.0.1", port, NULL), 0);
    target.at[target.count++] = other.at[0];
    probe_init(&probe);
    assert_int_equal(run(&probe, &target), PROBE_FAILED);
    assert_int_equal(run(&probe, &target), PROBE_ANSWERED);
    (void)close(listener);
}

static void test_a_unix_socket(void **state)
{
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    struct probe_target target;
    struct probe probe;
    char longest[200];
    (void)state;
    (void)snprintf(here.sun_path, sizeof(here.sun_path), "/tmp/lastcall-probe-%ld.sock",
                   (long)getpid());
    (void)unlink(here.sun_path);
    assert_int_equal(probe_target_init(&target, here.sun_path, NULL, 0, NULL), 0);
    probe_init(&probe);
    assert_int_equal(run(&probe, &target), PROBE_FAILED);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(run(&probe, &target), PROBE_ANSWERED);
    (void)close(listener);
    (void)unlink(here.sun_path);
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(probe_target_init(&target, longest, NULL, 0, NULL), -ENAMETOOLONG);
}

static void test_an_unknown_host_is_an_error(void **state)
{
    struct probe_target target;
    (void)state;
    assert_int_equal(probe_target_init(&target, NULL, "no such name.invalid", 80, NULL),
                     -EHOSTUNREACH);
}

/* A socket that is bound to the port it connects to: TCP does so by chance on an ephemeral port.
 */
static void test_a_connection_to_itself_is_no_answer(void **state)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(here);
    struct probe_target target;
    struct probe probe;
    (void)state;
    probe_init(&probe);
    probe.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(probe.fd, (struct sockaddr *)&here, length), 0);
    assert_int_equal(getsockname(probe.fd, (struct sockaddr *)&here, &length), 0);
    assert_int_equal(connect(probe.fd, (struct sockaddr *)&here, length), 0);
    probe.events = POLLOUT;
    assert_int_equal(probe_target_init(&target, NULL, "127.0.0.1", ntohs(here.sin_port), NULL), 0);
    assert_int_equal(probe_go_on(&probe, &target), PROBE_FAILED);
    assert_int_equal(probe.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_path_a_connection_is_an_answer),
        cmocka_unit_test(test_with_a_path_2xx_is_an_answer),
        cmocka_unit_test(test_anything_else_is_no_answer_and_is_named),
        cmocka_unit_test(test_each_address_of_a_name_is_asked_in_turn),
        cmocka_unit_test(test_a_unix_socket),
        cmocka_unit_test(test_an_unknown_host_is_an_error),
        cmocka_unit_test(test_a_connection_to_itself_is_no_answer),
    };
    (void)alarm(60);
    (void)signal(SIGPIPE, SIG_IGN); /* as in the server: a probe gives up where it knows enough */
    return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}

/* A real process before several upstreams, when some of them or all do not answer, and what checks
 * find out. */

#include "with_group.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "loadgen.h"
#include "loopback.h"

/* ---- failures ---- */

static void test_one_that_refuses_costs_no_request(void **state)
{
    uint16_t ports[UPSTREAMS];
    unsigned counts[4];
    (void)state;
    start_upstreams(2);
    ports_of(ports);
    ports[2] = free_port();
    start_front("", ALL, ports);
    for (unsigned i = 0; i < 10; i++)
        assert_int_not_equal(who("POST", ""), '-'); /* nothing of it was sent */
    count_who(30, counts);
    assert_int_equal(counts[3], 0);
    wait_state(2, "ejected");
    process_wait_log(&front, "gets no requests for 1s");
    assert_true(metric("lastcall_upstream_moves_total") >= 3);
    assert_true(metric("lastcall_upstream_failures_total{kind=\"connect\"}") >= 3);
    char *text, name[256];
    struct process admin = admin_of(&front);
    text = admin_call(&admin, "GET", "/metrics", "", NULL);
    (void)snprintf(name, sizeof(name),
                   "lastcall_upstream_request_failures_total{route=\"default/\",upstream=\""
                   "http://127.0.0.1:%u\",kind=\"connect\"} ",
                   ports[2]);
    assert_contains(text, name);
    (void)snprintf(name, sizeof(name),
                   "lastcall_upstream_connect_seconds_bucket{route=\"default/\",upstream=\""
                   "http://127.0.0.1:%u\",le=\"+Inf\"} ",
                   ports[0]);
    assert_contains(text, name);
    free(text);
}

/* It accepts, reads, and says nothing. */
static void test_one_that_is_half_dead_is_ejected(void **state)
{
    uint16_t ports[UPSTREAMS];
    unsigned counts[4];
    (void)state;
    start_upstreams(2);
    ports_of(ports);
    int half_dead = listen_here(&ports[2], 64);
    start_front("proxy.timeout.first_byte: 300\nproxy.eject: {failures: 3, time: 600000, most: "
                "600000}\n",
                ALL, ports);
    unsigned failed = 0;
    for (unsigned i = 0; i < 100 && !is_state(2, "ejected"); i++)
        failed += who("GET", "") == '-';
    /* On a busy machine another one may be late, too. */
    assert_in_range(failed, 3, 6);
    wait_state(2, "ejected");
    count_who(30, counts);
    assert_int_equal(counts[3], 0);
    (void)close(half_dead);
}

static void test_one_that_flaps_comes_back(void **state)
{
    uint16_t ports[UPSTREAMS];
    unsigned counts[4];
    (void)state;
    start_upstreams(2);
    ports_of(ports);
    uint16_t port = ports[1];
    start_front("proxy.eject: {failures: 1, time: 50, most: 200}\n", TWO, ports);
    for (unsigned round = 0; round < 3; round++) {
        stop_upstream(1);
        for (unsigned i = 0; i < 10; i++)
            assert_int_equal(who("GET", ""), 'a');
        start_upstream(1, port, "");
        unsigned n = 0;
        while (who("GET", "") != 'b' && n++ < 2000)
            (void)poll(NULL, 0, 10);
        wait_state(1, "up");
    }
    count_who(20, counts);
    assert_int_equal(counts[3], 0);
    assert_true(counts[1] > 0);
    process_wait_log(&front, "answers again");
}

/* ---- none is up ---- */

static void test_all_down_is_503_at_once(void **state)
{
    uint16_t ports[UPSTREAMS];
    (void)state;
    for (unsigned i = 0; i < UPSTREAMS; i++)
        ports[i] = free_port();
    start_front("", ALL, ports);
    for (unsigned i = 0; i < 20; i++) {
        char *answer = ask(i % 2 == 0 ? "GET" : "POST", "");
        assert_contains(answer, " 503 ");
        assert_contains(answer, "etry-after: 1\r\n");
        free(answer);
    }
    process_wait_log(&front, "no upstream of default/ is up");
    assert_true(metric("lastcall_upstream_none_total") == 20);
}

static void test_a_request_waits_until_one_is_up(void **state)
{
    uint16_t ports[UPSTREAMS];
    (void)state;
    for (unsigned i = 0; i < UPSTREAMS; i++)
        ports[i] = free_port();
    start_front("proxy.wait: 60000\n", ALL, ports);
    int clients[4];
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = client_connect(&front);
        client_send(clients[i], "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    }
    while (metric("lastcall_upstream_waiting") < 3) /* one may try */
        (void)poll(NULL, 0, 10);
    start_upstream(1, ports[1], "");
    for (unsigned i = 0; i < 4; i++) {
        client_expect(clients[i], " 200 ");
        (void)close(clients[i]);
    }
    assert_true(metric("lastcall_upstream_waiting") == 0);
}

/* And one whose client leaves is forgotten, while the others wait in vain. */
static void test_a_request_waits_in_vain(void **state)
{
    uint16_t ports[UPSTREAMS];
    (void)state;
    for (unsigned i = 0; i < UPSTREAMS; i++)
        ports[i] = free_port();
    start_front("proxy.wait: 300\n", ALL, ports);
    int leaver = client_connect(&front);
    client_send(leaver, GET("/"));
    client_wait_taken(leaver);
    (void)close(leaver);
    uint64_t before_ns = now_ns();
    char *answer = ask("GET", "");
    assert_contains(answer, " 503 ");
    assert_contains(answer, "etry-after: 1\r\n");
    free(answer);
    assert_true(now_ns() - before_ns >= 290 * NS_PER_MS);
    finish(&front);
}

/* A single upstream that is restarted: its requests wait. */
static void test_requests_wait_for_a_single_upstream(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    (void)state;
    start_upstream(0, 0, "");
    ports_of(ports);
    start_front("proxy.wait: 60000\n", "\"http://127.0.0.1:%u/\"", ports);
    assert_int_equal(who("GET", ""), 'a');
    stop_upstream(0);
    int client = client_connect(&front);
    client_send(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    while (metric("lastcall_upstream_waiting") < 1)
        (void)poll(NULL, 0, 1);
    start_upstream(0, ports[0], "");
    client_expect(client, " 200 ");
    (void)close(client);
}

/* ---- checks ---- */

#define CHECKS "proxy.health: {path: /readyz, interval: 20, rise: 1, fall: 2}\n"

static void test_checks_take_down_and_up(void **state)
{
    uint16_t ports[UPSTREAMS];
    unsigned counts[4];
    (void)state;
    start_upstreams(2);
    ports_of(ports);
    ports[2] = free_port();
    start_front(CHECKS, ALL, ports);
    wait_state(2, "down");
    count_who(20, counts);
    assert_int_equal(counts[3], 0);
    start_upstream(2, ports[2], "");
    wait_state(2, "up");
    count_who(30, counts);
    assert_true(counts[2] > 0);
    assert_int_equal(counts[3], 0);
    process_wait_log(&front, " of default/ is up: it answers");
}

/* What a test would like to keep from the load: it has its own thread. */
struct drain_of_one {
    struct process *upstream;
    _Atomic uint64_t answered;
    uint64_t answered_then;
};

static void on_outcome(void *arg, uint64_t number, int status, enum load_outcome outcome)
{
    struct drain_of_one *drain = arg;

    (void)number;
    if (outcome == LOAD_OUTCOME_ANSWERED && status == 200)
        drain->answered++;
}

/* The upstream has ended, and many more requests were answered since. */
static bool is_enough(void *arg)
{
    struct drain_of_one *drain = arg;

    if (!process_is_gone(drain->upstream))
        return false;
    if (drain->answered_then == 0)
        drain->answered_then = drain->answered;
    return drain->answered >= drain->answered_then + 200;
}

static void begin_drain(void *arg)
{
    struct drain_of_one *drain = arg;
    process_signal(drain->upstream, SIGTERM);
}

/* It says that it is not ready, and goes on serving, until nobody comes any more. */
static void test_a_lame_duck_behind_gets_no_request_that_it_refuses(void **state)
{
    static const enum load_protocol protocols[] = {LOAD_HTTP1_KEEPALIVE, LOAD_HTTP1_CLOSE};
    uint16_t ports[UPSTREAMS];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct load_result result;
        start_upstream(0, 0, "");
        start_upstream(1, 0, "drain: {lame-duck: 2s}\n");
        ports_of(ports);
        start_front(CHECKS, TWO, ports);
        struct drain_of_one drain = {.upstream = &upstreams[1]};
        struct load_options load = {.address = front.address,
                                    .protocol = protocols[i],
                                    .connections = 8,
                                    .path = "/",
                                    .pause_ms = 2,
                                    .duration_ms = 60000,
                                    .patience_ms = 20000,
                                    .on_outcome = on_outcome,
                                    .on_outcome_arg = &drain,
                                    .signal_after_ms = 200,
                                    .signal_after_answers = 50,
                                    .on_signal = begin_drain,
                                    .on_signal_arg = &drain,
                                    .is_enough = is_enough,
                                    .is_enough_arg = &drain};
        assert_int_equal(load_run(&load, &result), 0);
        if (result.lost + result.waiting + result.refused > 0 ||
            result.answered_2xx != result.answered)
            fail_msg("%llu lost, %llu not 2xx; %s; log:\n%s", (unsigned long long)result.lost,
                     (unsigned long long)(result.answered - result.answered_2xx), result.first_loss,
                     front.log);
        assert_true(metric("lastcall_upstream_moves_total") == 0);
        process_wait_log(&front, "is down: its answer says that it is not ready");
        process_expect(&upstreams[1], LIMIT_MS, 0);
        process_release(&upstreams[1]);
        stop_upstream(0);
        finish(&front);
    }
}

/* An upstream takes the check, and says nothing: the drain does not wait for it. */
static void test_checks_hold_up_no_drain(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    (void)state;
    int silent = listen_here(&ports[0], 16);
    start_front("proxy.health: {path: /, timeout: 600000}\n", "\"http://127.0.0.1:%u/\"", ports);
    int check = accept(silent, NULL, NULL);
    char *request = client_read_until(check, "\r\n\r\n");
    assert_contains(request, "GET / HTTP/1.1\r\n");
    free(request);
    finish(&front);
    (void)close(check);
    (void)close(silent);
}

/* They may be back, and the request has tried the one that was up. */
static void test_when_the_last_one_goes_those_that_are_ejected_are_tried(void **state)
{
    uint16_t ports[UPSTREAMS] = {free_port(), free_port()};
    unsigned counts[4];
    (void)state;
    start_upstream(2, 0, "");
    ports[2] = upstreams[2].port;
    start_front("proxy.eject: {failures: 3, time: 60000, most: 60000}\n", ALL, ports);
    count_who(20, counts);
    assert_int_equal(counts[2], 20);
    wait_state(0, "ejected");
    wait_state(1, "ejected");
    start_upstream(0, ports[0], "");
    stop_upstream(2);
    assert_int_equal(who("POST", ""), 'a');
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, group_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_one_that_refuses_costs_no_request),
        TEST(test_one_that_is_half_dead_is_ejected),
        TEST(test_one_that_flaps_comes_back),
        TEST(test_all_down_is_503_at_once),
        TEST(test_a_request_waits_until_one_is_up),
        TEST(test_a_request_waits_in_vain),
        TEST(test_requests_wait_for_a_single_upstream),
        TEST(test_checks_take_down_and_up),
        TEST(test_a_lame_duck_behind_gets_no_request_that_it_refuses),
        TEST(test_checks_hold_up_no_drain),
        TEST(test_when_the_last_one_goes_those_that_are_ejected_are_tried),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

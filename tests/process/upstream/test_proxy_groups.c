/* A real process before several upstreams: who gets the requests, and what happens when some of
 * them do not answer. The upstreams are other lastcalls, or sockets of the test's own. */

#include "with_config.h"

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

#define UPSTREAMS 3

static struct process front;
static unsigned front_threads = 2;
static struct process upstreams[UPSTREAMS];

/* ---- upstreams ---- */

/* One whose answers say which it is: 0 is `x-who: a`. */
static void start_upstream(unsigned i, uint16_t port, const char *more)
{
    char text[1024];

    (void)snprintf(
        text, sizeof(text),
        "listen: {host: 127.0.0.1, port: %u}\nnum-threads: 1\n%sheader.set: \"x-who: %c\"\n"
        "hosts: {default: {paths: {/: {handler: hello}, /readyz: {handler: ready}}}}\n",
        port, more, 'a' + (int)i);
    start(&upstreams[i], text);
}

static void start_upstreams(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        start_upstream(i, 0, "");
}

static void stop_upstream(unsigned i)
{
    process_signal(&upstreams[i], SIGTERM);
    process_expect(&upstreams[i], LIMIT_MS, 0);
    process_release(&upstreams[i]);
}

static int tear_down(void **state)
{
    if (front.pid > 0 && front.status < 0)
        finish(&front); /* its end is clean, also for a sanitizer */
    process_release(&front);
    for (unsigned i = 0; i < UPSTREAMS; i++)
        process_release(&upstreams[i]);
    return process_kill_left(state);
}

/* ---- the front ---- */

/* `directives` and `urls` are lines of YAML; each %u in `urls` stands for the next of the ports. */
static void start_front(const char *directives, const char *urls, const uint16_t ports[UPSTREAMS])
{
    char text[2048], list[512];

    (void)snprintf(list, sizeof(list), urls, ports[0], ports[1], ports[2]);
    (void)snprintf(text, sizeof(text),
                   LISTEN "num-threads: %u\n%shosts: {default: {paths: {/: {proxy.reverse.url: "
                          "%s}}}}\n",
                   front_threads, directives, list);
    start_with(&front, text, ARGS("--admin", "127.0.0.1:0"));
}

#define ALL "[\"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\"]"
#define TWO "[\"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\"]"

static void ports_of(uint16_t ports[UPSTREAMS])
{
    for (unsigned i = 0; i < UPSTREAMS; i++)
        ports[i] = upstreams[i].port;
}

/* What the front answers to `method` with `more` fields; all connections are closed after it. */
static char *ask(const char *method, const char *more)
{
    char request[512];

    (void)snprintf(request, sizeof(request),
                   "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n",
                   method, more);
    return client_ask(&front, request);
}

/* Which upstream answers with 200; '-': none does. */
static char who(const char *method, const char *more)
{
    char *answer = ask(method, more);
    const char *at = strstr(answer, "x-who: ");
    char name = strstr(answer, " 200 ") != NULL && at != NULL ? at[7] : '-';

    free(answer);
    return name;
}

/* Who answers `n` requests; [3]: how many are not answered with 200. */
static void count_who(unsigned n, unsigned ret_counts[4])
{
    memset(ret_counts, 0, 4 * sizeof(ret_counts[0]));
    for (unsigned i = 0; i < n; i++) {
        char name = who("GET", "");
        ret_counts[name == '-' ? 3 : name - 'a']++;
    }
}

/* Until /status shows the upstream in that state (NULL: in any), and with no requests if `is_idle`.
 */
static void wait_for(size_t i, const char *state, bool is_idle)
{
    struct process admin = admin_of(&front);

    for (unsigned tries = 0; tries < 2000; tries++) {
        json_t *status = admin_status(&admin);
        const json_t *one = json_array_get(admin_at(status, "upstreams"), i);
        const char *now = json_string_value(json_object_get(one, "state"));
        bool is_it = (state == NULL || strcmp(now, state) == 0) &&
                     (!is_idle || json_integer_value(json_object_get(one, "in_flight")) == 0);
        json_decref(status);
        if (is_it)
            return;
        (void)poll(NULL, 0, 10);
    }
    fail_msg("upstream %zu is not %s", i, state != NULL ? state : "idle");
}

static void wait_state(size_t i, const char *want)
{
    wait_for(i, want, false);
}

static void wait_idle(size_t i)
{
    wait_for(i, NULL, true);
}

static double metric(const char *name)
{
    struct process admin = admin_of(&front);
    return admin_metric(&admin, name);
}

/* ---- who gets them ---- */

static void test_requests_go_in_turn_by_weight(void **state)
{
    uint16_t ports[UPSTREAMS];
    unsigned counts[4];
    (void)state;
    start_upstreams(3);
    ports_of(ports);
    start_front("",
                "[\"http://127.0.0.1:%u/\", {url: \"http://127.0.0.1:%u/\", weight: 4}, "
                "{url: \"http://127.0.0.1:%u/\", backup: ON}]",
                ports);
    count_who(100, counts);
    /* Each of two loops has its own turns. */
    assert_in_range(counts[0], 18, 22);
    assert_in_range(counts[1], 78, 82);
    assert_int_equal(counts[2] + counts[3], 0);
    for (unsigned i = 0; i < 2; i++) { /* with its weight gone, the backup is next */
        stop_upstream(i);
        assert_int_not_equal(who("GET", ""), '-');
    }
    assert_int_equal(who("GET", ""), 'c');
}

static void test_a_key_stays_with_its_upstream(void **state)
{
    static const struct {
        const char *balance, *field;
    } forms[] = {{"hash(cookie who)", "Cookie: a=b; who=%u; c=d\r\n"},
                 {"hash(header X-Who)", "x-who: %u\r\n"},
                 {"hash(client)", "X-Forwarded-For: 10.0.0.9, 192.0.2.%u\r\n"}};
    uint16_t ports[UPSTREAMS];
    (void)state;
    start_upstreams(3);
    ports_of(ports);
    for (size_t form = 0; form < 3; form++) {
        char directives[128], more[64];
        unsigned seen = 0;
        (void)snprintf(directives, sizeof(directives),
                       "trusted-proxies: 127.0.0.1\nproxy.balance: %s\n", forms[form].balance);
        start_front(directives, ALL, ports);
        for (unsigned key = 0; key < 20; key++) {
            (void)snprintf(more, sizeof(more), forms[form].field, key);
            char name = who("GET", more);
            assert_in_range(name, 'a', 'c');
            seen |= 1U << (name - 'a');
            for (unsigned again = 0; again < 3; again++)
                assert_int_equal(who("GET", more), name);
        }
        assert_int_equal(seen, 7);
        finish(&front);
    }
}

/* As if one field had all their values: so it does not matter who puts them together. */
static void test_several_fields_of_a_name_are_one_key(void **state)
{
    uint16_t ports[UPSTREAMS];
    char more[64];
    unsigned seen = 0;
    (void)state;
    start_upstreams(3);
    ports_of(ports);
    start_front("proxy.balance: hash(header X-Who)\n", ALL, ports);
    for (unsigned key = 0; key < 20; key++) {
        (void)snprintf(more, sizeof(more), "x-who: a\r\nx-other: b\r\nX-Who: %u\r\n", key);
        char name = who("GET", more);
        assert_in_range(name, 'a', 'c');
        seen |= 1U << (name - 'a');
        (void)snprintf(more, sizeof(more), "X-WHO: a, %u\r\n", key);
        assert_int_equal(who("GET", more), name);
    }
    assert_int_equal(seen, 7);
}

/* Both requests are under way at once, so the second one goes to the other upstream. */
static void test_the_one_with_fewer_requests_gets_the_next(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    int listeners[2], clients[4], conns[2][2];
    (void)state;
    for (unsigned i = 0; i < 2; i++)
        listeners[i] = listen_here(&ports[i], 16);
    start_front("proxy.balance: least-connections\n", TWO, ports);
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = client_connect(&front);
        client_send(clients[i], GET("/"));
        struct process admin = admin_of(&front);
        admin_wait_number(&admin, "requests.in_flight", i + 1);
    }
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 2; k++) {
            struct pollfd ready = {.fd = listeners[i], .events = POLLIN};
            assert_int_equal(poll(&ready, 1, LIMIT_MS), 1);
            conns[i][k] = accept(listeners[i], NULL, NULL);
            assert_true(conns[i][k] >= 0);
        }
    for (unsigned i = 0; i < 4; i++)
        (void)close(clients[i]);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(conns[i][0]);
        (void)close(conns[i][1]);
        (void)close(listeners[i]);
    }
}

/* The next connection that the front makes. Returns which of the two has got it. */
static unsigned take_conn(const int listeners[2], int *ret_conn)
{
    struct pollfd ready[2] = {{.fd = listeners[0], .events = POLLIN},
                              {.fd = listeners[1], .events = POLLIN}};

    assert_true(poll(ready, 2, LIMIT_MS) > 0);
    unsigned which = ready[0].revents != 0 ? 0 : 1;
    *ret_conn = accept(listeners[which], NULL, NULL);
    assert_true(*ret_conn >= 0);
    free(client_read_until(*ret_conn, "\r\n\r\n"));
    return which;
}

static unsigned open_tunnel(const int listeners[2], int *ret_client, int *ret_conn)
{
    *ret_client = client_connect(&front);
    client_send(*ret_client, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\n\r\n");
    unsigned which = take_conn(listeners, ret_conn);
    client_send(*ret_conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\n\r\nfirst");
    free(client_read_until(*ret_client, "first"));
    return which;
}

/* A tunnel to the first, a request to the other: in turn the first would be the next. */
static void test_a_tunnel_counts_as_long_as_it_is_open(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    int listeners[2], clients[2], conns[2], conn;
    (void)state;
    for (unsigned i = 0; i < 2; i++)
        listeners[i] = listen_here(&ports[i], 16);
    front_threads = 1;
    start_front("proxy.balance: least-connections\nproxy.websocket: ON\n", TWO, ports);
    front_threads = 2;
    unsigned first = open_tunnel(listeners, &clients[0], &conns[0]);
    int client = client_connect(&front);
    client_send(client, GET("/"));
    assert_int_equal(take_conn(listeners, &conn), 1 - first);
    client_send(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    client_expect(client, " 200 ");
    assert_int_equal(open_tunnel(listeners, &clients[1], &conns[1]), 1 - first);
    for (unsigned i = 0; i < 2; i++) {
        (void)close(clients[i]);
        (void)close(conns[i]);
        (void)close(listeners[i]);
    }
    (void)close(client);
    (void)close(conn);
    for (unsigned i = 0; i < 2; i++)
        wait_idle(i);
}

/* ---- what they see ---- */

static void expect_host_and_location(int listener, uint16_t port)
{
    char host[64], reply[256], location[128];
    int client = client_connect(&front);

    client_send(client, "GET /a HTTP/1.1\r\nHost: client.test\r\nConnection: close\r\n\r\n");
    int conn = accept(listener, NULL, NULL);
    char *request = client_read_until(conn, "\r\n\r\n");
    (void)snprintf(host, sizeof(host), "\r\nhost: 127.0.0.1:%u\r\n", port);
    assert_contains(request, host);
    assert_contains(request, "GET /base/a HTTP/1.1\r\n");
    free(request);
    (void)snprintf(reply, sizeof(reply),
                   "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%u/base/there\r\n"
                   "Content-Length: 0\r\nConnection: close\r\n\r\n",
                   port);
    client_send(conn, reply);
    char *answer = client_read_until(client, "\r\n\r\n");
    (void)snprintf(location, sizeof(location), "ocation: http://client.test/there\r\n");
    assert_contains(answer, location);
    free(answer);
    (void)close(conn);
    (void)close(client);
}

static void test_host_and_location_are_those_of_the_one_that_answers(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    (void)state;
    int refusing = listen_here(&ports[0], 1);
    (void)close(refusing); /* so that each request goes on to the second one */
    int listener = listen_here(&ports[1], 16);
    start_front("", "[\"http://127.0.0.1:%u/base/\", \"http://127.0.0.1:%u/base/\"]", ports);
    for (unsigned i = 0; i < 6; i++)
        expect_host_and_location(listener, ports[1]);
    (void)close(listener);
}

/* The answer of the upstream that gets the next request, with this Location. Returns its head. */
static char *redirect_at(int listener, const char *request, const char *location)
{
    char reply[256];
    int client = client_connect(&front);

    client_send(client, request);
    int conn = accept(listener, NULL, NULL);
    free(client_read_until(conn, "\r\n\r\n"));
    (void)snprintf(reply, sizeof(reply),
                   "HTTP/1.1 201 Created\r\nLocation: %s\r\nContent-Length: 0\r\n"
                   "Connection: close\r\n\r\n",
                   location);
    client_send(conn, reply);
    char *answer = client_read_until(client, "\r\n\r\n");
    (void)close(conn);
    (void)close(client);
    return answer;
}

/* The second upstream answers, and names itself or the first one, with or without TLS; or another
 * place. */
static void test_a_location_of_any_upstream_is_rewritten(void **state)
{
    static const struct {
        const char *location;
        unsigned of;
        const char *want;
    } cases[] = {
        {"http://127.0.0.1:%u/base/x", 1, "http://client.test/x"},
        {"http://127.0.0.1:%u/base/x", 0, "http://client.test/x"},
        {"https://127.0.0.1:%u/base/x?y", 1, "http://client.test/x?y"},
        {"https://127.0.0.1:%u/base/x", 0, "http://client.test/x"},
        {"http://127.0.0.1:%u/other", 1, NULL},
        {"http://127.0.0.1:1/base/x", 1, NULL},
        {"ftp://127.0.0.1:%u/base/x", 1, NULL},
    };
    uint16_t ports[UPSTREAMS] = {0};
    char location[64], want[128];
    (void)state;
    int refusing = listen_here(&ports[0], 1);
    (void)close(refusing); /* so that each request goes on to the second one */
    int listener = listen_here(&ports[1], 16);
    start_front("", "[\"http://127.0.0.1:%u/base/\", \"http://127.0.0.1:%u/base/\"]", ports);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(location, sizeof(location), cases[i].location, ports[cases[i].of]);
        (void)snprintf(want, sizeof(want), "ocation: %s\r\n",
                       cases[i].want != NULL ? cases[i].want : location);
        char *answer = redirect_at(
            listener, "GET /a HTTP/1.1\r\nHost: client.test\r\nConnection: close\r\n\r\n",
            location);
        assert_contains(answer, want);
        free(answer);
    }
    (void)close(listener);
}

/* A path may end with a slash in the configuration, and that of the URL not, or the other way
 * round.
 */
static void test_a_location_is_below_the_path_of_its_route(void **state)
{
    static const struct {
        const char *path, *base, *location, *want;
    } cases[] = {
        {"/app", "/", "/x", "/app/x"},           {"/app/", "/", "/x", "/app/x"},
        {"/app", "/base/", "/base/x", "/app/x"}, {"/app/", "/base", "/base/x", "/app/x"},
        {"/app", "/base", "/base/x", "/app/x"},  {"/app", "/base", "/base", "/app"},
        {"/app", "/base", "/base?y", "/app?y"},  {"/app", "/", "/", "/app/"},
        {"/app", "/base", "/basement", NULL},
    };
    uint16_t port;
    char text[512], location[64], want[96];
    (void)state;
    int listener = listen_here(&port, 16);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(text, sizeof(text),
                       LISTEN "hosts: {default: {paths: {%s: {proxy.reverse.url: "
                              "\"http://127.0.0.1:%u%s\"}}}}\n",
                       cases[i].path, port, cases[i].base);
        start(&front, text);
        (void)snprintf(location, sizeof(location), "http://127.0.0.1:%u%s", port,
                       cases[i].location);
        (void)snprintf(want, sizeof(want), "ocation: %s%s\r\n",
                       cases[i].want != NULL ? "http://client.test" : "",
                       cases[i].want != NULL ? cases[i].want : location);
        char *answer = redirect_at(
            listener, "GET /app/a HTTP/1.1\r\nHost: client.test\r\nConnection: close\r\n\r\n",
            location);
        assert_contains(answer, want);
        free(answer);
        finish(&front);
    }
    (void)close(listener);
}

/* The server follows redirects of an answer that it was told to fetch, within the route. */
static void test_a_redirect_to_another_upstream_is_followed_in_the_route(void **state)
{
    uint16_t ports[UPSTREAMS] = {0};
    char text[1024], reply[256];
    (void)state;
    int refusing = listen_here(&ports[0], 1);
    (void)close(refusing);
    int listener = listen_here(&ports[1], 16);
    (void)snprintf(text, sizeof(text),
                   LISTEN "num-threads: 1\nhosts:\n  default:\n    paths:\n"
                          "      /in: {redirect: {url: /app, internal: YES, status: 307}}\n"
                          "      /app/:\n        proxy.header.set: \"x-route: app\"\n"
                          "        proxy.reverse.url: [\"http://127.0.0.1:%u/base/\", "
                          "\"http://127.0.0.1:%u/base/\"]\n",
                   ports[0], ports[1]);
    start_with(&front, text, ARGS("--admin", "127.0.0.1:0"));
    int client = client_connect(&front);
    client_send(client, "GET /in/a HTTP/1.1\r\nHost: client.test\r\nConnection: close\r\n\r\n");
    int conn = accept(listener, NULL, NULL);
    char *request = client_read_until(conn, "\r\n\r\n");
    assert_contains(request, "GET /base/a HTTP/1.1\r\n");
    free(request);
    (void)snprintf(reply, sizeof(reply),
                   "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%u/base/next\r\n"
                   "Content-Length: 0\r\nConnection: close\r\n\r\n",
                   ports[0]); /* which is not there */
    client_send(conn, reply);
    (void)close(conn);
    conn = accept(listener, NULL, NULL);
    request = client_read_until(conn, "\r\n\r\n");
    assert_contains(request, "GET /base/next HTTP/1.1\r\n");
    assert_contains(request, "x-route: app\r\n");
    free(request);
    (void)snprintf(reply, sizeof(reply),
                   "HTTP/1.1 201 Created\r\nLocation: http://127.0.0.1:%u/base/made\r\n"
                   "Content-Length: 0\r\nConnection: close\r\n\r\n",
                   ports[0]);
    client_send(conn, reply);
    char *answer = client_read_until(client, "\r\n\r\n");
    assert_contains(answer, " 201 ");
    assert_contains(answer, "ocation: http://client.test/app/made\r\n");
    free(answer);
    (void)close(conn);
    (void)close(client);
    (void)close(listener);
}

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
    start_front("proxy.timeout.first_byte: 50\nproxy.eject: {failures: 3, time: 600000, most: "
                "600000}\n",
                ALL, ports);
    unsigned failed = 0;
    for (unsigned i = 0; i < 100 && failed < 3; i++)
        failed += who("GET", "") == '-';
    assert_int_equal(failed, 3);
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
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_requests_go_in_turn_by_weight),
        TEST(test_a_key_stays_with_its_upstream),
        TEST(test_the_one_with_fewer_requests_gets_the_next),
        TEST(test_a_tunnel_counts_as_long_as_it_is_open),
        TEST(test_host_and_location_are_those_of_the_one_that_answers),
        TEST(test_a_location_of_any_upstream_is_rewritten),
        TEST(test_a_location_is_below_the_path_of_its_route),
        TEST(test_a_redirect_to_another_upstream_is_followed_in_the_route),
        TEST(test_several_fields_of_a_name_are_one_key),
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

/* A real process before several upstreams: which of them gets a request. */

#include "with_group.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "loopback.h"

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

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, group_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_requests_go_in_turn_by_weight),
        TEST(test_a_key_stays_with_its_upstream),
        TEST(test_the_one_with_fewer_requests_gets_the_next),
        TEST(test_a_tunnel_counts_as_long_as_it_is_open),
        TEST(test_several_fields_of_a_name_are_one_key),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

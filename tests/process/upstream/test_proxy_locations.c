/* A real process before several upstreams: the host that they are asked for, and their Location
 * fields. The second of two answers, because nobody listens at the first. */

#include "with_group.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"

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
    uint16_t ports[UPSTREAMS] = {free_port()}; /* each request goes on to the second one */
    (void)state;
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
    uint16_t ports[UPSTREAMS] = {free_port()}; /* each request goes on to the second one */
    char location[64], want[128];
    (void)state;
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
    uint16_t ports[UPSTREAMS] = {free_port()}; /* each request goes on to the second one */
    char text[1024], reply[256];
    (void)state;
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

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, group_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_host_and_location_are_those_of_the_one_that_answers),
        TEST(test_a_location_of_any_upstream_is_rewritten),
        TEST(test_a_location_is_below_the_path_of_its_route),
        TEST(test_a_redirect_to_another_upstream_is_followed_in_the_route),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

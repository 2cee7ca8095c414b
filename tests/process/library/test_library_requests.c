/* Requests and whole answers through a server that runs, by HTTP/1.1 and by HTTP/2. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "library_client.h"
#include "with_library.h"

static struct library_log logged;
static lc_server *server;
static lc_req *stale;

/* ---- handlers ---- */

static const char *or_none(const char *text)
{
    return text != NULL ? text : "none";
}

static void echo(lc_req *r, void *user)
{
    size_t bytes;
    const char *body = lc_body(r, &bytes), *name, *value;
    size_t fields = 0;

    while (lc_header_at(r, fields, &name, &value) == LC_OK)
        fields++;
    (void)lc_set_header(r, "X-User", user);
    (void)lc_add_header(r, "Set-Cookie", "a=1");
    (void)lc_add_header(r, "Set-Cookie", "b=2");
    (void)lc_sendf(r, 201, "text/plain",
                   "method=%s\npath=%s\ntarget=%s\nhost=%s\nid=%s\nrest=%s\nquery=%s\nform=%s\n"
                   "accept=%s\ncookie=%s\nhttps=%d\nversion=%d\npeer=%s\nclient=%s\n"
                   "fields>2=%d\nbody=%.*s\n",
                   lc_method(r), lc_path(r), lc_target(r), lc_host(r), or_none(lc_param(r, "id")),
                   or_none(lc_param(r, "rest")), or_none(lc_query(r, "q")),
                   or_none(lc_form(r, "f")), or_none(lc_header(r, "Accept")),
                   or_none(lc_cookie(r, "c")), lc_is_https(r), lc_http_version(r), lc_peer(r),
                   lc_client(r), fields > 2, (int)bytes, body);
}

static void large(lc_req *r, void *user)
{
    size_t bytes = 3000000;
    char *text = malloc(bytes);

    (void)user;
    memset(text, 'x', bytes);
    (void)lc_send_owned(r, 200, "text/plain", text, bytes, free, text);
}

static void nothing(lc_req *r, void *user)
{
    (void)r, (void)user;
}

static void twice(lc_req *r, void *user)
{
    (void)user;
    (void)lc_send(r, 200, NULL, "first");
    (void)lc_send(r, 200, NULL, "second");
}

static void split(lc_req *r, void *user)
{
    (void)user;
    (void)lc_set_header(r, "x-from", lc_query(r, "v"));
    (void)lc_send(r, 200, NULL, "sent");
}

static void *use_elsewhere(void *handle)
{
    return lc_send(handle, 200, NULL, "elsewhere") == LC_E_THREAD ? handle : NULL;
}

static void misuse(lc_req *r, void *user)
{
    pthread_t thread;
    void *refused = NULL;

    (void)user;
    bool is_stale_refused = stale == NULL || lc_send(stale, 200, NULL, "stale") == LC_E_THREAD;
    stale = r;
    if (pthread_create(&thread, NULL, use_elsewhere, r) == 0)
        (void)pthread_join(thread, &refused);
    (void)lc_send(r, 200, NULL, is_stale_refused && refused == r ? "refused" : "taken");
}

static void stop_here(lc_req *r, void *user)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    (void)user;
    (void)lc_sendf(r, 200, NULL, "%d %d %d", lc_shutdown(server, 0, NULL) == LC_E_THREAD,
                   lc_free(server) == LC_E_THREAD,
                   lc_call(server, "GET /echo", NULL, NULL, 0, &answer) == LC_E_THREAD);
}

static void fail_it(lc_req *r, void *user)
{
    (void)user;
    (void)lc_fail(r, 502, "the database is away");
}

static void sleep_long(lc_req *r, void *user)
{
    (void)user;
    (void)lc_sendf(r, 200, NULL, "%d", lc_sleep(r, 60000));
}

static void guard(lc_req *r, void *user)
{
    (void)user;
    if (lc_query(r, "key") == NULL) {
        (void)lc_send(r, 401, NULL, "no key");
        return;
    }
    lc_next(r);
    (void)lc_set_header(r, "x-guarded", "1");
}

static void *begin(unsigned worker, void *user)
{
    unsigned *own = malloc(sizeof(*own));

    (void)user;
    *own = worker + 100;
    return own;
}

static void end(void *own, void *user)
{
    (void)user;
    free(own);
}

static void use_own(lc_req *r, void *user)
{
    const unsigned *own = lc_own(r);

    (void)user;
    (void)lc_sendf(r, 200, NULL, "%s", own != NULL && *own >= 100 ? "own" : "none");
}

/* ---- the server ---- */

static int set_up(void **state)
{
    struct lc_route_options limits = LC_ROUTE_OPTIONS_INIT, quick = LC_ROUTE_OPTIONS_INIT,
                            on_loop = LC_ROUTE_OPTIONS_INIT;

    if (library_group_setup(state) != 0)
        return -1;
    server = library_new(&logged);
    limits.max_body = 10;
    quick.timeout_ms = 100;
    on_loop.flags = LC_INLINE;
    (void)lc_set(server, "trusted-proxies", "127.0.0.0/8");
    (void)lc_each_worker(server, begin, end, NULL);
    (void)lc_use(server, "/guarded", guard, NULL);
    (void)lc_handle(server, "/echo/{id}/{rest...}", echo, "echo");
    (void)lc_handle(server, "/guarded/{rest...}", echo, "guarded");
    (void)lc_handle(server, "GET /only-get", echo, "get");
    (void)lc_handle(server, "DELETE /only-get", echo, "delete");
    (void)lc_handle(server, "/large", large, NULL);
    (void)lc_handle(server, "/nothing", nothing, NULL);
    (void)lc_handle(server, "/twice", twice, NULL);
    (void)lc_handle(server, "/split", split, NULL);
    (void)lc_handle(server, "/misuse", misuse, NULL);
    (void)lc_handle(server, "/stop-here", stop_here, NULL);
    (void)lc_handle(server, "/fail", fail_it, NULL);
    (void)lc_handle(server, "/own", use_own, NULL);
    (void)lc_handle_with(server, "/inline", use_own, NULL, &on_loop);
    (void)lc_handle_with(server, "/small", echo, "small", &limits);
    (void)lc_handle_with(server, "/quick", sleep_long, NULL, &quick);
    int result = lc_start(server);
    if (result != LC_OK)
        print_error("%s: %s\n", lc_strerror(result), lc_errmsg(server));
    return result != LC_OK || library_client_begin(lc_port(server)) != 0;
}

static int tear_down(void **state)
{
    library_client_end();
    return lc_free(server) != LC_OK || library_group_teardown(state) != 0;
}

/* ---- the tests; `*state` is the protocol ---- */

static void test_what_a_handler_reads(void **state)
{
    static const char *const fields[] = {"Accept: a",
                                         "accept: b",
                                         "Cookie: c=1; d=2",
                                         "X-Forwarded-For: 198.51.100.7",
                                         "Content-Type: application/x-www-form-urlencoded",
                                         NULL};
    char host[64], line[64];

    library_ask_for(*state, "POST", "/echo/a%20b/./x/../c%2Fd?q=1+2", fields, "f=x%21&g", 8);
    assert_int_equal(got.status, 201);
    assert_contains(got.body, "method=POST\n");
    assert_contains(got.body, "\npath=/echo/a b/c/d\n");
    assert_contains(got.body, "\ntarget=/echo/a%20b/./x/../c%2Fd?q=1+2\n");
    (void)snprintf(host, sizeof(host), "\nhost=127.0.0.1:%d\n", lc_port(server));
    assert_contains(got.body, host);
    assert_contains(got.body, "\nid=a b\nrest=c/d\nquery=1 2\nform=x!\naccept=a, b\ncookie=1\n");
    (void)snprintf(line, sizeof(line), "\nhttps=0\nversion=%d\n", library_version(*state));
    assert_contains(got.body, line);
    assert_contains(got.body, "\npeer=127.0.0.1\nclient=198.51.100.7\nfields>2=1\nbody=f=x%21&g\n");
    assert_contains(got.headers, "x-user: echo\r\n");
    assert_contains(got.headers, "set-cookie: a=1\r\nset-cookie: b=2\r\n");
    assert_contains(got.headers, "content-type: text/plain\r\n");
    assert_contains(got.headers, "content-length: ");
}

static void test_a_head_request(void **state)
{
    library_ask_for(*state, "HEAD", "/only-get", NULL, NULL, 0);
    assert_int_equal(got.status, 201);
    assert_int_equal(got.size, 0);
    assert_contains(got.headers, "content-length: ");
}

static void test_another_method(void **state)
{
    library_ask_for(*state, "PUT", "/only-get", NULL, "x", 1);
    assert_int_equal(got.status, 405);
    assert_contains(got.headers, "allow: DELETE, GET, HEAD\r\n");
    library_ask_for(*state, "GET", "/no/such/route", NULL, NULL, 0);
    assert_int_equal(got.status, 404);
    library_ask_for(*state, "GET", "/hello", NULL, NULL, 0); /* of the configuration */
    assert_int_equal(got.status, 200);
}

static void test_a_large_answer_and_a_large_body(void **state)
{
    char *body = malloc(2000000);

    library_ask_for(*state, "GET", "/large", NULL, NULL, 0);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.size, 3000000);
    memset(body, 'y', 2000000);
    library_ask_for(*state, "PUT", "/echo/a/b", NULL, body, 2000000);
    assert_int_equal(got.status, 201);
    assert_true(got.size > 2000000);
    assert_contains(got.body, "yyyy\n");
    library_ask_for(*state, "PUT", "/small", NULL, body, 10);
    assert_int_equal(got.status, 201);
    library_ask_for(*state, "PUT", "/small", NULL, body, 11);
    assert_int_equal(got.status, 413);
    free(body);
}

/* Its header is enough: the body does not have to come. */
static void test_a_body_beyond_the_limit_is_refused_at_once(void **state)
{
    int fd = library_connect(lc_port(server));
    char text[256];

    (void)state;
    int n = snprintf(text, sizeof(text),
                     "PUT /echo/a/b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n",
                     (16 << 20) + 1);
    assert_int_equal(write(fd, text, (size_t)n), n);
    assert_int_equal(library_answer(fd), 413);
}

static void test_handlers_that_do_not_answer_well(void **state)
{
    library_ask_for(*state, "GET", "/nothing", NULL, NULL, 0);
    assert_int_equal(got.status, 500);
    assert_string_equal(got.body, "500 Internal Server Error\n");
    library_ask_for(*state, "GET", "/twice", NULL, NULL, 0);
    assert_string_equal(got.body, "first");
    library_ask_for(*state, "GET", "/split?v=a%0d%0ax-injected:%201", NULL, NULL, 0);
    assert_int_equal(got.status, 500);
    assert_lacks(got.headers, "x-injected");
    library_ask_for(*state, "GET", "/split?v=a", NULL, NULL, 0);
    assert_contains(got.headers, "x-from: a\r\n");
    library_ask_for(*state, "GET", "/fail", NULL, NULL, 0);
    assert_int_equal(got.status, 502);
    assert_string_equal(got.body, "502 Bad Gateway\n");
}

static void test_calls_from_where_they_may_not_come(void **state)
{
    for (int i = 0; i < 3; i++) {
        library_ask_for(*state, "GET", "/misuse", NULL, NULL, 0);
        assert_string_equal(got.body, "refused");
    }
    library_ask_for(*state, "GET", "/stop-here", NULL, NULL, 0);
    assert_string_equal(got.body, "1 1 1");
}

static void test_a_limit_of_time(void **state)
{
    library_ask_for(*state, "GET", "/quick", NULL, NULL, 0);
    assert_int_equal(got.status, 503);
}

static void test_middleware_around_a_route(void **state)
{
    library_ask_for(*state, "GET", "/x/..%2f../guarded/a", NULL, NULL, 0);
    assert_int_equal(got.status, 404); /* an encoded slash parts no segments */
    library_ask_for(*state, "GET", "/x/%2e%2e/%67uarded/a", NULL, NULL, 0);
    assert_int_equal(got.status, 401);
    library_ask_for(*state, "GET", "/guarded/a?key", NULL, NULL, 0);
    assert_int_equal(got.status, 201);
    assert_contains(got.headers, "x-guarded: 1\r\n");
}

static void test_what_each_worker_has(void **state)
{
    library_ask_for(*state, "GET", "/own", NULL, NULL, 0);
    assert_string_equal(got.body, "own");
    library_ask_for(*state, "GET", "/inline", NULL, NULL, 0);
    assert_string_equal(got.body, "none");
}

static void test_a_call_without_a_socket(void **state)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    (void)state;
    assert_int_equal(lc_call(server, "GET /own", NULL, NULL, 0, &answer), LC_OK);
    assert_string_equal(answer.body, "own");
    lc_answer_free(&answer);
    assert_int_equal(lc_call(server, "GET /fail?called", NULL, NULL, 0, &answer), LC_OK);
    assert_int_equal(answer.status, 502);
    lc_answer_free(&answer);
}

/* The last one: the server has ended, so nothing writes any more. */
static void test_the_log(void **state)
{
    (void)state;
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_int_equal(lc_free(server), LC_OK);
    server = NULL;
    assert_contains(logged.text, "no-answer: GET /nothing (route /nothing): ");
    assert_int_equal(count_in(logged.text, "answered-twice: "), 1);
    assert_contains(logged.text, "answer-failed: GET /split?v=a%0d%0ax-injected:%201 ");
    assert_contains(logged.text, "handler-failed: GET /fail: 502: the database is away");
    assert_contains(logged.text, "handler-failed: GET /fail?called: 502: the database is away");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_what_a_handler_reads),
        BOTH(test_a_head_request),
        BOTH(test_another_method),
        BOTH(test_a_large_answer_and_a_large_body),
        BOTH(test_handlers_that_do_not_answer_well),
        BOTH(test_calls_from_where_they_may_not_come),
        BOTH(test_a_limit_of_time),
        BOTH(test_middleware_around_a_route),
        BOTH(test_what_each_worker_has),
        cmocka_unit_test(test_a_body_beyond_the_limit_is_refused_at_once),
        cmocka_unit_test(test_a_call_without_a_socket),
        cmocka_unit_test(test_the_log),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* What a handler reads of its request. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lc_p.h"
#include "library_double.h"

static lc_server *server;
static void (*look)(lc_req *r); /* what the handler looks at */

static void handler(lc_req *r, void *user)
{
    assert_string_equal(user, "user");
    look(r);
    assert_int_equal(lc_send(r, 200, NULL, "looked"), 0);
}

static int set_up(void **state)
{
    (void)state;
    server = lc_new();
    (void)lc_handle(server, "/{one}/{rest...}", handler, "user");
    (void)lc_handle(server, "/", handler, "user");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return lc_free(server);
}

static void with(const char *request, const char *headers, const char *body,
                 void (*function)(lc_req *r))
{
    struct lc_answer answer = LC_ANSWER_INIT;

    look = function;
    assert_int_equal(
        lc_call(server, request, headers, body, body != NULL ? strlen(body) : 0, &answer), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "looked");
    lc_answer_free(&answer);
}

static void look_at_line(lc_req *r)
{
    assert_string_equal(lc_method(r), "PATCH");
    assert_string_equal(lc_target(r), "/a%20b/./x/../c%2Fd?q=1");
    assert_string_equal(lc_path(r), "/a b/c/d");
    assert_string_equal(lc_host(r), "example.org:8080");
    assert_string_equal(lc_header(r, "Host"), "example.org:8080");
    assert_string_equal(lc_param(r, "one"), "a b");
    assert_string_equal(lc_param(r, "rest"), "c/d");
    assert_ptr_equal(lc_param(r, "rest"), lc_param(r, "rest"));
    assert_null(lc_param(r, "two"));
    assert_string_equal(lc_query(r, "q"), "1");
    assert_int_equal(lc_http_version(r), 11);
    assert_int_equal(lc_is_https(r), 0);
    assert_string_equal(lc_peer(r), "127.0.0.1");
    assert_string_equal(lc_client(r), "127.0.0.1");
}

static void test_the_request_line(void **state)
{
    (void)state;
    with("PATCH /a%20b/./x/../c%2Fd?q=1", "host: example.org:8080", NULL, look_at_line);
}

static void look_at_path(lc_req *r)
{
    assert_string_equal(lc_path(r), "/etc/passwd");
    assert_string_equal(lc_param(r, "one"), "files");
    assert_string_equal(lc_param(r, "rest"), "../../etc/passwd"); /* as the client meant it */
}

static void test_encoded_dots_do_not_lead_out_of_the_path(void **state)
{
    (void)state;
    with("GET /files/..%2f%2e%2e%2Fetc/passwd", NULL, NULL, look_at_path);
}

static void look_at_fields(lc_req *r)
{
    const char *name, *value;

    assert_string_equal(lc_header(r, "ACCEPT"), "a, b");
    assert_ptr_equal(lc_header(r, "accept"), lc_header(r, "accept"));
    assert_string_equal(lc_header(r, "Cookie"), "x=1; y=2");
    assert_string_equal(lc_header(r, "cookie"), "x=1; y=2");
    assert_string_equal(lc_header(r, "x-empty"), "");
    assert_null(lc_header(r, "x-none"));
    assert_string_equal(lc_cookie(r, "y"), "2");
    assert_string_equal(lc_cookie(r, "x"), "1");
    assert_ptr_equal(lc_cookie(r, "x"), lc_cookie(r, "x"));
    assert_null(lc_cookie(r, "z"));
    assert_int_equal(lc_header_at(r, 1, &name, &value), 0);
    assert_string_equal(name, "cookie");
    assert_string_equal(value, "x=1");
    assert_int_equal(lc_header_at(r, 4, NULL, NULL), 0);
    assert_int_equal(lc_header_at(r, 5, &name, &value), LC_E_ARG);
}

static void test_header_fields_and_cookies(void **state)
{
    (void)state;
    with("GET /", "Accept: a\r\nCookie: x=1\r\nACCEPT:b\r\nCookie: y=2\r\nX-Empty:\r\n", NULL,
         look_at_fields);
}

static void look_at_query(lc_req *r)
{
    assert_string_equal(lc_query(r, "name"), "Ada L");
    assert_ptr_equal(lc_query(r, "name"), lc_query(r, "name"));
    assert_string_equal(lc_query(r, "flag"), "");
    assert_null(lc_query(r, "age"));
    assert_null(lc_form(r, "name")); /* the body is no form */
}

static void test_the_query(void **state)
{
    (void)state;
    with("GET /?flag&name=Ada+L&name=B", NULL, NULL, look_at_query);
    with("GET /?flag&name=Ada+L", "content-type: text/plain", "name=C", look_at_query);
}

static void look_at_form(lc_req *r)
{
    assert_string_equal(lc_form(r, "name"), "Grace H");
    assert_string_equal(lc_query(r, "name"), "Ada");
    assert_null(lc_form(r, "age"));
}

static void test_a_form(void **state)
{
    (void)state;
    with("POST /?name=Ada", "Content-Type: application/x-www-form-urlencoded", "name=Grace%20H&x=1",
         look_at_form);
    with("POST /?name=Ada", "Content-Type: Application/X-WWW-form-urlencoded; charset=utf-8",
         "name=Grace+H", look_at_form);
}

/* "NAME=VALUE|" for each, in their order. */
static void assert_pairs(lc_req *r,
                         int (*at)(lc_req *r, size_t i, const char **name, const char **value),
                         const char *want)
{
    const char *name, *value, *again;
    char text[512] = "";
    size_t i = 0;

    for (; at(r, i, &name, &value) == 0; i++) {
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s=%s|", name, value);
        assert_int_equal(at(r, i, NULL, &again), 0);
        assert_ptr_equal(again, value);
    }
    assert_string_equal(text, want);
    assert_int_equal(at(r, i, &name, &value), LC_E_ARG);
    assert_int_equal(at(r, SIZE_MAX, NULL, NULL), LC_E_ARG);
}

static void look_at_pairs(lc_req *r)
{
    assert_pairs(r, lc_query_at, "tag=a b|flag=|tag=c&d||=x|tag=|n%00=%00%|");
    assert_pairs(r, lc_form_at, "tag=1|tag=2=3|");
    assert_string_equal(lc_query(r, "tag"), "a b");
    assert_string_equal(lc_form(r, "tag"), "1");
}

static void look_at_no_pairs(lc_req *r)
{
    assert_pairs(r, lc_query_at, "");
    assert_pairs(r, lc_form_at, "");
}

static void test_all_pairs_of_a_query_and_a_form(void **state)
{
    (void)state;
    with("POST /?tag=a+b&&flag&tag=c%26d%7C&=x&tag=&n%00=%00%&",
         "Content-Type: application/x-www-form-urlencoded", "&tag=1&tag=2=3", look_at_pairs);
    with("POST /", "Content-Type: application/x-www-form-urlencoded", "", look_at_no_pairs);
    with("POST /?", "Content-Type: text/plain", "tag=1", look_at_no_pairs);
    with("POST /?&&&", NULL, "tag=1", look_at_no_pairs);
}

static void look_at_client(lc_req *r)
{
    assert_string_equal(lc_peer(r), "127.0.0.1");
    assert_string_equal(lc_client(r), "198.51.100.7");
    assert_ptr_equal(lc_client(r), lc_client(r));
}

static void test_the_client_behind_a_proxy(void **state)
{
    (void)state;
    assert_int_equal(lc_routes_trust(lc_routes_of(server), "127.0.0.0/8"), 0);
    with("GET /", "x-forwarded-for: 6.6.6.6, 198.51.100.7\nx-forwarded-for: 127.0.0.9", NULL,
         look_at_client);
    assert_int_equal(lc_routes_trust(lc_routes_of(server), "localhost"), LC_E_ARG);
    assert_non_null(strstr(lc_errmsg(server), "\"localhost\""));
}

static void look_at_memory(lc_req *r)
{
    static const int key, other;
    char *memory = lc_alloc(r, 1000);

    memset(memory, 'x', 1000);
    assert_null(lc_get(r, &key));
    assert_int_equal(lc_put(r, &key, memory), 0);
    assert_int_equal(lc_put(r, &other, r), 0);
    assert_ptr_equal(lc_get(r, &key), memory);
    assert_int_equal(lc_put(r, &key, NULL), 0);
    assert_null(lc_get(r, &key));
    assert_ptr_equal(lc_get(r, &other), r);
}

/* No size is small enough for all, and none so large that it comes round to zero. */
static void exhaust_memory(lc_req *r)
{
    size_t got = 0;

    for (size_t i = 0; i < 64; i++)
        assert_null(lc_alloc(r, SIZE_MAX - i));
    assert_null(lc_alloc(r, (size_t)16 << 20)); /* the request itself takes some */
    while (lc_alloc(r, 1 << 16) != NULL)
        got += 1 << 16;
    assert_in_range(got, 8 << 20, 16 << 20);
    assert_int_equal(lc_set_header(r, "x-large", "0123456789"), 0); /* there is a little left */
}

static void test_the_memory_of_a_request_is_bounded(void **state)
{
    (void)state;
    with("GET /", NULL, NULL, exhaust_memory);
}

static void test_memory_and_values_of_a_request(void **state)
{
    (void)state;
    with("GET /", NULL, NULL, look_at_memory);
}

static void look_at_time(lc_req *r)
{
    assert_int_equal(lc_cancelled(r), 0);
    assert_int_equal(lc_time_left(r), -1);
    assert_int_equal(lc_sleep(r, 1), 0);
    assert_int_equal(lc_wait_for(r, 0, LC_ON_DRAIN), 0);
    assert_int_equal(lc_wait_for(r, 0, 8), LC_E_ARG);
    assert_int_equal(lc_sleep(r, -2), LC_E_ARG);
    assert_true(lc_cancel_fd(r) >= 0);
    assert_int_equal(lc_on_cancel(r, free, NULL), 0);
    assert_int_equal(lc_on_cancel(r, NULL, NULL), 0);
}

static void test_a_request_that_nothing_cuts(void **state)
{
    (void)state;
    with("GET /", NULL, NULL, look_at_time);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_request_line),
        cmocka_unit_test(test_encoded_dots_do_not_lead_out_of_the_path),
        cmocka_unit_test(test_header_fields_and_cookies),
        cmocka_unit_test(test_the_query),
        cmocka_unit_test(test_a_form),
        cmocka_unit_test(test_all_pairs_of_a_query_and_a_form),
        cmocka_unit_test(test_the_client_behind_a_proxy),
        cmocka_unit_test(test_memory_and_values_of_a_request),
        cmocka_unit_test(test_a_request_that_nothing_cuts),
        cmocka_unit_test(test_the_memory_of_a_request_is_bounded),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

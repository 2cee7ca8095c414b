/* The specification of cgi_head.h: what a script may print before its body. */

#include "cgi_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "expect.h"

static struct cgi_head head;
static char error[CGI_HEAD_ERROR];
static char *bytes; /* the header that `head` points into */

static int teardown(void **state)
{
    (void)state;
    free(bytes);
    bytes = NULL;
    return 0;
}

/* Memory of just that size: a sanitizer sees a read beyond it. */
static int parse(const char *text)
{
    size_t n = strlen(text);
    free(bytes);
    bytes = malloc(n > 0 ? n : 1);
    assert_non_null(bytes);
    memcpy(bytes, text, n);
    size_t end = cgi_head_end(bytes, n, 0);
    return cgi_head_parse(bytes, end > 0 ? end : n, &head, error);
}

static const char *field(const char *name)
{
    for (size_t i = 0; i < head.count; i++)
        if (strcmp(head.fields[i].name, name) == 0)
            return head.fields[i].value;
    return NULL;
}

/* ---- where it ends ---- */

static void test_the_header_ends_with_an_empty_line(void **state)
{
    static const struct {
        const char *text;
        size_t end;
    } cases[] = {
        {"", 0},
        {"a", 0},
        {"\n", 1},
        {"\r\n", 2},
        {"a: b\n", 0},
        {"a: b\n\nbody", 6},
        {"a: b\r\n\r\nx", 8},
        {"a: b\r\n\nx", 7},
        {"a: b\n\r\nx", 7},
        {"a\n\n\n", 3},
        {"a: b\r\r\n", 0},
        {"a: b\n\r", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].text);
        assert_int_equal(cgi_head_end(cases[i].text, n, 0), cases[i].end);
        /* the same, however it arrives */
        for (size_t from = 0; from <= n; from++)
            if (cgi_head_end(cases[i].text, from, 0) == 0)
                assert_int_equal(cgi_head_end(cases[i].text, n, from), cases[i].end);
    }
}

/* ---- what is right ---- */

static void test_the_fields_of_cgi_are_read(void **state)
{
    (void)state;
    assert_int_equal(parse("Content-Type: text/html\r\nStatus: 404 Not Found\r\n"
                           "content-length:  12 \r\nX-One:a\r\n\r\nbody"),
                     0);
    assert_int_equal(head.status, 404);
    assert_int_equal(head.length, 12);
    assert_string_equal(head.content_type, "text/html");
    assert_int_equal(head.count, 1);
    assert_string_equal(field("X-One"), "a");
}

static void test_the_status_follows_from_the_kind_of_answer(void **state)
{
    (void)state;
    assert_int_equal(parse("Content-Type: text/plain\n\n"), 0);
    assert_int_equal(head.status, 200);
    assert_int_equal(head.length, -1);
    assert_int_equal(parse("Location: /there\n\n"), 0);
    assert_int_equal(head.status, 302);
    assert_string_equal(head.location, "/there");
    assert_string_equal(field("Location"), "/there");
    assert_int_equal(parse("Location: http://x/\nStatus: 301\n\n"), 0);
    assert_int_equal(head.status, 301);
    assert_int_equal(parse("Status: 204\n\n"), 0);
    assert_int_equal(head.status, 204);
}

static void test_fields_of_the_connection_are_not_passed_on(void **state)
{
    (void)state;
    assert_int_equal(parse("Content-Type: a/b\nConnection: close\nkeep-alive: 5\nDate: now\n"
                           "SERVER: me\nTE: x\nUpgrade: h2c\nTrailer: x\nProxy-Connection: x\n"
                           "X-CGI-Thing: x\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n"),
                     0);
    assert_int_equal(head.count, 2);
    assert_string_equal(head.fields[0].value, "a=1");
    assert_string_equal(head.fields[1].value, "b=2");
}

static void test_a_value_may_be_empty_or_in_another_alphabet(void **state)
{
    (void)state;
    assert_int_equal(parse("Content-Type: a/b\nX-A:\nX-B: \t \nX-C: \xc3\xa9\ta\n\n"), 0);
    assert_string_equal(field("X-A"), "");
    assert_string_equal(field("X-B"), "");
    assert_string_equal(field("X-C"), "\xc3\xa9\ta");
}

/* ---- what is wrong ---- */

static void test_a_wrong_header_is_refused_with_its_reason(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"\n", "none of Content-Type"},
        {"X-A: b\n\n", "none of Content-Type"},
        {"Hello World\n\n", "not a header field: Hello World"},
        {"<html>\n\n", "not a header field"},
        {"HTTP/1.1 200 OK\nContent-Type: a/b\n\n", "not a header field: HTTP/1.1"},
        {": a\nContent-Type: a/b\n\n", "not a header field"},
        {"Content-Type : a/b\n\n", "not a header field"},
        {"Content-Type: a/b\n folded\n\n", "not a header field"},
        {"Content-Type: a\x01/b\n\n", "control character"},
        {"Content-Type: a/b\nX-A: a\rb\n\n", "control character"},
        {"Content-Type: a/b\nX-A: a\x7f\n\n", "control character"},
        {"Content-Type:\n\n", "Content-Type is empty"},
        {"Location: \n\n", "Location is empty"},
        {"Content-Type: a/b\nContent-Type: a/b\n\n", "Content-Type appears twice"},
        {"Location: /a\nLocation: /b\n\n", "Location appears twice"},
        {"Status: 200\nstatus: 200\n\n", "status appears twice"},
        {"Status: 200\nContent-Length: 1\nContent-Length: 1\n\n", "Content-Length appears twice"},
        {"Status: 100\n\n", "want 200 to 599"},
        {"Status: 600\n\n", "want 200 to 599"},
        {"Status: 20\n\n", "want 200 to 599"},
        {"Status: 2000\n\n", "want 200 to 599"},
        {"Status: OK\n\n", "want 200 to 599"},
        {"Status:\n\n", "want 200 to 599"},
        {"Status: 200\nContent-Length: -1\n\n", "want a number"},
        {"Status: 200\nContent-Length: 1 2\n\n", "want a number"},
        {"Status: 200\nContent-Length:\n\n", "want a number"},
        {"Status: 200\nContent-Length: 99999999999999999999\n\n", "want a number"},
        {"Status: 200\nTransfer-Encoding: chunked\n\n", "Transfer-Encoding"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (parse(cases[i].text) == 0)
            fail_msg("accepted: %s", cases[i].text);
        assert_contains(error, cases[i].reason);
    }
}

static void test_a_nul_is_refused(void **state)
{
    char text[] = "Content-Type: a\0b\n\n";
    (void)state;
    assert_true(cgi_head_parse(text, sizeof(text) - 1, &head, error) != 0);
    assert_contains(error, "control character");
}

static void test_the_number_of_fields_is_limited(void **state)
{
    char text[4096];
    for (int count = CGI_HEAD_FIELDS; count <= CGI_HEAD_FIELDS + 1; count++) {
        int n = snprintf(text, sizeof(text), "Content-Type: a/b\n");
        for (int i = 0; i < count; i++)
            n += snprintf(text + n, sizeof(text) - (size_t)n, "X-%d: v\n", i);
        (void)snprintf(text + n, sizeof(text) - (size_t)n, "\n");
        assert_int_equal(parse(text) == 0, count == CGI_HEAD_FIELDS);
    }
    (void)state;
    assert_contains(error, "more than 100 fields");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_header_ends_with_an_empty_line),
        cmocka_unit_test_teardown(test_the_fields_of_cgi_are_read, teardown),
        cmocka_unit_test_teardown(test_the_status_follows_from_the_kind_of_answer, teardown),
        cmocka_unit_test_teardown(test_fields_of_the_connection_are_not_passed_on, teardown),
        cmocka_unit_test_teardown(test_a_value_may_be_empty_or_in_another_alphabet, teardown),
        cmocka_unit_test_teardown(test_a_wrong_header_is_refused_with_its_reason, teardown),
        cmocka_unit_test(test_a_nul_is_refused),
        cmocka_unit_test_teardown(test_the_number_of_fields_is_limited, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* How interim answers are written for HTTP/2, as another decoder reads it. */

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "interim_bytes.h"

static h2o_mem_pool_t pool;

static int set_up(void **state)
{
    (void)state;
    h2o_mem_init_pool(&pool);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    h2o_mem_clear_pool(&pool);
    return 0;
}

/* `name` as it came, which may be in any case. */
static void add(h2o_headers_t *fields, const char *name, const char *value)
{
    h2o_iovec_t lower = h2o_strdup(&pool, name, SIZE_MAX);

    h2o_strtolower(lower.base, lower.len);
    h2o_add_header_by_str(&pool, fields, lower.base, lower.len, 1, name, value, strlen(value));
}

/* One frame of which all is read: the fields, a line for each. */
static const char *decode(nghttp2_hd_inflater *inflater, h2o_iovec_t frame)
{
    static char text[256 * 1024];
    const uint8_t *at = (const uint8_t *)frame.base + H2O_HTTP2_FRAME_HEADER_SIZE;
    const uint8_t *end = (const uint8_t *)frame.base + frame.len;
    size_t used = 0;
    int flags = 0;

    for (text[0] = '\0'; (flags & NGHTTP2_HD_INFLATE_FINAL) == 0;) {
        nghttp2_nv nv;
        flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, (size_t)(end - at), 1);
        assert_true(n >= 0);
        at += n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
            used +=
                (size_t)snprintf(text + used, sizeof(text) - used, "%s: %s\n", nv.name, nv.value);
        assert_true(used < sizeof(text));
    }
    assert_int_equal(nghttp2_hd_inflate_end_headers(inflater), 0);
    assert_ptr_equal(at, end);
    return text;
}

static h2o_iovec_t expect_http2(const h2o_headers_t *fields, int status, const char *want)
{
    nghttp2_hd_inflater *inflater;
    h2o_iovec_t frame = interim_to_http2(&pool, 0x01020305, status, fields);

    assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
    assert_string_equal(decode(inflater, frame), want);
    /* The dynamic table is as it was. */
    assert_int_equal(nghttp2_hd_inflate_get_num_table_entries(inflater), 61);
    assert_int_equal(nghttp2_hd_inflate_get_dynamic_table_size(inflater), 0);
    nghttp2_hd_inflate_del(inflater);
    return frame;
}

static void test_http2_is_one_frame_that_does_not_end_the_stream(void **state)
{
    static const uint8_t want[] = {0, 0, 5, 1, 4, 1, 2, 3, 5, 8, 3, '1', '0', '2'};
    h2o_headers_t fields = {NULL, 0, 0};
    (void)state;
    h2o_iovec_t frame = expect_http2(&fields, 102, ":status: 102\n");
    assert_int_equal(frame.len, sizeof(want));
    assert_memory_equal(frame.base, want, sizeof(want));
    (void)expect_http2(&fields, 199, ":status: 199\n");
}

static void test_http2_has_names_in_lower_case_and_values_without_space_around(void **state)
{
    h2o_headers_t fields = {NULL, 0, 0};
    (void)state;
    add(&fields, "LINK", "</a>; rel=preload");
    add(&fields, "X-Own", " \t spaces \t within \t ");
    add(&fields, "X-Empty", "");
    add(&fields, "X-Blank", " \t");
    add(&fields, "x", "\x7e\xff~~\xf0"); /* longer as a Huffman code than as it is */
    (void)expect_http2(&fields, 103,
                       ":status: 103\nlink: </a>; rel=preload\nx-own: spaces \t within\n"
                       "x-empty: \nx-blank: \nx: \x7e\xff~~\xf0\n");
}

static void test_http2_has_no_field_of_http1(void **state)
{
    static const char *const names[] = {"Connection", "Keep-Alive",        "Proxy-Connection",
                                        "Upgrade",    "Transfer-Encoding", "TE",
                                        "Host",       "HTTP2-Settings"};
    h2o_headers_t fields = {NULL, 0, 0};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        add(&fields, names[i], "x");
    add(&fields, "x", "y");
    (void)expect_http2(&fields, 103, ":status: 103\nx: y\n");
}

/* Lengths at which their own encoding gets longer, with and without Huffman. */
static void test_http2_has_texts_of_any_length(void **state)
{
    static const size_t lengths[] = {1,   62,  63,   64,   100,  126,   127,   128,   254,   255,
                                     256, 500, 1000, 8000, 8191, 16382, 16383, 16384, 16511, 65535};
    static char text[65536 + 1], want[2 * sizeof(text)];
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(lengths) / sizeof(lengths[0]); i++) {
        h2o_headers_t fields = {NULL, 0, 0};
        size_t length = lengths[i / 2];
        memset(text, i % 2 == 0 ? 'a' : '\xff', length);
        text[length] = '\0';
        add(&fields, "x", text);
        (void)snprintf(want, sizeof(want), ":status: 103\nx: %s\n", text);
        (void)expect_http2(&fields, 103, want);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http2_is_one_frame_that_does_not_end_the_stream),
        TEST(test_http2_has_names_in_lower_case_and_values_without_space_around),
        TEST(test_http2_has_no_field_of_http1),
        TEST(test_http2_has_texts_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

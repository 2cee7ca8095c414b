/* Where the events of an event stream end. Every stream is read in two pieces at every place. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "event_stream.h"

/* `ends`: under each byte a `^` if it is between two events after it. */
static void expect(const char *bytes, const char *ends)
{
    size_t size = strlen(bytes);

    assert_int_equal(strlen(ends), size);
    for (size_t from = 0; from <= size; from++) {
        struct event_stream stream = {0};
        bool found;
        event_stream_pass(&stream, bytes, from);
        bool is_between = from == 0 || ends[from - 1] == '^';
        assert_int_equal(event_stream_is_between(&stream), is_between);
        /* The LF of a CRLF belongs to the end. */
        size_t want = from;
        while (!is_between && want < size && ends[want] != '^')
            want++;
        if (!is_between && want < size)
            want++;
        bool is_there = is_between || (want > 0 && want <= size && ends[want - 1] == '^');
        if (is_there && want > 0 && want < size && bytes[want - 1] == '\r' && bytes[want] == '\n')
            want++;
        size_t n = event_stream_find(&stream, bytes + from, size - from, &found);
        assert_int_equal(found, is_there);
        assert_int_equal(from + n, want);
    }
}

static void test_an_empty_line_ends_an_event(void **state)
{
    (void)state;
    expect("data: a\n\nid: 1\ndata: b\n\n", "........^..............^");
    expect("data\r\rdata\r\r", ".....^.....^");
    expect("data\r\n\r\ndata\r\n\r\n", "......^^......^^");
    expect("data\n\r\ndata\r\n\n", ".....^^......^");
    expect("a\n\r\r\n\n", "..^^^^");
}

static void test_a_line_end_ends_no_event(void **state)
{
    (void)state;
    expect("data\ndata\r\ndata\r", "................");
    expect("data: :\n", "........");
}

static void test_a_comment_is_no_event(void **state)
{
    (void)state;
    expect(": ping\n:\n\ndata\n\n", "......^.^^.....^");
    expect("data\n: x\n\n", ".........^");
}

static void test_a_byte_order_mark_is_no_line(void **state)
{
    (void)state;
    expect("\xef\xbb\xbf", "..^");
    expect("\xef\xbb\xbf: ping\n: x\n", "..^......^...^");
    expect("\xef\xbb\xbf"
           "data\n\ndata\n\n",
           "..^.....^.....^");
    expect("\xef\xbb\xbf\n", "..^^");
    expect("\xef\xbb"
           "data\n\n",
           ".......^");
    expect("\xef\n\n", "..^");
    expect("\n\xef\xbb\xbf\n\n", "^....^"); /* only at the beginning */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_line_ends_an_event),
        cmocka_unit_test(test_a_line_end_ends_no_event),
        cmocka_unit_test(test_a_comment_is_no_event),
        cmocka_unit_test(test_a_byte_order_mark_is_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Parts of the mends for HTTP/2, without a process: what a header block would become, and lines
 * that are limited. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "hpack_scan.h"
#include "log_limit.h"
#include "mends.h"

#define MANY 1000000

static h2o_hpack_header_table_t no_table;

#define SCAN(scan, bytes)                                                                          \
    hpack_scan(&no_table, (const uint8_t *)(bytes), sizeof(bytes) - 1, MANY, MANY, scan)

/* ---- hpack_scan ---- */

static void test_a_reference_counts_as_what_it_stands_for(void **state)
{
    struct hpack_scan scan;
    (void)state;
    SCAN(&scan, "\x40\1a\5abcde"); /* enters the dynamic table */
    assert_int_equal(scan.fields, 1);
    assert_int_equal(scan.bytes, 32 + 1 + 5);
    SCAN(&scan, "\x40\1a\5abcde\xbe\xbe");
    assert_int_equal(scan.fields, 3);
    assert_int_equal(scan.bytes, 3 * (32 + 1 + 5));
    SCAN(&scan, "\x40\1a\5abcde\x40\1b\1x\xbf"); /* the older of two */
    assert_int_equal(scan.bytes, 2 * (32 + 1 + 5) + 32 + 1 + 1);
    SCAN(&scan, "\x40\1a\5abcde\x7e\1x"); /* its name, and another value */
    assert_int_equal(scan.bytes, 32 + 1 + 5 + 32 + 1 + 1);
}

static void test_the_librarys_table_follows_the_blocks_own_entries(void **state)
{
    h2o_iovec_t name = {H2O_STRLIT("name")}, value = {H2O_STRLIT("a longer value")};
    h2o_hpack_header_table_entry_t entries[1] = {{&name, &value, NULL}};
    h2o_hpack_header_table_t table = {.entries = entries, .num_entries = 1, .entry_capacity = 1};
    struct hpack_scan scan;
    (void)state;
    hpack_scan(&table, (const uint8_t *)"\xbe", 1, MANY, MANY, &scan);
    assert_int_equal(scan.bytes, 32 + 4 + 14);
    hpack_scan(&table, (const uint8_t *)"\x40\1a\1b\xbf", 6, MANY, MANY, &scan);
    assert_int_equal(scan.bytes, 32 + 2 + 32 + 4 + 14);
    hpack_scan(&table, (const uint8_t *)"\xbf\xbe", 2, MANY, MANY, &scan); /* there is no second */
    assert_int_equal(scan.fields, 1);
}

static void test_a_limit_stops_the_scan(void **state)
{
    struct hpack_scan scan;
    uint8_t block[1000];
    (void)state;
    memset(block, 0x82, sizeof(block)); /* :method GET */
    hpack_scan(&no_table, block, sizeof(block), 100, MANY, &scan);
    assert_true(scan.is_too_much);
    assert_int_equal(scan.fields, 101);
    hpack_scan(&no_table, block, sizeof(block), MANY, 2000, &scan);
    assert_true(scan.is_too_much);
    assert_true(scan.fields < 100);
    hpack_scan(&no_table, block, 100, 100, MANY, &scan);
    assert_false(scan.is_too_much);
}

static void test_a_coded_text_counts_as_long_as_it_can_get(void **state)
{
    struct hpack_scan scan;
    uint8_t block[3 + 100] = {0x00, 1, 'a'}, coded[200];
    char text[61];
    (void)state;
    memset(text, '0', 60); /* 5 bits each */
    text[60] = '\0';
    size_t size = h2o_hpack_encode_string(coded, text, 60);
    assert_true(size < 60);
    memcpy(block + 3, coded, size);
    hpack_scan(&no_table, block, 3 + size, MANY, MANY, &scan);
    assert_in_range(scan.bytes, 32 + 1 + 60, 32 + 1 + 70);
}

static void add_coded(uint8_t *block, size_t *size, const char *text)
{
    *size += h2o_hpack_encode_string(block + *size, text, strlen(text));
}

static void scan_coded(struct hpack_scan *ret_scan, const char *name, const char *value)
{
    uint8_t block[128] = {0};
    size_t size = 1;
    add_coded(block, &size, name);
    add_coded(block, &size, value);
    hpack_scan(&no_table, block, size, MANY, MANY, ret_scan);
}

/* The scan knows some texts in Huffman's code by heart: the library's encoder makes the same. */
static void test_coded_names_are_known(void **state)
{
    struct hpack_scan scan;
    (void)state;
    scan_coded(&scan, "content-length", "5");
    assert_int_equal(scan.content_lengths, 1);
    scan_coded(&scan, "content-lengtH", "5");
    assert_int_equal(scan.content_lengths, 0);
    scan_coded(&scan, ":scheme", "http");
    assert_false(scan.has_strange_scheme);
    scan_coded(&scan, ":scheme", "https");
    assert_false(scan.has_strange_scheme);
    scan_coded(&scan, ":scheme", "ftp");
    assert_true(scan.has_strange_scheme);
    SCAN(&scan, "\x5c\1"
                "5\xbe\x0f\x0d\1"
                "5"); /* by index, from the table, by index again */
    assert_int_equal(scan.content_lengths, 3);
    SCAN(&scan, "\0\0\1x");
    assert_true(scan.has_empty_name);
}

static void test_blocks_that_break_off_are_scanned_up_to_there(void **state)
{
    static const char *const ends[] = {"\x40",
                                       "\x40\5ab",
                                       "\x40\1a",
                                       "\xff",
                                       "\xff\x80\x80\x80\x80\x80",
                                       "\x7f\xff\xff\xff\xff",
                                       "\x80",
                                       "\x40\x7f\xff\xff\xff\x7f"};
    struct hpack_scan scan;
    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        hpack_scan(&no_table, (const uint8_t *)ends[i], strlen(ends[i]), MANY, MANY, &scan);
        assert_false(scan.is_too_much);
        assert_true(scan.fields <= 1);
    }
}

/* ---- lines ---- */

static void test_lines_beyond_the_limit_of_a_second_are_counted(void **state)
{
    struct log_limit limit = {0};
    uint64_t left_out = 1, now_ns = 5000 * NS_PER_MS;
    (void)state;
    for (unsigned i = 0; i < LOG_LIMIT_PER_SECOND; i++) {
        assert_true(log_limit_allows(&limit, now_ns, &left_out));
        assert_int_equal(left_out, 0);
    }
    assert_false(log_limit_allows(&limit, now_ns, &left_out));
    assert_false(log_limit_allows(&limit, now_ns + 999 * NS_PER_MS, &left_out));
    assert_true(log_limit_allows(&limit, now_ns + 1000 * NS_PER_MS, &left_out));
    assert_int_equal(left_out, 2);
    assert_true(log_limit_allows(&limit, now_ns + 1000 * NS_PER_MS, &left_out));
    assert_int_equal(left_out, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reference_counts_as_what_it_stands_for),
        cmocka_unit_test(test_the_librarys_table_follows_the_blocks_own_entries),
        cmocka_unit_test(test_a_limit_stops_the_scan),
        cmocka_unit_test(test_a_coded_text_counts_as_long_as_it_can_get),
        cmocka_unit_test(test_coded_names_are_known),
        cmocka_unit_test(test_blocks_that_break_off_are_scanned_up_to_there),
        cmocka_unit_test(test_lines_beyond_the_limit_of_a_second_are_counted),
    };
    return cmocka_run_group_tests_name("h2_parts", tests, NULL, NULL);
}

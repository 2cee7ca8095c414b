/* The real process and parts of files (RFC 9110 sections 13.1.5 and 14): which part is sent, and
 * when Range is ignored, so that the answer is the whole file. */

#include "with_config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "answer_client.h"
#include "expect.h"
#include "h2_by_hand.h"

#define BYTES 1000
#define PART "Range: bytes=10-19\r\n"
#define ROOM ((size_t)1 << 16) /* for a request or an answer */

/* One loop: what one request leaves behind meets the next. */
#define FILES(more)                                                                                \
    LISTEN "num-threads: 1\nhosts:\n  default:\n    paths:\n"                                      \
           "      /:\n        file.dir: @/root\n" more "      /hello: {handler: hello}\n"          \
           "      /data: {file.file: @/root/other.gz}\n"

static struct process server;
static char text[BYTES + 1]; /* of /page.txt */

/* ---- files ---- */

static void write_text(void)
{
    (void)mkdir(in_directory("root"), 0755);
    for (unsigned i = 0; i < BYTES / 5; i++)
        (void)snprintf(text + (size_t)5 * i, 6, "%04u\n", i);
    (void)unlink(in_directory("root/page.txt.gz"));
    write_file("root/page.txt", text);
    write_file("root/empty.txt", "");
}

static void write_packed(const char *name)
{
    gzFile file = gzopen(in_directory(name), "wb");

    assert_non_null(file);
    assert_int_equal(gzwrite(file, text, BYTES), BYTES);
    assert_int_equal(gzclose(file), Z_OK);
}

static void set_time(const char *name, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};

    assert_int_equal(utimensat(AT_FDCWD, in_directory(name), times, 0), 0);
}

static int start_server(void **state)
{
    (void)state;
    write_text();
    start(&server, FILES(""));
    return 0;
}

static int finish_server(void **state)
{
    finish(&server);
    return process_kill_left(state);
}

/* ---- answers ---- */

struct got {
    char *bytes; /* all of the answer; the head is text */
    size_t size;
    struct answer answer;
};

/* The whole answer to a request with these fields. */
static struct got ask_for(const struct process *p, const char *method, const char *path,
                          const char *fields)
{
    struct got got = {.bytes = malloc(ROOM)};
    int fd = client_connect(p);
    ssize_t n;

    (void)snprintf(got.bytes, ROOM, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s\r\n",
                   method, path, fields);
    client_send(fd, got.bytes);
    while ((n = client_recv(fd, got.bytes + got.size, ROOM - 1 - got.size, 0)) > 0)
        got.size += (size_t)n;
    (void)close(fd);
    got.bytes[got.size] = '\0';
    if (answer_read(ANSWER_HTTP11, strcmp(method, "HEAD") == 0, got.bytes, got.size,
                    CONNECTION_CLOSED, &got.answer) != ANSWER_WHOLE)
        fail_msg("not whole, of %zu bytes:\n%s", got.size, got.bytes);
    return got;
}

static void release(struct got *got)
{
    answer_release(&got->answer);
    free(got->bytes);
}

static void assert_part(const char *fields, unsigned first, unsigned last)
{
    struct got got = ask_for(&server, "GET", "/page.txt", fields);
    char want[64];

    (void)snprintf(want, sizeof(want), "\r\ncontent-range: bytes %u-%u/1000\r\n", first, last);
    assert_contains(got.bytes, "HTTP/1.1 206 ");
    assert_contains(got.bytes, want);
    assert_int_equal(got.answer.body_size, last - first + 1);
    assert_memory_equal(got.answer.body, text + first, last - first + 1);
    release(&got);
}

static void assert_is_no_part(const struct got *got)
{
    assert_contains(got->bytes, "HTTP/1.1 200 ");
    assert_null(strcasestr(got->bytes, "\r\ncontent-range:"));
}

static void assert_whole_of(const char *path, const char *fields)
{
    struct got got = ask_for(&server, "GET", path, fields);

    assert_is_no_part(&got);
    assert_int_equal(got.answer.body_size, BYTES);
    assert_memory_equal(got.answer.body, text, BYTES);
    release(&got);
}

static void assert_whole(const char *fields)
{
    assert_whole_of("/page.txt", fields);
}

static void assert_refused(const char *fields)
{
    struct got got = ask_for(&server, "GET", "/page.txt", fields);

    assert_contains(got.bytes, "HTTP/1.1 416 ");
    assert_contains(got.bytes, "\r\ncontent-range: bytes */1000\r\n");
    release(&got);
}

/* `Range: bytes=` with `element` so many times, in which %u is `step` more each time. */
static const char *range_of(unsigned times, const char *element, unsigned step)
{
    static char fields[8192];
    size_t n = (size_t)snprintf(fields, sizeof(fields), "Range: bytes=");

    for (unsigned i = 0; i < times; i++) {
        n += (size_t)snprintf(fields + n, sizeof(fields) - n, "%s", i > 0 ? "," : "");
        n += (size_t)snprintf(fields + n, sizeof(fields) - n, element, i * step, i * step);
        assert_true(n + 4 < sizeof(fields));
    }
    (void)snprintf(fields + n, sizeof(fields) - n, "\r\n");
    return fields;
}

/* The value of a field of the answer to a plain GET. Good until the next call. */
static const char *field_of(const char *name)
{
    static char value[128];
    char line[64];
    struct got got = ask_for(&server, "GET", "/page.txt", "");

    (void)snprintf(line, sizeof(line), "\r\n%s: ", name);
    const char *at = strcasestr(got.bytes, line);
    assert_non_null(at);
    at += strlen(line);
    (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
    release(&got);
    return value;
}

static const char *with_if_range(const char *validator)
{
    static char fields[256];

    (void)snprintf(fields, sizeof(fields), "Range: bytes=5-9\r\nIf-Range: %s\r\n", validator);
    return fields;
}

/* ---- which part ---- */

static void test_one_range_is_that_part(void **state)
{
    (void)state;
    assert_part("Range: bytes=0-4\r\n", 0, 4);
    assert_part("Range: bytes=7-7\r\n", 7, 7);
    assert_part("Range: bytes=0-\r\n", 0, 999);
    assert_part("Range: bytes=999-\r\n", 999, 999);
    assert_part("Range: bytes=998-1000\r\n", 998, 999);
    assert_part("Range: bytes=5-9999999999999999999\r\n", 5, 999); /* 19 digits */
    assert_part("Range: bytes=-1\r\n", 999, 999);
    assert_part("Range: bytes=-1000\r\n", 0, 999);
    assert_part("Range: bytes=-1001\r\n", 0, 999);
}

static void assert_parts(const char *fields)
{
    struct got got = ask_for(&server, "GET", "/page.txt", fields);

    assert_contains(got.bytes, "HTTP/1.1 206 ");
    assert_contains(got.bytes, "\r\ncontent-type: multipart/byteranges; boundary=");
    assert_contains(got.answer.body, "Content-Range: bytes 0-4/1000\r\n\r\n0000\n\r\n--");
    assert_contains(got.answer.body, "Content-Range: bytes 990-999/1000\r\n\r\n0198\n0199\n\r\n--");
    assert_int_equal(count_in(got.answer.body, "Content-Range: "), 2);
    release(&got);
}

static void test_two_ranges_are_two_parts(void **state)
{
    (void)state;
    assert_parts("Range: bytes=0-4,-10\r\n");
    assert_parts("Range: bytes=990-,0-4\r\n");
    assert_parts("Range: bytes=0-4 ,\t 990-999\r\n");
    assert_parts("Range: bytes=,0-4, ,,990-999\r\n");
    assert_parts("Range: bytes=0-4,5-2,1000-,-0,990-999\r\n"); /* what is not there is left out */
}

static void test_up_to_200_ranges_are_served(void **state)
{
    (void)state;
    struct got got = ask_for(&server, "GET", "/page.txt", range_of(200, "%u-%u", 5));
    assert_int_equal(count_in(got.answer.body, "Content-Range: "), 200);
    assert_contains(got.answer.body, "Content-Range: bytes 995-995/1000\r\n\r\n0\r\n--");
    release(&got);
    got = ask_for(&server, "GET", "/page.txt", "Range: bytes=0-499,500-999\r\n"); /* all of it */
    assert_int_equal(count_in(got.answer.body, "Content-Range: "), 2);
    release(&got);
}

static void test_lists_that_are_invalid_are_refused(void **state)
{
    static const char *const values[] = {"abc",     "",          "-",     "5",       "5-2",
                                         "1000-",   "1000-1001", "-0",    "0-x",     "--5",
                                         "0-4-",    "0--4",      "0 - 4", "0-4 5-9", "0-4,abc",
                                         "0-4;5-9", "+1-2",      "0x1-5", "1.5-9"};
    char fields[64];
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        (void)snprintf(fields, sizeof(fields), "Range: bytes=%s\r\n", values[i]);
        assert_refused(fields);
    }
}

/* ---- when it is ignored ---- */

static void test_more_than_the_file_is_the_whole_file(void **state)
{
    (void)state;
    assert_whole(range_of(500, "0-", 0));
    assert_whole("Range: bytes=0-,0-\r\n");
    assert_whole("Range: bytes=0-499,499-999\r\n");
    assert_whole("Range: bytes=0-,0-,abc\r\n");
    assert_whole(range_of(201, "%u-%u", 3));
    assert_whole(range_of(201, "", 0));
}

/* As numbers of 64 bits, they would be 0 and 1, or none. */
static void test_a_number_of_20_digits_is_not_a_small_one(void **state)
{
    (void)state;
    assert_whole("Range: bytes=0-18446744073709551616\r\n");
    assert_whole("Range: bytes=-18446744073709551617\r\n");
    assert_whole("Range: bytes=0-18446744073709551615\r\n");
    assert_whole("Range: bytes=99999999999999999999999999-\r\n");
    assert_whole("Range: bytes=0-1,2-184467440737095516160000000000000000003\r\n");
}

static void test_a_list_that_ends_with_a_comma_is_not_read_beyond_its_end(void **state)
{
    (void)state;
    assert_whole("Range: bytes=0-4,\r\n");
    assert_whole("Range: bytes=0-4, \r\n");
    assert_whole("Range: bytes=0-4 , \t \r\n");
    assert_whole("Range: bytes=,\r\n");
}

static void test_another_unit_or_method_is_ignored(void **state)
{
    (void)state;
    assert_whole("Range: items=0-5\r\n");
    assert_whole("Range: bytes 0-5\r\n");
    assert_whole("Range: bytes\r\n");
    assert_whole("Range:\r\n");
    struct got got = ask_for(&server, "HEAD", "/page.txt", "Range: bytes=0-5\r\n");
    assert_is_no_part(&got);
    assert_contains(got.bytes, "\r\nContent-Length: 1000\r\n");
    release(&got);
}

static void test_an_empty_file_has_no_last_byte(void **state)
{
    static const char *const fields[] = {"Range: bytes=-1\r\n", "Range: bytes=-1,-1\r\n",
                                         "Range: bytes=0-\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct got got = ask_for(&server, "GET", "/empty.txt", fields[i]);
        assert_is_no_part(&got);
        assert_int_equal(got.answer.body_size, 0);
        release(&got);
    }
}

/* ---- If-Range ---- */

static void test_a_part_of_the_same_file_alone(void **state)
{
    char tag[128], weak[132], date[128];
    (void)state;
    set_time("root/page.txt", 1000000000);
    (void)snprintf(tag, sizeof(tag), "%s", field_of("etag"));
    (void)snprintf(weak, sizeof(weak), "W/%s", tag);
    (void)snprintf(date, sizeof(date), "%s", field_of("last-modified"));
    assert_string_equal(date, "Sun, 09 Sep 2001 01:46:40 GMT");
    assert_part(with_if_range(tag), 5, 9);
    assert_part(with_if_range(date), 5, 9);
    assert_whole(with_if_range(weak));
    assert_whole(with_if_range("\"another\""));
    assert_whole(with_if_range("\""));
    assert_whole(with_if_range(""));
    assert_whole(with_if_range("Sun, 09 Sep 2001 01:46:39 GMT"));
    assert_whole(with_if_range("Sun, 09 Sep 2001 01:46:41 GMT"));
    set_time("root/page.txt", 1000000001);
    assert_whole(with_if_range(tag));
    assert_whole(with_if_range(date));
}

static void test_a_file_that_was_rewritten_is_sent_whole(void **state)
{
    char tag[128];
    (void)state;
    write_file("root/page.txt", "what it was before");
    set_time("root/page.txt", 1000000000);
    (void)snprintf(tag, sizeof(tag), "%s", field_of("etag"));
    write_file("root/page.txt", text);
    set_time("root/page.txt", 1000000000); /* the length alone is another */
    assert_whole(with_if_range(tag));
    assert_part("Range: bytes=5-9\r\n", 5, 9);
}

/* ---- packed files ---- */

static void assert_packed_part(const char *path, const char *file, bool takes_gzip)
{
    struct got got =
        ask_for(&server, "GET", path, takes_gzip ? PART "Accept-Encoding: gzip\r\n" : PART);
    uint8_t bytes[BYTES];
    FILE *in = fopen(in_directory(file), "r");

    assert_non_null(in);
    assert_true(fread(bytes, 1, sizeof(bytes), in) > 20);
    (void)fclose(in);
    assert_contains(got.bytes, "HTTP/1.1 206 ");
    assert_contains(got.bytes, "\r\ncontent-range: bytes 10-19/");
    assert_int_equal(strcasestr(got.bytes, "\r\ncontent-encoding: gzip\r\n") != NULL, takes_gzip);
    assert_int_equal(got.answer.body_size, 10);
    assert_memory_equal(got.answer.body, bytes + 10, 10);
    release(&got);
}

static void test_a_file_that_is_unpacked_is_sent_whole(void **state)
{
    (void)state;
    write_text();
    write_packed("root/page.txt.gz");
    write_packed("root/twice.gz.gz");
    (void)unlink(in_directory("root/page.txt"));
    start(&server, FILES("        file.send-compressed: gunzip\n"));
    assert_whole(PART);
    assert_whole("Range: bytes=-1\r\nAccept-Encoding: br\r\n");
    assert_whole_of("/twice.gz", PART);
    assert_packed_part("/page.txt", "root/page.txt.gz", true);
    assert_packed_part("/page.txt.gz", "root/page.txt.gz", false);
    assert_whole(PART);
}

static void test_a_packed_file_that_is_sent_as_it_is_has_parts(void **state)
{
    (void)state;
    write_text();
    write_packed("root/page.txt.gz");
    write_packed("root/other.gz");
    start(&server, FILES("        file.send-compressed: ON\n"));
    assert_packed_part("/page.txt", "root/page.txt.gz", true);
    assert_packed_part("/page.txt.gz", "root/page.txt.gz", false);
    assert_packed_part("/data", "root/other.gz", false);
    assert_part(PART, 10, 19);
}

/* ---- others that look for Range ---- */

/* `header.*` and `proxy.header.*` look for a field in lists that are no request's. */
static void test_rules_for_the_field_range_work(void **state)
{
    struct process front;
    char conf[1024];
    (void)state;
    write_text();
    start(&server, FILES("        header.add: 'Range: x'\n"
                         "        header.setifempty: 'Range: y'\n"
                         "        header.append: 'Range: z'\n"));
    assert_part("Range: bytes=5-9\r\n", 5, 9);
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "hosts: {default: {paths: {/: {proxy.reverse.url: 'http://%s/', "
                          "proxy.header.setifempty: 'Range: bytes=5-9', "
                          "proxy.header.merge: 'Range: 10-14'}}}}\n",
                   server.address);
    write_file("front.conf", conf);
    process_start_configured(&front, ARGS("-c", in_directory("front.conf")));
    for (unsigned i = 0; i < 2; i++) {
        struct got got = ask_for(&front, "GET", "/page.txt", i == 0 ? "" : "Range: bytes=5-9\r\n");
        assert_contains(got.bytes, "HTTP/1.1 206 ");
        assert_contains(got.answer.body, "Content-Range: bytes 5-9/1000\r\n\r\n0001\n\r\n--");
        assert_contains(got.answer.body, "Content-Range: bytes 10-14/1000\r\n\r\n0002\n\r\n--");
        release(&got);
    }
    finish(&front);
}

/* The status of the answer on `stream`; its body is in `ret_body`. */
static int ask_h2(int fd, uint32_t stream, const char *range, const char *tag, char *ret_body,
                  size_t *ret_size)
{
    static struct h2_bytes block;
    static struct h2_got got;

    block.size = 0;
    h2_add_head(&block, "GET", "/page.txt");
    h2_add_field(&block, "range", range, false);
    if (tag != NULL)
        h2_add_field(&block, "if-range", tag, false);
    h2_send_block(fd, stream, true, &block);
    int status = h2_await_status(fd, stream);
    *ret_size = 0;
    do {
        assert_true(h2_await(fd, H2_DATA, stream, &got));
        assert_true(*ret_size + got.size <= BYTES);
        memcpy(ret_body + *ret_size, got.payload, got.size);
        *ret_size += got.size;
    } while ((got.flags & H2_END_STREAM) == 0);
    return status;
}

static void test_over_http2(void **state)
{
    char body[BYTES], tag[128];
    size_t size;
    (void)state;
    (void)snprintf(tag, sizeof(tag), "%s", field_of("etag"));
    int fd = h2_connect(&server, false);
    assert_int_equal(ask_h2(fd, 1, "bytes=5-9", tag, body, &size), 206);
    assert_int_equal(size, 5);
    assert_memory_equal(body, "0001\n", 5);
    assert_int_equal(ask_h2(fd, 3, "bytes=5-9", "\"another\"", body, &size), 200);
    assert_int_equal(size, BYTES);
    assert_int_equal(ask_h2(fd, 5, "bytes=0-,0-", NULL, body, &size), 200);
    assert_int_equal(size, BYTES);
    assert_memory_equal(body, text, BYTES);
    (void)close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start_server, finish_server)
#define TEST_ALONE(name) cmocka_unit_test_teardown(name, finish_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_range_is_that_part),
        TEST(test_two_ranges_are_two_parts),
        TEST(test_up_to_200_ranges_are_served),
        TEST(test_lists_that_are_invalid_are_refused),
        TEST(test_more_than_the_file_is_the_whole_file),
        TEST(test_a_number_of_20_digits_is_not_a_small_one),
        TEST(test_a_list_that_ends_with_a_comma_is_not_read_beyond_its_end),
        TEST(test_another_unit_or_method_is_ignored),
        TEST(test_an_empty_file_has_no_last_byte),
        TEST(test_a_part_of_the_same_file_alone),
        TEST(test_a_file_that_was_rewritten_is_sent_whole),
        TEST_ALONE(test_a_file_that_is_unpacked_is_sent_whole),
        TEST_ALONE(test_a_packed_file_that_is_sent_as_it_is_has_parts),
        TEST_ALONE(test_rules_for_the_field_range_work),
        TEST(test_over_http2),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("ranges", tests, with_config_set_up, remove_directory);
}

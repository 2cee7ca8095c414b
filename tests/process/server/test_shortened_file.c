/* The real process and a file that becomes shorter while it is sent: each client sees that its
 * answer is cut, the loop goes on, and a stop ends it. All but the plain answers over HTTP/1 and
 * HTTP/2 fail with LASTCALL_UNMENDED=1. */

#include "with_config.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "answer_client.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "skip.h"

#define FILE_BYTES ((size_t)20 << 20) /* half of that, compressed: no socket has so much room */
#define LEFT_BYTES 1000
#define WINDOW ((size_t)65535) /* of HTTP/2, at first */
#define LINE "has become shorter while it was sent"
#define GZIP "Accept-Encoding: gzip\r\n"

/* One loop: what holds it up holds up the next request, too. */
static const char files[] = LISTEN "num-threads: 1\nhosts:\n  default:\n    paths:\n"
                                   "      /:\n        file.dir: @/root\n        compress: ON\n"
                                   "      /hello: {handler: hello}\n";

/* Numbers in hexadecimal, in no order. */
static void write_long_file(void)
{
    uint32_t number = 1;

    (void)mkdir(in_directory("root"), 0755);
    FILE *file = fopen(in_directory("root/long.txt"), "w");
    assert_non_null(file);
    for (size_t i = 0; i < FILE_BYTES / 8; i++) {
        number = number * 1664525 + 1013904223;
        (void)fprintf(file, "%08x", number ^ number >> 16);
    }
    assert_int_equal(fclose(file), 0);
}

static void shorten(void)
{
    assert_int_equal(truncate(in_directory("root/long.txt"), LEFT_BYTES), 0);
}

static void start_files(struct process *p)
{
    write_long_file();
    start(p, files);
}

/* It serves others, and ends when it is to; it has logged the cut, or not. */
static void finish_after_cut(struct process *p, bool has_line)
{
    assert_serves(p);
    stop(p);
    if (has_line)
        assert_contains(p->log, LINE);
    else
        assert_lacks(p->log, LINE);
    process_release(p);
}

/* ---- HTTP/1 ---- */

/* All that is left of a connection, after `had` bytes of it. Without an end, the test fails. */
static size_t read_to_end(int fd, char *bytes, size_t room, size_t had,
                          enum connection_end *ret_end)
{
    for (;;) {
        struct pollfd more = {.fd = fd, .events = POLLIN};
        if (poll(&more, 1, LIMIT_MS) != 1)
            fail_msg("the answer does not go on, and does not end");
        ssize_t n = client_recv(fd, bytes + had, room - had, 0);
        *ret_end = n < 0 ? CONNECTION_RESET : CONNECTION_CLOSED;
        if (n <= 0)
            return had;
        had += (size_t)n;
    }
}

/* The file becomes shorter when the head of its answer has come, and the client waits with the
 * rest: the sockets have no room for the file, so that most of it was not read yet. */
static void assert_cut(const char *fields, const char *head, bool has_line)
{
    struct process p;
    char request[256], *bytes = malloc(FILE_BYTES * 2);
    enum connection_end end;
    struct answer answer;
    size_t size = 0;
    const int little = 1 << 16;

    start_files(&p);
    int fd = client_connect(&p);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)), 0);
    (void)snprintf(request, sizeof(request), "GET /long.txt HTTP/1.1\r\nHost: test\r\n%s\r\n",
                   fields);
    client_send(fd, request);
    do {
        assert_int_equal(client_recv(fd, bytes + size, 1, 0), 1);
        bytes[++size] = '\0';
    } while (strstr(bytes, "\r\n\r\n") == NULL);
    assert_contains(bytes, head);
    shorten();
    size = read_to_end(fd, bytes, FILE_BYTES * 2, size, &end);
    assert_int_equal(answer_read(ANSWER_HTTP11, false, bytes, size, end, &answer), ANSWER_CUT);
    assert_true(answer.body_size < FILE_BYTES);
    answer_release(&answer);
    free(bytes);
    (void)close(fd);
    finish_after_cut(&p, has_line);
}

static void test_a_compressed_answer_has_no_last_chunk(void **state)
{
    (void)state;
    assert_cut(GZIP, "\r\ntransfer-encoding: chunked\r\n", true);
}

static void test_an_answer_of_two_ranges_has_fewer_bytes_than_announced(void **state)
{
    (void)state;
    assert_cut("Range: bytes=0-9999999,10000000-19999999\r\n", "HTTP/1.1 206 ", true);
}

/* The first range ends before the file does now; not even a byte of the second is there. */
static void test_an_answer_whose_last_range_is_gone_is_cut(void **state)
{
    (void)state;
    assert_cut("Range: bytes=0-99,1000000-19999999\r\n", "HTTP/1.1 206 ", true);
}

static void test_a_plain_answer_has_fewer_bytes_than_announced(void **state)
{
    (void)state;
    assert_cut("", "\r\nContent-Length: 20971520\r\n", false);
}

/* ---- HTTP/2 ---- */

/* The file becomes shorter when the window of the stream is used up. */
static void assert_reset(const char *name, const char *value, bool has_line)
{
    static struct h2_bytes block;
    static struct h2_got got;
    struct process p;

    start_files(&p);
    int fd = h2_connect(&p, false);
    block.size = 0;
    h2_add_head(&block, "GET", "/long.txt");
    if (name != NULL)
        h2_add_field(&block, name, value, false);
    h2_send_block(fd, 1, true, &block);
    for (size_t had = 0; had < WINDOW; had += got.size)
        assert_true(h2_await(fd, H2_DATA, 1, &got));
    shorten();
    h2_send_number(fd, H2_WINDOW, 1, FILE_BYTES);
    h2_send_number(fd, H2_WINDOW, 0, FILE_BYTES * 2);
    do {
        if (!h2_next(fd, &got))
            fail_msg("the answer is not cut");
        assert_int_not_equal(got.type, H2_GOAWAY);
        assert_false(got.type == H2_DATA && (got.flags & H2_END_STREAM) != 0);
    } while (got.type != H2_RST);
    assert_int_equal(got.stream, 1);
    h2_send_get(fd, 3, "/hello");
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    finish_after_cut(&p, has_line);
}

static void test_a_compressed_answer_over_http2_is_reset(void **state)
{
    (void)state;
    assert_reset("accept-encoding", "gzip", true);
}

static void test_an_answer_of_two_ranges_over_http2_is_reset(void **state)
{
    (void)state;
    assert_reset("range", "bytes=0-9999999,10000000-19999999", true);
}

static void test_a_plain_answer_over_http2_is_reset(void **state)
{
    (void)state;
    assert_reset(NULL, NULL, false);
}

/* ---- a file that is shorter than the kernel says from the start ---- */

/* Its size is 4096, and there is nothing to read. */
#define NOTHING "/sys/class/net/lo/ifalias"

static void test_a_file_without_its_first_byte_is_cut_at_once(void **state)
{
    static struct h2_bytes block;
    struct process p;
    char bytes[4096];
    enum connection_end end;
    struct answer answer;
    struct stat st;
    (void)state;
    if (stat(NOTHING, &st) != 0 || st.st_size == 0)
        skip_test("needs " NOTHING);
    start_files(&p);
    assert_int_equal(symlink(NOTHING, in_directory("root/nothing.txt")), 0);
    int fd = client_connect(&p);
    client_send(fd, "GET /nothing.txt HTTP/1.1\r\nHost: test\r\n" GZIP "\r\n");
    size_t size = read_to_end(fd, bytes, sizeof(bytes), 0, &end);
    assert_int_equal(answer_read(ANSWER_HTTP11, false, bytes, size, end, &answer), ANSWER_CUT);
    answer_release(&answer);
    (void)close(fd);
    fd = h2_connect(&p, false);
    block.size = 0;
    h2_add_head(&block, "GET", "/nothing.txt");
    h2_add_field(&block, "accept-encoding", "gzip", false);
    h2_send_block(fd, 1, true, &block);
    assert_int_equal(h2_await_status(fd, 1), 0);
    h2_send_get(fd, 3, "/hello");
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    finish_after_cut(&p, true);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_compressed_answer_has_no_last_chunk),
        TEST(test_an_answer_of_two_ranges_has_fewer_bytes_than_announced),
        TEST(test_an_answer_whose_last_range_is_gone_is_cut),
        TEST(test_a_plain_answer_has_fewer_bytes_than_announced),
        TEST(test_a_compressed_answer_over_http2_is_reset),
        TEST(test_an_answer_of_two_ranges_over_http2_is_reset),
        TEST(test_a_plain_answer_over_http2_is_reset),
        TEST(test_a_file_without_its_first_byte_is_cut_at_once),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("shortened_file", tests, with_config_set_up,
                                       remove_directory);
}

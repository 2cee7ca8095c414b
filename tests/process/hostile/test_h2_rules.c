/* The real process and HTTP/2 requests that break a rule of the protocol, or that are larger than
 * they may be: each gets the error that it should, and is counted. */

#include "h2_by_hand.h"

#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "directory.h"
#include "expect.h"
#include "target.h"

#define LIMIT_MS 30000

static char admin_address[128];

static const char *write_conf(const char *text)
{
    const char *path = in_directory("x.conf");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(
        file,
        "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nuser: %s\n"
        "admin: {listen: \"unix:%s\"}\nlimit-request-body: 100000\n"
        "access-log: %s\nlimits: {header-fields: 20, header-size: 8KB, header-block: 4KB}\n%s"
        "hosts: {default: {paths: {/: {handler: hello}, /sleep: {handler: sleep}}}}\n",
        own_user_name(), in_directory("admin.sock"), in_directory("access.log"), text);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void start(struct process *p, struct process *admin)
{
    (void)snprintf(admin_address, sizeof(admin_address), "unix:%s", in_directory("admin.sock"));
    const char *const args[] = {"--conf", write_conf(""), NULL};
    (void)unlink(in_directory("access.log"));
    process_start_configured(p, args);
    *admin = admin_of(p);
}

static void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    process_release(p);
}

static void expect_metric(const struct process *admin, const char *line)
{
    char *answer = admin_call(admin, "GET", "/metrics", "", NULL);
    assert_contains(answer, line);
    free(answer);
}

#define MALFORMED "lastcall_http2_refused_total{reason=\"malformed\"}"

/* ---- heads ---- */

struct field {
    const char *name, *value;
};

#define FIELDS_MAX 8

struct head {
    const char *what;
    struct field fields[FIELDS_MAX];
};

#define GET_IS                                                                                     \
    {                                                                                              \
        ":method", "GET"                                                                           \
    }
#define HTTP_IS                                                                                    \
    {                                                                                              \
        ":scheme", "http"                                                                          \
    }
#define ROOT_IS                                                                                    \
    {                                                                                              \
        ":path", "/"                                                                               \
    }
#define HOST_IS                                                                                    \
    {                                                                                              \
        ":authority", "t"                                                                          \
    }

static struct h2_bytes block;

static void make_block(const struct head *head)
{
    block.size = 0;
    for (size_t i = 0; i < FIELDS_MAX && head->fields[i].name != NULL; i++)
        h2_add_field(&block, head->fields[i].name, head->fields[i].value, false);
}

static void test_malformed_requests_get_protocol_error(void **state)
{
    static const struct head heads[] = {
        {"no method", {HTTP_IS, ROOT_IS, HOST_IS}},
        {"no scheme", {GET_IS, ROOT_IS, HOST_IS}},
        {"no path", {GET_IS, HTTP_IS, HOST_IS}},
        {"neither authority nor host", {GET_IS, HTTP_IS, ROOT_IS}},
        {"two methods", {GET_IS, GET_IS, HTTP_IS, ROOT_IS, HOST_IS}},
        {"two paths", {GET_IS, HTTP_IS, ROOT_IS, ROOT_IS, HOST_IS}},
        {"two schemes", {GET_IS, HTTP_IS, HTTP_IS, ROOT_IS, HOST_IS}},
        {"two authorities", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, HOST_IS}},
        {"a pseudo-header after a field", {GET_IS, HTTP_IS, ROOT_IS, {"a", "b"}, HOST_IS}},
        {"an unknown pseudo-header", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {":x", "y"}}},
        {"a space in the method", {{":method", "GET /x"}, HTTP_IS, ROOT_IS, HOST_IS}},
        {"an empty method", {{":method", ""}, HTTP_IS, ROOT_IS, HOST_IS}},
        {"a line feed in the method", {{":method", "GE\nT"}, HTTP_IS, ROOT_IS, HOST_IS}},
        {"a space in the path", {GET_IS, HTTP_IS, {":path", "/ HTTP/1.1"}, HOST_IS}},
        {"a tab in the path", {GET_IS, HTTP_IS, {":path", "/\t"}, HOST_IS}},
        {"CR and LF in the path", {GET_IS, HTTP_IS, {":path", "/\r\nx: y"}, HOST_IS}},
        {"DEL in the path", {GET_IS, HTTP_IS, {":path", "/\x7f"}, HOST_IS}},
        {"a fragment in the path", {GET_IS, HTTP_IS, {":path", "/#x"}, HOST_IS}},
        {"an escaped NUL in the path", {GET_IS, HTTP_IS, {":path", "/a%00b"}, HOST_IS}},
        {"an empty path", {GET_IS, HTTP_IS, {":path", ""}, HOST_IS}},
        {"a path without a slash", {GET_IS, HTTP_IS, {":path", "x"}, HOST_IS}},
        {"an asterisk for GET", {GET_IS, HTTP_IS, {":path", "*"}, HOST_IS}},
        {"a URL as the path", {GET_IS, HTTP_IS, {":path", "http://t/"}, HOST_IS}},
        {"a space in the scheme", {GET_IS, {":scheme", "ht tp"}, ROOT_IS, HOST_IS}},
        {"a scheme other than HTTP's", {GET_IS, {":scheme", "gopher"}, ROOT_IS, HOST_IS}},
        {"an empty authority", {GET_IS, HTTP_IS, ROOT_IS, {":authority", ""}}},
        {"a space in the authority", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "a b"}}},
        {"a path in the authority", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "t/x"}}},
        {"a user in the authority", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "u@t"}}},
        {"an invalid port", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "t:8x"}}},
        {"two ports", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "t:80:80"}}},
        {"an open bracket", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "[::1"}}},
        {"a host that differs", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "other"}}},
        {"two hosts", {GET_IS, HTTP_IS, ROOT_IS, {"host", "t"}, {"host", "other"}}},
        {"the same host twice", {GET_IS, HTTP_IS, ROOT_IS, {"host", "t"}, {"host", "t"}}},
        {"an authority and two hosts",
         {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "t"}, {"host", "t"}}},
        {"a bad host", {GET_IS, HTTP_IS, ROOT_IS, {"host", "a b"}}},
        {"an empty host", {GET_IS, HTTP_IS, ROOT_IS, {"host", ""}}},
        {"an empty authority and a host",
         {GET_IS, HTTP_IS, ROOT_IS, {":authority", ""}, {"host", "t"}}},
        {"a field without a name", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"", "x"}}},
        {"an upper-case name", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"Ab", "x"}}},
        {"a value that begins blank", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"a", " x"}}},
        {"a value that ends blank", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"a", "x\t"}}},
        {"connection", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"connection", "close"}}},
        {"keep-alive", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"keep-alive", "5"}}},
        {"proxy-connection", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"proxy-connection", "x"}}},
        {"transfer-encoding",
         {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"transfer-encoding", "chunked"}}},
        {"upgrade", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"upgrade", "h2c"}}},
        {"te", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"te", "gzip"}}},
        {"an invalid content-length", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"content-length", "x"}}},
        {"a body announced, and none sent",
         {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"content-length", "5"}}},
        {"two content-lengths",
         {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"content-length", "0"}, {"content-length", "0"}}},
    };
    struct process p, admin;
    char line[96];
    (void)state;
    start(&p, &admin);
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        int fd = h2_connect(&p, false);
        make_block(&heads[i]);
        h2_send_block(fd, 1, true, &block);
        int error = h2_await_error(fd, 1);
        if (error != H2_PROTOCOL_ERROR)
            fail_msg("%s: error %d", heads[i].what, error);
        (void)close(fd);
        (void)snprintf(line, sizeof(line), MALFORMED " %zu\n", i + 1);
        expect_metric(&admin, line);
    }
    stop(&p);
}

static void test_unusual_requests_that_break_no_rule_are_served(void **state)
{
    static const struct head heads[] = {
        {"host instead of authority", {GET_IS, HTTP_IS, ROOT_IS, {"host", "t"}}},
        {"both, in different case", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "T"}}},
        {"IPv6", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "[::1]:8080"}}},
        {"a name with an underscore", {GET_IS, HTTP_IS, ROOT_IS, {":authority", "a_b.c-d:1"}}},
        {"https", {GET_IS, {":scheme", "https"}, ROOT_IS, HOST_IS}},
        {"an asterisk for OPTIONS", {{":method", "OPTIONS"}, HTTP_IS, {":path", "*"}, HOST_IS}},
        {"a method of its own", {{":method", "M-SEARCH"}, HTTP_IS, ROOT_IS, HOST_IS}},
        {"te: trailers", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"te", "trailers"}}},
        {"bytes above ASCII in the path", {GET_IS, HTTP_IS, {":path", "/\xc3\xa4"}, HOST_IS}},
        {"an empty value", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"a", ""}}},
        {"blanks inside", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"a", "x y\tz"}}},
        {"no body", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"content-length", "0"}}},
        {"crumbs", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"cookie", "a=b"}, {"cookie", "c=d"}}},
    };
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        make_block(&heads[i]);
        h2_send_block(fd, (uint32_t)(1 + 2 * i), true, &block);
        int status = h2_await_status(fd, (uint32_t)(1 + 2 * i));
        if (status != 200)
            fail_msg("%s: status %d", heads[i].what, status);
    }
    (void)close(fd);
    expect_metric(&admin, MALFORMED " 0\n");
    stop(&p);
}

#define BY_HOSTS                                                                                   \
    "listen: {host: 127.0.0.1, port: 0}\n%sproxy.preserve-host: ON\n"                              \
    "admin: {listen: \"unix:%s\"}\n"                                                               \
    "access-log: {path: %s, format: 'V=%%V v=%%v i=%%{host}i'}\n"                                  \
    "hosts:\n"                                                                                     \
    "  t: {paths: {/: {proxy.reverse.url: '%s'}}}\n"                                               \
    "  other: {paths: {/: {redirect: 'http://wrong/'}}}\n"

/* The same program under h2o's name. */
static void start_as_h2o(struct process *p, const struct target *target)
{
    const char *path = getenv("LASTCALL_BINARY");
    char program[PATH_MAX], before[PATH_MAX];

    (void)snprintf(before, sizeof(before), "%s", path != NULL ? path : "build/release/lastcall");
    assert_non_null(realpath(before, program));
    (void)unlink(in_directory("h2o"));
    assert_int_equal(symlink(program, in_directory("h2o")), 0);
    (void)unlink(in_directory("access.log"));
    FILE *file = fopen(in_directory("hosts.conf"), "w");
    assert_non_null(file);
    (void)fprintf(file, BY_HOSTS, geteuid() == 0 ? "user: root\n" : "", in_directory("admin.sock"),
                  in_directory("access.log"), target->url);
    assert_int_equal(fclose(file), 0);
    (void)setenv("LASTCALL_BINARY", in_directory("h2o"), 1);
    const char *const args[] = {"--conf", in_directory("hosts.conf"), NULL};
    process_start_configured(p, args);
    (void)setenv("LASTCALL_BINARY", before, 1);
}

/* Not by the virtual hosts, not by the upstream, not in the log. */
static void test_called_h2o_it_drops_a_host_that_differs(void **state)
{
    static const struct head heads[] = {
        {"another host", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "other"}}},
        {"an empty host", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", ""}}},
        {"no host", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "\xc3\xa9 other/"}}},
    };
    static const struct head two = {
        "", {GET_IS, HTTP_IS, ROOT_IS, HOST_IS, {"host", "t"}, {"host", "other"}}};
    struct process p;
    struct target target;
    char line[512];
    (void)state;
    target_start(&target);
    start_as_h2o(&p, &target);
    int fd = h2_connect(&p, false);
    for (uint32_t i = 0; i < 3; i++) {
        make_block(&heads[i]);
        h2_send_block(fd, 1 + 2 * i, true, &block);
        if (h2_await_status(fd, 1 + 2 * i) != 200)
            fail_msg("%s", heads[i].what);
        assert_int_equal(target_count(&target), i + 1);
        assert_contains(target.requests->head, "\r\nhost: t\r\n");
        assert_lacks(target.requests->head, "other");
    }
    make_block(&two);
    h2_send_block(fd, 7, true, &block);
    assert_int_equal(h2_await_error(fd, 7), H2_PROTOCOL_ERROR);
    (void)close(fd);
    stop(&p);
    target_release(&target);
    FILE *file = fopen(in_directory("access.log"), "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        assert_string_equal(line, "V=t v=t i=-\n");
    assert_int_equal(ftell(file), 3 * strlen("V=t v=t i=-\n"));
    (void)fclose(file);
}

static void test_the_limits_of_a_file_hold(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    block.size = 0;
    h2_add_head(&block, "GET", "/");
    for (unsigned i = 0; i < 17; i++)
        h2_add_field(&block, "a", "b", false);
    h2_send_block(fd, 1, true, &block);
    assert_int_equal(h2_await_status(fd, 1), 431);
    (void)close(fd);
    expect_metric(&admin, "lastcall_http2_refused_total{reason=\"header\"} 1\n");
    stop(&p);
}

/* ---- bodies ---- */

static void begin_post(int fd, uint32_t stream, const char *length)
{
    block.size = 0;
    h2_add_head(&block, "POST", "/sleep?ms=1");
    if (length != NULL)
        h2_add_field(&block, "content-length", length, false);
    h2_send_block(fd, stream, false, &block);
}

static void test_a_content_length_that_lies_gets_protocol_error(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1, "5");
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 1, "1234", 4);
    assert_int_equal(h2_await_error(fd, 1), H2_PROTOCOL_ERROR);
    begin_post(fd, 3, "5");
    h2_send_frame(fd, H2_DATA, 0, 3, "123456", 6); /* found at once, not at the end */
    assert_int_equal(h2_await_error(fd, 3), H2_PROTOCOL_ERROR);
    begin_post(fd, 5, "5");
    h2_send_frame(fd, H2_DATA, 0, 5, "1234", 4);
    h2_send_frame(fd, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 5, "\0\1a\1b", 5); /* a trailer */
    assert_int_equal(h2_await_error(fd, 5), H2_PROTOCOL_ERROR);
    begin_post(fd, 7, "5");
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 7, "12345", 5);
    assert_int_equal(h2_await_status(fd, 7), 200);
    (void)close(fd);
    expect_metric(&admin, MALFORMED " 3\n");
    stop(&p);
}

static char piece[16384];

/* More than the window of a connection, so that it stops unless its bytes are given back. */
static void send_body(int fd, uint32_t stream, size_t bytes)
{
    for (size_t sent = 0; sent < bytes; sent += sizeof(piece))
        h2_send_frame(fd, H2_DATA, 0, stream, piece, sizeof(piece));
}

static void test_a_body_over_the_limit_gets_413_and_a_line(void **state)
{
    struct process p, admin;
    static struct h2_got got;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1, NULL);
    send_body(fd, 1, 150000);
    assert_int_equal(h2_await_status(fd, 1), 413);
    assert_true(h2_await(fd, H2_DATA, 1, &got));
    assert_int_equal(got.flags & H2_END_STREAM, H2_END_STREAM);
    send_body(fd, 1, 300000); /* not having read the answer yet; then the server asks it to stop */
    assert_int_equal(h2_await_error(fd, 1), H2_NO_ERROR);
    h2_send_get(fd, 3, "/");
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    process_wait_log(&p, "refused with 413: POST /sleep, its body is larger than "
                         "limit-request-body (100000 bytes)");
    expect_metric(&admin, "lastcall_http2_refused_total{reason=\"body\"} 1\n");
    stop(&p);
    FILE *log = fopen(in_directory("access.log"), "r");
    assert_non_null(log);
    char lines[512] = "";
    assert_true(fread(lines, 1, sizeof(lines) - 1, log) > 0);
    assert_contains(lines, "\"POST /sleep?ms=1 HTTP/2\" 413 36 ");
    (void)fclose(log);
}

static void test_a_length_over_the_limit_gets_413_before_the_body(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1, "100001");
    assert_int_equal(h2_await_status(fd, 1), 413);
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 1, piece, 16384);
    begin_post(fd, 3, "100000");
    for (unsigned i = 0; i < 6; i++)
        h2_send_frame(fd, H2_DATA, 0, 3, piece, 16384);
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 3, piece, 100000 - 6 * 16384);
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    stop(&p);
}

/* 16 MB are the window of the connection. */
static void test_a_refused_body_does_not_use_up_the_window_of_its_connection(void **state)
{
    struct process p, admin;
    static struct h2_got got;
    size_t given = 0;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    for (uint32_t stream = 1; stream < 9; stream += 2) {
        begin_post(fd, stream, NULL);
        send_body(fd, stream, 4 << 20);
    }
    begin_post(fd, 9, "1");
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 9, "x", 1);
    while (h2_next(fd, &got) && !(got.type == H2_HEADERS && got.stream == 9))
        if (got.type == H2_WINDOW && got.stream == 0)
            given += (size_t)got.payload[1] << 16 | (size_t)got.payload[2] << 8 | got.payload[3];
    assert_int_equal(got.stream, 9);
    assert_true(given >= 8 << 20);
    (void)close(fd);
    stop(&p);
}

/* A trailer is no header: its fields do not reach a handler or an upstream. So their number does
 * not matter. */
static void test_a_request_with_a_trailer_is_served(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1, NULL);
    h2_send_frame(fd, H2_DATA, 0, 1, "x", 1);
    h2_send_frame(fd, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 1, "\0\4host\1b", 8);
    assert_int_equal(h2_await_status(fd, 1), 200);
    begin_post(fd, 3, NULL);
    block.size = 0;
    for (unsigned i = 0; i < 450; i++) /* two times 8 KB are 481 of them */
        h2_add_field(&block, "a", "b", false);
    h2_send_block(fd, 3, true, &block);
    assert_int_equal(h2_await_status(fd, 3), 200);
    (void)close(fd);
    stop(&p);
}

static void test_a_trailer_is_bounded_by_its_size(void **state)
{
    struct process p, admin;
    (void)state;
    start(&p, &admin);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1, NULL);
    block.size = 0;
    for (unsigned i = 0; i < 500; i++)
        h2_add_field(&block, "a", "b", false);
    h2_send_block(fd, 1, true, &block);
    assert_int_equal(h2_await_error(fd, 0), H2_ENHANCE_YOUR_CALM);
    (void)close(fd);
    expect_metric(&admin, "lastcall_http2_refused_total{reason=\"header\"} 1\n");
    stop(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_malformed_requests_get_protocol_error),
        TEST(test_unusual_requests_that_break_no_rule_are_served),
        TEST(test_called_h2o_it_drops_a_host_that_differs),
        TEST(test_the_limits_of_a_file_hold),
        TEST(test_a_content_length_that_lies_gets_protocol_error),
        TEST(test_a_body_over_the_limit_gets_413_and_a_line),
        TEST(test_a_length_over_the_limit_gets_413_before_the_body),
        TEST(test_a_refused_body_does_not_use_up_the_window_of_its_connection),
        TEST(test_a_request_with_a_trailer_is_served),
        TEST(test_a_trailer_is_bounded_by_its_size),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("h2_rules", tests, make_directory, remove_directory);
}

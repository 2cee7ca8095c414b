/* Files as answers: conditions (RFC 9110 section 13) and ranges (section 14). */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "file_facts.h"
#include "library_double.h"
#include "log_seen.h"

#define MODIFIED "Sun, 06 Nov 1994 08:49:37 GMT" /* 784111777 */
#define ETAG "\"2ebc98a1-1f-a\""

static lc_server *server;
static char path[256];
static struct lc_answer answer;

static void send_it(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_file(r, path, NULL), 0);
}

static void send_as_page(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_status(r, 404), 0);
    assert_int_equal(lc_set_header(r, "content-type", "text/html"), 0);
    assert_int_equal(lc_send_file(r, path, NULL), 0);
}

static void send_with_own_etag(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_set_header(r, "ETag", "W/\"v1\""), 0);
    assert_int_equal(lc_send_file(r, path, "text/x"), 0);
}

static void send_query(lc_req *r, void *user)
{
    (void)user;
    (void)lc_send_file(r, lc_query(r, "p"), NULL); /* its result is not looked at */
}

static void send_or_else(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_send_file(r, "/nowhere", NULL), -ENOENT);
    assert_int_equal(lc_send(r, 200, NULL, "else"), 0);
}

static int set_up(void **state)
{
    server = lc_new();
    if (make_directory(state) != 0)
        return 1;
    (void)snprintf(path, sizeof(path), "%s/a.txt", directory);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    struct timespec times[2] = {{784111777, 31}, {784111777, 31}};
    if (fd < 0 || write(fd, "0123456789", 10) != 10 || futimens(fd, times) != 0)
        return 1;
    (void)close(fd);
    (void)lc_handle(server, "/", send_it, NULL);
    (void)lc_handle(server, "/page", send_as_page, NULL);
    (void)lc_handle(server, "/own", send_with_own_etag, NULL);
    (void)lc_handle(server, "/query", send_query, NULL);
    (void)lc_handle(server, "/else", send_or_else, NULL);
    return 0;
}

static int tear_down(void **state)
{
    lc_answer_free(&answer);
    return remove_directory(state) != 0 || lc_free(server) != 0;
}

static void get(const char *request, const char *headers)
{
    lc_answer_free(&answer);
    answer.size = sizeof(answer);
    assert_int_equal(lc_call(server, request, headers, NULL, 0, &answer), 0);
}

static void test_a_file_with_its_facts(void **state)
{
    (void)state;
    get("GET /", NULL);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "0123456789");
    assert_string_equal(answer.headers,
                        "content-type: text/plain\r\netag: " ETAG "\r\nlast-modified: " MODIFIED
                        "\r\naccept-ranges: bytes\r\n");
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *headers;
        int get, post;
    } cases[] = {
        {"if-none-match: " ETAG, 304, 412},
        {"if-none-match: W/" ETAG, 304, 412},
        {"if-none-match: \"a,b\" , " ETAG, 304, 412},
        {"if-none-match: \"a\"\r\nif-none-match: " ETAG, 304, 412},
        {"if-none-match: *", 304, 412},
        {"if-none-match: \"a\"", 200, 200},
        {"if-none-match: nonsense", 200, 200},
        {"if-none-match: \"a\"\r\nif-modified-since: " MODIFIED, 200, 200}, /* the etag counts */
        {"if-modified-since: " MODIFIED, 304, 200},
        {"if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT", 200, 200},
        {"if-modified-since: yesterday", 200, 200},
        {"if-match: " ETAG, 200, 200},
        {"if-match: W/" ETAG, 412, 412},
        {"if-match: *", 200, 200},
        {"if-match: \"a\"", 412, 412},
        {"if-match: " ETAG "\r\nif-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", 200, 200},
        {"if-unmodified-since: " MODIFIED, 200, 200},
        {"if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", 412, 412},
        {"if-match: " ETAG "\r\nif-none-match: " ETAG, 304, 412},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        get("GET /", cases[i].headers);
        if (answer.status != cases[i].get)
            fail_msg("GET, %s: %d", cases[i].headers, answer.status);
        if (answer.status == 304) {
            assert_string_equal(answer.body, "");
            assert_non_null(strstr(answer.headers, "etag: " ETAG));
            assert_null(strstr(answer.headers, "content-type"));
        }
        get("POST /", cases[i].headers);
        if (answer.status != cases[i].post)
            fail_msg("POST, %s: %d", cases[i].headers, answer.status);
    }
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *range, *body, *content_range; /* NULL: all of it */
    } cases[] = {
        {"bytes=0-0", "0", "bytes 0-0/10"},
        {"bytes=2-4", "234", "bytes 2-4/10"},
        {"Bytes=2-4", "234", "bytes 2-4/10"},
        {"bytes=8-", "89", "bytes 8-9/10"},
        {"bytes=8-99", "89", "bytes 8-9/10"},
        {"bytes=8-99999999999999999999999", "89", "bytes 8-9/10"},
        {"bytes=-3", "789", "bytes 7-9/10"},
        {"bytes=-30", "0123456789", "bytes 0-9/10"},
        {"bytes=0-", "0123456789", "bytes 0-9/10"},
        {"bytes=0-1,3-4", NULL, NULL},
        {"bytes=4-2", NULL, NULL},
        {"bytes=a-2", NULL, NULL},
        {"bytes=-", NULL, NULL},
        {"bytes=1", NULL, NULL},
        {"bytes=1-2x", NULL, NULL},
        {"bytes= 1-2", NULL, NULL},
        {"lines=1-2", NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char headers[128], expected[64];
        (void)snprintf(headers, sizeof(headers), "range: %s", cases[i].range);
        get("GET /", headers);
        if (answer.status != (cases[i].body != NULL ? 206 : 200))
            fail_msg("%s: %d", cases[i].range, answer.status);
        assert_string_equal(answer.body, cases[i].body != NULL ? cases[i].body : "0123456789");
        (void)snprintf(expected, sizeof(expected), "content-range: %s\r\n",
                       cases[i].content_range != NULL ? cases[i].content_range : "");
        assert_int_equal(strstr(answer.headers, expected) != NULL, cases[i].body != NULL);
    }
}

static void test_ranges_that_cannot_be(void **state)
{
    (void)state;
    static const char *const ranges[] = {"range: bytes=10-", "range: bytes=10-20",
                                         "range: bytes=-0", "range: bytes=99999999999999999999-"};

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        get("GET /", ranges[i]);
        assert_int_equal(answer.status, 416);
        assert_non_null(strstr(answer.headers, "content-range: bytes */10\r\n"));
        assert_string_equal(answer.body, "416 Range Not Satisfiable\n");
    }
}

static void test_if_range(void **state)
{
    (void)state;
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"range: bytes=1-2\r\nif-range: " ETAG, 206},
        {"range: bytes=1-2\r\nif-range: W/" ETAG, 200},
        {"range: bytes=1-2\r\nif-range: \"a\"", 200},
        {"range: bytes=1-2\r\nif-range: " MODIFIED, 206},
        {"range: bytes=1-2\r\nif-range: Sun, 06 Nov 1994 08:49:38 GMT", 200},
        {"range: bytes=20-\r\nif-range: \"a\"", 200},
        {"range: bytes=1-2\r\nif-none-match: " ETAG, 304},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        get("GET /", cases[i].headers);
        if (answer.status != cases[i].status)
            fail_msg("%s: %d", cases[i].headers, answer.status);
    }
    get("HEAD /", "range: bytes=1-2");
    assert_int_equal(answer.status, 200);
    get("POST /", "range: bytes=1-2");
    assert_int_equal(answer.status, 200);
}

static void test_a_file_with_another_status_is_sent_whole(void **state)
{
    (void)state;
    get("GET /page", "range: bytes=1-2\r\nif-none-match: *");
    assert_int_equal(answer.status, 404);
    assert_string_equal(answer.body, "0123456789");
    assert_non_null(strstr(answer.headers, "content-type: text/html"));
}

static void test_an_etag_of_the_handlers_counts(void **state)
{
    (void)state;
    get("GET /own", "if-none-match: \"v1\"");
    assert_int_equal(answer.status, 304);
    get("GET /own", "if-match: \"v1\""); /* it is weak */
    assert_int_equal(answer.status, 412);
    get("GET /own", "range: bytes=1-2\r\nif-range: \"v1\"");
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.headers, "content-type: text/x\r\netag: W/\"v1\"\r\n"));
}

static void test_files_that_cannot_be_sent(void **state)
{
    char fifo[300], request[400], empty[300];

    (void)state;
    log_seen_reset();
    get("GET /query?p=/nowhere", NULL);
    assert_int_equal(answer.status, 404);
    get("GET /query?p=/dev/null", NULL);
    assert_int_equal(answer.status, 404);
    get("GET /query?p=/", NULL);
    assert_int_equal(answer.status, 404);
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    (void)snprintf(request, sizeof(request), "GET /query?p=%s", fifo);
    get(request, NULL);
    assert_int_equal(answer.status, 404);
    get("GET /else", NULL);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "else");
    assert_int_equal(log_seen_all(), 0);
    (void)snprintf(empty, sizeof(empty), "%s/empty", directory);
    int fd = open(empty, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    (void)close(fd);
    (void)snprintf(request, sizeof(request), "GET /query?p=%s", empty);
    get(request, NULL);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.count, 0);
    assert_non_null(strstr(answer.headers, "content-type: application/octet-stream"));
    get(request, "range: bytes=0-");
    assert_int_equal(answer.status, 416);
}

static void test_no_descriptor_is_left(void **state)
{
    (void)state;
    int before = dup(0);
    (void)close(before);
    static const char *const headers[] = {NULL, "if-none-match: *", "range: bytes=99-",
                                          "if-match: \"a\"", "range: bytes=0-1"};
    for (size_t i = 0; i < 5; i++)
        get("GET /", headers[i]);
    get("GET /query?p=/", NULL);
    int after = dup(0);
    (void)close(after);
    assert_int_equal(before, after);
}

static void test_media_types_and_dates(void **state)
{
    char text[FILE_DATE_SIZE];
    time_t time;

    (void)state;
    assert_string_equal(file_media_type("/a/b.HTML"), "text/html");
    assert_string_equal(file_media_type("x.png"), "image/png");
    assert_string_equal(file_media_type("/a.html/b"), "application/octet-stream");
    assert_string_equal(file_media_type("b.unknown"), "application/octet-stream");
    assert_string_equal(file_media_type("b."), "application/octet-stream");
    file_date(784111777, text);
    assert_string_equal(text, MODIFIED);
    assert_true(file_read_date(MODIFIED, &time));
    assert_int_equal(time, 784111777);
    assert_false(file_read_date("Sunday, 06-Nov-94 08:49:37 GMT", &time));
    file_date(INT64_MAX, text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_with_its_facts),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ranges_that_cannot_be),
        cmocka_unit_test(test_if_range),
        cmocka_unit_test(test_a_file_with_another_status_is_sent_whole),
        cmocka_unit_test(test_an_etag_of_the_handlers_counts),
        cmocka_unit_test(test_files_that_cannot_be_sent),
        cmocka_unit_test(test_no_descriptor_is_left),
        cmocka_unit_test(test_media_types_and_dates),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* The real process compresses answers: a strong entity tag becomes weak with that, and still saves
 * the client a body; and `no-transform` is respected (RFC 9110 sections 7.7 and 8.8.1). */

#include "with_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"

#define WITH(fields) "GET /x.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" fields "\r\n"
#define GZIP "Accept-Encoding: gzip\r\n"
#define BROTLI "Accept-Encoding: gzip, br\r\n"

/* All of the answer, to its end.     Owner: the caller. */
static char *ask(const struct process *p, const char *request)
{
    int fd = client_connect(p);
    client_send(fd, request);
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    return answer;
}

/* The value of a field, "" without it. Good until the next call. */
static const char *field(const char *answer, const char *name)
{
    static char values[4][256];
    static unsigned next;
    char *value = values[next++ % 4], line[64];

    (void)snprintf(line, sizeof(line), "\r\n%s: ", name);
    const char *at = strcasestr(answer, line);
    value[0] = '\0';
    if (at != NULL)
        (void)snprintf(value, sizeof(values[0]), "%.*s", (int)strcspn(at + strlen(line), "\r"),
                       at + strlen(line));
    return value;
}

static void start_files(struct process *p, const char *more)
{
    char conf[1024];
    const char *page = in_directory("root");

    (void)mkdir(page, 0755);
    FILE *file = fopen(in_directory("root/x.txt"), "w");
    assert_non_null(file);
    for (unsigned i = 0; i < 200; i++)
        (void)fprintf(file, "line %u of a text that is worth compressing\n", i);
    assert_int_equal(fclose(file), 0);
    (void)snprintf(conf, sizeof(conf),
                   "%shosts: {default: {paths: {/: {file.dir: '%s', compress: ON%s}}}}\n", LISTEN,
                   page, more);
    start(p, conf);
}

static void assert_weak_with(const struct process *p, const char *request, const char *coding,
                             const char *strong)
{
    char *answer = ask(p, request), weak[300];

    (void)snprintf(weak, sizeof(weak), "W/%s", strong);
    assert_contains(answer, "HTTP/1.1 200 ");
    assert_string_equal(field(answer, "content-encoding"), coding);
    assert_string_equal(field(answer, "etag"), weak);
    free(answer);
}

static void test_tag_of_a_compressed_body_is_weak(void **state)
{
    struct process p;
    char strong[256];
    (void)state;
    start_files(&p, "");
    char *answer = ask(&p, WITH(""));
    (void)snprintf(strong, sizeof(strong), "%s", field(answer, "etag"));
    assert_int_equal(strong[0], '"');
    assert_string_equal(field(answer, "content-encoding"), "");
    free(answer);
    assert_weak_with(&p, WITH(GZIP), "gzip", strong);
    assert_weak_with(&p, WITH(BROTLI), "br", strong);
    stop(&p);
    process_release(&p);
}

/* What the client holds is compared weakly, and the 304 names it as the client does. */
static void test_weak_tag_saves_the_body(void **state)
{
    struct process p;
    char request[512], tag[256];
    (void)state;
    start_files(&p, "");
    char *answer = ask(&p, WITH(GZIP));
    (void)snprintf(tag, sizeof(tag), "%s", field(answer, "etag"));
    free(answer);
    (void)snprintf(request, sizeof(request),
                   "GET /x.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" GZIP
                   "If-None-Match: %s\r\n\r\n",
                   tag);
    answer = ask(&p, request);
    assert_contains(answer, "HTTP/1.1 304 ");
    assert_string_equal(field(answer, "etag"), tag);
    free(answer);
    (void)snprintf(request, sizeof(request),
                   "GET /x.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                   "If-None-Match: %s\r\n\r\n",
                   tag + 2);
    answer = ask(&p, request);
    assert_contains(answer, "HTTP/1.1 304 ");
    assert_string_equal(field(answer, "etag"), tag + 2);
    free(answer);
    answer = ask(&p, WITH(GZIP "If-None-Match: W/\"another\"\r\n"));
    assert_contains(answer, "HTTP/1.1 200 ");
    free(answer);
    stop(&p);
    process_release(&p);
}

static void assert_not_transformed(const struct process *p, const char *request)
{
    char *answer = ask(p, request);

    assert_contains(answer, "HTTP/1.1 200 ");
    assert_string_equal(field(answer, "content-encoding"), "");
    assert_int_equal(field(answer, "etag")[0], '"');
    assert_contains(answer, "line 199 of a text");
    free(answer);
}

static void test_no_transform_of_the_answer_is_respected(void **state)
{
    struct process p;
    (void)state;
    start_files(&p, ", header.set: 'Cache-Control: max-age=5, No-Transform'");
    assert_not_transformed(&p, WITH(GZIP));
    assert_not_transformed(&p, WITH(BROTLI));
    stop(&p);
    process_release(&p);
    start_files(&p, ", header.set: 'Cache-Control: max-age=5, no-transforms'");
    char *answer = ask(&p, WITH(GZIP));
    assert_string_equal(field(answer, "content-encoding"), "gzip");
    free(answer);
    process_release(&p);
}

static void test_no_transform_of_the_request_is_respected(void **state)
{
    struct process p;
    (void)state;
    start_files(&p, "");
    assert_not_transformed(&p, WITH(GZIP "Cache-Control: no-transform\r\n"));
    assert_not_transformed(&p, WITH(BROTLI "Cache-Control: no-cache\r\nCache-Control: x, "
                                           "no-transform\r\n"));
    stop(&p);
    process_release(&p);
}

/* One answer of an upstream, with these fields; what the front makes of it.     Owner: the caller.
 */
static char *proxied(const char *fields, const char *asked, char **ret_request)
{
    struct process p;
    char conf[512], answer[2048], body[1025];
    uint16_t port;

    int listener_fd = listen_here(&port, 16);
    (void)snprintf(conf, sizeof(conf),
                   "%shosts: {default: {paths: {/: {proxy.reverse.url: 'http://127.0.0.1:%u', "
                   "compress: ON}}}}\n",
                   LISTEN, port);
    start(&p, conf);
    int fd = client_connect(&p);
    client_send(fd, asked);
    int up = accept(listener_fd, NULL, NULL);
    assert_true(up >= 0);
    *ret_request = client_read_until(up, "\r\n\r\n");
    memset(body, 'b', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    (void)snprintf(
        answer, sizeof(answer),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n%s\r\n%s", fields,
        body);
    client_send(up, answer);
    char *got = client_read_until(fd, NULL);
    (void)close(up);
    (void)close(fd);
    (void)close(listener_fd);
    process_release(&p);
    return got;
}

static void test_answers_of_an_upstream_are_treated_alike(void **state)
{
    char *request, *answer;
    (void)state;
    answer = proxied("ETag: \"s\"\r\n", WITH(GZIP), &request);
    assert_string_equal(field(answer, "content-encoding"), "gzip");
    assert_string_equal(field(answer, "etag"), "W/\"s\"");
    free(request);
    free(answer);
    answer = proxied("ETag: W/\"w\"\r\n", WITH(GZIP "If-None-Match: W/\"w\"\r\n"), &request);
    assert_string_equal(field(answer, "etag"), "W/\"w\"");
    assert_string_equal(field(request, "if-none-match"), "W/\"w\""); /* it compares by itself */
    free(request);
    free(answer);
    answer = proxied("ETag: \"s\"\r\nCache-Control: no-transform\r\n", WITH(GZIP), &request);
    assert_string_equal(field(answer, "content-encoding"), "");
    assert_string_equal(field(answer, "etag"), "\"s\"");
    free(request);
    free(answer);
    answer = proxied("ETag: \"s\"\r\nContent-Encoding: gzip\r\n", WITH(GZIP), &request);
    assert_string_equal(field(answer, "etag"), "\"s\""); /* compressed before it came here */
    free(request);
    free(answer);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tag_of_a_compressed_body_is_weak),
        TEST(test_weak_tag_saves_the_body),
        TEST(test_no_transform_of_the_answer_is_respected),
        TEST(test_no_transform_of_the_request_is_respected),
        TEST(test_answers_of_an_upstream_are_treated_alike),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("compressed", tests, with_config_set_up, remove_directory);
}

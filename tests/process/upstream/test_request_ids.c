/* The ids of requests: who makes them, and where they can be read; and which peers are believed. */

#include "with_upstream.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"

#define LIMIT_MS 20000
#define TWO "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define HEX "0123456789abcdef"
#define ID_SIZE 33

/* The whole configuration is set up by each test: the paths of its logs are of this program. */
static struct fixture *start_front(void **state, const char *settings)
{
    char text[2048];
    static const char format[] =
        "access-log: {path: %s, format: 'was %%s %%{request-id}x %%{proxy.error}x "
        "%%%%{request-id}x'}\n"
        "journal: {dir: %s, methods: '*'}\n"
        "drain: {deadline: 200ms}\n"
        "%s"
        "hosts:\n  default:\n    paths:\n"
        "      /plain: {request-id: OFF, proxy.reverse.url: 'http://127.0.0.1:@/'}\n"
        "      /shown: {request-id.answer: ON, proxy.reverse.url: 'http://127.0.0.1:@/'}\n"
        "      /: {proxy.forwarded: ON, proxy.reverse.url: 'http://127.0.0.1:@/'}\n";
    const char *user = own_user_name();

    int n = snprintf(text, sizeof(text), format, in_directory("access"), in_directory("journal"),
                     settings);
    assert_in_range(n, 1, sizeof(text) - 64);
    (void)snprintf(text + n, sizeof(text) - (size_t)n, "user: %s\nrequest-id: ON\n", user);
    (void)unlink(in_directory("access"));
    (void)mkdir(in_directory("journal"), 0755); /* only root's server makes it itself */
    assert_int_equal(fixture_start(state, text), 0);
    return *state;
}

/* Ask with these fields, and return the head that the upstream gets. Owner: the caller. */
static char *head_for(struct fixture *f, const char *path, const char *fields)
{
    char request[1024];

    f->client = client_connect(&f->front);
    (void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: shop.test\r\n%s\r\n", path,
                   fields);
    client_send(f->client, request);
    take_connection(f);
    return client_read_until(f->upstream, "\r\n\r\n");
}

static char *answer_it(struct fixture *f, const char *reply)
{
    client_send(f->upstream, reply);
    char *answer = client_read_answer(f->client);
    hang_up(f);
    return answer;
}

/* The id in a head: 32 hexadecimal digits, in one field. */
static void copy_id(const char *head, char id[ID_SIZE])
{
    static const char name[] = "\r\nX-Request-Id: ";
    const char *at = strcasestr(head, name);

    assert_non_null(at);
    assert_null(strcasestr(at + strlen(name), name));
    at += strlen(name);
    assert_int_equal(strspn(at, HEX), 32);
    memcpy(id, at, 32);
    id[32] = '\0';
}

static char *read_whole(const char *command)
{
    static char text[65536];
    FILE *out = popen(command, "r");

    assert_non_null(out);
    text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
    (void)pclose(out);
    return text;
}

/* Wait until the access log has a line that ends with `want`. */
static void wait_logged(struct fixture *f, const char *want)
{
    char command[256], line[256];

    (void)f;
    (void)snprintf(command, sizeof(command), "cat %s", in_directory("access"));
    (void)snprintf(line, sizeof(line), "was %s %%{request-id}x\n", want);
    for (unsigned tries = 0; strstr(read_whole(command), line) == NULL; tries++) {
        if (tries == 2000)
            fail_msg("no `%s` in:\n%s", line, read_whole(command));
        (void)usleep(10000);
    }
}

/* ---- who makes it ---- */

static void test_each_request_gets_its_own(void **state)
{
    struct fixture *f = start_front(state, "");
    char first[ID_SIZE], id[ID_SIZE], want[128];

    char *head = head_for(f, "/a", "");
    copy_id(head, first);
    free(head);
    free(answer_it(f, TWO));
    for (unsigned i = 0; i < 100; i++) { /* more than one call of getrandom(2) gives */
        head = head_for(f, "/a", "");
        copy_id(head, id);
        assert_string_not_equal(id, first);
        free(head);
        free(answer_it(f, TWO));
    }
    (void)snprintf(want, sizeof(want), "200 %s -", id);
    wait_logged(f, want);
}

static void test_that_of_a_trusted_proxy_is_kept(void **state)
{
    struct fixture *f = start_front(state, "trusted-proxies: [127.0.0.0/8, '::1']\n");
    char id[ID_SIZE], field[256];

    char *head = head_for(f, "/a", "x-request-id: req-1_a.b~c+d/e=f:g@h\r\nX-Request-ID: 2\r\n");
    assert_contains(head, "\r\nx-request-id: req-1_a.b~c+d/e=f:g@h\r\n");
    assert_null(strstr(head, ": 2\r\n"));
    free(head);
    free(answer_it(f, TWO));
    wait_logged(f, "200 req-1_a.b~c+d/e=f:g@h -");
    static const char *const wrong[] = {"", "a b", "a,b", "\"a\"", "a\\b", "\xc3\xa4", "{}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)snprintf(field, sizeof(field), "X-Request-Id: %s\r\n", wrong[i]);
        head = head_for(f, "/a", field);
        copy_id(head, id);
        free(head);
        free(answer_it(f, TWO));
    }
    (void)snprintf(field, sizeof(field), "X-Request-Id: %0129d\r\n", 7);
    head = head_for(f, "/a", field);
    copy_id(head, id);
    assert_lacks(id, "000000000000000000000000000000");
    free(head);
    free(answer_it(f, TWO));
}

static void test_that_of_another_is_not(void **state)
{
    struct fixture *f = start_front(state, "trusted-proxies: 10.0.0.0/8\n");
    char id[ID_SIZE];

    char *head = head_for(f, "/a",
                          "Connection: X-Request-Id, X-Forwarded-For\r\n"
                          "X-Request-Id: forged\r\nX-Forwarded-For: 9.9.9.9\r\n"
                          "Forwarded: for=9.9.9.9\r\n");
    copy_id(head, id);
    assert_lacks(head, "forged");
    assert_lacks(head, "9.9.9.9");
    assert_contains(head, "\r\nx-forwarded-for: 127.0.0.1\r\n");
    assert_contains(head, "\r\nforwarded: for=127.0.0.1;host=shop.test;proto=http\r\n");
    free(head);
    free(answer_it(f, TWO));
}

static void test_without_it_the_clients_field_is_passed_on(void **state)
{
    struct fixture *f = start_front(state, "trusted-proxies: none\n");
    char *head = head_for(f, "/plain", "X-Request-Id: theirs\r\n");

    assert_contains(head, "\r\nX-Request-Id: theirs\r\n");
    free(head);
    free(answer_it(f, TWO));
    wait_logged(f, "200 - -");
}

/* ---- where it is read ---- */

static void test_an_answer_carries_it_if_that_is_wanted(void **state)
{
    struct fixture *f = start_front(state, "");
    char id[ID_SIZE], got[ID_SIZE];

    char *head = head_for(f, "/shown", "");
    copy_id(head, id);
    free(head);
    char *answer = answer_it(f, TWO);
    copy_id(answer, got);
    assert_string_equal(got, id);
    free(answer);
    free(head_for(f, "/shown", ""));
    answer = answer_it(f, "HTTP/1.1 200 OK\r\nX-Request-Id: own\r\nContent-Length: 2\r\n\r\nok");
    assert_int_equal(count_in(answer, "X-Request-Id"), 1);
    assert_contains(answer, "X-Request-Id: own\r\n");
    free(answer);
    free(head_for(f, "/a", ""));
    answer = answer_it(f, TWO);
    assert_null(strcasestr(answer, "x-request-id"));
    free(answer);
}

static void test_a_failure_has_its_reason_and_its_id(void **state)
{
    struct fixture *f = start_front(state, "");
    char id[ID_SIZE], want[128];

    char *head = head_for(f, "/a", "");
    copy_id(head, id);
    free(head);
    end_upstream(f, CLOSE);
    free(client_read_answer(f->client));
    hang_up(f);
    (void)snprintf(want, sizeof(want), "502 %s ended", id);
    wait_logged(f, want);
    (void)snprintf(want, sizeof(want), "GET /a; request id %s", id);
    process_wait_log(&f->front, want);
}

static void test_a_time_out_has_its_reason_and_its_id(void **state)
{
    struct fixture *f = start_front(state, "proxy.timeout.first_byte: 300\n");
    char id[ID_SIZE], want[128];

    char *head = head_for(f, "/a", "");
    copy_id(head, id);
    free(head);
    free(client_read_answer(f->client));
    hang_up(f);
    (void)snprintf(want, sizeof(want), "504 %s first-byte-time", id);
    wait_logged(f, want);
}

static void test_an_unfinished_request_is_on_record_with_it(void **state)
{
    struct fixture *f = start_front(state, "");
    char id[ID_SIZE], want[128], command[256];

    char *head = head_for(f, "/never", "");
    copy_id(head, id);
    free(head);
    process_signal(&f->front, SIGTERM);
    process_expect(&f->front, LIMIT_MS, 3);
    (void)snprintf(want, sizeof(want), ", request id %s", id);
    assert_contains(f->front.log, want);
    (void)snprintf(command, sizeof(command), "cat %s/unfinished-*", in_directory("journal"));
    assert_contains(read_whole(command), id);
}

static int tear_down_ended(void **state)
{
    struct fixture *f = *state;

    (void)close(f->client);
    (void)close(f->upstream);
    (void)close(f->listener);
    process_release(&f->front);
    return process_kill_left(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_each_request_gets_its_own),
        TEST(test_that_of_a_trusted_proxy_is_kept),
        TEST(test_that_of_another_is_not),
        TEST(test_without_it_the_clients_field_is_passed_on),
        TEST(test_an_answer_carries_it_if_that_is_wanted),
        TEST(test_a_failure_has_its_reason_and_its_id),
        TEST(test_a_time_out_has_its_reason_and_its_id),
        cmocka_unit_test_teardown(test_an_unfinished_request_is_on_record_with_it, tear_down_ended),
    };

    return cmocka_run_group_tests_name("request_ids", tests, make_directory, remove_directory);
}

/* The real process in front of a FastCGI application that the test plays: an answer that the
 * application did not finish never looks whole, and no body comes where none may be. */

#include "with_fastcgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define TEXT "Content-Type: text/plain\r\n"

static int set_up(void **state)
{
    return fixture_start(state,
                         "fastcgi.timeout.first_byte: 20000\nfastcgi.timeout.io: 500\n"
                         "hosts: {default: {paths: {\n"
                         "  /kept: {fastcgi.timeout.keepalive: 5000,\n"
                         "          fastcgi.connect: {host: 127.0.0.1, port: @, type: tcp}},\n"
                         "  /: {fastcgi.connect: {host: 127.0.0.1, port: @, type: tcp}}}}}\n");
}

static void begin_at(struct fixture *f, enum answer_protocol protocol, bool head, const char *path)
{
    ask_for(f, protocol, head, path);
    take_fastcgi(f);
}

static void expect(struct fixture *f, enum answer_protocol protocol, bool head,
                   enum answer_state want, int status, const char *body)
{
    struct answer answer;
    enum answer_state got = read_answer(f, protocol, head, &answer);

    if (got != want || answer.status != status ||
        (body != NULL && strcmp(answer.body != NULL ? answer.body : "", body) != 0))
        fail_msg("%s: %s, status %d, body %s (%s); wanted %s, %d, %s", protocol_name(protocol),
                 answer_state_name(got), answer.status, answer.body, answer.fault,
                 answer_state_name(want), status, body);
    answer_release(&answer);
}

/* It is cut; or, if the fault came with the first byte of the body, it is 502. */
static void expect_failure(struct fixture *f, enum answer_protocol protocol)
{
    struct answer answer;
    enum answer_state got = read_answer(f, protocol, false, &answer);

    if (got != ANSWER_CUT && (got != ANSWER_WHOLE || answer.status != 502))
        fail_msg("%s: %s, status %d, body %s", protocol_name(protocol), answer_state_name(got),
                 answer.status, answer.body);
    answer_release(&answer);
}

#define FOR_EACH_PROTOCOL(p) for (enum answer_protocol p = 0; (p) < ANSWER_PROTOCOLS; (p)++)

static void test_an_application_that_dies_in_its_answer_is_seen_to(void **state)
{
    static const enum upstream_end ends[] = {CLOSE, RESET};
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        for (size_t i = 0; i < COUNT(ends); i++) {
            struct answer answer;
            begin_at(f, protocol, false, "/");
            send_text(f, TEXT "\r\nhalf");
            end_upstream(f, ends[i]);
            enum answer_state got = read_answer(f, protocol, false, &answer);
            if (got != ANSWER_CUT)
                fail_msg("%s: an answer without FCGI_END_REQUEST is %s", protocol_name(protocol),
                         answer_state_name(got));
            answer_release(&answer);
            hang_up(f);
        }
    }
}

static void test_half_an_error_page_is_seen_to_be_half(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        struct answer answer;
        begin_at(f, protocol, false, "/");
        send_text(f, "Status: 404 Not Found\r\n" TEXT "\r\nhalf");
        end_upstream(f, CLOSE);
        assert_int_equal(read_answer(f, protocol, false, &answer), ANSWER_CUT);
        answer_release(&answer);
        hang_up(f);
    }
}

static void test_an_application_that_stops_writing_is_cut(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        struct answer answer;
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "\r\nhalf"); /* and nothing more for fastcgi.timeout.io */
        assert_int_equal(read_answer(f, protocol, false, &answer), ANSWER_CUT);
        answer_release(&answer);
        hang_up(f);
    }
}

static void test_an_unknown_record_cuts_the_answer(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "\r\nhalf");
        send_record(f, 11, "\0\0\0\0\0\0\0\0", 8, 0);
        expect_failure(f, protocol);
        hang_up(f);
    }
}

static void test_a_body_shorter_than_its_length_is_cut(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "Content-Length: 10\r\n\r\nhalf");
        send_end(f);
        expect_failure(f, protocol);
        hang_up(f);
    }
}

/* The head in two records: there the library forgets to count. */
static void test_a_body_longer_than_its_length_ends_there(void **state)
{
    struct fixture *f = *state;

    begin_at(f, ANSWER_HTTP11, false, "/");
    send_text(f, TEXT "Content-Len");
    send_text(f, "gth: 4\r\n\r\nfourHTTP/1.1 200 OK\r\n\r\nforged");
    send_end(f);
    char *all = client_read_until(f->client, "no such text: up to the end");
    assert_contains(all, "\r\n\r\nfour");
    assert_null(strstr(all, "forged"));
    free(all);
}

static void test_whole_answers_are_whole(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "\r\nal");
        send_record(f, STDERR, "a word for the log", 18, 3);
        send_record(f, STDOUT, "l", 1, 200);
        send_end(f);
        expect(f, protocol, false, ANSWER_WHOLE, 200, "all");
        hang_up(f);
        /* FCGI_END_REQUEST may be missing after the end of FCGI_STDOUT, or of the length. */
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "\r\nall");
        send_text(f, "");
        end_upstream(f, CLOSE);
        expect(f, protocol, false, ANSWER_WHOLE, 200, "all");
        hang_up(f);
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "Content-Length: 3\r\n\r\nall");
        end_upstream(f, CLOSE);
        expect(f, protocol, false, ANSWER_WHOLE, 200, "all");
        hang_up(f);
    }
}

static void test_a_kept_application_serves_on(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 3; round++) {
        int before = f->upstream;
        begin_at(f, ANSWER_HTTP11, false, "/kept");
        if (round > 0)
            assert_int_equal(f->upstream, before);
        send_text(f, TEXT "\r\nall");
        send_end(f);
        expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 200, "all");
    }
}

static void test_what_follows_an_answer_is_not_the_next_one(void **state)
{
    struct fixture *f = *state;
    static const char forged[] = "\1\6\0\1\0\x0a\0\0X:\n\nforged";
    static const char end[] = "\1\3\0\1\0\x08\0\0\0\0\0\0\0\0\0\0";
    char both[sizeof(end) + sizeof(forged)];

    memcpy(both, end, sizeof(end) - 1);
    memcpy(both + sizeof(end) - 1, forged, sizeof(forged) - 1);
    begin_at(f, ANSWER_HTTP11, false, "/kept");
    send_text(f, TEXT "\r\nall");
    assert_int_equal(send(f->upstream, both, sizeof(both) - 2, MSG_NOSIGNAL), sizeof(both) - 2);
    expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 200, "all");
    begin_at(f, ANSWER_HTTP11, false, "/kept");
    send_text(f, TEXT "\r\nagain");
    send_end(f);
    expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 200, "again");
}

static void test_an_answer_to_head_has_no_body(void **state)
{
    static const char *const lengths[] = {"", "Content-Length: 6\r\n"};
    struct fixture *f = *state;

    for (size_t i = 0; i < COUNT(lengths); i++) {
        char text[128];
        (void)snprintf(text, sizeof(text), TEXT "%s\r\nA BODY", lengths[i]);
        for (unsigned round = 0; round < 2; round++) { /* on one connection of the client */
            begin_at(f, ANSWER_HTTP11, true, "/");
            send_text(f, text);
            send_text(f, "AND MORE");
            send_end(f);
            expect(f, ANSWER_HTTP11, true, ANSWER_WHOLE, 200, "");
        }
        begin_at(f, ANSWER_HTTP11, false, "/");
        send_text(f, TEXT "\r\nall");
        send_end(f);
        expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 200, "all");
        hang_up(f);
        begin_at(f, ANSWER_HTTP2, true, "/");
        send_text(f, text);
        send_end(f);
        expect(f, ANSWER_HTTP2, true, ANSWER_WHOLE, 200, "");
        hang_up(f);
    }
}

static void test_a_204_or_304_has_no_body(void **state)
{
    static const struct {
        const char *text;
        int status;
    } answers[] = {{"Status: 204 No\r\n\r\nA BODY", 204},
                   {"Status: 204 No\r\nContent-Length: 6\r\n\r\nA BODY", 204},
                   {"Status: 304 No\r\n\r\nA BODY", 304}};
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        for (size_t i = 0; i < COUNT(answers); i++) {
            begin_at(f, protocol, false, "/");
            send_text(f, answers[i].text);
            send_text(f, "AND MORE");
            send_end(f);
            expect(f, protocol, false, ANSWER_WHOLE, answers[i].status, "");
            hang_up(f);
        }
    }
}

static void test_what_fails_before_the_head_is_502(void **state)
{
    static const char *const heads[] = {
        "",
        TEXT,
        "no head at all\r\n\r\n",
        "Status: 099 Low\r\n\r\n",
        "Status: 100 Continue\r\n\r\n",
        "Status: 101 Switching\r\n\r\n",
        "Status: 000\r\n\r\n",
        "Status: 20\r\n\r\n",
        "Status: 2000\r\n\r\n",
        TEXT " folded\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nall",
        "Content-Length: -3\r\n\r\nall",
        "Content-Length: 18446744073709551614\r\n\r\nall",
    };
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        for (size_t i = 0; i < COUNT(heads); i++) {
            begin_at(f, protocol, false, "/");
            send_text(f, heads[i]);
            end_upstream(f, CLOSE);
            expect(f, protocol, false, ANSWER_WHOLE, 502, NULL);
            hang_up(f);
        }
    }
}

static void test_a_location_without_a_status_is_a_redirect(void **state)
{
    struct fixture *f = *state;

    begin_at(f, ANSWER_HTTP11, false, "/");
    send_text(f, "Location: http://else.test/\r\n\r\n");
    send_end(f);
    expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 302, "");
    hang_up(f);
    begin_at(f, ANSWER_HTTP11, false, "/");
    send_text(f, "Status: 201 Created\r\nLocation: /new\r\n\r\n");
    send_end(f);
    expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 201, "");
}

/* CVE-2016-5385: HTTP_PROXY in its environment is a setting to many programs. */
static void test_the_header_proxy_reaches_no_application(void **state)
{
    struct fixture *f = *state;

    f->client = client_connect(&f->front);
    client_send(f->client, "GET / HTTP/1.1\r\nHost: test\r\nProxy: http://evil.test/\r\n"
                           "X-Proxy: kept\r\nPROXY: again\r\n\r\n");
    struct fastcgi_request request = take_fastcgi_request(f);
    assert_null(memmem(request.params, request.params_size, "HTTP_PROXY", 10));
    assert_null(memmem(request.params, request.params_size, "evil", 4));
    assert_non_null(memmem(request.params, request.params_size, "HTTP_X_PROXYkept", 16));
    release_fastcgi_request(&request);
    send_text(f, TEXT "\r\nall");
    send_end(f);
    expect(f, ANSWER_HTTP11, false, ANSWER_WHOLE, 200, "all");
}

/* Like a script of handler.cgi. */
static void test_an_application_that_fails_in_its_answer_is_seen_to(void **state)
{
    struct fixture *f = *state;

    FOR_EACH_PROTOCOL(protocol)
    {
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "\r\nhalf");
        send_record(f, STDOUT, "", 0, 0);
        send_end_with(f, 1, 0);
        expect_failure(f, protocol);
        hang_up(f);
        begin_at(f, protocol, false, "/");
        send_text(f, TEXT "Content-Length: 3\r\n\r\nall");
        send_end_with(f, 1, 0);
        expect(f, protocol, false, ANSWER_WHOLE, 200, "all");
        hang_up(f);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_application_that_dies_in_its_answer_is_seen_to),
        TEST(test_half_an_error_page_is_seen_to_be_half),
        TEST(test_an_application_that_stops_writing_is_cut),
        TEST(test_an_unknown_record_cuts_the_answer),
        TEST(test_a_body_shorter_than_its_length_is_cut),
        TEST(test_a_body_longer_than_its_length_ends_there),
        TEST(test_whole_answers_are_whole),
        TEST(test_a_kept_application_serves_on),
        TEST(test_what_follows_an_answer_is_not_the_next_one),
        TEST(test_an_answer_to_head_has_no_body),
        TEST(test_a_204_or_304_has_no_body),
        TEST(test_what_fails_before_the_head_is_502),
        TEST(test_a_location_without_a_status_is_a_redirect),
        TEST(test_the_header_proxy_reaches_no_application),
        TEST(test_an_application_that_fails_in_its_answer_is_seen_to),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

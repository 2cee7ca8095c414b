/* The real process in front of an upstream that breaks the rules: no answer ends the process, and
 * one that its upstream did not finish never looks whole, whatever the client speaks. */

#include "with_upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static int start_front(void **state, const char *deadline)
{
    static char url[64];
    uint16_t port;
    struct fixture *f = fixture_begin(state, &port);

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
    process_start(
        &f->front, NULL,
        (const char *const[]){"--proxy", url, "--threads", "1", "--deadline", deadline, NULL});
    return 0;
}

static int set_up(void **state)
{
    return start_front(state, "10s");
}

static int set_up_short(void **state)
{
    return start_front(state, "300ms");
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

static void expect_502(struct fixture *f, const char *reply)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer = exchange(f, protocol, false, reply, CLOSE, ANSWER_WHOLE);
        if (answer.status != 502)
            fail_msg("%s, %.200s: answered with %d, not 502", protocol_name(protocol), reply,
                     answer.status);
        answer_release(&answer);
    }
}

static void test_a_framing_that_is_unknown_is_502(void **state)
{
    static const char *const fields[] = {
        "Transfer-Encoding: foo\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Connection: close\r\nTransfer-Encoding: foo\r\n",
        "Connection: keep-alive\r\nTransfer-Encoding: foo\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 3abc\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 18446744073709551614\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        char reply[256];
        (void)snprintf(reply, sizeof(reply), OK "%s\r\n3\r\nabc\r\n0\r\n\r\n", fields[i]);
        expect_502(*state, reply);
        (void)snprintf(reply, sizeof(reply), "HTTP/1.0 200 OK\r\n%s\r\nabc", fields[i]);
        expect_502(*state, reply);
    }
}

static void test_an_invalid_status_is_502(void **state)
{
    static const char *const statuses[] = {"099 Low", "000 None", "0 None", "1000 High",
                                           "20 Short"};
    for (size_t i = 0; i < COUNT(statuses); i++) {
        char reply[128];
        (void)snprintf(reply, sizeof(reply), "HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok",
                       statuses[i]);
        expect_502(*state, reply);
    }
}

static void test_an_unrequested_protocol_switch_is_502(void **state)
{
    expect_502(*state, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc");
}

static void test_a_folded_line_is_502(void **state)
{
    expect_502(*state, OK "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok");
}

static void test_a_head_without_end_is_502_and_not_kept_in_memory(void **state)
{
    enum { HEAD = 70 * 1024 };
    struct fixture *f = *state;
    struct answer answer;
    char *reply = malloc(HEAD + 1);

    assert_non_null(reply);
    memset(reply, 'a', HEAD);
    reply[HEAD] = '\0';
    memcpy(reply, OK "X: ", strlen(OK "X: "));
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, reply); /* and its connection stays open */
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 502);
    answer_release(&answer);
    free(reply);
}

static void test_interim_answers_come_to_an_end(void **state)
{
    struct fixture *f = *state;
    static const char hint[] = "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n";
    char hints[100 * sizeof(hint)];
    size_t length = 0;
    struct answer answer;

    for (unsigned i = 0; i < 100; i++)
        length += (size_t)snprintf(hints + length, sizeof(hints) - length, "%s", hint);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream,
                hints); /* at once: the server closes when it has read enough of them */
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 502);
    assert_int_equal(answer.interims, 0);
    answer_release(&answer);
}

static void test_a_few_interim_answers_do_no_harm(void **state)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer =
            exchange(*state, protocol, false,
                     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n"
                     "\r\n" OK "Content-Length: 2\r\n\r\nok",
                     CLOSE, ANSWER_WHOLE);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.interims, protocol == ANSWER_HTTP2 ? 1 : 0);
        assert_string_equal(answer.body, "ok");
        answer_release(&answer);
    }
}

/* Names of codings have no case (RFC 9112 section 7). */
static void test_chunked_in_any_case_is_chunked(void **state)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer = exchange(
            *state, protocol, false, OK "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            CLOSE, ANSWER_WHOLE);
        assert_string_equal(answer.body, "abc");
        answer_release(&answer);
    }
}

struct cut {
    const char *reply;
    enum upstream_end end;
    bool is_502; /* nothing of the body is good, so nothing of the answer was passed on */
};

static void expect_cut(struct fixture *f, const struct cut *cuts, size_t count)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        for (size_t i = 0; i < count; i++) {
            struct answer answer = exchange(f, protocol, false, cuts[i].reply, cuts[i].end,
                                            cuts[i].is_502 ? ANSWER_WHOLE : ANSWER_CUT);
            if (cuts[i].is_502 && answer.status != 502)
                fail_msg("%s: %d, not 502", cuts[i].reply, answer.status);
            answer_release(&answer);
        }
    }
}

static void test_a_chunked_answer_without_its_last_chunk_is_cut(void **state)
{
#define CHUNKED(status) "HTTP/1.1 " status "\r\nTransfer-Encoding: chunked\r\n\r\n"
    static const struct cut cuts[] = {
        {CHUNKED("200 OK") "4\r\nhalf\r\n", CLOSE, false},
        {CHUNKED("200 OK") "4\r\nhalf\r\n", RESET, false},
        {CHUNKED("200 OK") "4\r\nhalf\r\n0\r\n", CLOSE, false},
        {CHUNKED("200 OK") "4\r\nhalf\r\n0\r\nX: y\r\n", CLOSE, false},
        {CHUNKED("200 OK") "8\r\nhalf", CLOSE, false},
        {CHUNKED("200 OK") "8\r\nhalf", RESET, false},
        {CHUNKED("200 OK") "4\r\nhalf\r\nzz\r\n", CLOSE, true},
        {CHUNKED("200 OK") "fffffffffffffffff\r\nhalf", CLOSE, true},
        {CHUNKED("200 OK") "ffffffffffffffff\r\nhalf", CLOSE, true},
        {CHUNKED("200 OK") "", CLOSE, true},
        /* The library sends these to HTTP/1.1 clients without chunks. */
        {CHUNKED("404 Not Found") "4\r\nhalf\r\n", CLOSE, false},
        {CHUNKED("500 Oops") "8\r\nhalf", RESET, false},
    };
    expect_cut(*state, cuts, COUNT(cuts));
}

static void test_an_answer_shorter_than_its_length_is_cut(void **state)
{
    static const struct cut cuts[] = {
        {OK "Content-Length: 10\r\n\r\nhalf", CLOSE, false},
        {OK "Content-Length: 10\r\n\r\nhalf", RESET, false},
        {OK "Content-Length: 10\r\n\r\n", CLOSE, true},
    };
    expect_cut(*state, cuts, COUNT(cuts));
}

/* It has no length, so its upstream's reset is all that shows the cut. The reset comes when the
 * client has the first part: else it would overtake that. */
static void test_an_answer_without_a_length_whose_upstream_resets_is_cut(void **state)
{
    static const char *const replies[] = {OK "\r\nhalf", "HTTP/1.0 200 OK\r\n\r\nhalf",
                                          "HTTP/1.1 404 Not Found\r\n\r\nhalf"};
    struct fixture *f = *state;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        for (size_t i = 0; i < COUNT(replies); i++) {
            struct answer answer;
            ask(f, protocol, false);
            take_request(f);
            client_send(f->upstream, replies[i]);
            char byte;
            assert_int_equal(client_recv(f->client, &byte, 1, MSG_PEEK), 1);
            end_upstream(f, RESET);
            enum answer_state got = read_answer(f, protocol, false, &answer);
            if (got != ANSWER_CUT)
                fail_msg("%s: %s is %s", protocol_name(protocol), replies[i],
                         answer_state_name(got));
            answer_release(&answer);
            hang_up(f);
        }
    }
}

static void test_an_answer_without_a_length_whose_upstream_closes_is_whole(void **state)
{
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer = exchange(*state, protocol, false, OK "\r\nall", CLOSE, ANSWER_WHOLE);
        assert_string_equal(answer.body, "all");
        answer_release(&answer);
    }
}

static void expect_nothing_after(struct fixture *f, bool head, const char *reply, int status)
{
    struct answer answer;

    for (unsigned round = 0; round < 2; round++) {
        ask(f, ANSWER_HTTP11, head);
        take_request(f);
        client_send(f->upstream, reply);
        assert_int_equal(read_answer(f, ANSWER_HTTP11, head, &answer), ANSWER_WHOLE);
        assert_int_equal(answer.status, status);
        answer_release(&answer);
    }
    hang_up(f);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        answer = exchange(f, protocol, head, reply, KEEP, ANSWER_WHOLE);
        assert_int_equal(answer.status, status);
        answer_release(&answer);
    }
}

static void test_a_body_where_none_may_be_is_no_later_answer(void **state)
{
    expect_nothing_after(*state, true, OK "Content-Length: 6\r\n\r\nA BODY", 200);
    expect_nothing_after(*state, true, OK "Transfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n",
                         200);
    expect_nothing_after(*state, false, "HTTP/1.1 204 No\r\nContent-Length: 6\r\n\r\nA BODY", 204);
    expect_nothing_after(*state, false, "HTTP/1.1 304 No\r\nContent-Length: 6\r\n\r\nA BODY", 304);
    expect_nothing_after(*state, false,
                         "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204);
}

/* RFC 9110 section 8.6; an HTTP/2 client takes such a length for a broken promise. */
static void test_a_204_has_no_length(void **state)
{
    struct fixture *f = *state;
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 204 No\r\nContent-Length: 6\r\n\r\n");
    char *text = client_read_until(f->client, "\r\n\r\n");
    assert_contains(text, "HTTP/1.1 204 ");
    assert_null(strcasestr(text, "content-length"));
    free(text);
}

static void test_an_honest_answer_is_passed_on_and_its_connection_kept(void **state)
{
    struct fixture *f = *state;
    struct answer answer;

    for (unsigned round = 0; round < 3; round++) {
        int before = f->upstream;
        ask(f, ANSWER_HTTP11, false);
        take_request(f);
        if (round > 0)
            assert_int_equal(f->upstream, before);
        client_send(f->upstream, round % 2 == 0 ? OK "Content-Length: 3\r\n\r\nall"
                                                : OK
                                     "Transfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n");
        assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
        assert_string_equal(answer.body, "all");
        answer_release(&answer);
    }
}

/* The library sends it to HTTP/1.1 without chunks. */
static void test_an_answer_without_a_length_that_the_deadline_cuts_is_seen_to_be_cut(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    char byte;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 404 Not Found\r\n\r\nhalf");
    assert_int_equal(client_recv(f->client, &byte, 1, MSG_PEEK), 1);
    process_signal(&f->front, SIGTERM);
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_CUT);
    answer_release(&answer);
    process_expect(&f->front, 20000, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_framing_that_is_unknown_is_502),
        TEST(test_an_invalid_status_is_502),
        TEST(test_an_unrequested_protocol_switch_is_502),
        TEST(test_a_folded_line_is_502),
        TEST(test_a_head_without_end_is_502_and_not_kept_in_memory),
        TEST(test_interim_answers_come_to_an_end),
        TEST(test_a_few_interim_answers_do_no_harm),
        TEST(test_chunked_in_any_case_is_chunked),
        TEST(test_a_chunked_answer_without_its_last_chunk_is_cut),
        TEST(test_an_answer_shorter_than_its_length_is_cut),
        TEST(test_an_answer_without_a_length_whose_upstream_resets_is_cut),
        TEST(test_an_answer_without_a_length_whose_upstream_closes_is_whole),
        TEST(test_a_body_where_none_may_be_is_no_later_answer),
        TEST(test_a_204_has_no_length),
        TEST(test_an_honest_answer_is_passed_on_and_its_connection_kept),
        cmocka_unit_test_setup_teardown(
            test_an_answer_without_a_length_that_the_deadline_cuts_is_seen_to_be_cut, set_up_short,
            tear_down_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* `throttle-response: ON`, and an upstream that sets the speed: every byte is sent once. */

#include "with_upstream.h"

#include <setjmp.h>
#include <signal.h>
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

static int set_up(void **state)
{
    return fixture_start(state, "throttle-response: ON\n"
                                "hosts: {default: {paths: {\n"
                                "  /: {proxy.reverse.url: \"http://127.0.0.1:@/\"}}}}\n");
}

/* Several rounds of the 100 ms timer: time itself is what this is about. */
static void let_time_pass(void)
{
    (void)usleep(400000);
}

static void test_an_upstream_that_pauses_is_passed_on_as_it_is(void **state)
{
    struct fixture *f = *state;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer;
        ask(f, protocol, false);
        take_request(f);
        client_send(f->upstream,
                    "HTTP/1.1 200 OK\r\nX-Traffic: 20000\r\nContent-Length: 10\r\n\r\nfirst");
        let_time_pass();
        client_send(f->upstream, "after");
        assert_int_equal(read_answer(f, protocol, false, &answer), ANSWER_WHOLE);
        assert_string_equal(answer.body, "firstafter");
        answer_release(&answer);
        hang_up(f);
    }
}

static void test_an_answer_takes_its_time(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    uint64_t begin = now_ns();

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 200 OK\r\nX-Traffic: 50\r\nContent-Length: 25\r\n\r\n"
                             "twenty-five bytes of body");
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_string_equal(answer.body, "twenty-five bytes of body");
    assert_true(now_ns() - begin >= 350 * NS_PER_MS); /* of 500, but for the last of five parts */
    answer_release(&answer);
}

static void test_a_cut_answer_is_seen_to_be_cut(void **state)
{
    struct fixture *f = *state;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer =
            exchange(f, protocol, false,
                     "HTTP/1.1 200 OK\r\nX-Traffic: 20\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "4\r\nhalf\r\n",
                     CLOSE, ANSWER_CUT);
        answer_release(&answer);
    }
}

static void test_a_client_that_reads_slowly_ends_no_process(void **state)
{
    enum { BODY = 8 << 20, PIECE = 1 << 16 };
    struct fixture *f = *state;
    char *piece = malloc(PIECE);

    assert_non_null(piece);
    memset(piece, 'b', PIECE);
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream,
                "HTTP/1.1 200 OK\r\nX-Traffic: 100000000\r\nContent-Length: 8388608\r\n\r\n");
    (void)send_what_is_taken(f, piece, PIECE, BODY);
    let_time_pass(); /* and nothing is read */
    hang_up(f);
    free(piece);
    /* On the connection that the front has kept, or on a new one. */
    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    struct answer answer;
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    answer_release(&answer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_upstream_that_pauses_is_passed_on_as_it_is),
        TEST(test_an_answer_takes_its_time),
        TEST(test_a_cut_answer_is_seen_to_be_cut),
        TEST(test_a_client_that_reads_slowly_ends_no_process),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

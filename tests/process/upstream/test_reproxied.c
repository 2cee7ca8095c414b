/* The real process with `reproxy: ON`: an upstream's X-Reproxy-URL sends a request on. */

#include "with_upstream.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"

static int set_up(void **state)
{
    return fixture_start(state, "reproxy: ON\n"
                                "hosts: {default: {paths: {\n"
                                "  /: {proxy.reverse.url: \"http://127.0.0.1:@/\"}}}}\n");
}

static void test_an_invalid_url_is_502(void **state)
{
    static const char *const urls[] = {"http://[::1/", "http://127.0.0.1:99999999/"};
    struct fixture *f = *state;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
            char reply[256];
            (void)snprintf(reply, sizeof(reply),
                           "HTTP/1.1 200 OK\r\nX-Reproxy-URL: %s\r\nContent-Length: 3\r\n\r\nabc",
                           urls[i]);
            struct answer answer = exchange(f, protocol, false, reply, CLOSE, ANSWER_WHOLE);
            if (answer.status != 502)
                fail_msg("%s: %s is answered with %d", protocol_name(protocol), urls[i],
                         answer.status);
            answer_release(&answer);
        }
    }
}

static void test_head_that_is_sent_on_gets_no_body(void **state)
{
    struct fixture *f = *state;

    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        struct answer answer;
        ask(f, protocol, true);
        take_request(f);
        client_send(f->upstream, "HTTP/1.1 200 OK\r\nX-Reproxy-URL: /on\r\n\r\n");
        take_connection(f);
        char *request = client_read_until(f->upstream, "\r\n\r\n");
        assert_contains(request, "HEAD /on ");
        free(request);
        client_send(f->upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nBODY");
        assert_int_equal(read_answer(f, protocol, true, &answer), ANSWER_WHOLE);
        assert_int_equal(answer.status, 200);
        answer_release(&answer);
        hang_up(f);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_invalid_url_is_502),
        TEST(test_head_that_is_sent_on_gets_no_body),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

/* The memory of request bodies that arrive has a limit, over all connections. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "h2_by_hand.h"

#define SERVE                                                                                      \
    "num-threads: 1\nlimit-request-body: 1000000\n" LISTEN                                         \
    "hosts: {default: {paths: {/: {handler: sleep}, /hello: {handler: hello}}}}\n"
#define SMALL ARGS("--max-arriving-bodies", "1MB")
#define POST_OF(bytes) "POST /?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: " bytes "\r\n\r\n"

static char zeros[700000];

static void send_body(int fd, size_t bytes)
{
    for (size_t sent = 0; sent < bytes;) {
        ssize_t n = send(fd, zeros, bytes - sent, MSG_NOSIGNAL);
        assert_true(n > 0);
        sent += (size_t)n;
    }
}

static void assert_is_refused(int fd)
{
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, "HTTP/1.1 503 Service Unavailable");
    assert_contains(answer, "retry-after: 1");
    assert_contains(answer, "Connection: close");
    free(answer);
    (void)close(fd);
}

static void assert_is_taken(int fd, const char *length)
{
    char *answer = client_read_answer(fd);
    assert_contains(answer, "200 OK");
    assert_contains(answer, length);
    free(answer);
    (void)close(fd);
}

static unsigned long arriving(const struct process *admin)
{
    static const char name[] = "\nlastcall_arriving_body_bytes ";
    char *text = admin_call(admin, "GET", "/metrics", "", NULL);
    const char *at = strstr(text, name);
    assert_non_null(at);
    unsigned long bytes = strtoul(at + strlen(name), NULL, 10);
    free(text);
    return bytes;
}

/* The server reads in its own time. */
static void wait_until_arrived(const struct process *admin, unsigned long bytes)
{
    const struct timespec pace = {.tv_nsec = 10000000};
    for (unsigned i = 0; arriving(admin) != bytes; i++) {
        assert_true(i < LIMIT_MS / 10);
        (void)nanosleep(&pace, NULL);
    }
}

static void test_the_body_that_stands_still_gives_way(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int old = client_connect(&p), new = client_connect(&p);
    client_send(old, POST_OF("900000"));
    send_body(old, 600000);
    wait_until_arrived(&admin, 600000 / 65536 * 65536);
    client_send(new, POST_OF("600000"));
    send_body(new, 550000); /* all of it might arrive at once, and then nothing is in the way */
    assert_is_refused(old);
    send_body(new, 50000);
    assert_is_taken(new, "600000");
    process_wait_log(&p, "refused a request with 503: bodies that arrive take more than 1 MB of "
                         "memory, 576 KB of them on this connection (max-arriving-bodies)");
    wait_until_arrived(&admin, 0);
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200,
                 "lastcall_arriving_bodies_refused_total 1\n");
    finish(&p);
}

static void test_a_small_body_is_taken_whatever_arrives(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int large = client_connect(&p), other = client_connect(&p);
    client_send(large, POST_OF("900000"));
    send_body(large, 600000);
    wait_until_arrived(&admin, 600000 / 65536 * 65536);
    client_send(other, POST_OF("50000"));
    send_body(other, 50000);
    assert_is_taken(other, "50000");
    send_body(large, 300000);
    assert_is_taken(large, "900000");
    finish(&p);
}

static void test_a_client_that_leaves_makes_room(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    for (unsigned i = 0; i < 3; i++) {
        int fd = client_connect(&p);
        client_send(fd, POST_OF("900000"));
        send_body(fd, 600000);
        wait_until_arrived(&admin, 600000 / 65536 * 65536);
        (void)close(fd);
        wait_until_arrived(&admin, 0);
    }
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200,
                 "lastcall_arriving_bodies_refused_total 0\n");
    finish(&p);
}

static void test_chunks_count_too(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int old = client_connect(&p), new = client_connect(&p);
    client_send(old, "POST /?ms=1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "927c0\r\n");
    send_body(old, 600000);
    wait_until_arrived(&admin, 600000 / 65536 * 65536);
    client_send(new, POST_OF("600000"));
    send_body(new, 550000);
    assert_is_refused(old);
    send_body(new, 50000);
    assert_is_taken(new, "600000");
    finish(&p);
}

static void add_data(struct h2_bytes *out, uint32_t stream, unsigned frames, bool ends)
{
    for (unsigned i = 0; i < frames; i++)
        h2_add_frame(out, H2_DATA, ends && i == frames - 1 ? H2_END_STREAM : 0, stream, zeros,
                     16384);
}

static void begin_post(int fd, uint32_t stream)
{
    static struct h2_bytes block;
    block.size = 0;
    h2_add_head(&block, "POST", "/?ms=1");
    h2_send_block(fd, stream, false, &block);
}

static void test_the_largest_body_of_an_h2_connection_gives_way(void **state)
{
    static struct h2_bytes out;
    struct process p;
    struct h2_got got;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int fd = h2_connect(&p, false);
    h2_send_number(fd, H2_WINDOW, 0, 1 << 20);
    for (uint32_t stream = 1; stream < 6; stream += 2) {
        begin_post(fd, stream);
        out.size = 0;
        add_data(&out, stream, stream == 3 ? 28 : 18, false);
        h2_send(fd, out.bytes, out.size);
    }
    /* 18 + 28 + 18 frames of 16 KiB are 1 MiB; the next ones are too many. */
    wait_until_arrived(&admin, 1 << 20);
    out.size = 0;
    add_data(&out, 5, 4, false);
    h2_send(fd, out.bytes, out.size);
    assert_int_equal(h2_await_status(fd, 3), 503);
    wait_until_arrived(&admin, (18 + 22) * 16384);
    out.size = 0;
    add_data(&out, 3, 4, true); /* it did not know yet */
    add_data(&out, 1, 1, true);
    h2_send(fd, out.bytes, out.size);
    do {
        assert_true(h2_next(fd, &got));
        assert_int_not_equal(got.type, H2_GOAWAY);
    } while (got.type != H2_DATA || got.stream != 1);
    assert_string_equal(got.payload, "311296\n");
    out.size = 0;
    add_data(&out, 5, 1, true);
    h2_send(fd, out.bytes, out.size);
    assert_int_equal(h2_await_status(fd, 5), 200);
    wait_until_arrived(&admin, 0);
    (void)close(fd);
    finish(&p);
}

static void test_streams_that_are_reset_make_room(void **state)
{
    static struct h2_bytes out;
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1);
    out.size = 0;
    add_data(&out, 1, 20, false);
    h2_send(fd, out.bytes, out.size);
    wait_until_arrived(&admin, 20 * 16384);
    h2_send_number(fd, H2_RST, 1, 8);
    wait_until_arrived(&admin, 0);
    (void)close(fd);
    finish(&p);
}

static void test_an_h1_body_gives_way_to_one_of_h2(void **state)
{
    static struct h2_bytes out;
    struct process p;
    (void)state;
    start_with(&p, SERVE, SMALL);
    struct process admin = admin_of(&p);
    int old = client_connect(&p), fd = h2_connect(&p, false);
    client_send(old, POST_OF("900000"));
    send_body(old, 700000);
    wait_until_arrived(&admin, 700000 / 65536 * 65536);
    begin_post(fd, 1);
    out.size = 0;
    add_data(&out, 1, 28, false);
    h2_send(fd, out.bytes, out.size);
    assert_is_refused(old);
    h2_send_frame(fd, H2_DATA, H2_END_STREAM, 1, "", 0);
    assert_int_equal(h2_await_status(fd, 1), 200);
    (void)close(fd);
    finish(&p);
}

static void test_a_limit_below_that_of_one_body_is_logged(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "max-arriving-bodies: 1MB\n" HELLO, ARGS("--listen", "127.0.0.1:0"));
    process_wait_log(&p, "max-arriving-bodies is 1048576 bytes, less than limit-request-body "
                         "(16777216): larger bodies are refused with 503");
    finish(&p);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_the_body_that_stands_still_gives_way),
        claim(test_a_small_body_is_taken_whatever_arrives),
        claim(test_a_client_that_leaves_makes_room),
        claim(test_chunks_count_too),
        claim(test_the_largest_body_of_an_h2_connection_gives_way),
        claim(test_streams_that_are_reset_make_room),
        claim(test_an_h1_body_gives_way_to_one_of_h2),
        claim(test_a_limit_below_that_of_one_body_is_logged),
    };
    return cmocka_run_group_tests_name("bodies", tests, with_config_set_up, remove_directory);
}

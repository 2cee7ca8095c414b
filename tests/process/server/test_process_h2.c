/* The real process and HTTP/2. */

#include "with_process.h"

#include <poll.h>
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

/* ---- HTTP/2, by hand: what a well-behaved client never shows ---- */

static void send_frame(int fd, unsigned type, unsigned flags, unsigned stream, const char *payload,
                       size_t bytes)
{
    unsigned char head[9] = {(unsigned char)(bytes >> 16),
                             (unsigned char)(bytes >> 8),
                             (unsigned char)bytes,
                             (unsigned char)type,
                             (unsigned char)flags,
                             0,
                             0,
                             0,
                             (unsigned char)stream};
    assert_int_equal(send(fd, head, 9, MSG_NOSIGNAL), 9);
    if (bytes > 0)
        assert_int_equal(send(fd, payload, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

static int h2_connect(const struct process *p)
{
    int fd = client_connect(p);
    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, 4, 0, 0, NULL, 0);
    return fd;
}

/* POST /sleep?ms=1, its body still to come (RFC 7541: indexed fields and one literal). */
static void h2_begin_post(int fd, unsigned stream)
{
    static const char block[] = "\x83\x86\x04\x0b/sleep?ms=1\x41\x01t";
    send_frame(fd, 1, 4, stream, block, sizeof(block) - 1);
}

/* Read frames until one of `type` on `stream`; its flags and payload. False at the end of file. */
static bool h2_read(int fd, unsigned type, unsigned stream, unsigned *ret_flags, char *payload)
{
    unsigned char head[9];
    for (;;) {
        if (client_recv(fd, head, 9, MSG_WAITALL) != 9)
            return false;
        size_t bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        assert_true(bytes < 16385);
        if (bytes > 0 && client_recv(fd, payload, bytes, MSG_WAITALL) != (ssize_t)bytes)
            return false;
        payload[bytes] = '\0';
        *ret_flags = head[4];
        if (head[3] == type && head[8] == stream)
            return true;
    }
}

/* Until the server has read all that was sent: it reads frames in order, and answers a PING at once
 * (RFC 9113 section 6.7). */
static void h2_settle(int fd)
{
    char payload[16400];
    unsigned flags;

    send_frame(fd, 6, 0, 0, "settled?", 8);
    assert_true(h2_read(fd, 6, 0, &flags, payload));
    assert_memory_equal(payload, "settled?", 8);
}

static void expect_no_frame(int fd, int wait_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    unsigned char bytes[64] = {0};

    if (poll(&ready, 1, wait_ms) == 0)
        return;
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    fail_msg(
        "%zd bytes came; type %u, flags %u, stream %u, payload %02x%02x%02x%02x%02x%02x%02x%02x", n,
        bytes[3], bytes[4], bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13],
        bytes[14], bytes[15], bytes[16]);
}

static void test_h2_upload_under_way_is_waited_for(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = h2_connect(&p);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 0, 1, "abc", 3);
    h2_settle(fd);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload)); /* the first GOAWAY refuses nothing */
    assert_memory_equal(payload, "\x7f\xff\xff\xff", 4);
    expect_no_frame(fd, 100); /* and the last one waits for the body */
    send_frame(fd, 0, 1, 1, "def", 3);
    bool answered = false;
    while (!answered && h2_read(fd, 0, 1, &flags, payload))
        answered = strcmp(payload, "6\n") == 0;
    assert_true(answered);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_h2_idle_connection_gets_both_goaways_and_no_grace(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "60s", "--deadline", "60s"));
    int fd = h2_connect(&p);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 1, 1, "x", 1);
    assert_true(h2_read(fd, 0, 1, &flags, payload));
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\x7f\xff\xff\xff", 4);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\0\0\0\1\0\0\0\0", 8); /* last stream 1, no error */
    assert_false(h2_read(fd, 7, 0, &flags, payload));    /* then the end of file */
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_h2_connection_that_begins_in_the_drain_gets_its_goaways(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1", "--idle-grace", "60s", "--deadline", "60s"));
    int fd = client_connect(&p);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, 4, 0, 0, NULL, 0);
    h2_begin_post(fd, 1);
    send_frame(fd, 0, 1, 1, "x", 1);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void h2_get(int fd, unsigned stream, const char *path)
{
    char block[128];
    int n = snprintf(block, sizeof(block), "\x82\x86\x04%c%s\x41\x01t", (int)strlen(path), path);
    send_frame(fd, 1, 5, stream, block, (size_t)n);
}

/* A client that has not read the GOAWAY yet may open one more stream; it, and the one under way,
 * are answered, whatever frames come with it. */
static void test_h2_stream_opened_after_the_first_goaway_is_answered(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = h2_connect(&p);
    h2_begin_post(fd, 1);
    h2_settle(fd);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    expect_no_frame(fd, 50); /* many round trips later */
    h2_get(fd, 3, "/hello");
    send_frame(fd, 8, 0, 3, "\0\0\1\0", 4); /* WINDOW_UPDATE of that stream */
    assert_true(h2_read(fd, 0, 3, &flags, payload));
    assert_string_equal(payload, "Hello World\n");
    send_frame(fd, 0, 1, 1, "x", 1);
    assert_true(h2_read(fd, 0, 1, &flags, payload));
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload, "\0\0\0\3\0\0\0\0", 8);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_h2_reset_of_the_last_stream_ends_the_drain(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1", "--deadline", "30s"));
    int fd = h2_connect(&p);
    h2_get(fd, 1, "/sleep?ms=60000");
    h2_settle(fd);
    process_signal(&p, SIGTERM);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    send_frame(fd, 3, 0, 1, "\0\0\0\x08", 4);
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    process_expect(&p, LIMIT_MS, 0);
    (void)close(fd);
    process_release(&p);
}

static void test_h2_client_that_only_resets_gets_enhance_your_calm(void **state)
{
    struct process p;
    char payload[16400];
    unsigned flags;
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "1"));
    int fd = h2_connect(&p);
    /* The request after the hundredth reset is the last one; its own reset ends the session. */
    for (unsigned i = 0; i < 101; i++) {
        static const char block[] = "\x82\x86\x04\x0f/sleep?ms=60000\x41\x01t";
        send_frame(fd, 1, 5, 2 * i + 1, block, sizeof(block) - 1);
        send_frame(fd, 3, 0, 2 * i + 1, "\0\0\0\x08", 4);
    }
    assert_true(h2_read(fd, 7, 0, &flags, payload));
    assert_memory_equal(payload + 4, "\0\0\0\x0b", 4); /* ENHANCE_YOUR_CALM */
    (void)close(fd);
    assert_answer(&p, GET("/sleep?ms=0"), "200"); /* and the workers are free */
    process_release(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_h2_upload_under_way_is_waited_for),
        TEST(test_h2_idle_connection_gets_both_goaways_and_no_grace),
        TEST(test_h2_connection_that_begins_in_the_drain_gets_its_goaways),
        TEST(test_h2_stream_opened_after_the_first_goaway_is_answered),
        TEST(test_h2_reset_of_the_last_stream_ends_the_drain),
        TEST(test_h2_client_that_only_resets_gets_enhance_your_calm),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("process_h2", tests, NULL, NULL);
}

/* Slow clients of HTTP/2: the server sends an error to those that make no progress, and cuts them.
 * It spares clients that are slow but honest, or wait for the server. See test_progress.c. */

#include "with_slow_clients.h"

#include <errno.h>
#include <poll.h>
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

#include "expect.h"
#include "h2_by_hand.h"

#define STRICT ARGS("--progress-window", "1s", "--progress-rate", "10000", "--progress-head", "1s")

/* POST /sleep?ms=1, its body still to come. */
static void begin_post(int fd, uint32_t stream)
{
    static struct h2_bytes block;
    block.size = 0;
    h2_add_head(&block, "POST", "/sleep?ms=1");
    h2_send_block(fd, stream, false, &block);
}

/* Until GOAWAY with that error: what came before it does not matter. */
static void await_goaway(int fd, uint32_t error)
{
    struct h2_got got;
    assert_true(h2_await(fd, H2_GOAWAY, 0, &got));
    assert_int_equal(got.payload[7], error);
    while (h2_next(fd, &got)) /* and then the end */
        ;
}

/* Something that is sent every 100 ms until there is an answer other than to it. Returns a time
 * before that answer. */
static uint64_t drip(int fd, unsigned type, uint32_t stream, const void *payload, size_t size)
{
    uint64_t before_ns = now_ns();
    struct h2_got got;
    for (unsigned i = 0; i < LIMIT_MS / 100; i++) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        uint64_t quiet_ns;
        while (quiet_ns = now_ns(), poll(&ready, 1, 100) == 1) {
            if (!h2_next(fd, &got) || got.type == H2_GOAWAY)
                return before_ns;
        }
        before_ns = quiet_ns;
        h2_send_frame(fd, type, 0, stream, payload, size);
    }
    fail_msg("it goes on for ever");
    return 0;
}

/* ---- answers ---- */

static void test_windows_that_stay_closed_end_the_connection(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    h2_send_window_setting(fd, 0);
    h2_send_get(fd, 1, "/big");
    h2_send_get(fd, 3, "/hello");
    await_goaway(fd, H2_ENHANCE_YOUR_CALM);
    process_wait_log(&p, "it takes its answer too slowly: 0 bytes in ");
    (void)close(fd);
    finish(&p);
}

/* A client whose streams have this window, and which sends nothing but that. */
static void is_too_slow(uint32_t window, unsigned type, uint32_t stream, const char *payload,
                        size_t size)
{
    struct process p;

    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    h2_send_window_setting(fd, window);
    h2_send_get(fd, 1, "/big");
    (void)drip(fd, type, stream, payload, size);
    process_wait_log(&p, "it takes its answer too slowly: ");
    (void)close(fd);
    finish(&p);
}

static void test_a_window_of_one_byte_at_a_time_ends_the_connection(void **state)
{
    (void)state;
    is_too_slow(1, H2_WINDOW, 1, "\0\0\0\1", 4);
}

static void test_pings_are_no_progress(void **state)
{
    (void)state;
    is_too_slow(0, H2_PING, 0, "12345678", 8);
}

static void test_a_client_that_reads_nothing_at_all_is_cut(void **state)
{
    struct process p;
    struct h2_got got;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, true);
    h2_send_window_setting(fd, INT32_MAX);
    h2_send_number(fd, H2_WINDOW, 0, 1 << 30);
    h2_send_get(fd, 1, "/big");
    process_wait_log(&p, "it takes its answer too slowly: ");
    while (h2_next(fd, &got))
        assert_int_not_equal(got.type, H2_GOAWAY); /* it could not get there */
    (void)close(fd);
    finish(&p);
}

static void test_a_stream_that_is_held_up_alone_is_reset_alone(void **state)
{
    struct process p;
    struct h2_got got;
    (void)state;
    start_with(&p, FILES, ARGS("--progress-window", "1s", "--progress-rate", "1000"));
    int fd = h2_connect(&p, false);
    h2_send_number(fd, H2_WINDOW, 0, 1 << 30);
    /* Another makes progress, at the pace of the server: it needs nothing but this kernel. */
    h2_send_get(fd, 1, "/stream?kb=60&ms=4000");
    assert_true(h2_await(fd, H2_HEADERS, 1, &got));
    h2_send_get(fd, 3, "/big"); /* it has the first 65,535 bytes, and no more */
    do {
        assert_true(h2_next(fd, &got));
        assert_int_not_equal(got.type, H2_GOAWAY);
        assert_false(got.stream == 1 && (got.flags & H2_END_STREAM) != 0);
    } while (got.type != H2_RST);
    assert_int_equal(got.stream, 3);
    while (got.stream != 1 || got.type != H2_DATA || (got.flags & H2_END_STREAM) == 0) {
        assert_true(h2_next(fd, &got));
        assert_true(got.type != H2_GOAWAY && got.type != H2_RST);
    }
    (void)close(fd);
    finish(&p);
}

static void test_a_slow_client_that_moves_gets_the_whole_answer_by_h2(void **state)
{
    struct process p;
    struct h2_got got;
    size_t bytes = 0;
    (void)state;
    start_with(&p, FILES, MILD);
    FILE *file = fopen(in_directory("slow"), "w");
    assert_true(file != NULL && ftruncate(fileno(file), 200000) == 0 && fclose(file) == 0);
    int fd = h2_connect(&p, false);
    h2_send_window_setting(fd, 4000);
    h2_send_get(fd, 1, "/slow");
    do {
        assert_true(h2_await(fd, H2_DATA, 1, &got));
        bytes += got.size;
        pause_ms(75); /* more than a window in all */
        if (got.size > 0) {
            h2_send_number(fd, H2_WINDOW, 0, (uint32_t)got.size);
            h2_send_number(fd, H2_WINDOW, 1, (uint32_t)got.size);
        }
    } while ((got.flags & H2_END_STREAM) == 0);
    assert_int_equal(bytes, 200000);
    (void)close(fd);
    stop(&p);
    assert_lacks(p.log, "cut ");
    process_release(&p);
}

static void test_a_client_that_waits_for_the_server_is_not_cut_by_h2(void **state)
{
    struct process p;
    struct h2_got got;
    unsigned ended = 0;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    h2_send_get(fd, 1, "/sleep?ms=3500");
    h2_send_get(fd, 3, "/stream?kb=2&ms=3500");
    while (ended < 2) {
        assert_true(h2_next(fd, &got));
        assert_true(got.type != H2_GOAWAY && got.type != H2_RST);
        ended += got.type == H2_DATA && (got.flags & H2_END_STREAM) != 0;
    }
    (void)close(fd);
    finish(&p);
}

/* ---- bodies ---- */

static void test_a_body_that_drips_ends_the_connection(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1);
    (void)drip(fd, H2_DATA, 1, "x", 1);
    process_wait_log(&p, "the body of a request comes too slowly: ");
    (void)close(fd);
    finish(&p);
}

static void test_padding_is_no_progress(void **state)
{
    struct process p;
    static const char padded[256] = {(char)255};
    struct h2_got got;
    bool over = false;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1);
    for (unsigned i = 0; i < LIMIT_MS / 100 && !over; i++) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        while (!over && poll(&ready, 1, 100) == 1)
            over = !h2_next(fd, &got) || got.type == H2_GOAWAY;
        if (!over)
            h2_send_frame(fd, H2_DATA, 8, 1, padded, sizeof(padded));
    }
    assert_true(over);
    (void)close(fd);
    finish(&p);
}

static void test_a_body_that_stands_still_spares_the_other_requests(void **state)
{
    struct process p;
    struct h2_got got;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    h2_send_get(fd, 1, "/sleep?ms=4000");
    begin_post(fd, 3);
    assert_true(h2_await(fd, H2_RST, 3, &got));
    assert_int_equal(h2_await_status(fd, 1), 200);
    (void)close(fd);
    finish(&p);
}

static void test_a_slow_body_that_moves_is_taken(void **state)
{
    struct process p;
    char part[1000] = "";
    (void)state;
    start_with(&p, FILES, MILD);
    int fd = h2_connect(&p, false);
    begin_post(fd, 1);
    for (unsigned i = 0; i < 40; i++) {
        h2_send_frame(fd, H2_DATA, i == 39 ? H2_END_STREAM : 0, 1, part, sizeof(part));
        pause_ms(90);
    }
    assert_int_equal(h2_await_status(fd, 1), 200);
    (void)close(fd);
    finish(&p);
}

/* ---- headers ---- */

static void test_empty_continuations_do_not_go_on_for_ever(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, FILES, STRICT);
    int fd = h2_connect(&p, false);
    h2_send_frame(fd, H2_HEADERS, H2_END_STREAM, 1, "\x82", 1);
    (void)drip(fd, H2_CONTINUATION, 1, "", 0);
    process_wait_log(&p, "the header of a request is not whole: ");
    (void)close(fd);
    finish(&p);
}

/* Send `bytes` one by one, until the connection ends. */
static void assert_drip_is_cut(const struct process *p, const char *bytes, size_t size,
                               bool preface)
{
    int fd = preface ? h2_connect(p, false) : client_connect(p);
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    size_t sent = 0;
    while (sent < size && poll(&end, 1, 100) == 0)
        sent += (size_t)send(fd, bytes + sent, 1, MSG_NOSIGNAL) == 1;
    assert_true(sent < size);
    (void)close(fd);
}

static void test_a_frame_that_drips_is_cut(void **state)
{
    struct process p;
    static char frame[200] = {0, 0x40, 0, H2_HEADERS, 5, 0, 0, 0, 1};
    (void)state;
    start_with(&p, FILES, STRICT);
    assert_drip_is_cut(&p, frame, sizeof(frame), true);
    process_wait_log(&p, "the header of a request is not whole: ");
    finish(&p);
}

/* ---- connections without a stream ---- */

static bool pings_do_not_keep_it(void *arg)
{
    struct process p;
    struct h2_got got;
    (void)arg;
    start_with(&p, FILES, ARGS("--progress-idle", "1s"));
    uint64_t begun_ns = now_ns();
    int fd = h2_connect(&p, false);
    h2_send_get(fd, 1, "/hello");
    bool in_time = is_in_time(begun_ns, 800);
    if (in_time) {
        assert_int_equal(h2_await_status(fd, 1), 200);
        uint64_t before_ns = drip(fd, H2_PING, 0, "12345678", 8); /* up to the first GOAWAY */
        h2_send_get(fd, 3, "/hello");                             /* it had not read that yet */
        in_time = is_in_time(before_ns, 800); /* the last GOAWAY comes a second after the first */
    }
    if (in_time) {
        assert_int_equal(h2_await_status(fd, 3), 200);
        assert_true(h2_await(fd, H2_GOAWAY, 0, &got));
        assert_memory_equal(got.payload, "\0\0\0\3\0\0\0\0", 8);
        while (h2_next(fd, &got))
            ;
        process_wait_log(&p, "no HTTP/2 stream in ");
    }
    (void)close(fd);
    finish(&p);
    return in_time;
}

static void test_pings_do_not_keep_a_connection_for_ever(void **state)
{
    (void)state;
    repeat_until_in_time(pings_do_not_keep_it, NULL);
}

static void test_a_connection_with_requests_is_kept(void **state)
{
    struct process p;
    struct h2_got got;
    (void)state;
    start_with(&p, FILES, ARGS("--progress-idle", "4s"));
    int fd = h2_connect(&p, false);
    for (uint32_t stream = 1; stream < 100; stream += 2) {
        h2_send_get(fd, stream, "/hello");
        do {
            assert_true(h2_next(fd, &got));
            assert_int_not_equal(got.type, H2_GOAWAY);
        } while (got.type != H2_DATA);
        pause_ms(100);
    }
    (void)close(fd);
    finish(&p);
}

/* ---- a drain ---- */

static bool drain_does_not_wait_for_it(void *arg)
{
    struct process p;
    (void)arg;
    start_with(&p, FILES,
               ARGS("--progress-window", "1s", "--progress-rate", "10000", "--deadline", "10m"));
    int fd = h2_connect(&p, false);
    uint64_t asked_ns = now_ns();
    h2_send_window_setting(fd, 0);
    h2_send_get(fd, 1, "/big");
    struct h2_got got;
    assert_true(h2_await(fd, H2_HEADERS, 1, &got));
    process_signal(&p, SIGTERM);
    bool in_time = is_in_time(asked_ns, 800); /* else it may have been cut before */
    if (in_time) {
        process_expect(&p, LIMIT_MS, 3);
        assert_contains(p.log, "unfinished: GET /big, cut by progress.rate");
    }
    (void)close(fd);
    process_release(&p);
    return in_time;
}

static void test_a_drain_does_not_wait_for_closed_windows(void **state)
{
    (void)state;
    repeat_until_in_time(drain_does_not_wait_for_it, NULL);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_windows_that_stay_closed_end_the_connection),
        claim(test_a_window_of_one_byte_at_a_time_ends_the_connection),
        claim(test_pings_are_no_progress),
        claim(test_a_client_that_reads_nothing_at_all_is_cut),
        claim(test_a_stream_that_is_held_up_alone_is_reset_alone),
        claim(test_a_slow_client_that_moves_gets_the_whole_answer_by_h2),
        claim(test_a_client_that_waits_for_the_server_is_not_cut_by_h2),
        claim(test_a_body_that_drips_ends_the_connection),
        claim(test_padding_is_no_progress),
        claim(test_a_body_that_stands_still_spares_the_other_requests),
        claim(test_a_slow_body_that_moves_is_taken),
        claim(test_empty_continuations_do_not_go_on_for_ever),
        claim(test_a_frame_that_drips_is_cut),
        claim(test_pings_do_not_keep_a_connection_for_ever),
        claim(test_a_connection_with_requests_is_kept),
        claim(test_a_drain_does_not_wait_for_closed_windows),
    };
    return cmocka_run_group_tests_name("progress_h2", tests, with_slow_clients_set_up,
                                       remove_directory);
}

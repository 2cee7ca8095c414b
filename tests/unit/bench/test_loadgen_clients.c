/* The load client as clients of other kinds: those that are slow, that pipeline, that only stay,
 * and that speak TLS. The losses are counted alike. */

#include "with_loadgen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

/* ---- slow readers, slow senders ---- */

static enum bad_next say_20000_bytes(int fd, unsigned ordinal)
{
    static char text[20100];

    (void)ordinal;
    int head = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n");
    memset(text + head, 'x', 20000);
    text[head + 20000] = '\0';
    bad_send(fd, text);
    return BAD_KEEP;
}

static void test_slow_reader_takes_as_long_as_its_rate_says(void **state)
{
    (void)state;
    struct load_options options = with_requests(2);
    options.read_rate = 200000;
    struct load_result r = run(say_20000_bytes, options);

    assert_all_answered(&r, 2);
    assert_in_range(r.latency_p50_us, 85000, 5000000); /* 100 ms but for one slice */
}

static enum bad_next say_20000_bytes_and_close(int fd, unsigned ordinal)
{
    (void)say_20000_bytes(fd, ordinal);
    return BAD_CLOSE;
}

static void test_slow_reader_reads_what_came_before_the_close(void **state)
{
    (void)state;
    struct load_options options = with_requests(2);
    options.connections = 1;
    options.protocol = LOAD_HTTP1_CLOSE;
    options.read_rate = 400000;
    struct load_result r = run(say_20000_bytes_and_close, options);

    assert_all_answered(&r, 2);
}

static void test_slow_reader_finds_the_truncated_ones(void **state)
{
    (void)state;
    struct load_options options = base;
    options.read_rate = 20000;
    struct load_result r = run(answer_half, options);

    assert_int_equal(r.lost_truncated, 20);
    r = run(answer_half_and_reset, options);
    assert_int_equal(r.lost_truncated, 20);
}

static void test_slow_sender_takes_as_long_as_its_rate_says(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct load_options options = with_requests(2);
    struct bad_seen seen;
    options.body_bytes = 2000;
    options.send_rate = 20000;
    options.connections = 1; /* the server reads one request at a time */
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 2);
    assert_int_equal(seen.body_bytes, 2 * 2000);
    assert_in_range(r.latency_p50_us, 75000, 5000000); /* 100 ms but for two slices */
}

static void test_h2_slow_sender_takes_as_long_as_its_rate_says(void **state)
{
    (void)state;
    const struct bad_script script = {.answer_h2 = h2_say_hello};
    struct load_options options = with_streams(2, 2);
    struct bad_seen seen;
    options.body_bytes = 1000;
    options.send_rate = 20000; /* of both streams together */
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 2);
    assert_int_equal(seen.body_bytes, 2 * 1000);
    assert_in_range(r.latency_max_us, 75000, 5000000);
}

static void test_slow_sender_cut_by_a_reset_is_unsent(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello, .accepted = reset_at_once};
    struct load_options options = with_requests(6);
    options.body_bytes = 2000;
    options.send_rate = 20000;
    struct load_result r = run_at(AF_INET, &script, options, NULL);

    assert_int_equal(r.unsent, 6);
    assert_int_equal(r.sent + r.lost, 0);
}

/* ---- pipelining ---- */

static struct load_options with_pipeline(unsigned pipeline, uint64_t max_requests)
{
    struct load_options options = with_requests(max_requests);

    options.connections = 1;
    options.pipeline = pipeline;
    return options;
}

static enum bad_next answer_every_fourth(int fd, unsigned ordinal)
{
    if (ordinal % 4 == 0)
        bad_send(fd, OK_HELLO OK_HELLO "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" OK_HELLO);
    return BAD_KEEP;
}

static void test_pipelined_requests_are_in_flight_at_once_and_answered_in_order(void **state)
{
    (void)state;
    struct load_options options = with_pipeline(4, 40);
    options.timeline = &timeline;
    struct load_result r = run(answer_every_fourth, options);

    assert_all_answered(&r, 40);
    assert_int_equal(r.answered_503, 10);
    assert_int_equal(r.connects, 1);
    assert_timeline_is(&r);
}

static void test_pipelined_bodies_arrive_whole(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct load_options options = with_pipeline(3, 9);
    struct bad_seen seen;
    options.body_bytes = 300000;
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 9);
    assert_int_equal(seen.requests, 9);
    assert_int_equal(seen.body_bytes, 9 * 300000);
}

static enum bad_next announce_close_in_the_second(int fd, unsigned ordinal)
{
    if (ordinal == 4)
        bad_send(fd, OK_HELLO "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return BAD_KEEP;
}

static void test_pipelined_after_an_announced_close_are_refused_not_lost(void **state)
{
    (void)state;
    struct load_options options = with_pipeline(4, 12);
    options.timeline = &timeline;
    struct load_result r = run(announce_close_in_the_second, options);

    assert_int_equal(r.answered, 6);
    assert_int_equal(r.refused_pipelined, 6);
    assert_int_equal(r.lost + r.unsent + r.waiting, 0);
    assert_int_equal(r.sent, 12);
    assert_int_equal(r.connects, 3);
    assert_int_equal(r.closes_announced, 3);
    assert_int_equal(timeline_sum(LOAD_REFUSED), 6);
}

static enum bad_next answer_one_of_four_and_close(int fd, unsigned ordinal)
{
    if (ordinal < 4)
        return BAD_KEEP;
    bad_send_corked(fd, OK_HELLO);
    return BAD_CLOSE;
}

static void test_pipelined_after_a_silent_close_are_lost(void **state)
{
    (void)state;
    struct load_result r = run(answer_one_of_four_and_close, with_pipeline(4, 4));

    assert_int_equal(r.answered, 1);
    assert_int_equal(r.lost_eof, 3);
    assert_int_equal(r.lost_on_reused, 3);
    assert_int_equal(r.refused_pipelined, 0);
}

static enum bad_next cut_an_answer_that_announces_the_close(int fd, unsigned ordinal)
{
    if (ordinal < 4)
        return BAD_KEEP;
    bad_send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello");
    return BAD_CLOSE;
}

static void test_pipelined_after_a_cut_answer_with_close_are_refused(void **state)
{
    (void)state;
    struct load_result r = run(cut_an_answer_that_announces_the_close, with_pipeline(4, 8));

    assert_int_equal(r.lost_truncated, 2);
    assert_int_equal(r.lost, 2);
    assert_int_equal(r.refused_pipelined, 6);
}

/* ---- the crowd ---- */

static struct load_options with_crowd(unsigned idle, unsigned silent)
{
    struct load_options options = base;

    options.idle = idle;
    options.silent = silent;
    return options;
}

static void assert_crowd(const struct load_crowd *crowd, uint64_t failed, uint64_t closed,
                         uint64_t still_open)
{
    assert_int_equal(crowd->opened, closed + still_open);
    assert_int_equal(crowd->failed, failed);
    assert_int_equal(crowd->closed, closed);
    assert_int_equal(crowd->still_open, still_open);
}

static void test_crowd_that_is_left_alone_is_still_open(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct load_options options = with_crowd(9, 7);
    struct bad_seen seen;
    options.protocol = LOAD_HTTP1_CLOSE; /* idle clients keep their connections even so */
    options.timeline = &timeline;
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 20);
    assert_crowd(&r.idle, 0, 0, 9);
    assert_crowd(&r.silent, 0, 0, 7);
    assert_int_equal(seen.requests, 20 + 9);
    assert_timeline_is(&r);
}

/* The crowd connects first, in order: five idle ones, then four silent ones, then the load. */
static unsigned accepted_so_far;

static enum bad_next reset_the_silent(int fd)
{
    (void)fd;
    unsigned index = accepted_so_far++;
    return index >= 5 && index < 9 ? BAD_RESET : BAD_KEEP;
}

static void test_silent_that_the_server_closes_are_counted_apart(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello, .accepted = reset_the_silent};

    accepted_so_far = 0;
    struct load_result r = run_at(AF_INET, &script, with_crowd(5, 4), NULL);
    assert_all_answered(&r, 20);
    assert_crowd(&r.idle, 0, 0, 5);
    assert_crowd(&r.silent, 0, 4, 0);
}

static void test_idle_that_the_server_closes_are_counted_apart(void **state)
{
    (void)state;
    struct load_options options = with_crowd(6, 0);
    options.pause_ms = 5;
    struct load_result r = run(answer_then_idle_close, options);

    assert_all_answered(&r, 20);
    assert_crowd(&r.idle, 0, 6, 0);
}

static void test_idle_that_is_not_answered_failed_and_is_not_lost(void **state)
{
    (void)state;
    struct load_result r = run(close_unanswered, with_crowd(3, 2));

    assert_crowd(&r.idle, 3, 0, 0);
    assert_crowd(&r.silent, 0, 0, 2);
    assert_int_equal(r.lost_eof, 20);
}

static void test_crowd_at_a_closed_port_failed_and_is_not_refused(void **state)
{
    (void)state;
    struct load_options options = with_crowd(3, 2);
    options.rate = 1000;
    struct load_result r = run_at_closed_port(options);

    assert_crowd(&r.idle, 3, 0, 0);
    assert_crowd(&r.silent, 2, 0, 0);
    assert_int_equal(r.refused, 20);
}

static void test_crowd_that_the_server_keeps_waiting_does_not_hold_up_the_run(void **state)
{
    (void)state;
    struct load_options options = with_crowd(3, 1);
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = LONG_ENOUGH_MS;
    struct load_result r = run(never_answer, options);

    assert_crowd(&r.idle, 3, 0, 0);
    assert_crowd(&r.silent, 0, 0, 1);
    assert_int_equal(r.waiting, 2);
}

static void test_h2_crowd_idles_too(void **state)
{
    (void)state;
    struct load_options options = with_crowd(4, 2);
    options.body_bytes = 5000; /* not theirs */
    struct load_result r = run_h2(h2_say_hello, options);

    assert_all_answered(&r, 20);
    assert_crowd(&r.idle, 0, 0, 4);
    assert_crowd(&r.silent, 0, 0, 2);
}

static bool stop_the_server(void *arg)
{
    bad_server_stop(*(struct bad_server **)arg, NULL);
    return true;
}

/* The run ends at once, before the loop has read the events of the sockets. */
static void test_crowd_of_a_server_that_has_gone_is_closed(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct bad_server *s = bad_server_start(AF_INET, &script);
    struct load_options options = with_crowd(6, 5);
    struct load_result r;
    options.address = bad_server_address(s);
    options.server_is_gone = stop_the_server;
    options.server_is_gone_arg = &s;

    assert_int_equal(load_run(&options, &r), 0);
    assert_crowd(&r.idle, 0, 6, 0);
    assert_crowd(&r.silent, 0, 5, 0);
}

/* ---- TLS ---- */

static struct load_result run_tls(enum bad_next (*answer)(int, unsigned),
                                  struct load_options options)
{
    const struct bad_script script = {.answer = answer, .tls = true};

    options.tls = true;
    return run_at(AF_INET, &script, options, NULL);
}

static void test_tls_good_answers_are_all_answered(void **state)
{
    (void)state;
    struct load_options options = base;
    options.expect_body = "hello";
    struct load_result r = run_tls(say_hello, options);

    assert_all_answered(&r, 20);
    assert_int_equal(r.connects, 2);
    assert_int_equal(r.failed_handshakes, 0);
    options.protocol = LOAD_HTTP1_CLOSE;
    r = run_tls(say_hello, options);
    assert_all_answered(&r, 20);
    assert_in_range(r.connects, 20, 21);
}

static void test_tls_sessions_are_resumed_when_asked_for(void **state)
{
    const struct bad_script script = {.answer = say_hello, .tls = true};
    struct load_options options = base;
    struct bad_seen seen;
    (void)state;
    options.tls = true;
    options.protocol = LOAD_HTTP1_CLOSE;
    struct load_result r = run_at(AF_INET, &script, options, &seen);
    assert_all_answered(&r, 20);
    assert_int_equal(seen.resumed, 0);
    options.resume = true;
    r = run_at(AF_INET, &script, options, &seen);
    assert_all_answered(&r, 20);
    assert_in_range(seen.resumed, 18, seen.connections - 2); /* the first two have none yet */
}

static void test_tls_losses_are_told_apart_as_without(void **state)
{
    (void)state;
    struct load_result r = run_tls(close_unanswered, base);
    assert_int_equal(r.lost_eof, 20);
    assert_int_equal(r.lost, 20);
    r = run_tls(reset_unanswered, base);
    assert_int_equal(r.lost_reset, 20);
    assert_int_equal(r.lost, 20);
    r = run_tls(answer_half, base);
    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static void test_tls_request_bodies_arrive_whole_and_pipelined(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello, .tls = true};
    struct load_options options = with_pipeline(3, 9);
    struct bad_seen seen;
    options.tls = true;
    options.body_bytes = 1U << 20;
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 9);
    assert_int_equal(seen.body_bytes, 9 * (1U << 20));
}

static void test_tls_slow_reader_takes_as_long_as_its_rate_says(void **state)
{
    (void)state;
    struct load_options options = with_requests(2);
    options.read_rate = 200000;
    struct load_result r = run_tls(say_20000_bytes, options);

    assert_all_answered(&r, 2);
    assert_in_range(r.latency_p50_us, 85000, 5000000);
}

static void test_tls_h2_comes_by_alpn(void **state)
{
    (void)state;
    const struct bad_script script = {.answer_h2 = h2_say_hello, .tls = true};
    struct load_options options = with_streams(8, 100);
    options.tls = true;
    options.body_bytes = 5000;
    options.idle = 3;
    struct bad_seen seen;
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 100);
    assert_int_equal(r.connects, 1);
    assert_int_equal(seen.body_bytes, 100 * 5000);
    assert_crowd(&r.idle, 0, 0, 3);
}

static void test_tls_without_the_protocol_is_a_failed_handshake(void **state)
{
    (void)state;
    struct load_options options = with_streams(1, 10);
    options.rate = 1000; /* each takes its request with it */
    options.timeline = &timeline;
    struct load_result r = run_tls(say_hello, options);

    assert_int_equal(r.failed_handshakes, 10);
    assert_int_equal(r.sent + r.lost + r.refused + r.connects, 0);
    assert_int_equal(timeline_sum(LOAD_REFUSED), 10);
}

static void test_tls_cut_in_the_handshake_is_a_failed_handshake(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello, .accepted = reset_at_once};
    struct load_options options = with_requests(10);
    options.rate = 1000;
    options.tls = true;
    struct load_result r = run_at(AF_INET, &script, options, NULL);

    /* a reset that overtakes the end of connect() is a refused one */
    assert_int_equal(r.failed_handshakes + r.refused, 10);
    assert_int_equal(r.sent + r.lost + r.unsent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_reader_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_slow_reader_reads_what_came_before_the_close),
        cmocka_unit_test(test_slow_reader_finds_the_truncated_ones),
        cmocka_unit_test(test_slow_sender_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_h2_slow_sender_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_slow_sender_cut_by_a_reset_is_unsent),
        cmocka_unit_test(test_pipelined_requests_are_in_flight_at_once_and_answered_in_order),
        cmocka_unit_test(test_pipelined_bodies_arrive_whole),
        cmocka_unit_test(test_pipelined_after_an_announced_close_are_refused_not_lost),
        cmocka_unit_test(test_pipelined_after_a_silent_close_are_lost),
        cmocka_unit_test(test_pipelined_after_a_cut_answer_with_close_are_refused),
        cmocka_unit_test(test_crowd_that_is_left_alone_is_still_open),
        cmocka_unit_test(test_silent_that_the_server_closes_are_counted_apart),
        cmocka_unit_test(test_idle_that_the_server_closes_are_counted_apart),
        cmocka_unit_test(test_idle_that_is_not_answered_failed_and_is_not_lost),
        cmocka_unit_test(test_crowd_at_a_closed_port_failed_and_is_not_refused),
        cmocka_unit_test(test_crowd_that_the_server_keeps_waiting_does_not_hold_up_the_run),
        cmocka_unit_test(test_h2_crowd_idles_too),
        cmocka_unit_test(test_crowd_of_a_server_that_has_gone_is_closed),
        cmocka_unit_test(test_tls_good_answers_are_all_answered),
        cmocka_unit_test(test_tls_sessions_are_resumed_when_asked_for),
        cmocka_unit_test(test_tls_losses_are_told_apart_as_without),
        cmocka_unit_test(test_tls_request_bodies_arrive_whole_and_pipelined),
        cmocka_unit_test(test_tls_slow_reader_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_tls_h2_comes_by_alpn),
        cmocka_unit_test(test_tls_without_the_protocol_is_a_failed_handshake),
        cmocka_unit_test(test_tls_cut_in_the_handshake_is_a_failed_handshake),
    };

    return cmocka_run_group_tests_name("loadgen_clients", tests, NULL, NULL);
}

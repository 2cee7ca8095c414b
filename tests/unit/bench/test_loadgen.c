/* The load client against a server that fails on purpose: each planted loss must be counted, once,
 * under its right name, and nothing else may be. */

#include "with_loadgen.h"

#include <errno.h>
#include <getopt.h>
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loadgen_command.h"

#define LAST_STREAM_ANY 0x7fffffff

/* ---- what is answered ---- */

static void test_good_answers_are_all_answered(void **state)
{
    (void)state;
    struct load_result r = run(say_hello, base);

    assert_all_answered(&r, 20);
    assert_int_equal(r.answered_2xx, 20);
    assert_int_equal(r.connects, 2);
    assert_int_equal(r.closes_announced, 0);
    assert_true(r.last_answer_ns > 0);
    assert_true(r.latency_p50_us <= r.latency_p99_us && r.latency_p99_us <= r.latency_max_us);
}

static enum bad_next say_503_then_404(int fd, unsigned ordinal)
{
    bad_send(fd, ordinal % 2 == 1 ? "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
                                  : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    return BAD_KEEP;
}

static void test_other_statuses_are_answers_too(void **state)
{
    (void)state;
    struct load_options options = with_requests(10);
    options.connections = 1;
    struct load_result r = run(say_503_then_404, options);

    assert_all_answered(&r, 10);
    assert_int_equal(r.answered_503, 5);
    assert_int_equal(r.answered_other, 5);
}

static void test_close_mode_connects_once_a_request(void **state)
{
    (void)state;
    struct load_options options = base;
    options.protocol = LOAD_HTTP1_CLOSE;
    struct load_result r = run(say_hello, options);

    assert_all_answered(&r, 20);
    assert_in_range(r.connects, 20, 21); /* the last request may find the other client connecting */
}

static enum bad_next announce_close(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nconnection: Foo, CLOSE\r\nContent-Length: 5\r\n\r\nhello");
    return BAD_KEEP; /* the client closes */
}

static void test_announced_close_makes_the_client_reconnect(void **state)
{
    (void)state;
    struct load_result r = run(announce_close, base);

    assert_all_answered(&r, 20);
    assert_int_equal(r.closes_announced, 20);
    assert_in_range(r.connects, 20, 21);
}

static void test_idle_close_is_not_a_loss(void **state)
{
    (void)state;
    struct load_options options = base;
    options.pause_ms = 5;
    struct load_result r = run(answer_then_idle_close, options);

    assert_all_answered(&r, 20);
    assert_in_range(r.connects, 20, 21);
    assert_int_equal(r.closes_announced, 0);
}

/* The end of file comes in one segment with the answer: the next request must not go that way. The
 * kernel takes in the segment in two steps, and one time in 100000 epoll looks in between. */
static void test_close_that_came_with_the_answer_is_seen_before_the_next_request(void **state)
{
    (void)state;
    struct load_result r = run(answer_then_idle_close, base);

    assert_int_equal(r.answered + r.lost, 20);
    assert_in_range(r.lost, 0, 1);
}

static enum bad_next answer_then_reset(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, OK_HELLO);
    return BAD_RESET;
}

static void test_answer_before_a_reset_is_still_read(void **state)
{
    (void)state;
    struct load_options options = base;
    options.pause_ms = 5;
    struct load_result r = run(answer_then_reset, options);

    assert_all_answered(&r, 20);
}

static enum bad_next answer_until_eof(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\n\r\nhello");
    return BAD_CLOSE;
}

static void test_answer_without_length_ends_at_eof(void **state)
{
    (void)state;
    struct load_options options = base;
    options.expect_body = "hello";
    struct load_result r = run(answer_until_eof, options);

    assert_all_answered(&r, 20);
}

static enum bad_next reset_until_eof(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\n\r\nhello");
    return BAD_RESET;
}

static void test_answer_without_length_is_cut_by_a_reset(void **state)
{
    (void)state;
    struct load_result r = run(reset_until_eof, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static enum bad_next answer_in_chunks(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n");
    return BAD_KEEP;
}

static void test_chunked_answer_is_whole_after_its_trailer(void **state)
{
    (void)state;
    struct load_options options = base;
    options.expect_body = "hello";
    struct load_result r = run(answer_in_chunks, options);

    assert_all_answered(&r, 20);
    assert_int_equal(r.connects, 2);
}

static enum bad_next answer_byte_by_byte(int fd, unsigned ordinal)
{
    char all[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                 "\r\n00005\r\nhello\r\n0\r\n\r\n";

    (void)ordinal;
    for (size_t i = 0; i + 1 < sizeof(all); i++)
        bad_send(fd, (char[]){all[i], '\0'});
    return BAD_KEEP;
}

static void test_answer_in_single_bytes_is_whole(void **state)
{
    (void)state;
    struct load_options options = base;
    options.expect_body = "hello";
    struct load_result r = run(answer_byte_by_byte, options);

    assert_all_answered(&r, 20);
}

static enum bad_next continue_then_answer(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    bad_send(fd, OK_HELLO);
    return BAD_KEEP;
}

static void test_interim_answer_is_not_the_answer(void **state)
{
    (void)state;
    struct load_result r = run(continue_then_answer, base);

    assert_all_answered(&r, 20);
    assert_int_equal(r.answered_2xx, 20);
}

static enum bad_next answer_head(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    return BAD_KEEP;
}

static void test_head_has_no_body(void **state)
{
    (void)state;
    struct load_options options = base;
    options.method = "HEAD";
    struct load_result r = run(answer_head, options);

    assert_all_answered(&r, 20);
    assert_int_equal(r.connects, 2);
}

static void test_request_body_arrives_whole(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct load_options options = with_requests(4);
    struct bad_seen seen;
    options.body_bytes = 8U << 20; /* more than the kernel takes at once */
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 4);
    assert_int_equal(seen.requests, 4);
    assert_int_equal(seen.body_bytes, 4 * (8U << 20));
}

static void test_unix_socket_works(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = announce_close};
    struct load_result r = run_at(AF_UNIX, &script, base, NULL);

    assert_all_answered(&r, 20);
}

static void test_ipv6_works(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello};
    struct load_result r = run_at(AF_INET6, &script, base, NULL);

    assert_all_answered(&r, 20);
}

/* ---- what is lost ---- */

static void test_close_without_an_answer_is_lost_eof(void **state)
{
    (void)state;
    struct load_result r = run(close_unanswered, base);

    assert_int_equal(r.lost_eof, 20);
    assert_int_equal(r.lost, 20);
    assert_int_equal(r.sent, 20);
    assert_int_equal(r.lost_on_reused, 0);
    assert_non_null(strstr(r.first_loss, "end of file before the answer"));
}

static void test_reset_without_an_answer_is_lost_reset(void **state)
{
    (void)state;
    struct load_result r = run(reset_unanswered, base);

    assert_int_equal(r.lost_reset, 20);
    assert_int_equal(r.lost, 20);
}

static void test_loss_on_a_reused_connection_is_marked(void **state)
{
    (void)state;
    struct load_options options = with_requests(12);
    options.connections = 1;
    struct load_result r = run(close_on_the_third, options);

    assert_int_equal(r.answered, 8);
    assert_int_equal(r.lost_eof, 4);
    assert_int_equal(r.lost_on_reused, 4);
    assert_int_equal(r.connects, 4);
    assert_non_null(strstr(r.first_loss, "connection 1.1, its request 3"));
}

static void test_half_a_body_is_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run(answer_half, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static void test_half_a_body_and_reset_is_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run(answer_half_and_reset, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static enum bad_next answer_first_chunk(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    return BAD_CLOSE;
}

static void test_chunks_without_the_last_are_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run(answer_first_chunk, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static void test_wrong_body_is_lost_truncated(void **state)
{
    (void)state;
    static const char *const others[] = {"hellO", "hell", "hello!", ""};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct load_options options = base;
        options.expect_body = others[i];
        struct load_result r = run(say_hello, options);
        assert_int_equal(r.lost_truncated, 20);
        assert_int_equal(r.answered, 0);
    }
}

static enum bad_next answer_nonsense(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "220 mail.example ESMTP\r\n");
    return BAD_KEEP;
}

static void test_what_is_not_http_is_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run(answer_nonsense, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_non_null(strstr(r.first_loss, "malformed"));
}

/* ---- what is neither ---- */

static void test_no_answer_is_waiting(void **state)
{
    (void)state;
    struct load_options options = with_requests(0);
    options.connections = 5;
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = LONG_ENOUGH_MS;
    struct load_result r = run(never_answer, options);

    assert_int_equal(r.waiting, 5);
    assert_int_equal(r.sent, 5);
    assert_int_equal(r.lost, 0);
}

static void test_request_cut_while_written_is_unsent(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = say_hello, .accepted = reset_at_once};
    struct load_options options = with_requests(6);
    options.body_bytes = 64U << 20; /* more than the buffers of both ends */
    struct load_result r = run_at(AF_INET, &script, options, NULL);

    assert_int_equal(r.unsent, 6);
    assert_int_equal(r.sent, 0);
    assert_int_equal(r.lost, 0);
}

static bool always(void *arg)
{
    ++*(unsigned *)arg;
    return true;
}

static void test_closed_port_is_refused_and_nothing_is_lost(void **state)
{
    (void)state;
    struct load_options options = base;
    options.duration_ms = 30;
    struct load_result r = run_at_closed_port(options);

    assert_true(r.refused >= 2);
    assert_int_equal(r.lost + r.waiting + r.unsent + r.sent + r.connects, 0);
}

static void test_missing_unix_socket_is_refused(void **state)
{
    (void)state;
    struct load_options options = base;
    struct load_result r;
    options.address = "unix:/nonexistent/socket";
    options.duration_ms = 10;

    assert_int_equal(load_run(&options, &r), 0);
    assert_true(r.refused >= 2);
}

static void test_slot_refused_in_a_row_after_the_signal_retires(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = base; /* a minute, were it not for the rule */
    options.on_signal = count_call;
    options.on_signal_arg = &calls;
    struct load_result r = run_at_closed_port(options);

    assert_int_equal(calls, 1);
    assert_in_range(r.refused, 2 * 20, 2 * 22);
}

static void test_run_ends_when_the_server_is_gone(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = base;
    options.server_is_gone = always;
    options.server_is_gone_arg = &calls;
    struct load_result r = run_at_closed_port(options);

    assert_int_equal(calls, 1);
    assert_int_equal(r.refused, 2);
}

static bool at_the_third_call(void *arg)
{
    return ++*(unsigned *)arg == 3;
}

static void test_load_ends_when_it_is_enough(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = with_requests(0); /* for a minute, were it not enough */
    options.is_enough = at_the_third_call;
    options.is_enough_arg = &calls;
    struct load_result r = run(say_hello, options);

    assert_int_equal(calls, 3);
    assert_true(r.answered > 0);
    assert_int_equal(r.refused + r.waiting, 0); /* what had begun has ended */
    assert_all_answered(&r, r.sent);
}

static void test_answers_after_the_signal_are_counted_apart(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = base;
    options.on_signal = count_call;
    options.on_signal_arg = &calls;
    struct load_result r = run(say_hello, options); /* the signal is due at the start */

    assert_int_equal(calls, 1);
    assert_all_answered(&r, 20);
    assert_int_equal(r.answered_after_signal, 20);
    assert_int_equal(r.after_signal.count, 20);
    assert_int_equal(r.before_signal.count, 0);
    assert_true(r.signal_ns > 0 && r.signal_ns <= r.last_answer_ns);
}

/* ---- HTTP/2 ---- */

static void test_h2_good_answers_are_all_answered(void **state)
{
    (void)state;
    struct load_options options = with_streams(8, 400);
    options.connections = 2;
    options.expect_body = "hello";
    struct load_result r = run_h2(h2_say_hello, options);

    assert_all_answered(&r, 400);
    assert_int_equal(r.answered_2xx, 400);
    assert_int_equal(r.connects, 2);
}

static void test_h2_wrong_body_is_lost_truncated(void **state)
{
    (void)state;
    struct load_options options = with_streams(4, 20);
    options.expect_body = "hellO";
    struct load_result r = run_h2(h2_say_hello, options);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.answered, 0);
}

static void test_h2_request_body_arrives_whole(void **state)
{
    (void)state;
    const struct bad_script script = {.answer_h2 = h2_say_hello};
    struct load_options options = with_streams(3, 6);
    struct bad_seen seen;
    options.body_bytes = 300000; /* more than a window */
    struct load_result r = run_at(AF_INET, &script, options, &seen);

    assert_all_answered(&r, 6);
    assert_int_equal(seen.body_bytes, 6 * 300000);
}

static void test_h2_streams_above_the_goaway_are_refused(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_goaway_behind_the_third, with_streams(8, 8));

    assert_int_equal(r.answered, 3);
    assert_int_equal(r.refused_streams, 5);
    assert_int_equal(r.lost, 0);
    assert_int_equal(r.goaways, 1);
    assert_int_equal(r.sent, 8);
}

static enum bad_next h2_goaway_and_close(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)stream;
    if (ordinal < 8)
        return BAD_KEEP;
    bad_h2_goaway(h, 5);
    return BAD_CLOSE;
}

static void test_h2_streams_below_the_goaway_are_lost_at_eof(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_goaway_and_close, with_streams(8, 8));

    assert_int_equal(r.refused_streams, 5);
    assert_int_equal(r.lost_eof, 3);
    assert_int_equal(r.lost, 3);
}

static enum bad_next h2_shutdown_notice(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)stream;
    if (ordinal < 4)
        return BAD_KEEP;
    bad_h2_goaway(h, LAST_STREAM_ANY);
    for (int32_t id = 1; id <= 7; id += 2)
        bad_h2_answer(h, id, "hello");
    return BAD_KEEP;
}

static void test_h2_first_goaway_refuses_nothing_and_the_client_reconnects(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_shutdown_notice, with_streams(4, 12));

    assert_all_answered(&r, 12);
    assert_int_equal(r.goaways, 3);
    assert_int_equal(r.connects, 3);
}

static enum bad_next h2_close_unanswered(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)h;
    (void)stream;
    return ordinal == 8 ? BAD_CLOSE : BAD_KEEP;
}

static void test_h2_close_without_answers_is_lost_eof(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_close_unanswered, with_streams(8, 16));

    assert_int_equal(r.lost_eof, 16);
    assert_int_equal(r.lost, 16);
    assert_int_equal(r.lost_on_reused, 14);
    assert_int_equal(r.connects, 2);
}

static enum bad_next h2_reset_unanswered(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)h;
    (void)stream;
    return ordinal == 8 ? BAD_RESET : BAD_KEEP;
}

static void test_h2_reset_without_answers_is_lost_reset(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_reset_unanswered, with_streams(8, 16));

    assert_int_equal(r.lost_reset, 16);
    assert_int_equal(r.lost, 16);
}

static enum bad_next h2_half_answers(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    bad_h2_answer_half(h, stream, "hel");
    return ordinal == 4 ? BAD_CLOSE : BAD_KEEP;
}

static void test_h2_half_an_answer_is_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_half_answers, with_streams(4, 8));

    assert_int_equal(r.lost_truncated, 8);
    assert_int_equal(r.lost, 8);
}

static enum bad_next h2_reset_streams(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    bad_h2_reset(h, stream, ordinal % 2 == 1 ? NGHTTP2_REFUSED_STREAM : NGHTTP2_INTERNAL_ERROR);
    return BAD_KEEP;
}

static void test_h2_reset_stream_is_refused_or_lost_by_its_code(void **state)
{
    (void)state;
    struct load_result r = run_h2(h2_reset_streams, with_streams(2, 10));

    assert_int_equal(r.refused_streams, 5);
    assert_int_equal(r.lost_reset, 5);
    assert_int_equal(r.lost, 5);
    assert_int_equal(r.connects, 1);
}

static enum bad_next h2_never_answer(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)h;
    (void)stream;
    (void)ordinal;
    return BAD_KEEP;
}

static void test_h2_no_answer_is_waiting(void **state)
{
    (void)state;
    struct load_options options = with_streams(4, 0);
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = LONG_ENOUGH_MS;
    struct load_result r = run_h2(h2_never_answer, options);

    assert_int_equal(r.waiting, 4);
    assert_int_equal(r.lost, 0);
}

static void test_h2_server_that_speaks_http1_is_not_answered(void **state)
{
    (void)state;
    const struct bad_script script = {.answer = answer_nonsense};
    struct load_options options = with_streams(4, 4);
    struct load_result r = run_at(AF_INET, &script, options, NULL);

    assert_int_equal(r.lost_truncated, 4);
    assert_int_equal(r.answered, 0);
}

/* ---- the command line ---- */

static int parse(struct load_command *cmd, const char *name, const char *value)
{
    const char *const argv[] = {"lastcall-load", name, value, "127.0.0.1:1", NULL};

    optind = 0; /* anew */
    return load_command_parse(4, (char **)(uintptr_t)argv, cmd);
}

static void test_signal_takes_a_time_and_a_name(void **state)
{
    (void)state;
    struct load_command cmd;

    assert_int_equal(parse(&cmd, "--signal", "123"), -1);
    assert_int_equal(cmd.load.server_pid, 123);
    assert_int_equal(cmd.load.signal_after_ms, 1000);
    assert_int_equal(cmd.signal, SIGTERM);
    assert_int_equal(parse(&cmd, "--signal", "123:250ms"), -1);
    assert_int_equal(cmd.load.signal_after_ms, 250);
    assert_int_equal(parse(&cmd, "--signal", "123:2s:QUIT"), -1);
    assert_int_equal(cmd.load.signal_after_ms, 2000);
    assert_int_equal(cmd.signal, SIGQUIT);
}

static void test_bad_values_are_wrong_usage(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"--signal", "1"},         {"--signal", "123:"},      {"--signal", "123:1s:"},
        {"--signal", "123:1s:NO"}, {"--signal", "123:x:INT"}, {"--rate", "0"},
        {"--rate", "1000001"},     {"--read-rate", "0"},      {"--send-rate", "fast"},
        {"--pipeline", "0"},       {"--idle", "65537"},       {"--silent", "-1"},
        {"--timeline", ""},        {"--latencies", ""},       {"--nonsense", "1"},
    };
    struct load_command cmd;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(&cmd, bad[i][0], bad[i][1]), EXIT_USAGE);
}

/* ---- options ---- */

static void test_only_loopback_addresses_are_taken(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "10.0.0.1:80",   "192.0.2.1:80", "0.0.0.0:80",    "[::]:80",       "[2001:db8::1]:80",
        "localhost:80",  "127.0.0.1",    "127.0.0.1:",    "127.0.0.1:0",   "127.0.0.1:65536",
        "127.0.0.1:80x", "unix:",        "[::1:80",       "128.0.0.1:80",  "",
        "::1:80",        "127.1:80",     "[127.0.0.1]:1", "127.0.0.1: 80", "[::1]",
    };
    struct load_result r;
    struct load_options options = base;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        options.address = bad[i];
        assert_int_equal(load_run(&options, &r), -EINVAL);
    }
}

static void test_options_out_of_range_are_refused(void **state)
{
    (void)state;
    struct load_result r;
    struct load_options options = base;
    options.address = "127.0.0.1:1";

    options.connections = 0;
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.connections = 65537;
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.connections = 1;
    options.path = "/a b";
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.path = NULL;
    options.method = "GET\r\nX:";
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.method = NULL;
    options.rate = 1000001;
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.rate = 0;
    options.idle = 65537;
    assert_int_equal(load_run(&options, &r), -EINVAL);
    options.idle = 0;
    options.pipeline = 2;
    options.protocol = LOAD_HTTP1_CLOSE;
    assert_int_equal(load_run(&options, &r), -EINVAL);
}

/* In a child: a limit once lowered stays low. */
static void test_too_few_open_files_is_emfile(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit low = {.rlim_cur = 40, .rlim_max = 40};
        struct load_options options = base;
        struct load_result r;
        options.address = "127.0.0.1:1";
        options.connections = 100;
        _exit(setrlimit(RLIMIT_NOFILE, &low) == 0 && load_run(&options, &r) == -EMFILE ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_answers_are_all_answered),
        cmocka_unit_test(test_other_statuses_are_answers_too),
        cmocka_unit_test(test_close_mode_connects_once_a_request),
        cmocka_unit_test(test_announced_close_makes_the_client_reconnect),
        cmocka_unit_test(test_idle_close_is_not_a_loss),
        cmocka_unit_test(test_close_that_came_with_the_answer_is_seen_before_the_next_request),
        cmocka_unit_test(test_answer_before_a_reset_is_still_read),
        cmocka_unit_test(test_answer_without_length_ends_at_eof),
        cmocka_unit_test(test_answer_without_length_is_cut_by_a_reset),
        cmocka_unit_test(test_chunked_answer_is_whole_after_its_trailer),
        cmocka_unit_test(test_answer_in_single_bytes_is_whole),
        cmocka_unit_test(test_interim_answer_is_not_the_answer),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_request_body_arrives_whole),
        cmocka_unit_test(test_unix_socket_works),
        cmocka_unit_test(test_ipv6_works),
        cmocka_unit_test(test_close_without_an_answer_is_lost_eof),
        cmocka_unit_test(test_reset_without_an_answer_is_lost_reset),
        cmocka_unit_test(test_loss_on_a_reused_connection_is_marked),
        cmocka_unit_test(test_half_a_body_is_lost_truncated),
        cmocka_unit_test(test_half_a_body_and_reset_is_lost_truncated),
        cmocka_unit_test(test_chunks_without_the_last_are_lost_truncated),
        cmocka_unit_test(test_wrong_body_is_lost_truncated),
        cmocka_unit_test(test_what_is_not_http_is_lost_truncated),
        cmocka_unit_test(test_no_answer_is_waiting),
        cmocka_unit_test(test_request_cut_while_written_is_unsent),
        cmocka_unit_test(test_closed_port_is_refused_and_nothing_is_lost),
        cmocka_unit_test(test_missing_unix_socket_is_refused),
        cmocka_unit_test(test_slot_refused_in_a_row_after_the_signal_retires),
        cmocka_unit_test(test_run_ends_when_the_server_is_gone),
        cmocka_unit_test(test_load_ends_when_it_is_enough),
        cmocka_unit_test(test_answers_after_the_signal_are_counted_apart),
        cmocka_unit_test(test_h2_good_answers_are_all_answered),
        cmocka_unit_test(test_h2_wrong_body_is_lost_truncated),
        cmocka_unit_test(test_h2_request_body_arrives_whole),
        cmocka_unit_test(test_h2_streams_above_the_goaway_are_refused),
        cmocka_unit_test(test_h2_streams_below_the_goaway_are_lost_at_eof),
        cmocka_unit_test(test_h2_first_goaway_refuses_nothing_and_the_client_reconnects),
        cmocka_unit_test(test_h2_close_without_answers_is_lost_eof),
        cmocka_unit_test(test_h2_reset_without_answers_is_lost_reset),
        cmocka_unit_test(test_h2_half_an_answer_is_lost_truncated),
        cmocka_unit_test(test_h2_reset_stream_is_refused_or_lost_by_its_code),
        cmocka_unit_test(test_h2_no_answer_is_waiting),
        cmocka_unit_test(test_h2_server_that_speaks_http1_is_not_answered),
        cmocka_unit_test(test_signal_takes_a_time_and_a_name),
        cmocka_unit_test(test_bad_values_are_wrong_usage),
        cmocka_unit_test(test_only_loopback_addresses_are_taken),
        cmocka_unit_test(test_options_out_of_range_are_refused),
        cmocka_unit_test(test_too_few_open_files_is_emfile),
    };

    return cmocka_run_group_tests_name("loadgen", tests, NULL, NULL);
}

#include "loadgen.h"

#include "bad_server.h"
#include "loadgen_command.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <getopt.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The load client against a server that fails on purpose: each planted loss must be counted, once,
 * under its right name, and nothing else may be. */

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define LAST_STREAM_ANY 0x7fffffff

/* To connect and to send, on a machine that may stall meanwhile. */
#define LONG_ENOUGH_MS 700

static const struct load_options base = {
    .protocol = LOAD_HTTP1_KEEPALIVE,
    .connections = 2,
    .duration_ms = 60000, /* never reached: max_requests ends the runs */
    .patience_ms = 60000,
    .max_requests = 20,
};

/* Run `options` against a server with `script`. What must hold after any run is checked here. */
static struct load_result run_at(int family, const struct bad_script *script,
                                 struct load_options options, struct bad_seen *ret_seen)
{
    struct load_result r;
    struct bad_server *s = bad_server_start(family, script);

    if (s == NULL)
        skip();
    options.address = bad_server_address(s);
    assert_int_equal(load_run(&options, &r), 0);
    bad_server_stop(s, ret_seen);
    assert_int_equal(r.lost, r.lost_reset + r.lost_eof + r.lost_truncated);
    assert_int_equal(r.answered, r.answered_2xx + r.answered_503 + r.answered_other);
    assert_true((r.lost > 0) == (r.first_loss[0] != '\0'));
    return r;
}

static struct load_result run(enum bad_next (*answer)(int, unsigned), struct load_options options)
{
    const struct bad_script script = {.answer = answer};

    return run_at(AF_INET, &script, options, NULL);
}

static struct load_result run_h2(enum bad_next (*answer)(struct bad_h2 *, int32_t, unsigned),
                                 struct load_options options)
{
    const struct bad_script script = {.answer_h2 = answer};

    options.protocol = LOAD_HTTP2;
    return run_at(AF_INET, &script, options, NULL);
}

static struct load_options with_requests(uint64_t max_requests)
{
    struct load_options options = base;

    options.max_requests = max_requests;
    return options;
}

static void assert_all_answered(const struct load_result *r, uint64_t count)
{
    assert_string_equal(r->first_loss, "");
    assert_int_equal(r->answered, count);
    assert_int_equal(r->sent, count);
    assert_int_equal(r->lost + r->refused + r->refused_streams + r->unsent + r->waiting, 0);
}

/* --- what is answered --- */

static enum bad_next say_hello(int fd, unsigned ordinal)
{
    (void)ordinal; /* all alike, here and below */
    bad_send(fd, OK_HELLO);
    return BAD_KEEP;
}

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
    return BAD_KEEP; /* the client is the one who closes */
}

static void test_announced_close_makes_the_client_reconnect(void **state)
{
    (void)state;
    struct load_result r = run(announce_close, base);

    assert_all_answered(&r, 20);
    assert_int_equal(r.closes_announced, 20);
    assert_in_range(r.connects, 20, 21);
}

static enum bad_next answer_then_idle_close(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send_corked(fd, OK_HELLO);
    return BAD_CLOSE;
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

static void test_chunked_answer_is_whole_behind_its_trailer(void **state)
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

/* --- what is lost --- */

static enum bad_next close_unanswered(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_CLOSE;
}

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

static enum bad_next reset_unanswered(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_RESET;
}

static void test_reset_without_an_answer_is_lost_reset(void **state)
{
    (void)state;
    struct load_result r = run(reset_unanswered, base);

    assert_int_equal(r.lost_reset, 20);
    assert_int_equal(r.lost, 20);
}

static enum bad_next close_on_the_third(int fd, unsigned ordinal)
{
    if (ordinal == 3)
        return BAD_CLOSE;
    return say_hello(fd, ordinal);
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

static enum bad_next answer_half(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return BAD_CLOSE;
}

static void test_half_a_body_is_lost_truncated(void **state)
{
    (void)state;
    struct load_result r = run(answer_half, base);

    assert_int_equal(r.lost_truncated, 20);
    assert_int_equal(r.lost, 20);
}

static enum bad_next answer_half_and_reset(int fd, unsigned ordinal)
{
    (void)answer_half(fd, ordinal);
    return BAD_RESET;
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

/* --- what is neither --- */

static enum bad_next never_answer(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_KEEP;
}

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

static enum bad_next reset_at_once(int fd)
{
    (void)fd;
    return BAD_RESET;
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

static void count_call(void *arg)
{
    ++*(unsigned *)arg;
}

/* A port that is taken and does not listen. */
static int bind_closed_port(char *address, size_t room)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&sin, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    (void)snprintf(address, room, "127.0.0.1:%u", ntohs(sin.sin_port));
    return fd;
}

static struct load_result run_at_closed_port(struct load_options options)
{
    struct load_result r;
    char address[32];
    int fd = bind_closed_port(address, sizeof(address));

    options.address = address;
    assert_int_equal(load_run(&options, &r), 0);
    (void)close(fd);
    return r;
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

/* --- HTTP/2 --- */

static enum bad_next h2_say_hello(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)ordinal;
    bad_h2_answer(h, stream, "hello");
    return BAD_KEEP;
}

static struct load_options with_streams(unsigned streams, uint64_t max_requests)
{
    struct load_options options = with_requests(max_requests);

    options.protocol = LOAD_HTTP2;
    options.connections = 1;
    options.streams = streams;
    return options;
}

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

/* Eight streams are open; GOAWAY says that the first three were processed. */
static enum bad_next h2_goaway_behind_the_third(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)stream;
    if (ordinal < 8)
        return BAD_KEEP;
    bad_h2_goaway(h, 5);
    for (int32_t id = 1; id <= 5; id += 2)
        bad_h2_answer(h, id, "hello");
    return BAD_KEEP;
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

/* --- the timeline and the times --- */

static struct load_timeline timeline;

static uint64_t timeline_sum(enum load_kind kind)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < LOAD_SLOTS; i++)
        sum += timeline.slots[i][kind];
    return sum;
}

static void assert_timeline_is(const struct load_result *r)
{
    assert_int_equal(timeline.beyond, 0);
    assert_int_equal(timeline_sum(LOAD_SENT), r->sent);
    assert_int_equal(timeline_sum(LOAD_ANSWERED), r->answered);
    assert_int_equal(timeline_sum(LOAD_LOST), r->lost);
    assert_int_equal(timeline_sum(LOAD_REFUSED), r->refused + r->refused_streams);
}

static void test_timeline_holds_every_answer_and_loss(void **state)
{
    (void)state;
    struct load_options options = with_requests(12);
    options.connections = 1;
    options.timeline = &timeline;
    struct load_result r = run(close_on_the_third, options);

    assert_int_equal(r.lost, 4);
    assert_timeline_is(&r);
}

static void test_timeline_holds_refused_streams_and_sent_ones(void **state)
{
    (void)state;
    struct load_options options = with_streams(8, 8);
    options.timeline = &timeline;
    struct load_result r = run_h2(h2_goaway_behind_the_third, options);

    assert_int_equal(timeline_sum(LOAD_REFUSED), 5);
    assert_timeline_is(&r);
    assert_in_range(r.first_refused_ns, r.start_ns, r.last_answer_ns + 1000000000);
}

static void test_timeline_puts_an_answer_into_the_slot_of_its_time(void **state)
{
    (void)state;
    struct load_options options = with_requests(2);
    options.connections = 1;
    options.pause_ms = 50;
    options.timeline = &timeline;
    struct load_result r = run(say_hello, options);
    size_t slot = (size_t)((r.last_answer_ns - r.start_ns) / 10000000);

    assert_timeline_is(&r);
    assert_true(slot >= 5);
    assert_int_equal(timeline.slots[slot][LOAD_ANSWERED], 1);
}

static void test_timeline_is_written_as_lines_with_marks_between(void **state)
{
    (void)state;
    struct load_result r = {.start_ns = 1000000000,
                            .signal_ns = 1011500000,
                            .gone_ns = 1099000000,
                            .first_refused_ns = 1011200000};
    char text[512] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    memset(&timeline, 0, sizeof(timeline));
    timeline.slots[0][LOAD_SENT] = 2;
    timeline.slots[1][LOAD_ANSWERED] = 1;
    timeline.slots[3][LOAD_LOST] = 1;
    timeline.slots[3][LOAD_REFUSED] = 7;
    timeline.beyond = 9;
    assert_int_equal(load_timeline_write(&timeline, &r, file), 0);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "{\"t_ms\":0,\"sent\":2,\"answered\":0,\"lost\":0,\"refused\":0}\n"
                              "{\"t_ms\":10,\"sent\":0,\"answered\":1,\"lost\":0,\"refused\":0}\n"
                              "{\"t_ms\":11.200,\"mark\":\"first_refused\"}\n"
                              "{\"t_ms\":11.500,\"mark\":\"signal\"}\n"
                              "{\"t_ms\":30,\"sent\":0,\"answered\":0,\"lost\":1,\"refused\":7}\n"
                              "{\"t_ms\":99.000,\"mark\":\"gone\"}\n"
                              "{\"beyond\":9}\n");
}

static struct load_latencies latencies;

static uint64_t latencies_between(size_t from, size_t to)
{
    uint64_t sum = 0;

    for (size_t i = from; i < to; i++)
        for (size_t j = 0; j < LOAD_LATENCY_BUCKETS; j++)
            sum += latencies.windows[i][j];
    return sum;
}

static void test_latencies_are_kept_by_the_time_of_the_answer(void **state)
{
    (void)state;
    struct load_options options = with_requests(3);
    options.connections = 1;
    options.pause_ms = 120;
    options.latencies = &latencies;
    struct load_result r = run(say_hello, options);
    size_t last = (size_t)((r.last_answer_ns - r.start_ns) / 100000000);

    assert_int_equal(r.answered, 3);
    assert_true(last >= 2);
    assert_int_equal(latencies_between(0, LOAD_WINDOWS), 3);
    assert_int_equal(latencies_between(last, last + 1), 1);
}

static void test_latencies_are_written_as_a_line_a_window(void **state)
{
    (void)state;
    struct load_result r = {.start_ns = 1000000000};
    char text[256] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    memset(&latencies, 0, sizeof(latencies));
    latencies.windows[0][7] = 2;
    latencies.windows[3][0] = 1;
    latencies.windows[3][64] = 4; /* the first bucket that is wider than one: 64 and 65 */
    assert_int_equal(load_latencies_write(&latencies, &r, file), 0);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "{\"start_ns\":1000000000}\n"
                              "{\"t_ms\":0,\"us\":[[7,2]]}\n"
                              "{\"t_ms\":300,\"us\":[[0,1],[65,4]]}\n");
}

static int signal_pipe[2];

static void write_to_pipe(void *arg)
{
    assert_int_equal(write(*(int *)arg, "", 1), 1);
}

static enum bad_next hold_the_second_until_the_signal(int fd, unsigned ordinal)
{
    char byte;

    if (ordinal == 2 && read(signal_pipe[0], &byte, 1) != 1)
        return BAD_RESET;
    return say_hello(fd, ordinal);
}

static void test_latencies_are_kept_apart_by_the_signal(void **state)
{
    (void)state;
    struct load_options options = with_requests(4);
    options.connections = 1;
    options.signal_after_ms = LONG_ENOUGH_MS;
    options.on_signal = write_to_pipe;
    options.on_signal_arg = &signal_pipe[1];
    assert_int_equal(pipe(signal_pipe), 0);
    struct load_result r = run(hold_the_second_until_the_signal, options);
    (void)close(signal_pipe[0]);
    (void)close(signal_pipe[1]);

    assert_all_answered(&r, 4);
    assert_int_equal(r.after_signal.count, r.answered_after_signal);
    assert_int_equal(r.before_signal.count, 1);
    assert_int_equal(r.after_signal.count, 3);
    assert_true(r.latency_max_us == (r.before_signal.max_us > r.after_signal.max_us
                                         ? r.before_signal.max_us
                                         : r.after_signal.max_us));
}

static pid_t start_sleeper(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(30); /* should the test fail */
        (void)pause();
        _exit(0);
    }
    return pid;
}

static void kill_sleeper(void *arg)
{
    (void)kill(*(pid_t *)arg, SIGTERM);
}

static struct load_options with_process(pid_t *pid)
{
    struct load_options options = base;

    options.server_pid = *pid;
    options.signal_after_ms = LONG_ENOUGH_MS;
    options.on_signal = kill_sleeper;
    options.on_signal_arg = pid;
    return options;
}

/* Nobody has waited for the process: a zombie is gone. */
static void test_run_lasts_until_the_process_is_gone_and_tells_when(void **state)
{
    (void)state;
    pid_t pid = start_sleeper();
    struct load_result r = run(say_hello, with_process(&pid)); /* the requests end long before */

    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_all_answered(&r, 20);
    assert_in_range(r.gone_ns, r.signal_ns, r.signal_ns + 2000000000);
    assert_true(r.gone_ns > r.last_answer_ns);
}

/* A seccomp filter in a child, which can not be taken off again. */
static int run_without_pidfd(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number of the system call */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = 4, .filter = code};
    pid_t pid = start_sleeper();
    struct load_options options = with_process(&pid);
    struct load_result r;

    options.address = "unix:/nonexistent/socket";
    options.connections = 1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0 || load_run(&options, &r) != 0)
        return 1;
    return r.signal_ns != 0 && r.gone_ns >= r.signal_ns ? 0 : 2;
}

static void test_without_pidfd_the_exit_is_found_by_asking(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run_without_pidfd());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_report_tells_the_exit_lag_or_that_there_is_none(void **state)
{
    (void)state;
    struct load_result r = {
        .signal_ns = 5000000, .last_answer_ns = 7000000, .gone_ns = 7123000, .lost = 3};
    char text[4096] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    load_report_print(&r, 1, true, file);
    r.gone_ns = 0;
    load_report_print(&r, 1, true, file);
    assert_int_equal(fclose(file), 0);
    assert_non_null(strstr(text, ",\"lost\":3,"));
    assert_non_null(strstr(text, ",\"signal_to_gone_ms\":2.123,\"last_answer_to_gone_ms\":0.123,"));
    assert_non_null(strstr(text, ",\"signal_to_gone_ms\":null,\"last_answer_to_gone_ms\":null,"));
}

/* --- open loop --- */

static void test_open_loop_begins_every_request_when_it_is_due(void **state)
{
    (void)state;
    struct load_options options = with_requests(20);
    options.rate = 500;
    options.timeline = &timeline;
    struct load_result r = run(say_hello, options);

    assert_all_answered(&r, 20);
    assert_int_equal(r.waiting_to_start + r.queue_overflow, 0);
    assert_true(r.last_answer_ns - r.start_ns >= 19 * 2000000); /* the last is due at 38 ms */
    assert_timeline_is(&r);
}

static enum bad_next hold_the_first_50_ms(int fd, unsigned ordinal)
{
    if (ordinal == 1)
        (void)poll(NULL, 0, 50); /* the stall that is planted */
    return say_hello(fd, ordinal);
}

/* All ten are due within 9 ms and held by the one answer that comes after 50: each is late. */
static void test_open_loop_latency_counts_from_the_intended_start(void **state)
{
    (void)state;
    struct load_options options = with_requests(10);
    options.connections = 1;
    options.rate = 1000;
    struct load_result r = run(hold_the_first_50_ms, options);

    assert_all_answered(&r, 10);
    assert_true(r.latency_p50_us >= 40000);
}

static void test_open_loop_what_finds_no_connection_waits_to_start(void **state)
{
    (void)state;
    struct load_options options = with_requests(0);
    options.connections = 3;
    options.rate = 100; /* arrivals at 0, 10, ... 690 ms, the last ones too if the client stalls */
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = 20;
    struct load_result r = run(never_answer, options);

    assert_int_equal(r.waiting, 3);
    assert_int_equal(r.waiting_to_start, LONG_ENOUGH_MS / 10 - 3);
    assert_int_equal(r.lost + r.queue_overflow, 0);
}

static void test_open_loop_queue_is_bounded(void **state)
{
    (void)state;
    struct load_options options = with_requests(70000);
    options.connections = 1;
    options.rate = 1000000; /* all are due after 70 ms */
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = 1;
    struct load_result r = run(never_answer, options);

    assert_int_equal(r.waiting, 1);
    assert_int_equal(r.waiting_to_start, 65536);
    assert_int_equal(r.queue_overflow, 70000 - 65536 - 1);
}

static void test_open_loop_refused_connect_takes_its_request(void **state)
{
    (void)state;
    struct load_options options = with_requests(10);
    options.rate = 1000;
    options.timeline = &timeline;
    struct load_result r = run_at_closed_port(options); /* ends at once behind the last */

    assert_int_equal(r.refused, 10);
    assert_int_equal(r.sent + r.waiting_to_start + r.lost, 0);
    assert_timeline_is(&r);
}

static void test_open_loop_goes_on_asking_a_server_that_refuses_after_the_signal(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = with_requests(100);
    options.rate = 5000;
    options.on_signal = count_call;
    options.on_signal_arg = &calls;
    struct load_result r = run_at_closed_port(options);

    assert_int_equal(r.refused, 100);
    assert_int_equal(r.waiting_to_start, 0);
}

static void test_open_loop_loses_what_the_server_drops(void **state)
{
    (void)state;
    struct load_options options = with_requests(12);
    options.connections = 1;
    options.rate = 2000;
    struct load_result r = run(close_on_the_third, options);

    assert_int_equal(r.answered, 8);
    assert_int_equal(r.lost_eof, 4);
}

static void test_open_loop_h2_uses_the_streams(void **state)
{
    (void)state;
    struct load_options options = with_streams(8, 100);
    options.rate = 5000;
    struct load_result r = run_h2(h2_say_hello, options);

    assert_all_answered(&r, 100);
    assert_int_equal(r.connects, 1);
}

/* --- slow readers, slow senders --- */

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

/* --- pipelining --- */

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

static void test_pipelined_behind_an_announced_close_are_refused_not_lost(void **state)
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

static void test_pipelined_behind_a_silent_close_are_lost(void **state)
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

static void test_pipelined_behind_a_cut_answer_with_close_are_refused(void **state)
{
    (void)state;
    struct load_result r = run(cut_an_answer_that_announces_the_close, with_pipeline(4, 8));

    assert_int_equal(r.lost_truncated, 2);
    assert_int_equal(r.lost, 2);
    assert_int_equal(r.refused_pipelined, 6);
}

/* --- the crowd --- */

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
    options.protocol = LOAD_HTTP1_CLOSE; /* the idle ones keep theirs all the same */
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

/* The run ends at once, before the loop has come to what the sockets report. */
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

/* --- TLS --- */

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

/* --- the command line --- */

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

/* --- options --- */

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
        cmocka_unit_test(test_chunked_answer_is_whole_behind_its_trailer),
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
        cmocka_unit_test(test_timeline_holds_every_answer_and_loss),
        cmocka_unit_test(test_timeline_holds_refused_streams_and_sent_ones),
        cmocka_unit_test(test_timeline_puts_an_answer_into_the_slot_of_its_time),
        cmocka_unit_test(test_timeline_is_written_as_lines_with_marks_between),
        cmocka_unit_test(test_latencies_are_kept_by_the_time_of_the_answer),
        cmocka_unit_test(test_latencies_are_written_as_a_line_a_window),
        cmocka_unit_test(test_latencies_are_kept_apart_by_the_signal),
        cmocka_unit_test(test_run_lasts_until_the_process_is_gone_and_tells_when),
        cmocka_unit_test(test_without_pidfd_the_exit_is_found_by_asking),
        cmocka_unit_test(test_report_tells_the_exit_lag_or_that_there_is_none),
        cmocka_unit_test(test_open_loop_begins_every_request_when_it_is_due),
        cmocka_unit_test(test_open_loop_latency_counts_from_the_intended_start),
        cmocka_unit_test(test_open_loop_what_finds_no_connection_waits_to_start),
        cmocka_unit_test(test_open_loop_queue_is_bounded),
        cmocka_unit_test(test_open_loop_refused_connect_takes_its_request),
        cmocka_unit_test(test_open_loop_goes_on_asking_a_server_that_refuses_after_the_signal),
        cmocka_unit_test(test_open_loop_loses_what_the_server_drops),
        cmocka_unit_test(test_open_loop_h2_uses_the_streams),
        cmocka_unit_test(test_slow_reader_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_slow_reader_reads_what_came_before_the_close),
        cmocka_unit_test(test_slow_reader_finds_the_truncated_ones),
        cmocka_unit_test(test_slow_sender_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_h2_slow_sender_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_slow_sender_cut_by_a_reset_is_unsent),
        cmocka_unit_test(test_pipelined_requests_are_in_flight_at_once_and_answered_in_order),
        cmocka_unit_test(test_pipelined_bodies_arrive_whole),
        cmocka_unit_test(test_pipelined_behind_an_announced_close_are_refused_not_lost),
        cmocka_unit_test(test_pipelined_behind_a_silent_close_are_lost),
        cmocka_unit_test(test_pipelined_behind_a_cut_answer_with_close_are_refused),
        cmocka_unit_test(test_crowd_that_is_left_alone_is_still_open),
        cmocka_unit_test(test_silent_that_the_server_closes_are_counted_apart),
        cmocka_unit_test(test_idle_that_the_server_closes_are_counted_apart),
        cmocka_unit_test(test_idle_that_is_not_answered_failed_and_is_not_lost),
        cmocka_unit_test(test_crowd_at_a_closed_port_failed_and_is_not_refused),
        cmocka_unit_test(test_crowd_that_the_server_keeps_waiting_does_not_hold_up_the_run),
        cmocka_unit_test(test_h2_crowd_idles_too),
        cmocka_unit_test(test_crowd_of_a_server_that_has_gone_is_closed),
        cmocka_unit_test(test_tls_good_answers_are_all_answered),
        cmocka_unit_test(test_tls_losses_are_told_apart_as_without),
        cmocka_unit_test(test_tls_request_bodies_arrive_whole_and_pipelined),
        cmocka_unit_test(test_tls_slow_reader_takes_as_long_as_its_rate_says),
        cmocka_unit_test(test_tls_h2_comes_by_alpn),
        cmocka_unit_test(test_tls_without_the_protocol_is_a_failed_handshake),
        cmocka_unit_test(test_tls_cut_in_the_handshake_is_a_failed_handshake),
        cmocka_unit_test(test_signal_takes_a_time_and_a_name),
        cmocka_unit_test(test_bad_values_are_wrong_usage),
        cmocka_unit_test(test_only_loopback_addresses_are_taken),
        cmocka_unit_test(test_options_out_of_range_are_refused),
        cmocka_unit_test(test_too_few_open_files_is_emfile),
    };

    return cmocka_run_group_tests_name("loadgen", tests, NULL, NULL);
}

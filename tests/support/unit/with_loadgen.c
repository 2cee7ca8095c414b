#include "with_loadgen.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "skip.h"

const struct load_options base = {
    .protocol = LOAD_HTTP1_KEEPALIVE,
    .connections = 2,
    .duration_ms = 60000, /* never reached: max_requests ends the runs */
    .patience_ms = 60000,
    .max_requests = 20,
};

struct load_result run_at(int family, const struct bad_script *script, struct load_options options,
                          struct bad_seen *ret_seen)
{
    struct load_result r;
    struct bad_server *s = bad_server_start(family, script);

    if (s == NULL)
        skip_test("needs IPv6");
    options.address = bad_server_address(s);
    assert_int_equal(load_run(&options, &r), 0);
    bad_server_stop(s, ret_seen);
    assert_int_equal(r.lost, r.lost_reset + r.lost_eof + r.lost_truncated);
    assert_int_equal(r.answered, r.answered_2xx + r.answered_503 + r.answered_other);
    assert_true((r.lost > 0) == (r.first_loss[0] != '\0'));
    return r;
}

struct load_result run(enum bad_next (*answer)(int, unsigned), struct load_options options)
{
    const struct bad_script script = {.answer = answer};

    return run_at(AF_INET, &script, options, NULL);
}

struct load_result run_h2(enum bad_next (*answer)(struct bad_h2 *, int32_t, unsigned),
                          struct load_options options)
{
    const struct bad_script script = {.answer_h2 = answer};

    options.protocol = LOAD_HTTP2;
    return run_at(AF_INET, &script, options, NULL);
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

struct load_result run_at_closed_port(struct load_options options)
{
    struct load_result r;
    char address[32];
    int fd = bind_closed_port(address, sizeof(address));

    options.address = address;
    assert_int_equal(load_run(&options, &r), 0);
    (void)close(fd);
    return r;
}

struct load_options with_requests(uint64_t max_requests)
{
    struct load_options options = base;

    options.max_requests = max_requests;
    return options;
}

struct load_options with_streams(unsigned streams, uint64_t max_requests)
{
    struct load_options options = with_requests(max_requests);

    options.protocol = LOAD_HTTP2;
    options.connections = 1;
    options.streams = streams;
    return options;
}

void assert_all_answered(const struct load_result *r, uint64_t count)
{
    assert_string_equal(r->first_loss, "");
    assert_int_equal(r->answered, count);
    assert_int_equal(r->sent, count);
    assert_int_equal(r->lost + r->refused + r->refused_streams + r->unsent + r->waiting, 0);
}

/* ---- answers that several tests use ---- */

enum bad_next say_hello(int fd, unsigned ordinal)
{
    (void)ordinal; /* all alike, here and below */
    bad_send(fd, OK_HELLO);
    return BAD_KEEP;
}

enum bad_next never_answer(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_KEEP;
}

enum bad_next answer_then_idle_close(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send_corked(fd, OK_HELLO);
    return BAD_CLOSE;
}

enum bad_next close_unanswered(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_CLOSE;
}

enum bad_next reset_unanswered(int fd, unsigned ordinal)
{
    (void)fd;
    (void)ordinal;
    return BAD_RESET;
}

enum bad_next close_on_the_third(int fd, unsigned ordinal)
{
    if (ordinal == 3)
        return BAD_CLOSE;
    return say_hello(fd, ordinal);
}

enum bad_next answer_half(int fd, unsigned ordinal)
{
    (void)ordinal;
    bad_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return BAD_CLOSE;
}

enum bad_next answer_half_and_reset(int fd, unsigned ordinal)
{
    (void)answer_half(fd, ordinal);
    return BAD_RESET;
}

enum bad_next reset_at_once(int fd)
{
    (void)fd;
    return BAD_RESET;
}

enum bad_next h2_say_hello(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)ordinal;
    bad_h2_answer(h, stream, "hello");
    return BAD_KEEP;
}

enum bad_next h2_goaway_behind_the_third(struct bad_h2 *h, int32_t stream, unsigned ordinal)
{
    (void)stream;
    if (ordinal < 8)
        return BAD_KEEP;
    bad_h2_goaway(h, 5);
    for (int32_t id = 1; id <= 5; id += 2)
        bad_h2_answer(h, id, "hello");
    return BAD_KEEP;
}

void count_call(void *arg)
{
    ++*(unsigned *)arg;
}

/* ---- the timeline ---- */

struct load_timeline timeline;

uint64_t timeline_sum(enum load_kind kind)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < LOAD_SLOTS; i++)
        sum += timeline.slots[i][kind];
    return sum;
}

void assert_timeline_is(const struct load_result *r)
{
    assert_int_equal(timeline.beyond, 0);
    assert_int_equal(timeline_sum(LOAD_SENT), r->sent);
    assert_int_equal(timeline_sum(LOAD_ANSWERED), r->answered);
    assert_int_equal(timeline_sum(LOAD_LOST), r->lost);
    assert_int_equal(timeline_sum(LOAD_REFUSED), r->refused + r->refused_streams);
}

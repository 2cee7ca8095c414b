/* How a drain treats what it waits for, seen from outside: what idles goes over a time, what has a
 * deadline of its own ends at it and is named, and all else is answered.
 *
 * HTTP/2 is spoken by hand, in frames that are short enough to be written out. */

#include "process.h"

#include <errno.h>
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

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})
#define HALF_AN_UPLOAD "POST /sleep?ms=0 HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345"

static void assert_answered(int fd)
{
    client_expect(fd, " 200 OK");
    (void)close(fd);
}

/* The server has read all that was sent so far: its one loop answers in order. */
static void settle(const struct process *p)
{
    for (unsigned i = 0; i < 3; i++)
        assert_serves(p);
}

/* ---- HTTP/2 by hand ---- */

static void h2_send(int fd, unsigned type, unsigned flags, uint32_t stream, const void *payload,
                    size_t n)
{
    unsigned char frame[256] = {(unsigned char)(n >> 16),
                                (unsigned char)(n >> 8),
                                (unsigned char)n,
                                (unsigned char)type,
                                (unsigned char)flags,
                                0,
                                0,
                                0,
                                (unsigned char)stream};
    assert_true(n < sizeof(frame) - 9);
    if (n > 0)
        memcpy(frame + 9, payload, n);
    assert_int_equal(send(fd, frame, n + 9, MSG_NOSIGNAL), n + 9);
}

static int h2_open(const struct process *p)
{
    int fd = client_connect(p);
    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    h2_send(fd, 4, 0, 0, NULL, 0);
    return fd;
}

/* With END_STREAM, or, as a POST, without: then a body is to come. */
static void h2_request(int fd, uint32_t stream, const char *path, bool whole)
{
    char block[128] = {whole ? (char)0x82 : (char)0x83, (char)0x86, 0x04};
    size_t n = strlen(path);
    block[3] = (char)n;
    memcpy(block + 4, path, n);
    memcpy(block + 4 + n, "\x01\x04test", 6);
    h2_send(fd, 1, whole ? 5 : 4, stream, block, 4 + n + 6);
}

struct frame {
    unsigned type, flags;
    uint32_t stream;
    size_t bytes;
    unsigned char payload[16400];
};

/* Returns false at the end of file. */
static bool h2_read(int fd, struct frame *frame)
{
    unsigned char head[9];
    if (client_recv(fd, head, sizeof(head), MSG_WAITALL) != (ssize_t)sizeof(head))
        return false;
    frame->bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    frame->type = head[3];
    frame->flags = head[4];
    frame->stream = (uint32_t)head[7] << 8 | head[8];
    assert_true(frame->bytes <= sizeof(frame->payload));
    return frame->bytes == 0 ||
           client_recv(fd, frame->payload, frame->bytes, MSG_WAITALL) == (ssize_t)frame->bytes;
}

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, GOAWAY = 7 };

/* Read until such a frame. */
static void h2_expect(int fd, unsigned type, uint32_t stream)
{
    static struct frame frame;
    do {
        if (!h2_read(fd, &frame))
            fail_msg("the connection ended before frame %u of stream %u", type, stream);
    } while (frame.type != type || frame.stream != stream);
}

/* ---- spread ---- */

#define IDLERS 40

/* Note when each of the connections ends; returns how many ended within `limit_ms`. */
static unsigned note_ends(const int *fds, uint64_t *ended_ns, unsigned n, uint32_t limit_ms)
{
    struct pollfd polled[IDLERS];
    uint64_t until_ns = now_ns() + limit_ms * NS_PER_MS;
    unsigned ended = 0;

    for (unsigned i = 0; i < n; i++)
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    while (ended < n && now_ns() < until_ns) {
        (void)poll(polled, n, 100);
        for (unsigned i = 0; i < n; i++) {
            char bytes[256];
            if (polled[i].fd < 0 || polled[i].revents == 0)
                continue;
            ssize_t got = recv(polled[i].fd, bytes, sizeof(bytes), MSG_DONTWAIT);
            if (got > 0 || (got < 0 && errno == EAGAIN))
                continue;
            assert_int_equal(got, 0); /* an end of file, not a reset */
            polled[i].fd = -1;
            ended_ns[ended++] = now_ns();
        }
    }
    return ended;
}

static void open_idlers(const struct process *p, int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        fds[i] = client_connect(p);
        client_send(fds[i], GET("/hello"));
        client_expect(fds[i], " 200 OK");
    }
}

static void close_all(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        (void)close(fds[i]);
}

/* In each quarter of the time some go: a machine that stands still may delay them, but not make
 * them go early. */
static void test_idle_connections_go_evenly_over_the_spread(void **state)
{
    struct process p;
    int fds[IDLERS];
    uint64_t ended_ns[IDLERS];
    (void)state;
    process_start(&p, NULL, ARGS("--threads", "2", "--idle-grace", "1ms", "--spread", "1200ms"));
    open_idlers(&p, fds, IDLERS);
    uint64_t begun_ns = now_ns(); /* before it begins: what is late here makes none of them early */
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    assert_int_equal(note_ends(fds, ended_ns, IDLERS, LIMIT_MS), IDLERS);
    process_expect(&p, LIMIT_MS, 0);
    unsigned late = 0;
    for (unsigned i = 0; i < IDLERS; i++)
        late += ended_ns[i] - begun_ns > 600 * NS_PER_MS;
    print_message("%u of %u in the second half\n", late, IDLERS);
    assert_true(late >= IDLERS / 4); /* half of them, if nothing is late */
    assert_true(ended_ns[IDLERS - 1] - begun_ns > 900 * NS_PER_MS);
    assert_contains(p.log, "40 idle connections released");
    close_all(fds, IDLERS);
    process_release(&p);
}

static void test_idle_connection_may_still_ask_while_it_waits_for_its_turn(void **state)
{
    struct process p;
    int fds[IDLERS];
    uint64_t ended_ns[IDLERS];
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "1ms", "--spread", "60s", "--deadline", "90s"));
    open_idlers(&p, fds, IDLERS);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    /* All but those that went in the first moments: and with the last answer the process ends, no
     * matter how long the spread is. */
    unsigned answered = 0;
    for (unsigned i = 0; i < IDLERS; i++) {
        client_send(fds[i], GET("/hello"));
        char *answer = client_read_answer(fds[i]);
        if (answer != NULL) {
            assert_contains(answer, "onnection: close");
            answered++;
        }
        free(answer);
    }
    assert_true(answered >= IDLERS / 2);
    (void)note_ends(fds, ended_ns, IDLERS, 1);
    process_expect(&p, LIMIT_MS, 0);
    close_all(fds, IDLERS);
    process_release(&p);
}

static void test_spread_does_not_pass_the_deadline(void **state)
{
    struct process p;
    int fds[IDLERS];
    (void)state;
    process_start(&p, NULL, ARGS("--idle-grace", "1ms", "--spread", "1h", "--deadline", "4s"));
    open_idlers(&p, fds, IDLERS);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "drained in ");
    assert_contains(p.log, "40 idle connections released");
    close_all(fds, IDLERS);
    process_release(&p);
}

/* A session whose turn has not come still takes new streams. */
static void test_http2_sessions_get_their_goaway_over_the_spread(void **state)
{
    struct process p;
    int fds[8];
    struct pollfd polled[8];
    uint64_t first_ns = 0, last_ns = 0;
    unsigned told = 0, served = 0;
    (void)state;
    process_start(&p, NULL, ARGS("--spread", "2400ms"));
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = h2_open(&p);
        h2_request(fds[i], 1, "/hello", true);
        h2_expect(fds[i], DATA, 1);
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    for (unsigned i = 0; i < 8; i++)
        h2_request(fds[i], 3, "/hello", true);
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (told < 8 && now_ns() < until_ns) {
        (void)poll(polled, 8, 100);
        for (unsigned i = 0; i < 8; i++) {
            static struct frame frame;
            if (polled[i].fd < 0 || polled[i].revents == 0)
                continue;
            assert_true(h2_read(polled[i].fd, &frame));
            served += frame.type == DATA && frame.stream == 3;
            if (frame.type != GOAWAY)
                continue;
            polled[i].fd = -1;
            last_ns = now_ns();
            if (told++ == 0)
                first_ns = last_ns;
        }
    }
    assert_int_equal(told, 8);
    assert_true(served >= 4);
    assert_true(last_ns - first_ns > 400 * NS_PER_MS);
    process_expect(&p, LIMIT_MS, 0);
    close_all(fds, 8);
    process_release(&p);
}

/* ---- deadlines by class ---- */

/* The number of requests without an answer. After the last answer, a cancelled handler may not have
 * returned yet; the drain then ends at its deadline. */
static void assert_unfinished(const struct process *p, unsigned count)
{
    char quiet[48], late[48];

    (void)snprintf(quiet, sizeof(quiet), " answered, %u unfinished", count);
    (void)snprintf(late, sizeof(late), ": %u request%s unfinished", count, count == 1 ? "" : "s");
    if (strstr(p->log, quiet) == NULL && strstr(p->log, late) == NULL)
        fail_msg("no `%s` and no `%s` in the log:\n%s", quiet, late, p->log);
}

/* The deadline of streams does not cut a response that begins only later. */
static void test_streams_end_at_their_deadline_and_others_are_answered(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline-stream", "300ms"));
    int stream = client_connect(&p), sleeps = client_connect(&p);
    client_send(stream, GET("/stream?kb=64&ms=60000"));
    char *head = client_read_until(stream, "\r\n\r\n");
    assert_contains(head, " 200 OK");
    free(head);
    client_send(sleeps, GET("/sleep?ms=900"));
    settle(&p);
    process_signal(&p, SIGTERM);
    assert_answered(sleeps);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "deadline 10s (streams 300ms)");
    assert_contains(p.log,
                    "unfinished: GET /stream?kb=64&ms=60000, cut by the deadline of streams");
    assert_lacks(p.log, "unfinished: GET /sleep");
    assert_unfinished(&p, 1);
    (void)close(stream);
    process_release(&p);
}

static void test_uploads_end_at_their_deadline_and_others_are_answered(void **state)
{
    struct process p;
    char byte;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline-upload", "300ms"));
    int upload = client_connect(&p), sleeps = client_connect(&p);
    client_send(upload, HALF_AN_UPLOAD);
    client_send(sleeps, GET("/sleep?ms=900"));
    settle(&p);
    process_signal(&p, SIGTERM);
    assert_true(client_recv(upload, &byte, 1, 0) <= 0);
    assert_answered(sleeps);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "unfinished: POST /sleep?ms=0, cut by the deadline of uploads");
    (void)close(upload);
    process_release(&p);
}

/* The other way round: the drain waits only for requests with a later deadline. */
static void test_uploads_may_have_longer_than_the_rest(void **state)
{
    struct process p;
    char byte;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "500ms", "--deadline-upload", "60s"));
    int upload = client_connect(&p), sleeps = client_connect(&p), half = client_connect(&p);
    client_send(upload, HALF_AN_UPLOAD);
    client_send(sleeps, GET("/sleep?ms=60000"));
    client_send(half, "GET /half HTTP/1.1\r\nHo");
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: GET /sleep?ms=60000, cut by the deadline\n");
    process_wait_log(&p, "cut by the deadline\n");
    assert_true(client_recv(sleeps, &byte, 1, 0) <= 0);
    assert_true(client_recv(half, &byte, 1, 0) <= 0);
    assert_false(process_is_gone(&p));
    client_send(upload, "67890");
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    assert_unfinished(&p, 2);
    (void)close(sleeps);
    (void)close(half);
    process_release(&p);
}

/* A handler that does not stop is given up as well, and is not in the list twice. */
static void test_handlers_do_not_hold_a_drain_past_the_general_deadline(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "500ms", "--deadline-upload", "60s"));
    int upload = client_connect(&p), sleeps = client_connect(&p);
    client_send(upload, HALF_AN_UPLOAD);
    client_send(sleeps, GET("/sleep?ms=60000&ignore-cancel=1"));
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: GET /sleep?ms=60000&ignore-cancel=1, cut by the deadline");
    client_send(upload, "67890");
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    char *first = strstr(p.log, "unfinished: GET /sleep");
    assert_non_null(first);
    assert_lacks(first + 1, "unfinished: GET /sleep");
    (void)close(sleeps);
    process_release(&p);
}

/* What waits in the queue when it is given up is not begun any more. */
static void test_queued_request_that_is_given_up_never_runs(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL,
                  ARGS("--workers", "1", "--deadline", "500ms", "--deadline-upload", "60s"));
    int upload = client_connect(&p), runs = client_connect(&p), waits = client_connect(&p);
    client_send(upload, HALF_AN_UPLOAD);
    client_send(runs, GET("/sleep?ms=60000"));
    settle(&p);
    client_send(waits, GET("/sleep?ms=59999&ignore-cancel=1"));
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: GET /sleep?ms=59999&ignore-cancel=1, cut by the deadline");
    client_send(upload, "67890"); /* the one worker is free for it */
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(runs);
    (void)close(waits);
    process_release(&p);
}

static void test_stream_of_http2_is_reset_and_the_others_are_answered(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline-stream", "300ms", "--deadline-upload", "400ms"));
    int fd = h2_open(&p);
    h2_request(fd, 1, "/stream?kb=64&ms=60000", true);
    h2_expect(fd, HEADERS, 1);
    h2_request(fd, 3, "/sleep?ms=3000", true);
    h2_request(fd, 5, "/sleep?ms=1", false); /* and its body never comes */
    settle(&p);
    process_signal(&p, SIGTERM);
    h2_expect(fd, RST_STREAM, 1);
    h2_expect(fd, RST_STREAM, 5);
    h2_expect(fd, HEADERS, 3);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log,
                    "unfinished: GET /stream?kb=64&ms=60000, cut by the deadline of streams");
    assert_contains(p.log, "unfinished: POST /sleep?ms=1, cut by the deadline of uploads");
    assert_lacks(p.log, "unfinished: GET /sleep");
    (void)close(fd);
    process_release(&p);
}

/* Streams of one session are judged one by one, and it is cut once none is left to wait for. */
static void test_session_of_http2_ends_with_the_last_stream_that_is_waited_for(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "500ms", "--deadline-upload", "60s"));
    int fd = h2_open(&p);
    h2_request(fd, 1, "/sleep?ms=60000", true);
    h2_request(fd, 3, "/sleep?ms=1", false);
    settle(&p);
    process_signal(&p, SIGTERM);
    h2_expect(fd, RST_STREAM, 1);
    h2_send(fd, DATA, 1, 3, "body", 4);
    h2_expect(fd, HEADERS, 3);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(fd);
    process_release(&p);
}

static void test_many_streams_are_reset_at_once(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL,
                  ARGS("--workers", "4", "--deadline", "700ms", "--deadline-upload", "60s"));
    int fd = h2_open(&p), upload = client_connect(&p);
    client_send(upload, HALF_AN_UPLOAD);
    for (uint32_t i = 0; i < 90; i++) /* the library's own limit is 100 */
        h2_request(fd, 2 * i + 1, "/sleep?ms=60000", true);
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "cut by the deadline");
    client_send(upload, "67890");
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    assert_unfinished(&p, 90);
    (void)close(fd);
    process_release(&p);
}

/* ---- as a proxy ---- */

static int take_request(int listener)
{
    const struct timeval patience = {.tv_sec = 15};
    struct pollfd polled = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, 15000), 1);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    free(client_read_until(fd, "\r\n\r\n"));
    return fd;
}

static void start_front(struct process *p, uint16_t port, const char *drain, char *conf)
{
    (void)strcpy(conf, "/tmp/lastcall-policy-XXXXXX");
    int fd = mkstemp(conf);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nuser: %s\ndrain: %s\n"
                  "hosts:\n  default:\n    paths:\n      /:\n        proxy.websocket: ON\n"
                  "        proxy.reverse.url: http://127.0.0.1:%u/\n"
                  "      /hello: {handler: hello}\n      /sleep: {handler: sleep}\n",
                  own_user_name(), drain, port);
    (void)fclose(file);
    process_start_configured(p, (const char *const[]){"-c", conf, NULL});
}

static void test_tunnels_end_at_their_deadline_and_others_are_answered(void **state)
{
    struct process p;
    char conf[64], half[6], byte;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&p, port, "{deadlines: {tunnel: 300ms}}", conf);
    int tunnel = client_connect(&p), uploads = client_connect(&p);
    client_send(tunnel, "GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    int upstream = take_request(listener);
    client_send(upstream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Accept: "
                          "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    char *head = client_read_until(tunnel, "\r\n\r\n");
    assert_contains(head, " 101 ");
    free(head);
    /* It is in the middle of a frame: it cannot be told that it ends. */
    client_send(upstream, "\x81\x7d"
                          "half");
    assert_int_equal(client_recv(tunnel, half, sizeof(half), MSG_WAITALL), sizeof(half));
    client_send(uploads, HALF_AN_UPLOAD);
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: a tunnel, cut by the deadline of tunnels");
    assert_true(client_recv(tunnel, &byte, 1, 0) <= 0);
    while (client_recv(upstream, &byte, 1, 0) > 0) { /* a Close frame; then its end */
    }
    assert_false(process_is_gone(&p));
    client_send(uploads, "67890");
    assert_answered(uploads);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(tunnel);
    (void)close(upstream);
    (void)close(listener);
    (void)unlink(conf);
    process_release(&p);
}

/* The library does not read from a client while it waits for the upstream, so it does not notice
 * that the client is cut; the process must end even so. */
static void test_upstream_that_does_not_answer_does_not_hold_the_exit(void **state)
{
    struct process p;
    char conf[64], byte;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&p, port, "{deadline: 500ms, deadlines: {upload: 60s}}", conf);
    int asks = client_connect(&p), upload = client_connect(&p);
    client_send(asks, GET("/slow"));
    int upstream = take_request(listener);
    client_send(upload, HALF_AN_UPLOAD);
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: GET /slow, cut by the deadline");
    assert_true(client_recv(asks, &byte, 1, 0) <= 0);
    client_send(upload, "67890");
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(asks);
    (void)close(upstream);
    (void)close(listener);
    (void)unlink(conf);
    process_release(&p);
}

/* It answers after its client is gone: the process discards the answer, and nothing breaks. */
static void test_upstream_that_answers_too_late_is_ignored(void **state)
{
    struct process p;
    char conf[64], byte;
    uint16_t port;
    (void)state;
    int listener = listen_here(&port, 16);
    start_front(&p, port, "{deadline: 500ms, deadlines: {upload: 60s}}", conf);
    int asks = client_connect(&p), upload = client_connect(&p);
    client_send(asks, GET("/slow"));
    int upstream = take_request(listener);
    client_send(upload, HALF_AN_UPLOAD);
    settle(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "unfinished: GET /slow, cut by the deadline");
    client_send(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlate\n");
    assert_true(client_recv(asks, &byte, 1, 0) <= 0);
    (void)poll(NULL, 0, 100);
    client_send(upload, "67890");
    assert_answered(upload);
    process_expect(&p, LIMIT_MS, 3);
    (void)close(asks);
    (void)close(upstream);
    (void)close(listener);
    (void)unlink(conf);
    process_release(&p);
}

/* ---- the point of no return ---- */

static void test_point_of_no_return_is_in_the_log(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "100ms"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    char *lame = strstr(p.log, "the drain can be called off");
    char *closing = strstr(p.log, "from here on the drain cannot be called off");
    assert_non_null(lame);
    assert_non_null(closing);
    assert_true(lame < closing);
    assert_true(closing < strstr(p.log, "listeners closed"));
    process_release(&p);
}

static void test_class_that_there_is_not_is_refused(void **state)
{
    struct process p;
    char conf[] = "/tmp/lastcall-policy-XXXXXX";
    (void)state;
    int fd = mkstemp(conf);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    (void)fprintf(file, "listen: {host: 127.0.0.1, port: 0}\n"
                        "drain: {spread: 5s, deadlines: {download: 5s}}\n");
    (void)fclose(file);
    process_spawn(&p, (const char *const[]){"-t", "-c", conf, NULL});
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "unknown key download; known are tunnel, stream, upload");
    (void)unlink(conf);
    process_release(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_idle_connections_go_evenly_over_the_spread),
        TEST(test_idle_connection_may_still_ask_while_it_waits_for_its_turn),
        TEST(test_spread_does_not_pass_the_deadline),
        TEST(test_http2_sessions_get_their_goaway_over_the_spread),
        TEST(test_streams_end_at_their_deadline_and_others_are_answered),
        TEST(test_uploads_end_at_their_deadline_and_others_are_answered),
        TEST(test_uploads_may_have_longer_than_the_rest),
        TEST(test_handlers_do_not_hold_a_drain_past_the_general_deadline),
        TEST(test_queued_request_that_is_given_up_never_runs),
        TEST(test_stream_of_http2_is_reset_and_the_others_are_answered),
        TEST(test_session_of_http2_ends_with_the_last_stream_that_is_waited_for),
        TEST(test_many_streams_are_reset_at_once),
        TEST(test_tunnels_end_at_their_deadline_and_others_are_answered),
        TEST(test_upstream_that_does_not_answer_does_not_hold_the_exit),
        TEST(test_upstream_that_answers_too_late_is_ignored),
        TEST(test_point_of_no_return_is_in_the_log),
        TEST(test_class_that_there_is_not_is_refused),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}

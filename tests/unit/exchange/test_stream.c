/* Answers that are sent while their handler writes them: how they look to a client, how much memory
 * a slow one may take, and what becomes of them when somebody leaves. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "answer_client.h"
#include "clock.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "with_server.h"

#define LINE "123456789012345678901234567890123456789012345678901234567890123\n" /* 64 bytes */

static sem_t entered, gate, told;
static _Atomic int result;
static _Atomic uint64_t wrote;

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&told, 0, 0);
    result = 0;
    wrote = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)serve_end_left(state);
    sem_destroy(&entered);
    sem_destroy(&gate);
    sem_destroy(&told);
    return 0;
}

static int put(struct exchange *exchange, const char *text)
{
    return exchange->ops->write(exchange, text, strlen(text), -1);
}

/* ---- handlers ---- */

/* "one", then at the gate "two". */
static void two_parts(struct exchange *exchange, void *user)
{
    (void)user;
    (void)put(exchange, "one\n");
    sem_post(&entered);
    sem_wait(&gate);
    result = put(exchange, "two\n");
    sem_post(&told);
}

/* ?STATUS,LENGTH,BROKEN */
static void by_query(struct exchange *exchange, void *user)
{
    int broken = 0, length = -1;

    (void)user;
    (void)sscanf(exchange->query, "%d,%d,%d", &exchange->status, &length, &broken);
    exchange->length = length;
    (void)put(exchange, "12345");
    (void)exchange->ops->flush(exchange, -1);
    if (broken == 0)
        (void)put(exchange, "67890");
    exchange->broken = broken == 1;
}

/* Until it fails. */
static void endless(struct exchange *exchange, void *user)
{
    static const char piece[8192];
    const int64_t *wait_ms = user;

    sem_post(&entered);
    do {
        result = exchange->ops->write(exchange, piece, sizeof(piece), *wait_ms);
        wrote += result == 0 ? sizeof(piece) : 0;
    } while (result == 0);
    sem_post(&told);
}

/* 20,000 lines; the client checks what comes. */
static void long_one(struct exchange *exchange, void *user)
{
    (void)user;
    for (unsigned i = 0; i < 20000 && result == 0; i++)
        result = put(exchange, LINE);
}

static void wait_in_stream(struct exchange *exchange, void *user)
{
    (void)user;
    (void)put(exchange, "one\n");
    sem_post(&entered);
    result = exchange->ops->wait(exchange, -1, false);
    sem_post(&told);
}

static void hello(struct exchange *exchange, void *user)
{
    (void)user;
    exchange_print(exchange, "hello");
}

static int64_t forever = -1, briefly = 100, longer = 3000;

static const struct served routes[] = {{"/two", {.handler = two_parts}},
                                       {"/query", {.handler = by_query}},
                                       {"/endless", {.handler = endless, .user = &forever}},
                                       {"/patient", {.handler = endless, .user = &longer}},
                                       {"/impatient", {.handler = endless, .user = &briefly}},
                                       {"/limited", {.handler = wait_in_stream, .timeout_ms = 200}},
                                       {"/long", {.handler = long_one}},
                                       {"/hello", {.handler = hello}},
                                       {.pattern = NULL}};

/* ---- the client's side ---- */

/* All that comes until the end of the connection, and how that ended. */
static char *read_to_end(int fd, size_t *ret_bytes, enum connection_end *ret_end)
{
    size_t room = 1 << 16, bytes = 0;
    char *all = malloc(room);
    ssize_t n;

    assert_non_null(all);
    while ((n = client_recv(fd, all + bytes, room - bytes - 1, 0)) > 0) {
        bytes += (size_t)n;
        if (room - bytes < 2) {
            all = realloc(all, room *= 2);
            assert_non_null(all);
        }
    }
    *ret_end = n == 0 ? CONNECTION_CLOSED : CONNECTION_RESET;
    if (n < 0)
        assert_int_equal(errno, ECONNRESET);
    all[bytes] = '\0';
    *ret_bytes = bytes;
    return all;
}

static enum answer_state ask(enum answer_protocol protocol, bool to_head, const char *path,
                             struct answer *ret_answer)
{
    static char all[1 << 20];
    char request[512];
    size_t bytes = answer_request(protocol, to_head, path, request, sizeof(request)), size = 0;
    int fd = client_connect(&served_at);
    enum connection_end end = CONNECTION_OPEN;
    enum answer_state state = ANSWER_MORE;

    h2_send(fd, request, bytes);
    while (state == ANSWER_MORE) {
        assert_true(size < sizeof(all));
        ssize_t n = client_recv(fd, all + size, sizeof(all) - size, 0);
        size += n > 0 ? (size_t)n : 0;
        end = n > 0 ? CONNECTION_OPEN : n == 0 ? CONNECTION_CLOSED : CONNECTION_RESET;
        answer_release(ret_answer);
        state = answer_read(protocol, to_head, all, size, end, ret_answer);
    }
    (void)close(fd);
    return state;
}

static void expect_answer(enum answer_protocol protocol, const char *path, enum answer_state want,
                          int status, const char *body)
{
    struct answer answer = {0};
    enum answer_state state = ask(protocol, false, path, &answer);

    assert_string_equal(answer_state_name(state), answer_state_name(want));
    if (want == ANSWER_WHOLE) {
        assert_int_equal(answer.status, status);
        assert_int_equal(answer.body_size, strlen(body));
        assert_memory_equal(answer.body, body, answer.body_size);
    }
    answer_release(&answer);
}

/* ---- claims ---- */

static void test_what_is_written_arrives_before_the_end(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/two"));
    char *part = client_read_until(fd, "one\n");
    assert_contains(part, "transfer-encoding: chunked\r\n");
    free(part);
    sem_post(&gate);
    free(client_read_until(fd, "two\n\r\n0\r\n\r\n"));
    client_send(fd, GET("/hello")); /* the connection is as good as before */
    client_expect(fd, "hello");
    (void)close(fd);
    await(&told);
    assert_int_equal(result, 0);
    assert_int_equal(serve_end(), 0);
}

static void test_a_whole_answer_looks_whole(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        expect_answer(protocol, "/query?200,-1,0", ANSWER_WHOLE, 200, "1234567890");
        expect_answer(protocol, "/query?404,-1,0", ANSWER_WHOLE, 404, "1234567890");
        expect_answer(protocol, "/query?200,10,0", ANSWER_WHOLE, 200, "1234567890");
        expect_answer(protocol, "/query?404,10,0", ANSWER_WHOLE, 404, "1234567890");
    }
    assert_int_equal(serve_end(), 0);
}

static void test_a_broken_answer_looks_broken(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        expect_answer(protocol, "/query?200,-1,1", ANSWER_CUT, 0, "");
        expect_answer(protocol, "/query?404,-1,1", ANSWER_CUT, 0, "");
        expect_answer(protocol, "/query?200,10,1", ANSWER_CUT, 0, "");
    }
    /* They are not counted as answered. */
    served_wait(served_active, 0);
    assert_int_equal(served_answered(), 0);
}

static void test_an_answer_of_another_length_looks_broken(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        expect_answer(protocol, "/query?200,10,2", ANSWER_CUT, 0, ""); /* too short */
        expect_answer(protocol, "/query?200,7,0", ANSWER_CUT, 0, "");  /* too long */
    }
}

static void test_head_has_no_body(void **state)
{
    struct answer answer = {0};

    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        assert_int_equal(ask(protocol, true, "/query?200,-1,0", &answer), ANSWER_WHOLE);
        assert_int_equal(answer.body_size, 0);
        answer_release(&answer);
    }
    served_wait(served_abandoned, 0);
}

static void test_a_long_answer_is_whole(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_HTTP2; protocol++) {
        struct answer answer = {0};
        enum connection_end end;
        char request[512];
        size_t bytes = answer_request(protocol, false, "/long", request, sizeof(request));
        int fd = client_connect(&served_at);
        h2_send(fd, request, bytes);
        (void)shutdown(fd, SHUT_WR); /* so the connection ends after it */
        char *all = read_to_end(fd, &bytes, &end);
        assert_int_equal(answer_read(protocol, false, all, bytes, end, &answer), ANSWER_WHOLE);
        assert_int_equal(answer.body_size, 1280000);
        for (size_t i = 0; i < answer.body_size; i += 64)
            assert_memory_equal(answer.body + i, LINE, 64);
        answer_release(&answer);
        free(all);
        (void)close(fd);
    }
    assert_int_equal(serve_end(), 0);
}

/* The route is called in place by then: the monitor takes the loop from a handler that waits. */
static void test_a_handler_in_place_may_stream(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 300; i++)
        expect_answer(ANSWER_HTTP11, "/query?200,-1,0", ANSWER_WHOLE, 200, "1234567890");
}

static void test_a_client_that_reads_nothing_holds_its_handler_alone(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/impatient"));
    await(&entered);
    for (unsigned i = 0; i < 20; i++)
        assert_answer(&served_at, GET("/hello"), "hello");
    await(&told);
    assert_int_equal(result, EXCHANGE_TIMEOUT);
    /* The kernels' buffers, and ours. */
    assert_true(wrote < (UINT64_C(16) << 20));
    enum connection_end end;
    struct answer answer = {0};
    size_t bytes;
    char *all = read_to_end(fd, &bytes, &end);
    assert_int_equal(answer_read(ANSWER_HTTP11, false, all, bytes, end, &answer), ANSWER_CUT);
    answer_release(&answer);
    free(all);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_the_buffer_of_a_stream_is_a_setting(void **state)
{
    static const char *const flags[] = {"--stream-buffer", "4KB", NULL};

    (void)state;
    serve(routes, flags);
    expect_answer(ANSWER_HTTP11, "/query?200,-1,0", ANSWER_WHOLE, 200, "1234567890");
    int fd = client_connect(&served_at);
    client_send(fd, GET("/impatient")); /* its pieces are larger */
    await(&told);
    assert_int_equal(result, EXCHANGE_TIMEOUT);
    (void)close(fd);
}

static void test_a_client_that_leaves_ends_its_answer(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/endless"));
    await(&entered);
    char byte;
    assert_int_equal(client_recv(fd, &byte, 1, 0), 1);
    (void)close(fd);
    await(&told);
    assert_int_equal(result, EXCHANGE_GONE);
    served_wait(served_abandoned, 0);
    assert_int_equal(serve_end(), 0);
}

static void test_a_stream_that_http2_resets_ends_its_answer(void **state)
{
    static struct h2_got got;

    (void)state;
    serve(routes, NULL);
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/endless");
    await(&entered);
    assert_true(h2_await(fd, H2_DATA, 1, &got));
    h2_send_number(fd, H2_RST, 1, 8);
    await(&told);
    assert_int_equal(result, EXCHANGE_GONE);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_the_limit_of_a_route_breaks_its_answer(void **state)
{
    struct answer answer = {0};

    (void)state;
    serve(routes, NULL);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_HTTP2; protocol++) {
        assert_int_equal(ask(protocol, false, "/limited", &answer), ANSWER_CUT);
        answer_release(&answer);
        await(&told);
        assert_int_equal(result, EXCHANGE_TIMEOUT);
    }
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/limited");
    assert_int_equal(h2_await_error(fd, 1), 2); /* INTERNAL_ERROR */
    await(&told);
    assert_int_equal(result, EXCHANGE_TIMEOUT);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

/* progress.rate is for answers that nobody waits for. */
static void test_a_slow_client_is_its_handlers_affair(void **state)
{
    static const char *const flags[] = {"--progress-rate", "1000000", "--progress-window", "1s",
                                        NULL};

    (void)state;
    serve(routes, flags);
    int fd = client_connect(&served_at), fd2 = h2_connect(&served_at, false);
    client_send(fd, GET("/patient"));
    h2_send_get(fd2, 1, "/patient");
    for (unsigned i = 0; i < 2; i++)
        await(&told);
    assert_int_equal(result, EXCHANGE_TIMEOUT); /* not GONE */
    (void)close(fd);
    (void)close(fd2);
}

/* ---- the drain ---- */

static void test_a_drain_waits_for_streams(void **state)
{
    int fds[4];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&served_at);
        client_send(fds[i], GET("/two"));
        await(&entered);
    }
    serve_drain(-1);
    for (unsigned i = 0; i < 4; i++)
        free(client_read_until(fds[i], "one\n"));
    for (unsigned i = 0; i < 4; i++)
        sem_post(&gate);
    for (unsigned i = 0; i < 4; i++) {
        free(client_read_until(fds[i], "two\n\r\n0\r\n\r\n"));
        (void)close(fds[i]);
    }
    assert_int_equal(serve_end(), 0);
}

static void expect_cut_by_deadline(const char *const *flags, int64_t deadline_ms, int status)
{
    serve(routes, flags);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/endless"));
    await(&entered);
    int fd2 = h2_connect(&served_at, false);
    h2_send_get(fd2, 1, "/endless");
    await(&entered);
    serve_drain(deadline_ms);
    await(&told);
    await(&told);
    assert_int_equal(result, EXCHANGE_ABORTED);
    assert_int_equal(serve_end(), status);
    (void)close(fd);
    (void)close(fd2);
}

static void test_the_deadline_cuts_streams(void **state)
{
    (void)state;
    expect_cut_by_deadline(NULL, 200, 3);
}

static void test_the_deadline_of_streams_cuts_them(void **state)
{
    static const char *const flags[] = {"--deadline-stream", "100ms", NULL};

    (void)state;
    expect_cut_by_deadline(flags, -1, 3);
}

/* The loop is not writing then, so nothing but us tells the library that the socket is cut. */
static void test_the_deadline_cuts_a_stream_that_is_silent(void **state)
{
    static const struct served silent[] = {{"/s", {.handler = wait_in_stream}}, {.pattern = NULL}};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        static const char *const flags[] = {"--deadline-stream", "100ms", NULL};
        serve(silent, i == 0 ? NULL : flags);
        int fd = client_connect(&served_at), fd2 = h2_connect(&served_at, false);
        client_send(fd, GET("/s"));
        h2_send_get(fd2, 1, "/s");
        await(&entered);
        await(&entered);
        free(client_read_until(fd, "one\n"));
        serve_drain(i == 0 ? 100 : -1);
        await(&told);
        await(&told);
        assert_int_equal(result, EXCHANGE_ABORTED);
        assert_int_equal(serve_end(), 3);
        (void)close(fd);
        (void)close(fd2);
    }
}

/* ---- without waiting ---- */

static void never_wait(struct exchange *exchange, void *user)
{
    static const char piece[4096];
    int err;

    (void)user;
    while ((err = exchange->ops->write(exchange, piece, sizeof(piece), 0)) == 0)
        wrote += sizeof(piece);
    result = err;
    if (exchange->ops->write(exchange, LINE, (64 << 10) + 1, 0) != -EMSGSIZE)
        result = -1;
    sem_post(&told);
    sem_wait(&gate);
    if (exchange->ops->flush(exchange, -1) != 0 || exchange->ops->flush(exchange, 0) != 0)
        result = -2;
}

static void test_a_write_that_may_not_wait_writes_all_or_nothing(void **state)
{
    static const struct served hasty[] = {{"/h", {.handler = never_wait}}, {.pattern = NULL}};

    (void)state;
    serve(hasty, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, "GET /h HTTP/1.0\r\n\r\n");
    await(&told);
    sem_post(&gate);
    enum connection_end end;
    size_t bytes;
    char *all = read_to_end(fd, &bytes, &end);
    assert_int_equal(result, EXCHANGE_AGAIN);
    assert_int_equal(end, CONNECTION_CLOSED);
    assert_int_equal(bytes - (size_t)(strstr(all, "\r\n\r\n") + 4 - all), wrote);
    free(all);
    (void)close(fd);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_what_is_written_arrives_before_the_end),
        CLAIM(test_a_whole_answer_looks_whole),
        CLAIM(test_a_broken_answer_looks_broken),
        CLAIM(test_an_answer_of_another_length_looks_broken),
        CLAIM(test_head_has_no_body),
        CLAIM(test_a_long_answer_is_whole),
        CLAIM(test_a_handler_in_place_may_stream),
        CLAIM(test_a_client_that_reads_nothing_holds_its_handler_alone),
        CLAIM(test_the_buffer_of_a_stream_is_a_setting),
        CLAIM(test_a_client_that_leaves_ends_its_answer),
        CLAIM(test_a_stream_that_http2_resets_ends_its_answer),
        CLAIM(test_the_limit_of_a_route_breaks_its_answer),
        CLAIM(test_a_slow_client_is_its_handlers_affair),
        CLAIM(test_a_drain_waits_for_streams),
        CLAIM(test_the_deadline_cuts_streams),
        CLAIM(test_the_deadline_of_streams_cuts_them),
        CLAIM(test_the_deadline_cuts_a_stream_that_is_silent),
        CLAIM(test_a_write_that_may_not_wait_writes_all_or_nothing),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}

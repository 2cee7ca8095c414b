/* Requests that are answered later, by another thread than their handler's. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "with_server.h"

#define MANY 200

static sem_t entered, gate, told;
static _Atomic uint64_t token, tokens[MANY];
static _Atomic unsigned kept, notes_count;
static _Atomic int notes[64];

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&told, 0, 0);
    kept = notes_count = 0;
    token = 0;
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

static void on_told(uint64_t of, int what, void *arg)
{
    (void)of;
    (void)arg;
    notes[notes_count++ % 64] = what;
    sem_post(&told);
}

static void keep(struct exchange *exchange, void *user)
{
    (void)user;
    exchange_on_kept(exchange, on_told, NULL);
    token = exchange->ops->keep(exchange);
    sem_post(&entered);
}

/* The natural order: stream until there is no room, then keep. */
static void fill_then_keep(struct exchange *exchange, void *user)
{
    static const char piece[16384];
    int result;

    while ((result = exchange->ops->write(exchange, piece, sizeof(piece), 0)) == 0)
        ;
    if (result == EXCHANGE_AGAIN)
        keep(exchange, user);
}

static void keep_silently(struct exchange *exchange, void *user)
{
    (void)user;
    token = exchange->ops->keep(exchange);
    sem_post(&entered);
}

static void keep_until_gate(struct exchange *exchange, void *user)
{
    keep(exchange, user);
    sem_wait(&gate);
}

static void keep_many(struct exchange *exchange, void *user)
{
    (void)user;
    tokens[kept++ % MANY] = exchange->ops->keep(exchange);
    sem_post(&entered);
}

static void hello(struct exchange *exchange, void *user)
{
    (void)user;
    exchange_print(exchange, "hello");
}

static const struct served routes[] = {
    {"/keep", {.handler = keep}},
    {"/keep-here", {.handler = keep, .on_loop = true}},
    {"/limited", {.handler = keep, .timeout_ms = 100}},
    {"/gate", {.handler = keep_until_gate}},
    {"/many", {.handler = keep_many}},
    {"/fill", {.handler = fill_then_keep}},
    {"/silently", {.handler = keep_silently}},
    {"/hello", {.handler = hello}},
    {.pattern = NULL},
};

/* Its handler may not have returned yet. */
static struct exchange *hold(uint64_t of)
{
    struct exchange *exchange;
    int result;

    while ((result = exchange_hold(served, of, &exchange)) == -EBUSY)
        (void)sched_yield();
    return result == 0 ? exchange : NULL;
}

static int begin(const char *request)
{
    int fd = client_connect(&served_at);

    client_send(fd, request);
    await(&entered);
    return fd;
}

/* ---- answering ---- */

static void answer_later(const char *request)
{
    int fd = begin(request);
    struct exchange *exchange = hold(token);

    assert_non_null(exchange);
    assert_string_equal(exchange->method, "GET");
    exchange_print(exchange, "later");
    exchange_finish(exchange);
    client_expect(fd, "later");
    client_send(fd, GET("/hello"));
    client_expect(fd, "hello");
    (void)close(fd);
}

static void test_another_thread_answers(void **state)
{
    (void)state;
    serve(routes, NULL);
    answer_later(GET("/keep"));
    answer_later(GET("/keep-here"));
    assert_int_equal(serve_end(), 0);
}

static void test_a_handler_in_place_may_keep_its_request(void **state)
{
    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 300; i++)
        answer_later(GET("/keep"));
}

static void test_a_token_is_good_for_one_holder(void **state)
{
    struct exchange *exchange, *other;

    (void)state;
    serve(routes, NULL);
    int fd = begin(GET("/gate"));
    assert_int_equal(exchange_hold(served, token, &exchange), -EBUSY); /* the handler runs */
    sem_post(&gate);
    exchange = hold(token);
    assert_int_equal(exchange_hold(served, token, &other), -EBUSY);
    exchange_let_go(exchange);
    assert_int_equal(exchange_hold(served, token, &exchange), 0);
    exchange_finish(exchange);
    client_expect(fd, "HTTP/1.1 200 OK\r\n");
    (void)close(fd);
}

static void test_a_stale_token_is_gone(void **state)
{
    struct exchange *exchange;

    (void)state;
    serve(routes, NULL);
    int fd = begin(GET("/keep"));
    uint64_t old = token;
    exchange_finish(hold(old));
    assert_int_equal(exchange_hold(served, old, &exchange), EXCHANGE_GONE);
    client_expect(fd, "HTTP/1.1 200 OK\r\n");
    client_send(fd, GET("/keep")); /* in the same slot */
    await(&entered);
    assert_int_equal(exchange_hold(served, old, &exchange), EXCHANGE_GONE);
    assert_int_not_equal(token, old);
    exchange_finish(hold(token));
    for (uint64_t bad = 0; bad < 100; bad++)
        assert_int_equal(exchange_hold(served, bad << 20 | bad, &exchange), EXCHANGE_GONE);
    assert_int_equal(exchange_hold(served, UINT64_MAX, &exchange), EXCHANGE_GONE);
    (void)close(fd);
}

/* ---- while nobody holds it ---- */

static void test_a_client_that_leaves_is_told(void **state)
{
    struct exchange *exchange;

    (void)state;
    serve(routes, NULL);
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/keep");
    await(&entered);
    while (exchange_hold(served, token, &exchange) == -EBUSY)
        (void)sched_yield();
    exchange_let_go(exchange);
    h2_send_number(fd, H2_RST, 1, 8);
    await(&told);
    assert_int_equal(notes[0], EXCHANGE_GONE);
    served_wait(served_active, 0);
    served_wait(served_abandoned, 0);
    assert_int_equal(exchange_hold(served, token, &exchange), EXCHANGE_GONE);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_a_client_that_leaves_while_it_is_held(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/keep");
    await(&entered);
    struct exchange *exchange = hold(token);
    h2_send_number(fd, H2_RST, 1, 8);
    served_wait(served_abandoned, 1);
    assert_int_equal(exchange->ops->cancelled(exchange), EXCHANGE_GONE);
    assert_int_equal(exchange->ops->write(exchange, "x", 1, 0), EXCHANGE_GONE);
    assert_int_equal(notes_count, 0);
    exchange_let_go(exchange); /* and now it is told */
    await(&told);
    served_wait(served_abandoned, 0);
    assert_int_equal(exchange_hold(served, token, &exchange), EXCHANGE_GONE);
    (void)close(fd);
}

static void test_a_drain_is_told_and_waits(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = begin(GET("/keep"));
    exchange_let_go(hold(token));
    serve_drain(-1);
    await(&told);
    assert_int_equal(notes[0], EXCHANGE_DRAINING);
    struct exchange *exchange = hold(token);
    exchange_print(exchange, "in time");
    exchange_finish(exchange);
    client_expect(fd, "in time");
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_the_deadline_is_told(void **state)
{
    struct exchange *exchange;

    (void)state;
    serve(routes, NULL);
    int fd = begin(GET("/keep"));
    exchange_let_go(hold(token));
    serve_drain(100);
    await(&told);
    await(&told);
    assert_int_equal(notes[1], EXCHANGE_ABORTED);
    served_wait(served_active, 0);
    assert_int_equal(exchange_hold(served, token, &exchange), EXCHANGE_GONE);
    assert_int_equal(serve_end(), 3);
    (void)close(fd);
}

static void test_the_limit_of_a_route_is_told(void **state)
{
    struct exchange *exchange;

    (void)state;
    serve(routes, NULL);
    int fd = begin(GET("/limited"));
    client_expect(fd, "HTTP/1.1 503 ");
    await(&told);
    assert_int_equal(notes[0], EXCHANGE_TIMEOUT);
    served_wait(served_active, 0);
    assert_int_equal(exchange_hold(served, token, &exchange), EXCHANGE_GONE);
    client_send(fd, GET("/hello"));
    client_expect(fd, "hello");
    (void)close(fd);
}

/* ---- streaming ---- */

static void test_room_is_told_after_again(void **state)
{
    static const char piece[16384];
    uint64_t bytes = 0, most = UINT64_C(64) << 20, got = 0;
    static char sink[1 << 20];
    int result;

    (void)state;
    serve(routes, NULL);
    int fd = begin("GET /keep HTTP/1.0\r\n\r\n");
    struct exchange *exchange = hold(token);
    while ((result = exchange->ops->write(exchange, piece, sizeof(piece), -1)) == 0 && bytes < most)
        bytes += sizeof(piece);
    assert_int_equal(result, EXCHANGE_AGAIN);
    exchange_let_go(exchange);
    for (;;) { /* until the client has taken so much that there is room */
        got += (uint64_t)client_recv(fd, sink, sizeof(sink), 0);
        if (sem_trywait(&told) == 0)
            break;
    }
    assert_int_equal(notes[0], 0);
    exchange = hold(token);
    assert_int_equal(exchange->ops->write(exchange, piece, sizeof(piece), 0), 0);
    exchange_finish(exchange);
    for (ssize_t n; (n = client_recv(fd, sink, sizeof(sink), 0)) > 0;)
        got += (uint64_t)n;
    assert_true(got > bytes + sizeof(piece)); /* and the head */
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void *read_to_the_end(void *fd)
{
    static char sink[1 << 20];

    while (client_recv(*(int *)fd, sink, sizeof(sink), 0) > 0)
        ;
    return NULL;
}

/* It may be told when the client has read everything: the handler returns late. */
static void test_room_is_told_after_again_of_the_handler(void **state)
{
    pthread_t reader;

    (void)state;
    serve(routes, NULL);
    int fd = begin("GET /fill HTTP/1.0\r\n\r\n");
    assert_int_equal(pthread_create(&reader, NULL, read_to_the_end, &fd), 0);
    await(&told);
    assert_int_equal(notes[0], 0);
    exchange_finish(hold(token));
    assert_int_equal(pthread_join(reader, NULL), 0);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

/* The drain has begun before there was a function to tell. */
static void test_what_happened_before_is_told(void **state)
{
    (void)state;
    serve(routes, (const char *const[]){"--threads", "1", NULL});
    int fd = begin(GET("/silently")), other = client_connect(&served_at);
    client_send(other, GET("/hello"));
    client_expect(other, "hello");
    struct exchange *exchange = hold(token);
    exchange_let_go(exchange);
    serve_drain(-1);
    for (bool knows = false; !knows;) { /* until the loop knows of the drain */
        client_send(other, GET("/hello"));
        char *answer = client_read_answer(other);
        assert_non_null(answer);
        knows = strstr(answer, "Connection: close") != NULL;
        free(answer);
    }
    (void)close(other);
    exchange = hold(token);
    exchange_on_kept(exchange, on_told, NULL);
    exchange_let_go(exchange);
    await(&told);
    assert_int_equal(notes[0], EXCHANGE_DRAINING);
    exchange = hold(token);
    exchange_print(exchange, "later");
    exchange_finish(exchange);
    client_expect(fd, "later");
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

/* ---- many at once ---- */

static void *finish_share(void *arg)
{
    for (size_t i = (size_t)(uintptr_t)arg; i < MANY; i += 4) {
        struct exchange *exchange = hold(tokens[i]);
        if (exchange == NULL)
            continue;
        exchange_let_go(exchange);
        exchange = hold(tokens[i]);
        (void)exchange->ops->write(exchange, "part ", 5, 0);
        exchange_let_go(exchange);
        exchange = hold(tokens[i]);
        (void)exchange->ops->write(exchange, "whole", 5, 0);
        exchange_finish(exchange);
    }
    return NULL;
}

static void test_many_are_finished_by_several_threads(void **state)
{
    pthread_t threads[4];
    static int fds[MANY];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < MANY; i++)
        fds[i] = begin(GET("/many"));
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, finish_share, (void *)i), 0);
    serve_drain(-1);
    for (unsigned i = 0; i < MANY; i++) {
        char *answer = client_read_until(fds[i], "\r\n0\r\n\r\n");
        assert_contains(answer, "part ");
        assert_contains(answer, "whole");
        free(answer);
        (void)close(fds[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(serve_end(), 0);
}

/* Half of the clients leave meanwhile. */
static void test_clients_may_leave_at_any_time(void **state)
{
    pthread_t threads[4];
    static int fds[MANY];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < MANY; i++)
        fds[i] = begin(GET("/many"));
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, finish_share, (void *)i), 0);
    for (unsigned i = 0; i < MANY; i++)
        (void)close(fds[i]);
    for (unsigned i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    served_wait(served_active, 0);
    served_wait(served_abandoned, 0);
    assert_int_equal(serve_end(), 0);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_another_thread_answers),
        CLAIM(test_a_handler_in_place_may_keep_its_request),
        CLAIM(test_a_token_is_good_for_one_holder),
        CLAIM(test_a_stale_token_is_gone),
        CLAIM(test_a_client_that_leaves_is_told),
        CLAIM(test_a_client_that_leaves_while_it_is_held),
        CLAIM(test_a_drain_is_told_and_waits),
        CLAIM(test_the_deadline_is_told),
        CLAIM(test_the_limit_of_a_route_is_told),
        CLAIM(test_room_is_told_after_again),
        CLAIM(test_room_is_told_after_again_of_the_handler),
        CLAIM(test_what_happened_before_is_told),
        CLAIM(test_many_are_finished_by_several_threads),
        CLAIM(test_clients_may_leave_at_any_time),
    };
    return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}

/* Routes with a limit on the handlers that run at once. */

#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "with_server.h"

static sem_t entered, gate;
static _Atomic unsigned running, most, calls;

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    running = most = calls = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)serve_end_left(state);
    sem_destroy(&entered);
    sem_destroy(&gate);
    return 0;
}

static void note_most(unsigned now)
{
    unsigned before = most;
    while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
        ;
}

static void wait_at_gate(struct exchange *exchange, void *user)
{
    (void)user;
    calls++;
    note_most(++running);
    sem_post(&entered);
    sem_wait(&gate);
    running--;
    exchange_print(exchange, "done %s", exchange->query);
}

static void pass(struct exchange *exchange, void *user)
{
    (void)user;
    calls++;
    note_most(++running);
    running--;
    exchange_print(exchange, "passed");
}

static sem_t other_gate;

static void wait_at_other_gate(struct exchange *exchange, void *user)
{
    (void)user;
    sem_post(&entered);
    sem_wait(&other_gate);
    exchange_print(exchange, "held");
}

static void hello(struct exchange *exchange, void *user)
{
    (void)user;
    exchange_print(exchange, "hello");
}

static const struct served routes[] = {
    {"/two", {.handler = wait_at_gate, .max_running = 2, .max_waiting = 3}},
    {"/one", {.handler = wait_at_gate, .max_running = 1, .max_waiting = 10, .timeout_ms = 200}},
    {"/pile", {.handler = wait_at_gate, .max_running = 1, .max_waiting = 10}},
    {"/pass", {.handler = pass, .max_running = 1, .max_waiting = 100}},
    {"/free", {.handler = hello}},
    {"/hold", {.handler = wait_at_other_gate}},
    {.pattern = NULL},
};

static void test_more_than_the_limit_wait_and_more_are_503(void **state)
{
    int fds[6];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 5; i++) {
        fds[i] = client_connect(&served_at);
        client_send(fds[i], GET("/two"));
        served_wait(served_active, i + 1);
    }
    await(&entered);
    await(&entered);
    assert_answer(&served_at, GET("/free"), "hello"); /* the others have their workers */
    char *answer = client_ask(&served_at, GET("/two"));
    assert_contains(answer, "HTTP/1.1 503 ");
    assert_contains(answer, "retry-after: 1\r\n");
    free(answer);
    for (unsigned i = 0; i < 5; i++)
        sem_post(&gate);
    for (unsigned i = 0; i < 5; i++) {
        client_expect(fds[i], "done");
        (void)close(fds[i]);
    }
    assert_int_equal(most, 2);
    assert_int_equal(calls, 5);
    assert_int_equal(serve_end(), 0);
}

/* The queue is full when it is their turn. They have waited in a list of their own, and nobody
 * would call them later. */
static void test_a_full_queue_sheds_none_that_wait(void **state)
{
    static const char *const flags[] = {"--threads", "1", "--workers", "2", "--queue", "1", NULL};
    int slow[5], held[2];

    (void)state;
    serve(routes, flags);
    sem_init(&other_gate, 0, 0);
    for (unsigned i = 0; i < 2; i++) { /* both workers, then the only place in the queue */
        int *fd = i == 0 ? &slow[0] : &held[0];
        *fd = client_connect(&served_at);
        client_send(*fd, i == 0 ? GET("/pile") : GET("/hold"));
        await(&entered);
    }
    held[1] = client_connect(&served_at);
    client_send(held[1], GET("/hold"));
    served_wait(served_active, 3);
    for (unsigned i = 1; i < 5; i++) {
        slow[i] = client_connect(&served_at);
        client_send(slow[i], GET("/pile"));
        served_wait(served_active, 3 + i);
    }
    assert_answer(&served_at, GET("/hold"), "every worker is busy and the queue is full");
    sem_post(&gate);
    await(&entered); /* the one in the queue, on the worker that has given its turn away */
    for (unsigned i = 1; i < 5; i++)
        sem_post(&gate);
    sem_post(&other_gate);
    sem_post(&other_gate);
    for (unsigned i = 0; i < 5; i++) {
        client_expect(slow[i], "done");
        (void)close(slow[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        client_expect(held[i], "held");
        (void)close(held[i]);
    }
    assert_int_equal(most, 1);
    assert_int_equal(calls, 5);
    assert_int_equal(serve_end(), 0);
    sem_destroy(&other_gate);
}

static void test_one_that_waits_and_leaves_is_not_called(void **state)
{
    (void)state;
    serve(routes, NULL);
    int first = client_connect(&served_at), second = client_connect(&served_at),
        third = client_connect(&served_at);
    client_send(first, GET("/one"));
    await(&entered);
    client_send(second, GET("/one")); /* its limit passes while it waits */
    client_expect(second, "HTTP/1.1 503 ");
    client_expect(first, "HTTP/1.1 503 ");
    sem_post(&gate);
    served_wait(served_abandoned, 0);
    client_send(third, GET("/one"));
    await(&entered);
    sem_post(&gate);
    client_expect(third, "done");
    assert_int_equal(calls, 2);
    (void)close(first);
    (void)close(second);
    (void)close(third);
    assert_int_equal(serve_end(), 0);
}

/* In place by then, and from two loops. */
static void test_many_pass_one_by_one(void **state)
{
    int fds[8];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 8; i++)
        fds[i] = client_connect(&served_at);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 8; i++)
            client_send(fds[i], GET("/pass"));
        for (unsigned i = 0; i < 8; i++)
            client_expect(fds[i], "passed");
    }
    for (unsigned i = 0; i < 8; i++)
        (void)close(fds[i]);
    assert_int_equal(most, 1);
    assert_int_equal(calls, 1600);
    assert_int_equal(serve_end(), 0);
}

static void test_a_drain_waits_for_those_that_wait(void **state)
{
    int fds[4];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&served_at);
        client_send(fds[i], GET("/two"));
        served_wait(served_active, i + 1);
    }
    serve_drain(-1);
    for (unsigned i = 0; i < 4; i++)
        sem_post(&gate);
    for (unsigned i = 0; i < 4; i++) {
        client_expect(fds[i], "done");
        (void)close(fds[i]);
    }
    assert_int_equal(serve_end(), 0);
}

static void test_the_deadline_calls_none_that_wait(void **state)
{
    int fds[4];

    (void)state;
    serve(routes, NULL);
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = client_connect(&served_at);
        client_send(fds[i], GET("/two"));
        served_wait(served_active, i + 1);
    }
    serve_drain(50);
    served_wait(served_active, 0);
    for (unsigned i = 0; i < 4; i++)
        sem_post(&gate);
    assert_int_equal(serve_end(), 3);
    assert_int_equal(calls, 2);
    for (unsigned i = 0; i < 4; i++)
        (void)close(fds[i]);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_more_than_the_limit_wait_and_more_are_503),
        CLAIM(test_a_full_queue_sheds_none_that_wait),
        CLAIM(test_one_that_waits_and_leaves_is_not_called),
        CLAIM(test_many_pass_one_by_one),
        CLAIM(test_a_drain_waits_for_those_that_wait),
        CLAIM(test_the_deadline_calls_none_that_wait),
    };
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}

/* Requests of a program's routes in the in-flight record: they stay there as long as something runs
 * for them, however they are answered. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "with_journal.h"
#include "with_server.h"

static sem_t entered, gate;
static _Atomic uint64_t token;

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)serve_end_left(state);
    sem_destroy(&entered);
    sem_destroy(&gate);
    return 0;
}

static void wait_at_gate(struct exchange *exchange, void *user)
{
    (void)user;
    sem_post(&entered);
    sem_wait(&gate);
    exchange_print(exchange, "done");
}

static void stream_to_gate(struct exchange *exchange, void *user)
{
    (void)user;
    (void)exchange->ops->write(exchange, "one ", 4, -1);
    sem_post(&entered);
    sem_wait(&gate);
    (void)exchange->ops->write(exchange, "done", 4, -1);
}

static void keep(struct exchange *exchange, void *user)
{
    (void)user;
    token = exchange->ops->keep(exchange);
    sem_post(&entered);
}

static const struct served routes[] = {
    {"/plain", {.handler = wait_at_gate}},
    {"/wait", {.handler = wait_at_gate, .is_recorded = true}},
    {"/stream", {.handler = stream_to_gate, .is_recorded = true}},
    {"/keep", {.handler = keep, .is_recorded = true}},
    {.pattern = NULL},
};

static void serve_recorded(void)
{
    const char *const flags[] = {"--journal-dir", journal, NULL};

    assert_int_equal(with_journal_set_up(NULL), 0);
    serve(routes, flags);
}

static int begin(const char *request)
{
    int fd = client_connect(&served_at);

    client_send(fd, request);
    await(&entered);
    return fd;
}

static void end(int fd)
{
    sem_post(&gate);
    free(client_read_until(fd, "done"));
    (void)close(fd);
    served_wait(served_on_record, 0);
}

static void test_a_recorded_route_is_on_record_until_its_answer(void **state)
{
    (void)state;
    serve_recorded();
    int fd = begin(GET("/plain"));
    assert_int_equal(served_on_record(), 0);
    end(fd);
    fd = begin(GET("/wait"));
    assert_int_equal(served_on_record(), 1);
    end(fd);
    fd = begin(GET("/stream"));
    free(client_read_until(fd, "one "));
    assert_int_equal(served_on_record(), 1);
    end(fd);
}

static void test_a_client_that_leaves_takes_a_kept_request_off_record(void **state)
{
    (void)state;
    serve_recorded();
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/keep");
    await(&entered);
    assert_int_equal(served_on_record(), 1);
    h2_send_number(fd, H2_RST, 1, 8);
    served_wait(served_on_record, 0);
    served_wait(served_abandoned, 0);
    (void)close(fd);
}

static void test_a_handler_that_runs_without_its_client_stays_on_record(void **state)
{
    (void)state;
    serve_recorded();
    int fd = h2_connect(&served_at, false);
    h2_send_get(fd, 1, "/stream");
    await(&entered);
    h2_send_number(fd, H2_RST, 1, 8);
    served_wait(served_abandoned, 1);
    assert_int_equal(served_on_record(), 1);
    sem_post(&gate);
    served_wait(served_on_record, 0);
    (void)close(fd);
}

/* It was not answered, so it is not taken off: the archive gets it. */
static void test_a_stream_that_the_deadline_cuts_stays_on_record(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const char *const flags[] = {"--journal-dir", journal, i == 0 ? NULL : "--deadline-stream",
                                     "100ms", NULL};
        assert_int_equal(with_journal_set_up(NULL), 0);
        serve(routes, flags);
        int fd = begin(GET("/stream")), fd2 = h2_connect(&served_at, false);
        h2_send_get(fd2, 1, "/stream");
        await(&entered);
        serve_drain(i == 0 ? 100 : -1);
        served_wait(served_active, 0);
        sem_post(&gate);
        sem_post(&gate);
        served_wait(served_abandoned, 0);
        assert_int_equal(served_on_record(), 2);
        assert_int_equal(serve_end(), 3);
        (void)close(fd);
        (void)close(fd2);
    }
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_a_recorded_route_is_on_record_until_its_answer),
        CLAIM(test_a_client_that_leaves_takes_a_kept_request_off_record),
        CLAIM(test_a_handler_that_runs_without_its_client_stays_on_record),
        CLAIM(test_a_stream_that_the_deadline_cuts_stays_on_record),
    };
    return cmocka_run_group_tests_name("exchange_record", tests, make_directory, remove_directory);
}

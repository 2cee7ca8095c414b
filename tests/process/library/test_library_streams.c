/* Answers that are streamed through a server that runs, by HTTP/1.1 and by HTTP/2. */

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "expect.h"
#include "library_client.h"
#include "with_library.h"

static lc_server *server;

/* What a handler that was left has found, and that it has. */
static atomic_int result;
static sem_t ended, goes_on;

static void end(int with)
{
    atomic_store(&result, with);
    (void)sem_post(&ended);
}

static int await_end(void)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 300; /* a machine may be busy */
    assert_int_equal(sem_timedwait(&ended, &until), 0);
    return atomic_load(&result);
}

/* ---- handlers ---- */

#define LINES 40000

static void stream_lines(lc_req *r, void *user)
{
    (void)user;
    (void)lc_set_header(r, "content-type", "text/plain");
    for (int i = 0; i < LINES; i++)
        if (lc_writef(r, "line %06d of a long answer\n", i) != LC_OK)
            return;
}

static void stream_length(lc_req *r, void *user)
{
    (void)user;
    (void)lc_status(r, 202);
    (void)lc_length(r, 10);
    (void)lc_write(r, "01234", 5);
    (void)lc_write(r, "56789", 5);
}

/* With ?flush the head is on its way when the answer fails. */
static void stream_short(lc_req *r, void *user)
{
    (void)user;
    (void)lc_length(r, 10);
    (void)lc_write(r, "01234", 5);
    if (lc_query(r, "flush") != NULL)
        (void)lc_flush(r);
}

static void stream_then_fail(lc_req *r, void *user)
{
    (void)user;
    (void)lc_write(r, "01234", 5);
    if (lc_query(r, "flush") != NULL)
        (void)lc_flush(r);
    (void)lc_fail(r, 500, "the disk is full");
}

/* Each piece is on its way before the client says that the next may come. */
static void stream_flushed(lc_req *r, void *user)
{
    (void)user;
    for (int i = 0; i < 3; i++) {
        (void)lc_writef(r, "piece %d\n", i);
        (void)lc_flush(r);
        (void)sem_wait(&goes_on);
    }
}

static void stream_until_left(lc_req *r, void *user)
{
    static const char bytes[16384];
    int why;

    (void)user;
    do {
        why = lc_write(r, bytes, sizeof(bytes));
    } while (why == LC_OK);
    end(why);
}

static void wait_until_left(lc_req *r, void *user)
{
    (void)user;
    (void)lc_write(r, "x", 1);
    (void)lc_flush(r);
    int why = lc_sleep(r, 600000);
    end(why == lc_cancelled(r) ? why : 1);
}

static void send_events(lc_req *r, void *user)
{
    (void)user;
    (void)lc_event(r, "time", "12:00\n12:01");
    (void)lc_event(r, NULL, "x");
}

/* ---- the server ---- */

static int set_up(void **state)
{
    if (library_group_setup(state) != 0)
        return -1;
    (void)sem_init(&ended, 0, 0);
    (void)sem_init(&goes_on, 0, 0);
    server = library_new(NULL);
    (void)lc_handle(server, "/lines", stream_lines, NULL);
    (void)lc_handle(server, "/length", stream_length, NULL);
    (void)lc_handle(server, "/short", stream_short, NULL);
    (void)lc_handle(server, "/fail", stream_then_fail, NULL);
    (void)lc_handle(server, "/flushed", stream_flushed, NULL);
    (void)lc_handle(server, "/endless", stream_until_left, NULL);
    (void)lc_handle(server, "/wait", wait_until_left, NULL);
    (void)lc_handle(server, "/events", send_events, NULL);
    return lc_start(server) != LC_OK || library_client_begin(lc_port(server)) != 0;
}

static int tear_down(void **state)
{
    library_client_end();
    int status = lc_shutdown(server, -1, NULL);
    return status != LC_OK || lc_free(server) != LC_OK || library_group_teardown(state) != 0;
}

static void get(const void *protocol, const char *path)
{
    library_ask_for(protocol, "GET", path, NULL, NULL, 0);
}

/* ---- tests ---- */

static void test_a_long_stream_arrives_whole(void **state)
{
    get(*state, "/lines");
    assert_int_equal(got.status, 200);
    assert_false(got.is_broken);
    assert_int_equal(got.size, LINES * strlen("line 000000 of a long answer\n"));
    assert_memory_equal(got.body, "line 000000 of", 14);
    assert_contains(got.body + got.size - 40, "line 039999 of a long answer\n");
    assert_contains(got.headers, "content-type: text/plain\r\n");
    assert_lacks(got.headers, "content-length");
    library_ask_for(*state, "HEAD", "/lines", NULL, NULL, 0);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.size, 0);
}

static void test_a_stream_of_a_length(void **state)
{
    get(*state, "/length");
    assert_int_equal(got.status, 202);
    assert_string_equal(got.body, "0123456789");
    assert_contains(got.headers, "content-length: 10\r\n");
}

static void test_a_stream_that_is_not_whole_looks_broken(void **state)
{
    get(*state, "/short?flush");
    assert_true(got.is_broken);
    if (*state == library_http1) /* of a stream that is reset, libcurl may show nothing */
        assert_string_equal(got.body, "01234");
    get(*state, "/fail?flush");
    assert_true(got.is_broken);
    get(*state, "/short"); /* unless nothing has left, most likely */
    assert_true(got.is_broken || got.status == 500);
    get(*state, "/fail");
    assert_true(got.is_broken || got.status == 500);
}

static int let_go_on(const char *bytes, size_t size)
{
    (void)bytes, (void)size;
    (void)sem_post(&goes_on);
    return 1;
}

static void test_what_is_flushed_arrives_at_once(void **state)
{
    library_on_piece(let_go_on);
    get(*state, "/flushed");
    assert_string_equal(got.body, "piece 0\npiece 1\npiece 2\n");
}

static int leave(const char *bytes, size_t size)
{
    (void)bytes, (void)size;
    return 0;
}

static void test_a_handler_notices_that_its_client_has_left(void **state)
{
    library_on_piece(leave);
    get(*state, "/endless");
    assert_int_equal(await_end(), LC_E_GONE);
    library_on_piece(leave);
    get(*state, "/wait");
    assert_int_equal(await_end(), LC_E_GONE);
}

static void test_events(void **state)
{
    get(*state, "/events");
    assert_string_equal(got.body, "event: time\ndata: 12:00\ndata: 12:01\n\ndata: x\n\n");
    assert_contains(got.headers, "content-type: text/event-stream\r\n");
    assert_contains(got.headers, "cache-control: no-cache\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_a_long_stream_arrives_whole),
        BOTH(test_a_stream_of_a_length),
        BOTH(test_a_stream_that_is_not_whole_looks_broken),
        BOTH(test_what_is_flushed_arrives_at_once),
        BOTH(test_a_handler_notices_that_its_client_has_left),
        BOTH(test_events),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

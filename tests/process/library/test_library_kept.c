/* Requests that are kept and answered by another thread, by HTTP/1.1 and by HTTP/2. */

#include <pthread.h>
#include <sched.h>
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

/* The request that a handler has kept, and what was told of it. */
static _Atomic lc_token token;
static atomic_int told_what;
static sem_t was_kept, was_told;

static void await(sem_t *event)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 300; /* a machine may be busy */
    assert_int_equal(sem_timedwait(event, &until), 0);
}

static void told(lc_server *of, lc_token of_token, int what, void *user)
{
    (void)of, (void)of_token;
    if (what == *(int *)user) {
        atomic_store(&told_what, what);
        (void)sem_post(&was_told);
    }
}

static void keep(lc_req *r)
{
    atomic_store(&token, lc_keep(r));
    (void)sem_post(&was_kept);
}

static void keep_silent(lc_req *r, void *user)
{
    (void)user;
    (void)lc_set_header(r, "x-kept", "1");
    keep(r);
}

static void keep_events(lc_req *r, void *user)
{
    static int gone = LC_E_GONE, draining = LC_E_DRAINING;

    (void)user;
    (void)lc_event(r, NULL, "hello");
    (void)lc_keep(r);
    (void)lc_on_kept(r, told, lc_query(r, "drain") != NULL ? &draining : &gone);
    keep(r);
}

/* As soon as its handler has returned. */
static int hold(lc_req **ret_req)
{
    int result;

    while ((result = lc_hold(server, atomic_load(&token), ret_req)) == LC_E_BUSY)
        (void)sched_yield();
    return result;
}

/* ---- the other thread ---- */

static void *answer_it(void *arg)
{
    lc_req *r;

    (void)arg;
    await(&was_kept);
    assert_int_equal(hold(&r), LC_OK);
    assert_string_equal(lc_path(r), "/silent"); /* all of the request is there */
    assert_int_equal(lc_send(r, 200, "text/plain", "later"), LC_OK);
    assert_int_equal(lc_finish(r), LC_OK);
    assert_int_equal(lc_send(r, 200, NULL, "after"), LC_E_THREAD);
    assert_int_equal(lc_hold(server, atomic_load(&token), &r), LC_E_GONE);
    return NULL;
}

static void *stream_to_it(void *arg)
{
    lc_req *r;

    (void)arg;
    await(&was_kept);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hold(&r), LC_OK);
        assert_int_equal(lc_event(r, "tick", "x"), LC_OK);
        lc_let_go(r);
    }
    assert_int_equal(hold(&r), LC_OK);
    assert_int_equal(lc_finish(r), LC_OK);
    return NULL;
}

static void *fill_it(void *arg)
{
    static const char bytes[8192];
    unsigned *written = arg;
    lc_req *r;

    await(&was_kept);
    assert_int_equal(hold(&r), LC_OK);
    while (lc_write(r, bytes, sizeof(bytes)) == LC_OK)
        (*written)++;
    assert_int_equal(lc_write(r, bytes, sizeof(bytes)), LC_E_AGAIN); /* and does not wait */
    assert_int_equal(lc_cancelled(r), LC_OK);
    assert_int_equal(lc_finish(r), LC_OK);
    return NULL;
}

static void *finish_when_told(void *arg)
{
    lc_req *r;

    await(&was_told);
    if (hold(&r) == LC_OK) {
        *(int *)arg = lc_event(r, NULL, "bye");
        (void)lc_finish(r);
    }
    return NULL;
}

/* ---- the server ---- */

static int set_up(void **state)
{
    if (library_group_setup(state) != 0)
        return -1;
    (void)sem_init(&was_kept, 0, 0);
    (void)sem_init(&was_told, 0, 0);
    server = library_new(NULL);
    (void)lc_handle(server, "/silent", keep_silent, NULL);
    (void)lc_handle(server, "/events", keep_events, NULL);
    return lc_start(server) != LC_OK || library_client_begin(lc_port(server)) != 0;
}

static int tear_down(void **state)
{
    library_client_end();
    return lc_free(server) != LC_OK || library_group_teardown(state) != 0;
}

static void get_while(const void *protocol, const char *path, void *(*meanwhile)(void *arg),
                      void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, meanwhile, arg), 0);
    library_ask_for(protocol, "GET", path, NULL, NULL, 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- tests ---- */

static void test_another_thread_answers(void **state)
{
    get_while(*state, "/silent", answer_it, NULL);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "later");
    assert_contains(got.headers, "x-kept: 1\r\n");
}

static void test_another_thread_streams(void **state)
{
    get_while(*state, "/events", stream_to_it, NULL);
    assert_false(got.is_broken);
    assert_string_equal(got.body, "data: hello\n\nevent: tick\ndata: x\n\n"
                                  "event: tick\ndata: x\n\nevent: tick\ndata: x\n\n");
}

static int be_slow(const char *bytes, size_t size)
{
    const struct timespec while_it_fills = {0, 20000000};

    (void)bytes, (void)size;
    (void)nanosleep(&while_it_fills, NULL);
    return 1;
}

static void test_a_kept_request_never_waits(void **state)
{
    unsigned written = 0;

    library_on_piece(be_slow);
    get_while(*state, "/silent", fill_it, &written);
    assert_int_equal(got.size, written * 8192);
    assert_false(got.is_broken);
}

static int leave(const char *bytes, size_t size)
{
    (void)bytes, (void)size;
    return 0;
}

static void test_a_client_that_leaves_is_told(void **state)
{
    int result = LC_OK;

    library_on_piece(leave);
    get_while(*state, "/events", finish_when_told, &result);
    await(&was_kept);
    /* What it wrote may have met a client that could still read: HTTP/1 shows no more than an end.
     */
    assert_int_equal(atomic_load(&told_what), LC_E_GONE);
}

static void *drain(void *arg)
{
    await(&was_kept);
    assert_int_equal(lc_drain(server, -1, "a test"), LC_OK);
    return finish_when_told(arg);
}

/* The last one: the server ends. */
/* Their first requests. */
static lc_server *start_another(int *ret_fd, lc_token *ret_token)
{
    lc_server *another = library_new(NULL);

    (void)lc_handle(another, "/silent", keep_silent, NULL);
    assert_int_equal(lc_start(another), LC_OK);
    *ret_fd = library_ask(lc_port(another), "/silent");
    await(&was_kept);
    *ret_token = atomic_load(&token);
    return another;
}

static void answer_of(lc_server *another, lc_token of, int fd)
{
    lc_req *r;
    int result;

    while ((result = lc_hold(another, of, &r)) == LC_E_BUSY)
        (void)sched_yield();
    assert_int_equal(result, LC_OK);
    assert_int_equal(lc_send(r, 202, NULL, "its own"), LC_OK);
    assert_int_equal(lc_finish(r), LC_OK);
    assert_int_equal(library_answer(fd), 202);
    assert_int_equal(lc_free(another), LC_OK);
}

static void test_a_token_is_of_one_server(void **state)
{
    lc_token of_one, of_other;
    int fd_one, fd_other;
    lc_req *r;

    (void)state;
    lc_server *one = start_another(&fd_one, &of_one), *other = start_another(&fd_other, &of_other);
    assert_int_equal(lc_hold(one, of_other, &r), LC_E_GONE);
    assert_int_equal(lc_hold(other, of_one, &r), LC_E_GONE);
    answer_of(one, of_one, fd_one);
    answer_of(other, of_other, fd_other);
}

static void test_a_drain_is_told_and_waits(void **state)
{
    struct lc_result end = LC_RESULT_INIT;
    int result = LC_E_ARG;

    get_while(*state, "/events?drain", drain, &result);
    assert_int_equal(result, LC_OK);
    assert_false(got.is_broken);
    assert_string_equal(got.body, "data: hello\n\ndata: bye\n\n");
    assert_int_equal(lc_wait(server, -1, &end), LC_OK);
    assert_int_equal(end.unfinished, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_another_thread_answers),
        BOTH(test_another_thread_streams),
        BOTH(test_a_kept_request_never_waits),
        BOTH(test_a_client_that_leaves_is_told),
        cmocka_unit_test(test_a_token_is_of_one_server),
        {"test_a_drain_is_told_and_waits", test_a_drain_is_told_and_waits, NULL, NULL,
         library_http1},
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

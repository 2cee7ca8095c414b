/* Calls from where they may not come: each has a result, a line in the log, and no other effect. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lc_p.h"
#include "library_double.h"
#include "log_seen.h"

static lc_server *server;
static lc_req *seen_handle;

/* Every function that takes a handle. */
static void call_all(lc_req *r)
{
    const char *name, *value;
    struct lc_part part = LC_PART_INIT;
    size_t bytes = 1;
    char room[8];
    int key;

    assert_null(lc_method(r));
    assert_null(lc_path(r));
    assert_null(lc_target(r));
    assert_null(lc_host(r));
    assert_null(lc_param(r, "a"));
    assert_null(lc_query(r, "a"));
    assert_null(lc_form(r, "a"));
    assert_null(lc_header(r, "a"));
    assert_int_equal(lc_header_at(r, 0, &name, &value), LC_E_THREAD);
    assert_int_equal(lc_query_at(r, 0, &name, &value), LC_E_THREAD);
    assert_int_equal(lc_form_at(r, 0, &name, &value), LC_E_THREAD);
    assert_null(lc_cookie(r, "a"));
    assert_int_equal(lc_is_https(r), LC_E_THREAD);
    assert_int_equal(lc_http_version(r), LC_E_THREAD);
    assert_null(lc_peer(r));
    assert_null(lc_client(r));
    assert_null(lc_alloc(r, 1));
    assert_int_equal(lc_put(r, &key, NULL), LC_E_THREAD);
    assert_null(lc_get(r, &key));
    assert_null(lc_own(r));
    assert_int_equal(lc_body_size(r), LC_E_THREAD);
    assert_string_equal(lc_body(r, &bytes), "");
    assert_int_equal(bytes, 0);
    assert_int_equal(lc_read(r, room, sizeof(room)), LC_E_THREAD);
    assert_int_equal(lc_save_body(r, -1, "a", 0), LC_E_THREAD);
    assert_int_equal(lc_next_part(r, &part), LC_E_THREAD);
    assert_int_equal(lc_status(r, 200), LC_E_THREAD);
    assert_int_equal(lc_set_header(r, "a", "b"), LC_E_THREAD);
    assert_int_equal(lc_add_header(r, "a", "b"), LC_E_THREAD);
    assert_int_equal(lc_send(r, 200, NULL, "a"), LC_E_THREAD);
    assert_int_equal(lc_sendf(r, 200, NULL, "a"), LC_E_THREAD);
    assert_int_equal(lc_send_bytes(r, 200, NULL, "a", 1), LC_E_THREAD);
    assert_int_equal(lc_send_owned(r, 200, NULL, "a", 1, NULL, NULL), LC_E_THREAD);
    assert_int_equal(lc_send_file(r, "/dev/null", NULL), LC_E_THREAD);
    assert_int_equal(lc_redirect(r, 302, "/"), LC_E_THREAD);
    assert_int_equal(lc_fail(r, 500, "not said"), LC_E_THREAD);
    assert_int_equal(lc_length(r, 1), LC_E_THREAD);
    assert_int_equal(lc_write(r, "a", 1), LC_E_THREAD);
    assert_int_equal(lc_writef(r, "a"), LC_E_THREAD);
    assert_int_equal(lc_try_write(r, "a", 1), LC_E_THREAD);
    assert_int_equal(lc_flush(r), LC_E_THREAD);
    assert_int_equal(lc_event(r, NULL, "a"), LC_E_THREAD);
    assert_int_equal(lc_keep(r), 0);
    lc_let_go(r);
    lc_next(r);
    assert_int_equal(lc_finish(r), LC_E_THREAD);
    assert_int_equal(lc_on_kept(r, NULL, NULL), LC_E_THREAD);
    assert_int_equal(lc_cancelled(r), LC_E_THREAD);
    assert_int_equal(lc_time_left(r), LC_E_THREAD);
    assert_int_equal(lc_sleep(r, 1000000), LC_E_THREAD);
    assert_int_equal(lc_wait_for(r, 1000000, 0), LC_E_THREAD);
    assert_int_equal(lc_cancel_fd(r), LC_E_THREAD);
    assert_int_equal(lc_on_cancel(r, free, NULL), LC_E_THREAD);
}

static void *call_all_elsewhere(void *r)
{
    call_all(r);
    return NULL;
}

static void handler(lc_req *r, void *user)
{
    pthread_t thread;

    (void)user;
    if (seen_handle != NULL) {
        assert_ptr_not_equal(r, seen_handle);
        assert_int_equal(lc_send(seen_handle, 200, NULL, "for the one before"), LC_E_THREAD);
    }
    seen_handle = r;
    assert_int_equal(pthread_create(&thread, NULL, call_all_elsewhere, r), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(lc_thread_holds());
    assert_int_equal(lc_send(r, 200, NULL, "untouched"), 0);
}

static void call_it(void)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &answer), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.headers, "");
    assert_string_equal(answer.body, "untouched");
    lc_answer_free(&answer);
}

static void test_another_thread_than_the_holder_is_refused(void **state)
{
    (void)state;
    call_it();
    assert_int_equal(log_seen("not-held", "lc_send():"), 1);
    assert_int_equal(log_seen("not-held", "lc_flush():"), 1);
    assert_int_equal(log_seen("handler-failed", ""), 0);
}

static void test_a_stale_handle_is_refused(void **state)
{
    (void)state;
    call_it();
    assert_false(lc_thread_holds());
    call_all(seen_handle);
    call_it(); /* where the next request of this thread is a new handle */
}

static void test_no_handle_is_refused(void **state)
{
    (void)state;
    call_all(NULL);
    call_all((lc_req *)(uintptr_t)0x10);
    call_all((lc_req *)UINTPTR_MAX);
}

static void test_misuse_is_said_once_for_each_function(void **state)
{
    (void)state;
    call_all(NULL);
    log_seen_reset();
    call_all(NULL);
    assert_int_equal(log_seen_all(), 0);
}

static void call_again(lc_req *r, void *user)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    assert_int_equal(lc_call(user, "GET /", NULL, NULL, 0, &answer), LC_E_THREAD);
    assert_int_equal(lc_call(user, "GET /", NULL, NULL, 0, &answer), LC_E_THREAD);
    assert_int_equal(log_seen("waits-for-itself", "lc_call(): "), 1);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_a_handler_does_not_call_handlers(void **state)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    (void)state;
    assert_int_equal(lc_handle(server, "/again", call_again, server), 0);
    assert_int_equal(lc_call(server, "GET /again", NULL, NULL, 0, &answer), 0);
    assert_int_equal(answer.status, 200);
    lc_answer_free(&answer);
}

static lc_req *handles[5000];
static size_t handle_count;

static void note_handle(lc_req *r, void *user)
{
    (void)user;
    handles[handle_count++] = r;
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(lc_req *));
}

static void *note_many(void *arg)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    (void)arg;
    for (int i = 0; i < 2500; i++) {
        assert_int_equal(lc_call(server, "GET /note", NULL, NULL, 0, &answer), 0);
        lc_answer_free(&answer);
    }
    return NULL;
}

/* More than a thread's block of numbers has. */
static void test_no_handle_is_given_out_twice(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(lc_handle(server, "/note", note_handle, NULL), 0);
    (void)note_many(NULL);
    assert_int_equal(pthread_create(&thread, NULL, note_many, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(handle_count, 5000);
    qsort(handles, handle_count, sizeof(lc_req *), compare);
    for (size_t i = 1; i < handle_count; i++)
        assert_ptr_not_equal(handles[i - 1], handles[i]);
}

static int set_up(void **state)
{
    (void)state;
    server = lc_new();
    return lc_handle(server, "/", handler, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    return lc_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_thread_than_the_holder_is_refused),
        cmocka_unit_test(test_a_stale_handle_is_refused),
        cmocka_unit_test(test_no_handle_is_refused),
        cmocka_unit_test(test_misuse_is_said_once_for_each_function),
        cmocka_unit_test(test_a_handler_does_not_call_handlers),
        cmocka_unit_test(test_no_handle_is_given_out_twice),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Tasks: work that is no request, and that a drain waits for and names. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "expect.h"
#include "with_library.h"

static void test_a_drain_waits_for_a_task(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    lc_server *server = library_start(NULL);
    lc_task *task = lc_task_begin(server, "rebuild the index");

    (void)state;
    assert_non_null(task);
    assert_int_equal(lc_task_cancelled(task), LC_OK);
    assert_int_equal(lc_task_wait(task, 1), LC_OK);
    assert_int_equal(lc_drain(server, 60000, NULL), LC_OK);
    assert_int_equal(lc_task_wait(task, -1), LC_E_DRAINING);
    assert_int_equal(lc_wait(server, 300, NULL), LC_E_TIMEOUT);
    assert_int_equal(lc_task_cancelled(task), LC_OK);
    lc_task_end(task);
    assert_int_equal(lc_wait(server, -1, &result), LC_OK);
    assert_int_equal(result.tasks, 0);
    assert_null(lc_task_begin(server, "too late"));
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_a_drain_that_cut_only_a_task_was_not_clean(void **state)
{
    struct lc_result result = LC_RESULT_INIT;
    struct lc_cut cut = LC_CUT_INIT;
    struct library_log log;
    lc_server *server = library_start(&log);
    lc_task *task = lc_task_begin(server, "rebuild the index");

    (void)state;
    assert_int_equal(lc_shutdown(server, 300, &result), LC_E_DEADLINE);
    assert_int_equal(result.status, 3);
    assert_int_equal(result.tasks, 1);
    assert_int_equal(result.unfinished, 0);
    assert_int_equal(lc_unfinished(server, 0, &cut), LC_OK);
    assert_string_equal(cut.path, "rebuild the index");
    assert_string_equal(cut.state, "task");
    assert_int_equal(lc_task_cancelled(task), LC_E_ABORTED);
    assert_int_equal(lc_task_wait(task, -1), LC_E_ABORTED);
    assert_int_equal(lc_free(server), LC_E_STUCK); /* the task still has the server */
    lc_task_end(task);
    assert_int_equal(lc_free(server), LC_OK);
    assert_contains(log.text, "rebuild the index");
}

/* ---- on a worker ---- */

struct work {
    _Atomic bool ran;
    pthread_barrier_t at_work; /* the task has begun, and the test is there */
    _Atomic int heard;
};

static void quick(lc_task *task, void *arg)
{
    struct work *work = arg;

    (void)task;
    atomic_store(&work->ran, true);
}

static void until_the_drain(lc_task *task, void *arg)
{
    struct work *work = arg;

    (void)pthread_barrier_wait(&work->at_work);
    atomic_store(&work->heard, lc_task_wait(task, -1));
    (void)pthread_barrier_wait(&work->at_work); /* the test has seen what it wanted */
    atomic_store(&work->ran, true);
}

static void test_work_on_a_worker_is_done_before_the_end(void **state)
{
    struct work work = {.heard = 0};
    lc_server *server = library_start(NULL);

    (void)state;
    for (int i = 0; i < 100; i++) {
        atomic_store(&work.ran, false);
        assert_int_equal(lc_go(server, "quick", quick, &work), LC_OK);
    }
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_true(atomic_load(&work.ran));
    assert_int_equal(lc_go(server, "too late", quick, &work), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_work_hears_of_the_drain_and_no_more_begins(void **state)
{
    struct work work = {.heard = 0};
    lc_server *server = library_start(NULL);

    (void)state;
    assert_int_equal(pthread_barrier_init(&work.at_work, NULL, 2), 0);
    assert_int_equal(lc_go(server, "waiting", until_the_drain, &work), LC_OK);
    (void)pthread_barrier_wait(&work.at_work);
    assert_int_equal(lc_drain(server, -1, NULL), LC_OK);
    while (lc_phase(server) < LC_CLOSING)
        ;
    int result;
    while ((result = lc_go(server, "new", quick, &work)) == LC_OK) /* it has yet to be told */
        ;
    assert_int_equal(result, LC_E_DRAINING);
    (void)pthread_barrier_wait(&work.at_work);
    assert_int_equal(lc_wait(server, -1, NULL), LC_OK);
    assert_int_equal(atomic_load(&work.heard), LC_E_DRAINING);
    assert_true(atomic_load(&work.ran));
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(pthread_barrier_destroy(&work.at_work), 0);
}

static void test_work_from_before_the_start_runs_after_it(void **state)
{
    struct work work = {.ran = false};
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(pthread_barrier_init(&work.at_work, NULL, 2), 0);
    assert_int_equal(lc_go(server, "from the set-up", until_the_drain, &work), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    (void)pthread_barrier_wait(&work.at_work);
    assert_int_equal(lc_drain(server, 60000, NULL), LC_OK);
    (void)pthread_barrier_wait(&work.at_work);
    assert_int_equal(lc_wait(server, -1, NULL), LC_OK);
    assert_int_equal(atomic_load(&work.heard), LC_E_DRAINING);
    assert_true(atomic_load(&work.ran));
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(pthread_barrier_destroy(&work.at_work), 0);
}

static void test_work_of_a_server_that_does_not_start_is_dropped(void **state)
{
    struct work work = {.ran = false};
    lc_server *never = library_new(NULL), *wrong = library_new(NULL);

    (void)state;
    assert_int_equal(lc_go(never, "never", quick, &work), LC_OK);
    assert_int_equal(lc_free(never), LC_OK);
    assert_int_equal(lc_go(wrong, "never", quick, &work), LC_OK);
    (void)lc_set(wrong, "there.is-none", "1");
    assert_int_not_equal(lc_start(wrong), LC_OK);
    assert_int_equal(lc_free(wrong), LC_OK);
    assert_false(atomic_load(&work.ran));
}

static void end_itself(lc_task *task, void *arg)
{
    lc_task_end(task);
    lc_task_end(task);
    atomic_store(&((struct work *)arg)->ran, true);
}

static void test_misuse_is_an_error(void **state)
{
    struct work work = {.ran = false};
    struct library_log log;
    lc_server *server = library_start(&log);

    (void)state;
    assert_int_equal(lc_go(server, "mine", end_itself, &work), LC_OK);
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_true(atomic_load(&work.ran));
    assert_contains(log.text, "not-begun: lc_task_end(): the task mine is of lc_go()");
    assert_int_equal(lc_go(server, "nothing", NULL, NULL), LC_E_ARG);
    assert_int_equal(lc_go(NULL, "nowhere", quick, NULL), LC_E_ARG);
    assert_null(lc_task_begin(NULL, "nowhere"));
    lc_task_end(NULL);
    assert_int_equal(lc_task_cancelled(NULL), LC_E_ARG);
    assert_int_equal(lc_task_wait(NULL, 0), LC_E_ARG);
    assert_int_equal(lc_free(server), LC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_drain_waits_for_a_task),
        cmocka_unit_test(test_a_drain_that_cut_only_a_task_was_not_clean),
        cmocka_unit_test(test_work_on_a_worker_is_done_before_the_end),
        cmocka_unit_test(test_work_hears_of_the_drain_and_no_more_begins),
        cmocka_unit_test(test_work_from_before_the_start_runs_after_it),
        cmocka_unit_test(test_work_of_a_server_that_does_not_start_is_dropped),
        cmocka_unit_test(test_misuse_is_an_error),
    };
    return cmocka_run_group_tests_name("library_task", tests, library_group_setup,
                                       library_group_teardown);
}

/* A server of the library from its start to its end: many in a row, two at once, starts that fail.
 */

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"
#include "with_library.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

/* Of the heap, of all threads; sanitizers count by themselves. */
static size_t memory_in_use(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void live_once(void)
{
    struct lc_result result = LC_RESULT_INIT;
    lc_server *server = library_start(NULL);

    assert_int_equal(library_get(lc_port(server), "/hello"), 200);
    assert_int_equal(library_get(lc_port(server), "/sleep?ms=1"), 200);
    assert_int_equal(lc_shutdown(server, -1, &result), LC_OK);
    assert_int_equal(result.status, 0);
    assert_int_equal(result.unfinished, 0);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_many_lives_leave_nothing_over(void **state)
{
    unsigned cycles = library_cycles(IS_SANITIZED ? 30 : 100);

    (void)state;
    for (int i = 0; i < 10; i++) /* what the process keeps once and for all */
        live_once();
    size_t descriptors = library_descriptors(), threads = library_threads();
    size_t before = memory_in_use();
    for (unsigned i = 0; i < cycles; i++)
        live_once();
    assert_int_equal(library_descriptors(), descriptors);
    assert_int_equal(library_threads(), threads);
    printf("%u lives: %zu bytes in use before, %zu after\n", cycles, before, memory_in_use());
    if (!IS_SANITIZED) /* less than a byte a life may be a matter of the allocator */
        assert_true(memory_in_use() < before + 4096);
}

static void test_a_server_that_never_started_is_freed(void **state)
{
    size_t descriptors = library_descriptors();

    (void)state;
    lc_server *server = library_new(NULL);
    assert_true(lc_phase_fd(server) >= 0);
    assert_int_equal(lc_port(server), LC_E_STATE);
    assert_int_equal(lc_phase(server), LC_E_STATE);
    assert_int_equal(lc_shutdown(server, 0, NULL), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(lc_free(NULL), LC_OK);
    assert_int_equal(library_descriptors(), descriptors);
}

static void test_free_alone_ends_a_server(void **state)
{
    size_t threads = library_threads();
    lc_server *server = library_start(NULL);

    (void)state;
    int fd = library_ask(lc_port(server), "/sleep?ms=60000");
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(library_threads(), threads);
}

static void test_two_servers_at_once_end_apart(void **state)
{
    struct library_log of_one, of_other;
    lc_server *one = library_start(&of_one), *other = library_start(&of_other);

    (void)state;
    assert_int_not_equal(lc_port(one), lc_port(other));
    int slow = library_ask(lc_port(one), "/sleep?ms=300");
    assert_int_equal(lc_drain(one, -1, "the first of two"), LC_OK);
    unsigned answered = 0;
    while (lc_wait(one, 0, NULL) == LC_E_TIMEOUT) /* while one drains, the other serves */
        answered += library_get(lc_port(other), "/hello") == 200;
    assert_true(answered > 0);
    assert_int_equal(library_answer(slow), 200);
    assert_int_equal(lc_wait(one, -1, NULL), LC_OK);
    assert_int_equal(lc_free(one), LC_OK);
    assert_int_equal(lc_phase(other), LC_RUNNING);
    for (int i = 0; i < 20; i++)
        assert_int_equal(library_get(lc_port(other), "/hello"), 200);
    assert_int_equal(lc_shutdown(other, -1, NULL), LC_OK);
    assert_int_equal(lc_free(other), LC_OK);
    assert_contains(of_one.text, "the first of two");
    assert_lacks(of_other.text, "the first of two");
    assert_contains(of_other.text, "drained");
}

/* ---- starts that fail ---- */

static void expect_no_start(lc_server *server, int result, const char *why)
{
    size_t threads = library_threads();

    assert_int_equal(lc_start(server), result);
    assert_contains(lc_errmsg(server), why);
    assert_int_equal(library_threads(), threads);
    assert_int_equal(lc_start(server), LC_E_STATE);
    assert_int_equal(lc_wait(server, 0, NULL), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_a_port_in_use(void **state)
{
    size_t descriptors = library_descriptors();
    char address[32];
    uint16_t port;
    int taken = listen_here(&port, 1);

    (void)state;
    lc_server *server = library_new(NULL);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    assert_int_equal(lc_listen(server, address), LC_OK);
    expect_no_start(server, -EADDRINUSE, address);
    (void)close(taken);
    assert_int_equal(library_descriptors(), descriptors);
}

static atomic_bool is_over;

/* Everything of a drain that another thread may call at any time. */
static void *give_orders(void *arg)
{
    lc_server *server = arg;

    while (!is_over) {
        (void)lc_phase(server);
        (void)lc_drain(server, 0, "from elsewhere");
        (void)lc_undrain(server);
        (void)lc_cut_short(server);
    }
    return NULL;
}

/* There is a coordinator for a moment: the start fails after it was made. */
static void test_orders_for_a_server_whose_start_fails(void **state)
{
    const char *folder = in_directory("none");
    pthread_t thread;

    (void)state;
    for (unsigned i = library_cycles(50); i > 0; i--) {
        lc_server *server = library_new(NULL);
        assert_int_equal(lc_set(server, "journal.dir", folder), LC_OK);
        is_over = false;
        assert_int_equal(pthread_create(&thread, NULL, give_orders, server), 0);
        assert_int_not_equal(lc_start(server), LC_OK);
        is_over = true;
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(lc_free(server), LC_OK);
    }
}

static void test_a_task_of_a_server_that_does_not_start(void **state)
{
    lc_server *never = library_new(NULL), *wrong = library_new(NULL);
    char address[32];
    uint16_t port;
    int taken = listen_here(&port, 1);

    (void)state;
    lc_task *task = lc_task_begin(never, "never");
    assert_non_null(task);
    assert_int_equal(lc_free(never), LC_E_STUCK);
    lc_task_end(task);
    assert_int_equal(lc_free(never), LC_OK);
    task = lc_task_begin(wrong, "never");
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    assert_int_equal(lc_listen(wrong, address), LC_OK);
    assert_int_equal(lc_start(wrong), -EADDRINUSE); /* and does not wait for the task */
    assert_int_equal(lc_free(wrong), LC_E_STUCK);
    lc_task_end(task);
    assert_int_equal(lc_free(wrong), LC_OK);
    (void)close(taken);
}

static void test_a_bad_setting_is_remembered_until_the_start(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "drain.deadline", "ten"), LC_E_CONFIG);
    assert_int_equal(lc_set(server, "drain.deadline", "10s"), LC_OK);
    assert_contains(lc_errmsg(server), "drain.deadline ten");
    assert_int_equal(lc_start(server), LC_E_CONFIG);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_a_setting_that_nobody_knows(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "no-such-thing", "1"), LC_OK);
    expect_no_start(server, LC_E_CONFIG, "no-such-thing");
}

static void test_a_setting_of_libh2o_that_is_wrong(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "limit-request-body", "much"), LC_OK);
    expect_no_start(server, LC_E_CONFIG, "limit-request-body");
}

static void test_what_only_the_program_may_do(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_set(server, "user", "nobody"), LC_E_CONFIG);
    assert_contains(lc_errmsg(server), "user");
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_a_file_that_is_not_there(void **state)
{
    lc_server *server = lc_new();

    (void)state;
    assert_int_equal(lc_conf(server, "/nowhere/lastcall.conf"), LC_OK);
    assert_int_equal(lc_listen(server, "127.0.0.1:0"), LC_OK);
    expect_no_start(server, LC_E_CONFIG, "/nowhere/lastcall.conf");
}

static void test_no_address_at_all(void **state)
{
    (void)state;
    expect_no_start(lc_new(), LC_E_CONFIG, "lc_listen");
}

static void test_tls_without_a_certificate(void **state)
{
    lc_server *server = lc_new();

    (void)state;
    assert_int_equal(lc_listen(server, "tls:127.0.0.1:0"), LC_OK);
    expect_no_start(server, LC_E_CONFIG, "lc_tls");
}

/* ---- the order of settings ---- */

/* How long a drain lasts that cannot end by itself shows which setting counts. */
static void expect_deadline(lc_server *server, const char *text, const struct library_log *log)
{
    char want[64];

    assert_int_equal(lc_listen(server, "127.0.0.1:0"), LC_OK);
    if (lc_start(server) != LC_OK)
        fail_msg("%s", lc_errmsg(server));
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_int_equal(lc_free(server), LC_OK);
    (void)snprintf(want, sizeof(want), ", deadline %s;", text);
    assert_contains(log->text, want);
}

static const char *file_with_a_deadline(void)
{
    const char *path = in_directory("deadline.conf");
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    (void)fputs("drain: {deadline: 20s}\nlimit-request-body: wrong\n"
                "hosts: {default: {paths: {/: {handler: hello}}}}\n",
                file);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void test_later_calls_win_over_the_file_and_it_over_earlier_ones(void **state)
{
    struct library_log log;
    lc_server *server = lc_new();

    (void)state;
    library_log_to(server, &log);
    assert_int_equal(lc_set(server, "drain.deadline", "30s"), LC_OK);
    assert_int_equal(lc_conf(server, file_with_a_deadline()), LC_OK);
    assert_int_equal(lc_set(server, "limit-request-body", "1000"), LC_OK); /* else it is wrong */
    expect_deadline(server, "20s", &log);

    server = lc_new();
    library_log_to(server, &log);
    assert_int_equal(lc_conf(server, file_with_a_deadline()), LC_OK);
    assert_int_equal(lc_set(server, "limit-request-body", "1000"), LC_OK);
    assert_int_equal(lc_set(server, "drain.deadline", "30s"), LC_OK);
    expect_deadline(server, "30s", &log);

    server = lc_new();
    library_log_to(server, &log);
    assert_int_equal(lc_set(server, "limit-request-body", "1000"), LC_OK);
    assert_int_equal(lc_conf(server, file_with_a_deadline()), LC_OK);
    assert_int_equal(lc_conf(server, "another"), LC_E_ARG);
    assert_int_equal(lc_start(server), LC_E_ARG);
    assert_int_equal(lc_free(server), LC_OK);
}

/* ---- other ways to begin ---- */

static void test_a_socket_that_listens_already(void **state)
{
    uint16_t port;
    int fd = listen_here(&port, 16);
    lc_server *server = lc_new();

    (void)state;
    int early = library_ask(port, "/"); /* before anybody accepts */
    assert_int_equal(lc_listen_fd(server, fd), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    assert_int_equal(lc_port(server), port);
    assert_int_equal(library_answer(early), 404); /* there are no routes, and none of the demo's */
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_int_equal(library_ask(port, "/"), -1); /* it was taken over, and is closed */
    assert_int_equal(lc_free(server), LC_OK);
    assert_int_equal(lc_listen_fd(NULL, -1), LC_E_ARG);
}

static void test_an_abi_that_is_too_new(void **state)
{
    (void)state;
    errno = 0;
    assert_null(lc_new_abi(LC_ABI + 1));
    assert_int_equal(errno, ENOTSUP);
    assert_contains(lc_errmsg(NULL), "newer liblastcall");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_lives_leave_nothing_over),
        cmocka_unit_test(test_a_server_that_never_started_is_freed),
        cmocka_unit_test(test_free_alone_ends_a_server),
        cmocka_unit_test(test_two_servers_at_once_end_apart),
        cmocka_unit_test(test_a_port_in_use),
        cmocka_unit_test(test_orders_for_a_server_whose_start_fails),
        cmocka_unit_test(test_a_task_of_a_server_that_does_not_start),
        cmocka_unit_test(test_a_bad_setting_is_remembered_until_the_start),
        cmocka_unit_test(test_a_setting_that_nobody_knows),
        cmocka_unit_test(test_a_setting_of_libh2o_that_is_wrong),
        cmocka_unit_test(test_what_only_the_program_may_do),
        cmocka_unit_test(test_a_file_that_is_not_there),
        cmocka_unit_test(test_no_address_at_all),
        cmocka_unit_test(test_tls_without_a_certificate),
        cmocka_unit_test(test_later_calls_win_over_the_file_and_it_over_earlier_ones),
        cmocka_unit_test(test_a_socket_that_listens_already),
        cmocka_unit_test(test_an_abi_that_is_too_new),
    };
    return cmocka_run_group_tests_name("library_life", tests, library_group_setup,
                                       library_group_teardown);
}

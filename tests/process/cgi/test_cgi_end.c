/* How a script is ended: by its time limit, by the end of the request, for what it prints; with its
 * whole process group. */

#include "with_script.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"

#define TYPE "printf 'Content-Type: text/plain\\n\\n'; "
/* A child, as descriptor 3 of which the FIFO shows whether it lives. */
#define CHILD(fifo) "(exec 3>$DIR/" fifo "; sleep 1000) & "
#define MS UINT64_C(1000000)
/* Time enough for a shell to come to where it waits, on a busy machine. */
#define LATE_NS (2000 * MS)

/* ---- the time limit ---- */

static void test_a_late_script_is_ended_with_its_children(void **state)
{
    int fd = script_open_fifo("late");
    (void)state;
    settings.timeout_ns = LATE_NS;
    script_get("exec 3>$DIR/late; " CHILD("late") "wait");
    assert_int_equal(fake.exchange.status, 504);
    assert_false(fake.exchange.broken);
    script_wait_fifo(fd);
}

static void test_sigterm_comes_first(void **state)
{
    (void)state;
    settings.timeout_ns = LATE_NS;
    script_get("trap 'echo cleaned >$DIR/cleaned; exit' TERM; while :; do sleep 0.05; done");
    assert_int_equal(fake.exchange.status, 504);
    char *text = script_file("cleaned");
    assert_string_equal(text, "cleaned\n");
    free(text);
}

static void test_what_ignores_sigterm_is_killed_after_the_grace(void **state)
{
    int fd = script_open_fifo("ignores");
    (void)state;
    settings.timeout_ns = LATE_NS;
    settings.grace_ns = 100 * MS;
    script_get("trap '' TERM; exec 3>$DIR/ignores; " CHILD("ignores") "sleep 1000");
    assert_int_equal(fake.exchange.status, 504);
    script_wait_fifo(fd);
}

/* The leader obeys and the child, which has the output, does not. */
static void test_a_child_that_outlives_its_leader_is_killed_after_the_grace(void **state)
{
    int fd = script_open_fifo("outlives");
    (void)state;
    settings.timeout_ns = LATE_NS;
    settings.grace_ns = 100 * MS;
    script_get("(trap '' TERM; exec 3>$DIR/outlives; sleep 1000) & wait");
    assert_int_equal(fake.exchange.status, 504);
    script_wait_fifo(fd);
}

/* All that can be seen of it is that it is in the group. */
static void test_a_child_with_other_output_is_killed_with_its_leader(void **state)
{
    int fd = script_open_fifo("elsewhere");
    (void)state;
    settings.timeout_ns = LATE_NS;
    script_get("(trap '' TERM; exec 3>$DIR/elsewhere; sleep 1000) >/dev/null 2>&1 & wait");
    assert_int_equal(fake.exchange.status, 504);
    script_wait_fifo(fd);
}

static void test_a_stream_that_is_late_is_broken(void **state)
{
    (void)state;
    settings.timeout_ns = LATE_NS;
    settings.held_ns = 1;
    script_get(TYPE "printf half; sleep 1000");
    assert_int_equal(fake.exchange.status, 200);
    assert_true(fake.exchange.broken);
    assert_body("half");
}

static void test_output_that_a_child_holds_is_waited_for(void **state)
{
    (void)state;
    script_get(TYPE "(sleep 0.2; printf late) & exit 0");
    assert_body("late");
    settings.timeout_ns = LATE_NS;
    script_get(TYPE "sleep 1000 & exit 0");
    assert_int_equal(fake.exchange.status, 504);
}

/* ---- the end of the request ---- */

static void *leave_when_started(void *arg)
{
    /* Blocks until the script opens its side. */
    int fd = open(in_directory("started"), O_RDONLY | O_CLOEXEC);
    (void)arg;
    cgi_exchange_cancel(&fake, EXCHANGE_GONE);
    (void)close(fd);
    return NULL;
}

static void get_and_leave(bool has_cancel_fd, const char *text)
{
    pthread_t client;
    (void)unlink(in_directory("started"));
    int fd = script_open_fifo("started");
    (void)close(fd);
    script_write(text);
    script_request("GET", "/script");
    fake.has_no_cancel_fd = !has_cancel_fd;
    assert_int_equal(pthread_create(&client, NULL, leave_when_started, NULL), 0);
    script_run();
    (void)pthread_join(client, NULL);
}

static void test_a_client_that_leaves_ends_the_script(void **state)
{
    int fd = script_open_fifo("left");
    (void)state;
    get_and_leave(true, "exec 3>$DIR/left; echo >$DIR/started; " CHILD("left") "wait");
    script_wait_fifo(fd);
}

static void test_a_client_that_leaves_is_noticed_without_a_descriptor(void **state)
{
    int fd = script_open_fifo("ticks");
    (void)state;
    get_and_leave(false, "exec 3>$DIR/ticks; echo >$DIR/started; sleep 1000");
    script_wait_fifo(fd);
}

static void test_nothing_is_started_for_a_request_that_is_over(void **state)
{
    (void)state;
    script_write("echo >$DIR/was-run");
    script_request("GET", "/script");
    cgi_exchange_cancel(&fake, EXCHANGE_ABORTED);
    script_run();
    assert_int_not_equal(access(in_directory("was-run"), F_OK), 0);
}

static void test_a_write_that_fails_ends_the_script(void **state)
{
    int fd = script_open_fifo("writes");
    (void)state;
    script_write(TYPE "exec 3>$DIR/writes; yes");
    script_request("GET", "/script");
    fake.write_limit = 1 << 20;
    fake.write_error = EXCHANGE_GONE;
    fake.write_cancels = true;
    script_run();
    assert_true(fake.exchange.broken);
    script_wait_fifo(fd);
}

static void test_a_client_that_takes_nothing_ends_the_script(void **state)
{
    int fd = script_open_fifo("slow");
    (void)state;
    script_write(TYPE "exec 3>$DIR/slow; yes");
    script_request("GET", "/script");
    fake.write_limit = 1 << 20;
    fake.write_error = EXCHANGE_TIMEOUT;
    script_run();
    assert_true(fake.exchange.broken);
    script_wait_fifo(fd);
}

/* ---- limits of its output ---- */

static void test_too_much_output_ends_the_script(void **state)
{
    (void)state;
    settings.max_output = 1000;
    script_get(TYPE "head -c 970 /dev/zero | tr '\\0' x");
    assert_int_equal(fake.exchange.status, 200);
    script_get(TYPE "head -c 980 /dev/zero");
    assert_int_equal(fake.exchange.status, 502);
    settings.max_output = 1 << 20;
    script_get(TYPE "yes");
    assert_true(fake.exchange.broken);
    assert_true(fake.written_bytes <= 1 << 20);
}

static void test_standard_error_never_blocks_a_script(void **state)
{
    (void)state;
    script_get(TYPE "head -c 1000000 /dev/zero >&2; yes words | head -c 1000000 >&2; printf ok");
    assert_body("ok");
}

#define T(f) cmocka_unit_test_setup_teardown(f, script_set_up, script_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_late_script_is_ended_with_its_children),
        T(test_sigterm_comes_first),
        T(test_what_ignores_sigterm_is_killed_after_the_grace),
        T(test_a_child_that_outlives_its_leader_is_killed_after_the_grace),
        T(test_a_child_with_other_output_is_killed_with_its_leader),
        T(test_a_stream_that_is_late_is_broken),
        T(test_output_that_a_child_holds_is_waited_for),
        T(test_a_client_that_leaves_ends_the_script),
        T(test_a_client_that_leaves_is_noticed_without_a_descriptor),
        T(test_nothing_is_started_for_a_request_that_is_over),
        T(test_a_write_that_fails_ends_the_script),
        T(test_a_client_that_takes_nothing_ends_the_script),
        T(test_too_much_output_ends_the_script),
        T(test_standard_error_never_blocks_a_script),
    };
    return cmocka_run_group_tests(tests, script_begin, script_finish);
}

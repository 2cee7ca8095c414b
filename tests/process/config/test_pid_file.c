/* The pid file as other programs see it: it does not exist, or it holds a number. A server that
 * root starts opens it before it drops its privileges. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "skip.h"

#define TRIES 5 /* some milliseconds of a start may pass between two looks of this process */

static const char *const users[] = {"", "user: root\n", "user: nobody\n"};

static const char *conf_of(const char *user)
{
    char text[512];
    (void)snprintf(text, sizeof(text), LISTEN "pid-file: @/pid\n%s" HELLO, user);
    return write_file("x.conf", text);
}

/* It has something in it when it is first seen. */
static void is_never_empty(const char *user, const char *mode)
{
    struct process p;
    struct stat st;
    const char *path = in_directory("pid");
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    process_spawn(&p, ARGS("-c", conf_of(user), "-m", mode));
    while (stat(path, &st) != 0) {
        if (now_ns() > until_ns || process_is_gone(&p))
            fail_msg("no pid file:\n%s", p.log);
    }
    if (st.st_size == 0)
        fail_msg("mode %s, %s: an empty pid file", mode, user);
    char *text = read_file(path);
    assert_int_equal(strtol(text, NULL, 10), p.pid);
    free(text);
    process_wait_log(&p, "listening on ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    (void)unlink(path); /* where the user nobody may not */
}

static void test_it_is_never_there_and_empty(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(chmod(directory, 0755), 0);
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
        for (unsigned n = 0; n < TRIES; n++) {
            is_never_empty(users[i], "worker");
            is_never_empty(users[i], "master");
        }
}

/* The last one could not remove it. */
static void test_an_empty_one_is_replaced(void **state)
{
    struct process p;
    (void)state;
    skip_unless_root();
    (void)write_file("pid", "");
    process_start_configured(&p, ARGS("-c", conf_of("user: root\n")));
    assert_answer(&p, GET("/"), "Hello World");
    char *text = read_file(in_directory("pid"));
    assert_int_equal(strtol(text, NULL, 10), p.pid);
    free(text);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    assert_int_equal(access(in_directory("pid"), F_OK), -1);
}

static void test_a_start_that_fails_leaves_the_pid_file(void **state)
{
    (void)state;
    skip_unless_root();
    for (int there = 0; there < 2; there++) {
        struct process p;
        if (there)
            (void)write_file("pid", "12345\n");
        process_spawn(&p, ARGS("-c", conf_of("user: root\n"), "--journal-dir", "/proc/none"));
        assert_int_not_equal(process_wait(&p, LIMIT_MS), 0);
        process_release(&p);
        char *text = there ? read_file(in_directory("pid")) : NULL;
        if (there)
            assert_string_equal(text, "12345\n"); /* that process may be alive */
        else
            assert_int_equal(access(in_directory("pid"), F_OK), -1);
        free(text);
    }
    (void)unlink(in_directory("pid"));
}

#define PLAIN(test) cmocka_unit_test_teardown(test, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_it_is_never_there_and_empty),
        PLAIN(test_an_empty_one_is_replaced),
        PLAIN(test_a_start_that_fails_leaves_the_pid_file),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

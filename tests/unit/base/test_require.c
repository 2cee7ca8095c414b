/* The specification of require.h, one claim a test: in a child each, which aborts. */

#include "require.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <jansson.h>

#include "expect.h"
#include "log.h"

#define HERE_SIZE 64

static unsigned evaluated;

static bool count(bool result)
{
    evaluated++;
    return result;
}

/* Run `act` in a child and read what it writes. Returns its status as waitpid(2) has it. */
static int run_child(void (*act)(void), char *text, size_t size)
{
    const struct rlimit no_core = {0, 0};
    int ends[2], status;
    size_t n = 0;
    ssize_t got;

    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        (void)dup2(ends[1], STDERR_FILENO);
        act();
        _exit(0);
    }
    (void)close(ends[1]);
    while ((got = read(ends[0], text + n, size - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

enum { BROKEN_LINE = __LINE__ + 5 };

static void break_it(void)
{
    int queued = -1;
    REQUIRE(queued >= 0);
}

static void break_it_in_json(void)
{
    const char *name = "a";
    log_init(LOG_FORMAT_JSON, true);
    REQUIRE(strcmp(name, "\"\\") == 0);
}

static void keep_it(void)
{
    REQUIRE(count(true));
    if (evaluated != 1)
        (void)fprintf(stderr, "evaluated %u times", evaluated);
}

static void break_an_assert(void)
{
    ASSERT(count(false));
    (void)fprintf(stderr, "evaluated %u times", evaluated);
}

static void test_a_broken_condition_aborts_with_file_line_function_and_condition(void **state)
{
    char text[1024], here[HERE_SIZE];

    (void)state;
    int status = run_child(break_it, text, sizeof(text));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    (void)snprintf(here, sizeof(here), "base/test_require.c:%d: break_it(): ", BROKEN_LINE);
    assert_contains(text, " error: bug: ");
    assert_contains(text, here);
    assert_contains(text, "this does not hold: queued >= 0\n");
    assert_int_equal(count_in(text, "\n"), 1);
}

static void test_in_the_json_log_it_is_a_line_of_json(void **state)
{
    char text[1024];

    (void)state;
    assert_true(WIFSIGNALED(run_child(break_it_in_json, text, sizeof(text))));
    json_t *line = json_loads(text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(line, "event")), "bug");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    assert_contains(json_string_value(json_object_get(line, "message")),
                    "this does not hold: strcmp(name, \"\\\"\\\\\") == 0");
    json_decref(line);
}

static void test_a_condition_that_holds_is_evaluated_once_and_does_nothing(void **state)
{
    char text[1024];

    (void)state;
    assert_int_equal(run_child(keep_it, text, sizeof(text)), 0);
    assert_string_equal(text, "");
}

static void test_an_assert_aborts_in_debug_builds_and_costs_nothing_in_others(void **state)
{
    char text[1024];

    (void)state;
    int status = run_child(break_an_assert, text, sizeof(text));
#ifdef NDEBUG
    assert_int_equal(status, 0);
    assert_string_equal(text, "evaluated 0 times");
#else
    assert_true(WIFSIGNALED(status));
    assert_contains(text, "this does not hold: count(false)");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_broken_condition_aborts_with_file_line_function_and_condition),
        cmocka_unit_test(test_in_the_json_log_it_is_a_line_of_json),
        cmocka_unit_test(test_a_condition_that_holds_is_evaluated_once_and_does_nothing),
        cmocka_unit_test(test_an_assert_aborts_in_debug_builds_and_costs_nothing_in_others),
    };
    return cmocka_run_group_tests_name("require", tests, NULL, NULL);
}

/* A process without any privilege, as in a container that drops every capability, closes its
 * listeners without a loss. Skipped where this test may not change to the user nobody. */

#include "process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "loadgen.h"
#include "skip.h"

#define CONNECTIONS 64
#define SETPRIV                                                                                    \
    "setpriv --reuid=nobody --regid=nogroup --clear-groups --bounding-set=-all --inh-caps=-all "   \
    "--no-new-privs"

static const char *why_not; /* NULL: the tests can run */
static char wrapper[256];

/* The program that the tests start from now on: lastcall as the user nobody. */
static void make_wrapper(const char *program)
{
    FILE *file = fopen(wrapper, "w");
    assert_non_null(file);
    (void)fprintf(file, "#!/bin/sh\nexec " SETPRIV " '%s' \"$@\"\n", program);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(wrapper, 0755), 0);
}

static int group_setup(void **state)
{
    char command[320];
    const char *program = getenv("LASTCALL_BINARY");

    if (make_directory(state) != 0)
        return -1;
    assert_non_null(program);
    (void)snprintf(wrapper, sizeof(wrapper), "%s", in_directory("as-nobody"));
    make_wrapper(program);
    (void)snprintf(command, sizeof(command), "'%s' --version >/dev/null 2>&1", wrapper);
    if (process_runs_under_valgrind())
        why_not = "valgrind would follow setpriv";
    else if (geteuid() != 0)
        why_not = "needs root";
    else if (system(SETPRIV " true >/dev/null 2>&1") != 0)
        why_not = "needs setpriv (util-linux)";
    else if (system(command) != 0)
        why_not = "needs the program where the user nobody may run it";
    else
        assert_int_equal(setenv("LASTCALL_BINARY", wrapper, 1), 0);
    return 0;
}

static void skip_unless_possible(void)
{
    if (why_not != NULL)
        skip_test(why_not);
}

static void assert_has_no_capability(const struct process *p)
{
    char path[64], line[256];
    unsigned checked = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)p->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "Cap", 3) == 0) {
            assert_non_null(strstr(line, "\t0000000000000000"));
            checked++;
        }
    (void)fclose(file);
    assert_int_equal(checked, 5);
}

static void stop_under_load(const char *listen, const char *client)
{
    struct load_options load = {.protocol = LOAD_HTTP1_CLOSE,
                                .connections = CONNECTIONS,
                                .duration_ms = 60000,
                                .patience_ms = 60000,
                                .signal_after_ms = 200,
                                .signal_after_answers = 2 * CONNECTIONS,
                                .on_signal = send_term,
                                .server_is_gone = is_gone};
    struct load_result result;
    struct process p;
    char address[ADDRESS_SIZE];

    skip_unless_possible();
    process_start(&p, listen,
                  (const char *const[]){"--threads", "2", "--deadline", "60s", "--idle-grace",
                                        "10s", "--admin", "off", NULL});
    assert_has_no_capability(&p);
    (void)snprintf(address, sizeof(address), "%s:%u", client, (unsigned)p.port);
    load.address = address;
    load.on_signal_arg = load.server_is_gone_arg = &p;
    assert_int_equal(load_run(&load, &result), 0);
    process_expect(&p, 60000, 0);
    if (result.lost != 0 || result.waiting != 0)
        fail_msg("%llu lost, %llu waiting of %llu sent; first: %s; log:\n%s",
                 (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.sent, result.first_loss, p.log);
    assert_true(result.answered > CONNECTIONS);
    assert_null(strstr(p.log, "cannot keep newcomers"));
    process_release(&p);
}

static void test_stop_over_ipv4_loses_nothing(void **state)
{
    (void)state;
    stop_under_load("127.0.0.1:0", "127.0.0.1");
}

static void test_stop_over_ipv6_loses_nothing(void **state)
{
    (void)state;
    stop_under_load("[::1]:0", "[::1]");
}

static void test_stop_of_both_families_on_one_listener_loses_nothing(void **state)
{
    (void)state;
    stop_under_load("0", "127.0.0.1");
    stop_under_load("0", "[::1]");
}

int main(void)
{
    (void)alarm(600);
#define CLAIM(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        CLAIM(test_stop_over_ipv4_loses_nothing),
        CLAIM(test_stop_over_ipv6_loses_nothing),
        CLAIM(test_stop_of_both_families_on_one_listener_loses_nothing),
    };
    return cmocka_run_group_tests_name("unprivileged", tests, group_setup, remove_directory);
}

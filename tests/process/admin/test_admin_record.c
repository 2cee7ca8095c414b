/* What the admin listener says of requests that were not answered, and the orders that concern the
 * process as a whole: a restart, and a drain that keeps to the deadlines in the file. */

#include "process.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "directory.h"

#define LIMIT_MS 30000
#define ARGS(...)                                                                                  \
    ((const char *const[]){"--threads", "1", "--admin", address, "--restart-probation", "20ms",    \
                           __VA_ARGS__, NULL})

static char address[128], journal[128];

static void test_without_a_journal_there_is_nothing_unfinished(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--queue", "7"));
    admin = admin_of(&p);
    admin_expect(&admin, "GET", "/unfinished", "", NULL, 404, "journal: {dir: DIR}");
    json_t *status = admin_status(&admin);
    assert_true(json_is_null(admin_at(status, "journal")));
    assert_int_equal((int)admin_number(status, "generation"), 1);
    json_decref(status);
    process_release(&p);
}

static void test_what_a_crash_has_left_is_shown_and_counted(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--journal-dir", journal));
    admin = admin_of(&p);
    admin_expect(&admin, "GET", "/unfinished", "", NULL, 200, "\"open\":0");
    int fd = client_connect(&p);
    client_send(fd,
                "POST /sleep?ms=60000 HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\n12345");
    admin_wait_number(&admin, "pool.running", 1);
    admin_wait_number(&admin, "journal.on_record", 1);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    (void)close(fd);
    process_release(&p);

    process_start(&p, NULL, ARGS("--journal-dir", journal));
    admin = admin_of(&p);
    admin_expect(&admin, "GET", "/unfinished", "", NULL, 200, "\"open\":1");
    admin_expect(&admin, "GET", "/unfinished", "", NULL, 200, "\"path\":\"/sleep?ms=60000\"");
    admin_expect(&admin, "GET", "/unfinished", "", NULL, 200, "\"class\":\"may-have-run\"");
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200, "lastcall_journal_archived_total 1\n");
    json_t *status = admin_status(&admin);
    assert_int_equal((int)admin_number(status, "journal.archived"), 1);
    json_decref(status);
    process_release(&p);
}

static void test_restart_is_ordered_and_another_process_answers(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "20s"));
    admin = admin_of(&p);
    admin_order(&admin, "/restart", "{\"now\": true}", 400, "unknown key now");
    admin_order(&admin, "/restart", "{}", 202, "true");
    assert_true(process_says(&p, "generation 2 serves", LIMIT_MS));
    process_expect(&p, LIMIT_MS, 0);
    admin_wait_number(&admin, "generation", 2);
    json_t *status = admin_status(&admin);
    pid_t successor = (pid_t)admin_number(status, "pid");
    json_decref(status);
    assert_int_not_equal(successor, p.pid);
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200, "lastcall_generation 2\n");
    admin_order(&admin, "/drain", "{}", 202, "true");
    while (waitpid(successor, NULL, 0) != successor)
        assert_int_equal(kill(successor, 0), 0);
    process_release(&p);
}

static void test_drain_without_a_deadline_keeps_those_of_the_file(void **state)
{
    struct process p, admin;
    char conf[160];
    (void)state;
    (void)snprintf(conf, sizeof(conf), "%s/conf", directory);
    FILE *file = fopen(conf, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "user: %s\n"
                  "drain: {lame-duck: 20s, deadline: 2s, deadlines: {upload: 9s}}\n"
                  "hosts: {default: {paths: {/: {handler: hello}}}}\n",
                  own_user_name());
    assert_int_equal(fclose(file), 0);
    process_start(&p, NULL, ARGS("--conf", conf));
    admin = admin_of(&p);
    admin_order(&admin, "/drain", "{}", 202, "true");
    admin_wait_text(&admin, "phase", "lame-duck");
    json_t *status = admin_status(&admin);
    assert_int_equal((int)admin_number(status, "drain.deadline_ms"), 9000);
    json_decref(status);
    process_release(&p);
}

static int set_up(void **state)
{
    if (make_directory_in_memory(state) != 0)
        return -1;
    (void)snprintf(address, sizeof(address), "unix:%s", in_directory("admin.sock"));
    (void)snprintf(journal, sizeof(journal), "%s", directory);
    return 0;
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_without_a_journal_there_is_nothing_unfinished),
        claim(test_what_a_crash_has_left_is_shown_and_counted),
        claim(test_restart_is_ordered_and_another_process_answers),
        claim(test_drain_without_a_deadline_keeps_those_of_the_file),
    };
    (void)alarm(240);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests_name("admin_record", tests, set_up, remove_directory);
}

/* The real process with an application of its own, as in test_app.c: how it is stopped, how it ends
 * by itself, and that nothing is lost. */

#include "with_app.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"
#include "skip.h"

/* ---- stopping ---- */

static void test_it_is_stopped_when_its_requests_are_answered(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, NULL, APP(PYTHON)); /* which dies on SIGTERM at once */
    int fd = client_connect(&p);
    client_send(fd, GET("/gated"));
    admin_wait_in_flight(&p, 1);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "1 request in flight");
    process_wait_log(&p, "listeners closed");
    open_gate(NULL);
    client_expect(fd, "through\n");
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    assert_true(strstr(p.log, "drained in ") < strstr(p.log, "SIGTERM to process group"));
    assert_contains(p.log, "was ended by SIGTERM");
    process_release(&p);
}

static void test_a_deaf_application_is_killed_after_its_grace(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--app-grace", "200ms"), APP(PYTHON, "deaf"));
    pid_t app = last_pid(&p, "started as process ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "SIGKILL to process group");
    wait_dead(app);
    process_release(&p);
}

static void test_another_signal_ends_the_grace(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--app-grace", "5m"), APP(PYTHON, "deaf"));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "stopping the application");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_after_the_deadline_its_grace_is_short(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--app-grace", "5m", "--deadline", "100ms"), APP(PYTHON, "deaf"));
    int fd = client_connect(&p);
    client_send(fd, GET("/slow?ms=600000"));
    wait_taken(&p, 1);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "unfinished: GET /slow?ms=600000");
    (void)close(fd);
    process_release(&p);
}

static void test_requests_that_wait_are_waited_for(void **state)
{
    struct process p;
    (void)state;
    start(&p, NULL, APP(PYTHON, "late"));
    int fd = client_connect(&p);
    client_send(fd, GET("/"));
    wait_taken(&p, 1);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    open_gate(NULL);
    char *answer = client_read_answer(fd);
    assert_contains(answer, "Connection: close\r\n");
    assert_contains(answer, "python\n");
    free(answer);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_requests_that_wait_too_long_are_on_record(void **state)
{
    struct process p;
    (void)state;
    start(&p, APP("--deadline", "200ms"), APP(PYTHON, "late"));
    int fd = client_connect(&p);
    client_send(fd, "POST /order HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab");
    wait_taken(&p, 1);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "unfinished: POST /order");
    assert_contains(p.log, "held");
    (void)close(fd);
    process_release(&p);
}

static void test_its_workers_end_with_it(void **state)
{
    struct process p;
    int child = 0, orphan = 0;
    (void)state;
    start_up(&p, NULL, APP(PYTHON, "family"));
    char *answer = client_ask(&p, GET("/pids"));
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    wait_dead(child);
    wait_dead(orphan);
    process_release(&p);
}

static void test_workers_have_the_rest_of_the_grace(void **state)
{
    struct process p;
    (void)state;
    /* The shell dies of the signal at once; its child handles it. */
    char command[512];
    (void)snprintf(command, sizeof(command), "python3 %s/app/app.py polite; exit 9",
                   LASTCALL_SUPPORT_FOLDER);
    start_up(&p, APP("--app-grace", "60s"), APP("sh", "-c", command));
    char *answer = client_ask(&p, GET("/pid"));
    int server = (int)strtol(strstr(answer, "\r\n\r\n") + 4, NULL, 10);
    free(answer);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_null(strstr(p.log, ": SIGKILL"));
    wait_dead(server);
    process_release(&p);
}

static void test_it_does_not_outlive_a_killed_server(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, NULL, APP(PYTHON, "deaf"));
    pid_t app = last_pid(&p, "started as process ");
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    wait_dead(app);
    process_release(&p);
}

/* ---- ending by itself ---- */

static void ends_with(const char *const *command, const char *request, int want, const char *said)
{
    struct process p;
    start_up(&p, NULL, command);
    char *answer = client_ask(&p, request);
    assert_contains(answer, "HTTP/1.1 502 "); /* the one that ended it */
    free(answer);
    process_expect(&p, LIMIT_MS, want);
    assert_contains(p.log, said);
    assert_contains(p.log, "drained in ");
    process_release(&p);
}

static void test_its_exit_status_is_passed_on(void **state)
{
    (void)state;
    ends_with(APP(PYTHON), GET("/exit?status=7"), 7, "ended with status 7");
    if (have_node())
        ends_with(APP(NODE), GET("/exit?status=8"), 8, "ended with status 8");
}

static void test_a_crash_is_passed_on_as_128_and_the_signal(void **state)
{
    (void)state;
    ends_with(APP(PYTHON), GET("/crash"), 128 + SIGSEGV, "was ended by SIGSEGV");
    if (have_node())
        ends_with(APP(NODE), GET("/crash"), 128 + SIGSEGV, "was ended by SIGSEGV");
}

static void test_a_crash_takes_its_workers_along(void **state)
{
    struct process p;
    int child = 0, orphan = 0;
    (void)state;
    start_up(&p, APP("--restart"), APP(PYTHON, "family"));
    char *answer = client_ask(&p, GET("/pids"));
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    free(client_ask(&p, GET("/crash")));
    wait_dead(child);
    wait_dead(orphan);
    wait_no_zombies(&p);
    assert_answer(&p, GET("/"), "python\n"); /* of the next one */
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_what_it_leaves_unfinished_wins_over_its_status(void **state)
{
    (void)state;
    leaves_a_request_unfinished(APP("--deadline", "200ms"));
}

static void test_its_end_in_a_drain_is_logged_and_changes_no_status(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, NULL, APP(PYTHON));
    int fd = client_connect(&p);
    client_send(fd, GET("/slow?ms=600000"));
    wait_taken(&p, 1);
    int half = client_connect(&p); /* keeps the drain going until its end was seen */
    client_send(half, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n");
    wait_taken(&p, 2);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    (void)kill(last_pid(&p, "started as process "), SIGTERM); /* as one to the whole container */
    client_expect(fd, "HTTP/1.1 502 ");
    (void)close(fd);
    process_wait_log(&p, "before the drain was over");
    client_send(half, "12345");
    client_expect(half, "HTTP/1.1 502 ");
    (void)close(half);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_it_is_started_again_and_requests_wait_meanwhile(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--restart"), APP(PYTHON));
    pid_t first = last_pid(&p, "started as process ");
    free(client_ask(&p, GET("/exit?status=3")));
    process_wait_log(&p, "again in 100ms");
    assert_answer(&p, GET("/"), "python\n");
    free(client_ask(&p, GET("/crash")));
    process_wait_log(&p, "again in 200ms");
    assert_answer(&p, GET("/"), "python\n");
    assert_int_not_equal(last_pid(&p, "started as process "), first);
    assert_int_equal(zombies_of(&p), 0);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_a_drain_does_not_wait_for_another_start(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--restart"), APP(PYTHON));
    free(client_ask(&p, GET("/exit?status=3")));
    process_wait_log(&p, "again in 100ms");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- no loss ---- */

static unsigned runs(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 5;
    return n >= 1 && n < 5 ? (unsigned)n : 5;
}

static void stop_under_load(const char *const *command, enum load_protocol protocol, unsigned run)
{
    struct process p;
    struct load_result result;
    struct load_options load = {.protocol = protocol,
                                .connections = 16,
                                .path = run % 2 == 0 ? "/" : "/slow?ms=20",
                                .duration_ms = LIMIT_MS, /* it ends with the server */
                                .patience_ms = LIMIT_MS,
                                .signal_after_ms = 150,
                                .signal_after_answers = 20,
                                .on_signal = send_term,
                                .on_signal_arg = &p,
                                .server_is_gone = is_gone,
                                .server_is_gone_arg = &p};

    start_up(&p, APP("--deadline", "60s"), command);
    pid_t app = last_pid(&p, "started as process ");
    load.address = p.address;
    load.server_pid = p.pid;
    assert_int_equal(load_run(&load, &result), 0);
    int status = process_wait(&p, LIMIT_MS);
    if (result.lost != 0 || result.waiting != 0 || status != 0 ||
        result.answered_2xx != result.answered)
        fail_msg("run %u: %llu lost, %llu waiting, %llu of %llu answers are 2xx, status %d; first: "
                 "%s; log:\n%s",
                 run, (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.answered_2xx, (unsigned long long)result.answered,
                 status, result.first_loss, p.log);
    assert_true(result.answered_after_signal > 0);
    wait_dead(app);
    process_release(&p);
    (void)with_app_set_up(NULL); /* another port */
}

static void test_nothing_is_lost_before_python(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        stop_under_load(APP(PYTHON), LOAD_HTTP1_KEEPALIVE, run);
        stop_under_load(APP(PYTHON, "polite"), LOAD_HTTP1_CLOSE, run);
    }
}

static void test_nothing_is_lost_before_node(void **state)
{
    (void)state;
    if (!have_node())
        skip_test("needs node (apt-get install nodejs)");
    for (unsigned run = 0; run < runs(); run++) {
        stop_under_load(APP(NODE), LOAD_HTTP1_CLOSE, run);
        stop_under_load(APP(NODE, "polite"), LOAD_HTTP1_KEEPALIVE, run);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, with_app_set_up, with_app_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_it_is_stopped_when_its_requests_are_answered),
        TEST(test_a_deaf_application_is_killed_after_its_grace),
        TEST(test_another_signal_ends_the_grace),
        TEST(test_after_the_deadline_its_grace_is_short),
        TEST(test_requests_that_wait_are_waited_for),
        TEST(test_requests_that_wait_too_long_are_on_record),
        TEST(test_its_workers_end_with_it),
        TEST(test_workers_have_the_rest_of_the_grace),
        TEST(test_it_does_not_outlive_a_killed_server),
        TEST(test_its_exit_status_is_passed_on),
        TEST(test_a_crash_is_passed_on_as_128_and_the_signal),
        TEST(test_a_crash_takes_its_workers_along),
        TEST(test_what_it_leaves_unfinished_wins_over_its_status),
        TEST(test_its_end_in_a_drain_is_logged_and_changes_no_status),
        TEST(test_it_is_started_again_and_requests_wait_meanwhile),
        TEST(test_a_drain_does_not_wait_for_another_start),
        TEST(test_nothing_is_lost_before_python),
        TEST(test_nothing_is_lost_before_node),
    };

    (void)alarm(900);
    return cmocka_run_group_tests_name("app_stop", tests, NULL, NULL);
}

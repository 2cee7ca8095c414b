/* Scripts of CGI and the end of their requests: a drain waits for them, its deadline ends them with
 * their groups, a client that leaves does; and no stop under load loses a request. */

#include "with_cgi.h"

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

/* It ignores SIGTERM, as its child does. */
#define STUBBORN                                                                                   \
    "trap '' TERM; exec 3>$DIR/held; (sleep 1000) & echo >&3; while :; do sleep 1000; done"
/* After the deadline: debug builds give scripts and threads longer. */
#define LATE_MS 20000

/* ---- drains ---- */

static void test_a_drain_waits_for_a_script(void **state)
{
    struct process p;
    (void)state;
    int begun = make_fifo("begun");
    (void)close(make_fifo("go"));
    write_script("slow", "exec 3>$DIR/begun; echo >&3; cat $DIR/go; " TYPE "printf done");
    start_with(&p, CGI(""), ARGS("--deadline", "60s"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/slow"));
    wait_fifo_begin(begun);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    open_fifo("go");
    char *text = client_read_until(fd, "done");
    assert_contains(text, "HTTP/1.1 200 OK\r\n");
    assert_contains(text, "done");
    free(text);
    process_expect(&p, LATE_MS, 0);
    (void)close(fd);
    (void)close(begun);
    process_release(&p);
}

static void test_the_deadline_kills_what_ignores_sigterm(void **state)
{
    struct process p;
    (void)state;
    int held = make_fifo("held");
    write_script("stubborn", STUBBORN);
    start_with(&p, CGI(", grace: 10m"), ARGS("--deadline", "500ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/stubborn"));
    wait_fifo_begin(held);
    process_signal(&p, SIGTERM);
    process_expect(&p, LATE_MS, 3);
    wait_fifo_end(held);
    assert_contains(p.log, "SIGKILL to 1 script still running, with their process groups");
    assert_contains(p.log, "/cgi/stubborn");
    (void)close(fd);
    process_release(&p);
}

static void test_the_deadline_sends_sigterm_first(void **state)
{
    struct process p;
    (void)state;
    int begun = make_fifo("begun");
    (void)unlink(in_directory("cleaned"));
    write_script("cleans", "trap 'echo cleaned >$DIR/cleaned; exit' TERM; "
                           "exec 3>$DIR/begun; echo >&3; sleep 1000 & wait");
    start_with(&p, CGI(", grace: 10m"), ARGS("--deadline", "500ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/cleans"));
    wait_fifo_begin(begun);
    process_signal(&p, SIGTERM);
    process_expect(&p, LATE_MS, 3);
    wait_fifo_end(begun);
    assert_true(is_there("cleaned"));
    assert_lacks(p.log, "still running");
    (void)close(fd);
    process_release(&p);
}

static void test_a_second_signal_kills_scripts(void **state)
{
    struct process p;
    (void)state;
    int held = make_fifo("held");
    write_script("stubborn", STUBBORN);
    start_with(&p, CGI(", grace: 10m"), ARGS("--deadline", "60s"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/stubborn"));
    wait_fifo_begin(held);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    process_signal(&p, SIGTERM);
    process_expect(&p, LATE_MS, 4);
    wait_fifo_end(held);
    (void)close(fd);
    process_release(&p);
}

/* ---- clients ---- */

static void test_a_client_that_leaves_ends_its_script(void **state)
{
    struct process p;
    (void)state;
    int held = make_fifo("held");
    write_script("stubborn", STUBBORN);
    start(&p, CGI(", grace: 200ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/stubborn"));
    wait_fifo_begin(held);
    (void)close(fd);
    wait_fifo_end(held);
    process_wait_log(&p, "after SIGTERM: SIGKILL to its process group");
    finish(&p);
}

/* It prints, and does not read what the client sends: the client is missed at the next piece. */
static void test_a_client_that_leaves_a_stream_ends_its_script(void **state)
{
    struct process p;
    (void)state;
    int held = make_fifo("held");
    write_script("streams", TYPE "exec 3>$DIR/held; echo >&3; yes");
    start(&p, CGI(", max-output: 0"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/streams"));
    wait_fifo_begin(held);
    free(client_read_until(fd, "y\ny\n"));
    (void)close(fd);
    wait_fifo_end(held);
    finish(&p);
}

static void test_a_client_that_takes_nothing_ends_its_script(void **state)
{
    struct process p;
    (void)state;
    int held = make_fifo("held");
    write_script("streams", TYPE "exec 3>$DIR/held; echo >&3; yes");
    start(&p, CGI(", max-output: 0, write-timeout: 500ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/cgi/streams"));
    wait_fifo_end(held);
    process_wait_log(&p, "was stopped: the client took nothing for longer than write-timeout");
    (void)close(fd);
    finish(&p);
}

/* ---- beside an application ---- */

/* Its reaper of orphans waits for any child; it must not take the status of a script. */
static void test_beside_an_application_each_script_has_its_status(void **state)
{
    struct answer_of answer;
    struct process p;
    (void)state;
    write_script("fails", TYPE "head -c 300000 /dev/zero; exit 3");
    start_with(&p, CGI("") "app: {url: \"http://127.0.0.1:1\", start-timeout: 10m}\n",
               ARGS("--", "sleep", "1000"));
    for (unsigned i = 0; i < 100; i++) {
        request(&p, HTTP_1, "/cgi/fails", NULL, 0, &answer);
        assert_int_equal(answer.status, 200);
        assert_false(answer.is_whole); /* without its status, it would seem to be */
        answer_of_release(&answer);
    }
    finish(&p);
}

/* ---- load ---- */

#define CONNECTIONS 12
#define RUNS 3

static const struct shape {
    const char *name;
    struct load_options load;
} shapes[] = {
    {"keep-alive", {.protocol = LOAD_HTTP1_KEEPALIVE, .path = "/cgi/hello"}},
    {"new connections, with bodies",
     {.protocol = LOAD_HTTP1_CLOSE, .path = "/cgi/echo", .body_bytes = 65536}},
    {"HTTP/2", {.protocol = LOAD_HTTP2, .streams = 4, .path = "/cgi/hello"}},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void stop_once(const struct shape *shape)
{
    struct load_options load = shape->load;
    struct load_result result;
    struct process p;

    start_with(&p, CGI(""), ARGS("--deadline", "60s"));
    load.address = p.address;
    load.connections = CONNECTIONS;
    load.duration_ms = 60000;
    load.patience_ms = 60000;
    load.signal_after_ms = 300;
    load.signal_after_answers = 60;
    load.on_signal = send_term;
    load.on_signal_arg = &p;
    load.server_is_gone = is_gone;
    load.server_is_gone_arg = &p;
    assert_int_equal(load_run(&load, &result), 0);
    int status = process_wait(&p, 60000);
    if (result.lost != 0 || result.waiting != 0 || status != 0)
        fail_msg("%llu lost, %llu waiting of %llu sent, status %d; first: %s; log:\n%s",
                 (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.sent, status, result.first_loss, p.log);
    assert_true(result.answered >= 60);
    assert_int_equal(result.answered_2xx, result.answered);
    print_message("%s: %llu answered, %llu of them after the signal\n", shape->name,
                  (unsigned long long)result.answered,
                  (unsigned long long)result.answered_after_signal);
    process_release(&p);
}

static void test_no_stop_under_load_loses_a_request(void **state)
{
    (void)state;
    write_script("hello", TYPE "echo Hello World");
    write_script("echo", TYPE "cat");
    for (size_t i = 0; i < SHAPES; i++)
        for (unsigned run = 0; run < RUNS; run++)
            stop_once(&shapes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_drain_waits_for_a_script, process_kill_left),
        cmocka_unit_test_teardown(test_the_deadline_kills_what_ignores_sigterm, process_kill_left),
        cmocka_unit_test_teardown(test_the_deadline_sends_sigterm_first, process_kill_left),
        cmocka_unit_test_teardown(test_a_second_signal_kills_scripts, process_kill_left),
        cmocka_unit_test_teardown(test_a_client_that_leaves_ends_its_script, process_kill_left),
        cmocka_unit_test_teardown(test_a_client_that_leaves_a_stream_ends_its_script,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_a_client_that_takes_nothing_ends_its_script,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_beside_an_application_each_script_has_its_status,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_no_stop_under_load_loses_a_request, process_kill_left),
    };
    (void)alarm(900);
    return cmocka_run_group_tests(tests, with_cgi_set_up, remove_directory);
}

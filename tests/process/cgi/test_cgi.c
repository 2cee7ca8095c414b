/* CGI in the real process: its directive, and scripts over HTTP/1.1 and HTTP/2. */

#include "with_cgi.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "skip.h"

#define LARGE ((size_t)10 << 20)

/* ---- the directive ---- */

static void test_a_wrong_directive_is_refused(void **state)
{
    static const struct {
        const char *text, *line;
    } cases[] = {
        {PATH("handler.cgi: @/none"), "the folder of scripts @/none: No such file or directory"},
        {PATH("handler.cgi: @/a.key"), "the folder of scripts @/a.key: Not a directory"},
        {PATH("handler.cgi: ''"), "path is missing: the folder of the scripts"},
        {PATH("handler.cgi: {timeout: 1s}"), "path is missing: the folder of the scripts"},
        {PATH("handler.cgi: [@/cgi]"), "want the folder of the scripts, or a mapping with path"},
        {PATH("handler.cgi: {path: @/cgi, speed: 1}"), "unknown key speed; known are path, "},
        {PATH("handler.cgi: {path: @/cgi, timeout: 10}"), "timeout 10: want a duration"},
        {PATH("handler.cgi: {path: @/cgi, timeout: [1s]}"), "timeout must be a text or a number"},
        {PATH("handler.cgi: {path: @/cgi, grace: 11m}"), "grace 11m: want a duration from 0 to"},
        {PATH("handler.cgi: {path: @/cgi, max-output: x}"), "max-output x: want a size"},
        {PATH("handler.cgi: {path: @/cgi, max-running: 4097}"),
         "max-running 4097: want a whole number from 0 to 4096"},
        {PATH("handler.cgi: {path: @/cgi, authorization: yes}"),
         "authorization yes: want ON or OFF"},
        {PATH("handler.cgi: {path: @/cgi, symlinks: no}"), "symlinks no: want inside or anywhere"},
        {PATH("handler.cgi: {path: @/cgi, env: x}"), "env must be a mapping"},
        {PATH("handler.cgi: {path: @/cgi, env: {A: [b]}}"), "env: a variable must be a name"},
        {PATH("handler.cgi: {path: @/cgi, env: {HTTP_PROXY: b}}"), "env: HTTP_PROXY: want a name"},
        {PATH("handler.cgi: {path: @/cgi, env: {A-B: b}}"), "env: A-B: want a name"},
        {LISTEN "handler.cgi: @/cgi\n" HELLO, "@/x.conf:2:1: "},
    };
    char line[256];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *path = write_file("x.conf", cases[i].text);
        (void)snprintf(line, sizeof(line), "%s", expanded(cases[i].line));
        assert_ends(ARGS("-t", "-c", path), 78, 1, line);
        assert_ends(ARGS("-c", path), 78, 1, line);
    }
}

static void test_a_right_directive_is_accepted(void **state)
{
    static const char *const cases[] = {
        PATH("handler.cgi: @/cgi"),
        PATH("handler.cgi: {path: @/cgi}"),
        PATH("handler.cgi: {path: @/cgi, timeout: 0, write-timeout: 0, grace: 0, max-output: 0, "
             "max-body: 1MB, max-running: 2, authorization: ON, "
             "symlinks: anywhere, env: {A: b, C: 1}}"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_accepted(cases[i]);
}

/* ---- requests and answers ---- */

static void test_get_and_post_over_both_protocols(void **state)
{
    static const enum http protocols[] = {HTTP_1, HTTP_2};
    struct answer_of answer;
    struct process p;
    (void)state;
    write_script("hello", "printf 'Content-Type: text/x\\nX-Mine: a\\nStatus: 201\\n\\n'; "
                          "printf '%s %s?%s ' $REQUEST_METHOD \"$PATH_INFO\" $QUERY_STRING; "
                          "printf '%s %s' $CONTENT_TYPE $CONTENT_LENGTH; cat");
    start(&p, CGI(""));
    for (size_t i = 0; i < 2; i++) {
        request(&p, protocols[i], "/cgi/hello/a%20b?c=d", NULL, 0, &answer);
        assert_int_equal(answer.status, 201);
        assert_contains(answer.body, "GET /a b?c=d ");
        assert_contains(answer.head, "ontent-");
        assert_contains(answer.head, ": text/x\r\n");
        assert_contains(answer.head, ": a\r\n");
        answer_of_release(&answer);
        request(&p, protocols[i], "/cgi/hello", "body", 4, &answer);
        assert_int_equal(answer.status, 201);
        assert_contains(answer.body, "application/x-test 4body");
        answer_of_release(&answer);
    }
    finish(&p);
}

static void test_large_bodies_go_both_ways(void **state)
{
    static const enum http protocols[] = {HTTP_1, HTTP_2};
    struct answer_of answer;
    struct process p;
    char *body = malloc(LARGE);
    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < LARGE; i++)
        body[i] = (char)(i * 2654435761U >> 13);
    write_script("echo", "printf 'Content-Type: application/octet-stream\\n\\n'; cat");
    write_program("late", "#!/usr/bin/env python3\n"
                          "import os, sys\n"
                          "n = int(os.environ['CONTENT_LENGTH'])\n"
                          "out = sys.stdout.buffer\n"
                          "out.write(b'Content-Type: a/b\\r\\n\\r\\n' + b'x' * n)\n"
                          "out.flush()\n" /* prints all before it reads anything */
                          "out.write(b'%d' % len(sys.stdin.buffer.read()))\n");
    start(&p, CGI(""));
    for (size_t i = 0; i < 2; i++) {
        request(&p, protocols[i], "/cgi/echo", body, LARGE, &answer);
        assert_true(answer.is_whole);
        assert_int_equal(answer.bytes, LARGE);
        assert_memory_equal(answer.body, body, LARGE);
        answer_of_release(&answer);
        request(&p, protocols[i], "/cgi/late", body, LARGE, &answer);
        assert_true(answer.is_whole);
        assert_int_equal(answer.bytes, LARGE + 8);
        assert_string_equal(answer.body + LARGE, "10485760");
        answer_of_release(&answer);
    }
    free(body);
    finish(&p);
}

static void test_a_head_request(void **state)
{
    struct process p;
    (void)state;
    write_script("doc", TYPE "printf body");
    start(&p, CGI(""));
    int fd = client_connect(&p);
    client_send(fd, "HEAD /cgi/doc HTTP/1.1\r\nHost: test\r\n\r\n" GET("/hello"));
    char *text = client_read_until(fd, "Hello World\n");
    assert_contains(text, "HTTP/1.1 200 OK\r\n");
    assert_contains(text, "Content-Length: 4\r\n");
    assert_lacks(text, "body");
    free(text);
    (void)close(fd);
    finish(&p);
}

static void test_other_paths(void **state)
{
    struct process p;
    (void)state;
    write_script("doc", TYPE "printf body");
    write_file("cgi/data", "");
    start(&p, CGI(""));
    assert_get(&p, "/cgi/", 404, "there is no such script");
    assert_get(&p, "/cgi", 404, "there is no such script");
    assert_get(&p, "/cgi/none", 404, "there is no such script");
    assert_get(&p, "/cgi/data", 403, "this may not be run");
    assert_get(&p, "/cgi/x/%2e%2e/doc", 200, "body");
    assert_get(&p, "/hello", 200, "Hello World");
    finish(&p);
}

/* ---- what a script finds ---- */

static void test_the_environment_is_clean(void **state)
{
    static const enum http protocols[] = {HTTP_1, HTTP_2};
    struct answer_of answer;
    struct process p;
    (void)state;
    assert_int_equal(setenv("SECRET_OF_THE_SERVER", "x", 1), 0);
    write_script("env", TYPE "env");
    start(&p, CGI(", env: {LANG: C.UTF-8, DIR2: @}"));
    for (size_t i = 0; i < 2; i++) {
        request(&p, protocols[i], "/cgi/env?a=b", NULL, 0, &answer);
        assert_contains(answer.body, "GATEWAY_INTERFACE=CGI/1.1\n");
        assert_contains(answer.body, "SCRIPT_NAME=/cgi/env\n");
        assert_contains(answer.body, "REMOTE_ADDR=127.0.0.1\n");
        assert_contains(answer.body, "SERVER_NAME=127.0.0.1\n");
        assert_contains(answer.body, "HTTP_HOST=127.0.0.1:");
        assert_contains(answer.body, "LANG=C.UTF-8\n");
        assert_lacks(answer.body, "SECRET_OF_THE_SERVER");
        assert_lacks(answer.body, "HTTP_PROXY");
        assert_lacks(answer.body, "AUTHORIZATION");
        assert_int_equal(count_in(answer.body, "HTTP_HOST="), 1);
        assert_int_equal(count_in(answer.body, "PATH=/"), 1);
        answer_of_release(&answer);
    }
    finish(&p);
}

/* Two of `ls` itself are pipes, one is /dev/null, one the folder. */
/* process_open_files lowers the hard limit as well, and then nothing can be raised. */
static void lower_soft_limit(void)
{
    struct rlimit files;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = 300;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

static void test_descriptors_signals_and_limits_are_those_of_a_fresh_process(void **state)
{
    struct rlimit files;
    struct process p;
    char want[128];
    (void)state;
    write_script("fds", TYPE "ls /proc/self/fd | wc -l");
    write_script("signals", TYPE "while read name bits; do case $name in SigBlk:|SigIgn:) "
                                 "printf '%s %s\\n' $name $bits;; esac; done </proc/$$/status");
    /* The limit is set a moment after the start. */
    write_script("limit", TYPE "until [ $(ulimit -Sn) = $FILES ]; do :; done; printf '%s' $FILES");
    process_open_files = 300;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    start(&p, CGI(", env: {FILES: 300, DIR3: @}"));
    process_open_files = 0;
    assert_get(&p, "/cgi/fds", 200, "4\n");
    assert_get(&p, "/cgi/signals", 200, "SigBlk: 0000000000000000\nSigIgn: 0000000000000000\n");
    (void)snprintf(want, sizeof(want), "300");
    assert_get(&p, "/cgi/limit", 200, want);
    finish(&p);
}

/* The successor inherits the limit that its predecessor has raised. */
static void test_after_a_restart_a_script_has_the_first_limit(void **state)
{
    struct process p;
    int status = -1;
    (void)state;
    write_script("limit", TYPE "until [ $(ulimit -Sn) = $FILES ]; do :; done; printf '%s' $FILES");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    process_in_child = lower_soft_limit;
    start_with(&p, CGI(", timeout: 10s, env: {FILES: 300, DIR3: @}"),
               ARGS("--restart-probation", "50ms"));
    process_in_child = NULL;
    assert_get(&p, "/cgi/limit", 200, "300");
    pid_t pid = p.pid;
    for (unsigned n = 2; n <= 3; n++) { /* and so does the successor's */
        char text[64];
        assert_int_equal(kill(pid, SIGHUP), 0);
        (void)snprintf(text, sizeof(text), "generation %u serves: process ", n);
        process_wait_log(&p, text);
        pid = (pid_t)strtol(strstr(p.log, text) + strlen(text), NULL, 10);
        assert_get(&p, "/cgi/limit", 200, "300");
    }
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(kill(pid, SIGTERM), 0);
    pid_t ended; /* the second one comes first: until then the third is its child */
    do {
        ended = waitpid(-1, &status, 0);
        assert_int_not_equal(ended, -1);
        assert_int_equal(status, 0);
    } while (ended != pid);
    process_release(&p);
}

/* ---- limits ---- */

static void test_a_script_has_its_time(void **state)
{
    struct process p;
    (void)state;
    int fd = make_fifo("late");
    write_script("late", "exec 3>$DIR/late; echo >&3; sleep 1000 & wait");
    start(&p, CGI(", timeout: 1s"));
    assert_get(&p, "/cgi/late", 504, "the script took too long");
    wait_fifo_end(fd);
    process_wait_log(&p, "/cgi/late (process ");
    process_wait_log(&p, "ran longer than its timeout");
    finish(&p);
}

static void test_the_number_of_scripts_is_limited(void **state)
{
    struct process p;
    int running[2];
    (void)state;
    int begun = make_fifo("begun");
    (void)close(make_fifo("go0"));
    (void)close(make_fifo("go1"));
    write_script("waits",
                 "exec 3>$DIR/begun; echo >&3; cat $DIR/$QUERY_STRING; " TYPE "printf done");
    start(&p, CGI(", max-running: 2"));
    for (size_t i = 0; i < 2; i++) {
        running[i] = client_connect(&p);
        client_send(running[i], i == 0 ? GET("/cgi/waits?go0") : GET("/cgi/waits?go1"));
        wait_fifo_begin(begun);
    }
    assert_get(&p, "/cgi/waits", 503, "try again later");
    assert_answer(&p, GET("/cgi/waits"), "retry-after: 1\r\n");
    assert_get(&p, "/hello", 200, "Hello World"); /* others are not limited */
    for (size_t i = 0; i < 2; i++) {
        open_fifo(i == 0 ? "go0" : "go1");
        client_expect(running[i], "done");
        (void)close(running[i]);
    }
    (void)close(begun);
    finish(&p);
}

static void test_a_body_has_its_limit(void **state)
{
    struct answer_of answer;
    struct process p;
    char *body = calloc(1, 300000);
    (void)state;
    write_script("echo", TYPE "cat");
    start(&p, CGI(", max-body: 256KB"));
    request(&p, HTTP_1, "/cgi/echo", body, 262145, &answer);
    assert_int_equal(answer.status, 413);
    answer_of_release(&answer);
    request(&p, HTTP_1, "/cgi/echo", body, 262144, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.bytes, 262144);
    answer_of_release(&answer);
    free(body);
    finish(&p);
}

/* ---- what is wrong ---- */

static void test_a_wrong_answer_is_502_and_logged(void **state)
{
    struct process p;
    (void)state;
    write_script("plain", "echo Hello World; echo");
    write_script("nothing", "exit 0");
    write_script("status", "exit 3");
    write_script("nph-old", "printf 'HTTP/1.1 200 OK\\r\\nContent-Type: a/b\\r\\n\\r\\nbody'");
    start(&p, CGI(""));
    assert_get(&p, "/cgi/plain", 502, "the script did not answer as it must");
    process_wait_log(&p, "printed no valid answer: not a header field: Hello World");
    assert_get(&p, "/cgi/nothing", 502, "the script did not answer as it must");
    process_wait_log(&p, "it exited with status 0 without a header");
    assert_get(&p, "/cgi/status", 502, "the script did not answer as it must");
    process_wait_log(&p, "it exited with status 3 without a header");
    assert_get(&p, "/cgi/nph-old", 502, "the script did not answer as it must");
    finish(&p);
}

static void test_a_script_that_dies_leaves_an_answer_that_is_visibly_cut(void **state)
{
    static const enum http protocols[] = {HTTP_1, HTTP_2};
    struct answer_of answer;
    struct process p;
    (void)state;
    write_script("dies", TYPE "head -c 200000 /dev/zero; kill -9 $$");
    write_script("short", "printf 'Content-Type: a/b\\nContent-Length: 300000\\n\\n'; "
                          "head -c 200000 /dev/zero");
    start(&p, CGI(""));
    for (size_t i = 0; i < 2; i++) {
        request(&p, protocols[i], "/cgi/dies", NULL, 0, &answer);
        assert_int_equal(answer.status, 200);
        assert_false(answer.is_whole);
        answer_of_release(&answer);
        request(&p, protocols[i], "/cgi/short", NULL, 0, &answer);
        assert_int_equal(answer.status, 200);
        assert_false(answer.is_whole);
        answer_of_release(&answer);
    }
    process_wait_log(&p, "it was ended by SIGKILL; the answer had begun, and is cut off visibly");
    finish(&p);
}

static void test_standard_error_is_logged_at_a_bounded_rate(void **state)
{
    struct process p;
    (void)state;
    write_script("words", "echo one word >&2; printf half >&2; " TYPE "printf body");
    write_script("many", "yes many words | head -n 100000 >&2; " TYPE "printf body");
    start(&p, CGI(""));
    assert_get(&p, "/cgi/words", 200, "body");
    process_wait_log(&p, "): one word\n");
    process_wait_log(&p, "): half\n");
    uint64_t begun_ns = now_ns();
    assert_get(&p, "/cgi/many", 200, "body");
    uint64_t seconds = (now_ns() - begun_ns) / (1000 * NS_PER_MS) + 2;
    stop(&p);
    assert_true(count_in(p.log, "): many words") >= 1);
    assert_true(count_in(p.log, "): many words") <= 10 * seconds);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wrong_directive_is_refused),
        cmocka_unit_test(test_a_right_directive_is_accepted),
        cmocka_unit_test_teardown(test_get_and_post_over_both_protocols, process_kill_left),
        cmocka_unit_test_teardown(test_large_bodies_go_both_ways, process_kill_left),
        cmocka_unit_test_teardown(test_a_head_request, process_kill_left),
        cmocka_unit_test_teardown(test_other_paths, process_kill_left),
        cmocka_unit_test_teardown(test_the_environment_is_clean, process_kill_left),
        cmocka_unit_test_teardown(test_descriptors_signals_and_limits_are_those_of_a_fresh_process,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_after_a_restart_a_script_has_the_first_limit,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_a_script_has_its_time, process_kill_left),
        cmocka_unit_test_teardown(test_the_number_of_scripts_is_limited, process_kill_left),
        cmocka_unit_test_teardown(test_a_body_has_its_limit, process_kill_left),
        cmocka_unit_test_teardown(test_a_wrong_answer_is_502_and_logged, process_kill_left),
        cmocka_unit_test_teardown(test_a_script_that_dies_leaves_an_answer_that_is_visibly_cut,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_standard_error_is_logged_at_a_bounded_rate,
                                  process_kill_left),
    };
    (void)alarm(900);
    return cmocka_run_group_tests(tests, with_cgi_set_up, remove_directory);
}

/* What a script gets and what becomes of what it prints, with real scripts and a request without a
 * socket: cgi_spawn.c, cgi_run.c, cgi_output.c. */

#include "with_script.h"

#include <sched.h>
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
#include "thread.h"

#define TYPE "printf 'Content-Type: text/plain\\n\\n'; "
#define LARGE (3 << 20) /* far more than pipes hold */

static void assert_refused(int status)
{
    assert_int_equal(fake.exchange.status, status);
    assert_false(fake.exchange.broken);
    assert_int_equal(fake.writes, 0);
    assert_null(cgi_exchange_field(&fake, "x-mine"));
}

/* ---- answers ---- */

static void test_a_document(void **state)
{
    (void)state;
    script_get("printf 'Content-Type: text/x\\r\\nX-Mine: a\\r\\nStatus: 418 Tea\\r\\n\\r\\nbody'");
    assert_int_equal(fake.exchange.status, 418);
    assert_string_equal(fake.exchange.content_type, "text/x");
    assert_string_equal(cgi_exchange_field(&fake, "x-mine"), "a");
    assert_body("body");
    assert_int_equal(fake.writes, 0); /* a short answer is sent whole */
    assert_false(fake.exchange.broken);
}

static void test_redirects(void **state)
{
    (void)state;
    script_get("printf 'Location: /elsewhere?a=b\\n\\n'");
    assert_int_equal(fake.exchange.status, 302);
    assert_string_equal(cgi_exchange_field(&fake, "location"), "/elsewhere?a=b");
    script_get("printf 'Status: 301\\nLocation: http://x.example/\\n\\n'");
    assert_int_equal(fake.exchange.status, 301);
    assert_string_equal(cgi_exchange_field(&fake, "location"), "http://x.example/");
}

static void test_a_head_has_the_length_and_no_body(void **state)
{
    (void)state;
    script_write(TYPE "printf body");
    script_request("HEAD", "/script");
    script_run();
    assert_int_equal(fake.exchange.status, 200);
    assert_int_equal(fake.exchange.length, 4);
    assert_body("");
    script_get("printf 'Status: 204\\n\\nbody'");
    assert_int_equal(fake.exchange.status, 204);
    assert_body("");
}

static void test_what_is_beyond_the_announced_length_is_dropped(void **state)
{
    (void)state;
    script_get("printf 'Content-Type: a/b\\nContent-Length: 4\\n\\nbody and more'");
    assert_int_equal(fake.exchange.status, 200);
    assert_body("body");
}

static void say_go(struct cgi_exchange *exchange)
{
    FILE *go = exchange->writes == 1 ? fopen(in_directory("go"), "w") : NULL;
    if (go != NULL)
        (void)fclose(go); /* the script, which waits for it, reads to the end */
}

/* It goes on when the client has seen the first half. */
static void test_a_script_that_pauses_is_streamed(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_directory("go"), 0600), 0);
    settings.held_ns = 1;
    script_write(TYPE "printf one; cat $DIR/go; printf two");
    script_request("GET", "/script");
    fake.on_write = say_go;
    script_run();
    assert_true(fake.writes >= 2);
    assert_body("onetwo");
    assert_false(fake.exchange.broken);
}

static void test_a_header_in_pieces(void **state)
{
    (void)state;
    script_get("printf 'Content-Ty'; sleep 0.1; printf 'pe: a/b\\n'; sleep 0.1; printf '\\nx'");
    assert_string_equal(fake.exchange.content_type, "a/b");
    assert_body("x");
}

static void test_a_large_answer_is_whole(void **state)
{
    (void)state;
    script_get(TYPE "head -c 3145728 /dev/zero | tr '\\0' z");
    assert_int_equal(fake.written_bytes, LARGE);
    for (size_t i = 0; i < LARGE; i++)
        if (fake.written[i] != 'z')
            fail_msg("byte %zu is %d", i, fake.written[i]);
}

/* ---- bodies ---- */

static char *large_body(void)
{
    char *body = malloc(LARGE);
    assert_non_null(body);
    for (size_t i = 0; i < LARGE; i++)
        body[i] = (char)('a' + i % 26);
    return body;
}

static void post(const char *text, const char *body, size_t bytes)
{
    script_write(text);
    script_request("POST", "/script");
    fake.exchange.body = body;
    fake.exchange.body_bytes = bytes;
    script_run();
}

static void test_a_body_comes_back(void **state)
{
    char *body = large_body();
    (void)state;
    post(TYPE "cat", body, LARGE);
    assert_int_equal(fake.written_bytes, LARGE);
    assert_memory_equal(fake.written, body, LARGE);
    free(body);
}

static void test_a_script_may_print_before_it_reads(void **state)
{
    char *body = large_body();
    (void)state;
    post(TYPE "head -c 3145728 /dev/zero; cat | wc -c", body, LARGE);
    assert_int_equal(fake.written_bytes, LARGE + 8);
    assert_string_equal(fake.written + LARGE, "3145728\n");
    free(body);
}

static void test_a_script_need_not_read_its_body(void **state)
{
    char *body = large_body();
    (void)state;
    post(TYPE "printf unread", body, LARGE);
    assert_body("unread");
    post(TYPE "exec 0<&-; printf closed", body, LARGE);
    assert_body("closed");
    free(body);
}

static void test_without_a_body_the_input_is_at_its_end(void **state)
{
    (void)state;
    script_get(TYPE "cat; printf end");
    assert_body("end");
}

/* ---- the process ---- */

static void test_its_environment_has_nothing_of_the_server(void **state)
{
    (void)state;
    assert_int_equal(setenv("SECRET_OF_THE_SERVER", "x", 1), 0);
    script_get(TYPE "env");
    char *body = cgi_exchange_body(&fake);
    assert_contains(body, "GATEWAY_INTERFACE=CGI/1.1\n");
    assert_contains(body, "DIR=");
    assert_lacks(body, "SECRET_OF_THE_SERVER");
    assert_lacks(body, "HTTP_PROXY");
    free(body);
}

/* One that is not close-on-exec, too. `ls` opens one for the folder. */
static void test_it_has_three_descriptors(void **state)
{
    int open_fd = dup(STDERR_FILENO);
    (void)state;
    script_get(TYPE "ls -l /proc/self/fd | grep -c pipe; ls /proc/self/fd | wc -l");
    assert_body("2\n4\n"); /* of `ls`: its output is a pipe to the next, its error ours */
    (void)close(open_fd);
}

static void test_it_has_no_signal_blocked_or_ignored(void **state)
{
    sigset_t all, before;
    (void)state;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    /* Of the shell itself: it clears the mask of what it starts. */
    script_get(TYPE "while read name bits; do case $name in SigBlk:|SigIgn:) "
                    "printf '%s %s\\n' $name $bits;; esac; done </proc/$$/status");
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert_body("SigBlk: 0000000000000000\nSigIgn: 0000000000000000\n");
}

static void test_it_leads_a_session_of_its_own_in_its_folder(void **state)
{
    char want[512];
    (void)state;
    script_get(TYPE "set -- $(cat /proc/$$/stat); "
                    "[ $5 = $$ ] && [ $6 = $$ ] && [ $7 = 0 ] && echo leader; pwd -P");
    (void)snprintf(want, sizeof(want), "leader\n%s\n", directory);
    assert_body(want);
}

/* The fields of proc(5), stat, after the last `)`: the policy is the 39th of them. */
#define POLICY "read -r stat </proc/$$/stat; set -- ${stat##*) }; " TYPE "printf ${39}"

static void test_it_has_the_usual_policy_though_its_worker_gives_way(void **state)
{
    (void)state;
    thread_give_way(true);
    script_get(POLICY);
    thread_give_way(false);
    assert_body("0"); /* SCHED_OTHER */
}

static void test_it_has_the_policy_that_somebody_chose_for_the_server(void **state)
{
    static const struct sched_param none;

    (void)state;
    assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
    script_get(POLICY);
    assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
    assert_body("3"); /* SCHED_BATCH */
}

static void test_it_has_no_arguments(void **state)
{
    (void)state;
    script_write(TYPE "printf '%s' $#");
    script_request("GET", "/script?a+b+c");
    script_run();
    assert_body("0");
}

static void test_a_child_with_other_output_may_stay(void **state)
{
    int fd = script_open_fifo("stays");
    (void)state;
    script_get(TYPE "(exec 3>$DIR/stays; echo $$ >&3; sleep 1000) >/dev/null 2>&1 & "
                    "until [ -s $DIR/pid ]; do echo $! >$DIR/pid; done; printf done");
    assert_body("done");
    char *pid = script_file("pid");
    assert_int_equal(kill(atoi(pid), SIGKILL), 0); /* it is there */
    free(pid);
    (void)close(fd);
}

/* ---- what is wrong ---- */

static void test_what_is_no_answer_is_502(void **state)
{
    static const char *const cases[] = {
        "exit 0",
        "echo Hello",
        "printf 'Content-Type: text/plain\\n'",
        "printf 'X-Mine: a\\n\\nbody'",
        "printf 'X-Mine: a\\nStatus: 999\\n\\nbody'",
        "kill -9 $$",
        "yes 'X-A: b'",
        "printf 'X-Mine: a\\nContent-Type: a/b\\nContent-Length: 5\\n\\nbody'",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        script_get(cases[i]);
        assert_refused(502);
    }
}

static void test_a_script_that_fails_early_is_502(void **state)
{
    (void)state;
    script_get("printf 'Content-Type: a/b\\nX-Mine: a\\n\\nhalf'; exit 3");
    assert_refused(502);
    script_get("printf 'Content-Type: a/b\\nX-Mine: a\\n\\nhalf'; kill -SEGV $$");
    assert_refused(502);
}

static void test_a_script_that_fails_late_leaves_a_broken_answer(void **state)
{
    static const char *const ends[] = {"exit 3", "kill -9 $$"};
    char text[128];
    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        (void)snprintf(text, sizeof(text), TYPE "head -c 100000 /dev/zero; %s", ends[i]);
        script_get(text);
        assert_true(fake.writes > 0);
        assert_true(fake.exchange.broken);
    }
    script_get("printf 'Content-Type: a/b\\nContent-Length: 100001\\n\\n'; "
               "head -c 100000 /dev/zero");
    assert_true(fake.exchange.broken);
}

static void test_an_answer_of_the_announced_length_is_whole_however_the_script_ends(void **state)
{
    (void)state;
    script_get("printf 'Content-Type: a/b\\nContent-Length: 4\\n\\nbody'; exit 3");
    assert_int_equal(fake.exchange.status, 200);
    assert_body("body");
    assert_false(fake.exchange.broken);
}

static void test_a_script_that_cannot_be_started(void **state)
{
    (void)state;
    script_write("");
    FILE *file = fopen(in_directory("script"), "w");
    assert_non_null(file);
    (void)fputs("#!/nonexistent/interpreter\n", file);
    (void)fclose(file);
    script_request("GET", "/script");
    script_run();
    assert_refused(502);
    file = fopen(in_directory("script"), "w");
    assert_non_null(file);
    (void)fputs("neither a program nor a script\n", file);
    (void)fclose(file);
    script_request("GET", "/script");
    script_run();
    assert_refused(502);
}

static void test_other_paths(void **state)
{
    (void)state;
    script_request("GET", "/none");
    script_run();
    assert_refused(404);
    script_request("GET", "/%00");
    script_run();
    assert_refused(400);
    script_request("OPTIONS", "*");
    script_run();
    assert_refused(400);
}

#define T(f) cmocka_unit_test_setup_teardown(f, script_set_up, script_clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_document),
        T(test_redirects),
        T(test_a_head_has_the_length_and_no_body),
        T(test_what_is_beyond_the_announced_length_is_dropped),
        T(test_a_script_that_pauses_is_streamed),
        T(test_a_header_in_pieces),
        T(test_a_large_answer_is_whole),
        T(test_a_body_comes_back),
        T(test_a_script_may_print_before_it_reads),
        T(test_a_script_need_not_read_its_body),
        T(test_without_a_body_the_input_is_at_its_end),
        T(test_its_environment_has_nothing_of_the_server),
        T(test_it_has_three_descriptors),
        T(test_it_has_no_signal_blocked_or_ignored),
        T(test_it_leads_a_session_of_its_own_in_its_folder),
        T(test_it_has_the_usual_policy_though_its_worker_gives_way),
        T(test_it_has_the_policy_that_somebody_chose_for_the_server),
        T(test_it_has_no_arguments),
        T(test_a_child_with_other_output_may_stay),
        T(test_what_is_no_answer_is_502),
        T(test_a_script_that_fails_early_is_502),
        T(test_a_script_that_fails_late_leaves_a_broken_answer),
        T(test_an_answer_of_the_announced_length_is_whole_however_the_script_ends),
        T(test_a_script_that_cannot_be_started),
        T(test_other_paths),
    };
    return cmocka_run_group_tests(tests, script_begin, script_finish);
}

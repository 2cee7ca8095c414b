/* How a function of a module may not end: by exit(3), by an exception, or with its thread. The
 * process ends with a line that names the route or the module, and does not hang. */

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

#include "expect.h"
#include "skip.h"

#define MODULE(name, more)                                                                         \
    "{handler.module: {path: " MODULE_FOLDER "/module_" name ".so, name: m" more "}}"
#define ONE(name, more) LISTEN "hosts:\n  default:\n    paths:\n      /m: " MODULE(name, more) "\n"
#define ABORTED (128 + SIGABRT)

/* A request ends it; `line` is the log's last word. */
static void ends_with(struct process *p, const char *request, int status, const char *line)
{
    int fd = client_connect(p);

    client_send(fd, request);
    process_expect(p, LIMIT_MS, status);
    assert_contains(p->log, line);
    (void)close(fd);
    process_release(p);
}

/* ---- exit(3) ---- */

static void test_exit_in_a_handler_ends_the_process_at_once(void **state)
{
    struct process p;

    (void)state;
    start(&p, ONE("good", ""));
    int other = client_connect(&p);
    client_send(other, GET("/m?sleep=1000000")); /* which exit(3) would not wait for either */
    client_wait_taken(other);
    ends_with(&p, GET("/m?exit=7"), 7,
              "the handler of route m called exit(7): the process ends at once; requests that are "
              "not answered: 2; ");
    (void)close(other);
}

static void test_exit_with_no_failure_is_said_as_well(void **state)
{
    struct process p;

    (void)state;
    start(&p, ONE("good", ""));
    ends_with(&p, GET("/m?exit=0"), 0, "the handler of route m called exit(0): ");
}

static void test_requests_on_record_are_archived_at_the_next_start(void **state)
{
    const char *const more[] = {"--journal-dir", in_directory("journal"), "--user", own_user_name(),
                                NULL};
    struct process p;

    (void)state;
    assert_int_equal(mkdir(in_directory("journal"), 0755), 0);
    start_with(&p, ONE("good", ""), more);
    int fd = client_connect(&p);
    client_send(fd, "POST /m?exit=5 HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab");
    process_expect(&p, LIMIT_MS, 5);
    process_release(&p);
    (void)close(fd);
    start_with(&p, ONE("good", ""), more);
    process_wait_log(&p, "1 request archived to ");
    finish(&p);
}

static void test_exit_in_init_ends_the_start(void **state)
{
    struct process p;

    (void)state;
    process_spawn(&p, ARGS("-c", write_file("x.conf", ONE("good", ", args: exit"))));
    process_expect(&p, LIMIT_MS, 9);
    assert_contains(p.log, "init() of module " MODULE_FOLDER
                           "/module_good.so called exit(9): the process ends\n");
    process_release(&p);
}

/* ---- its thread ---- */

static void test_a_handler_that_ends_its_thread_aborts(void **state)
{
    struct process p;

    (void)state;
    start(&p, ONE("good", ""));
    ends_with(&p, GET("/m?leave=1"), ABORTED, "the handler of route m ended its thread ");
}

/* ---- exceptions ---- */

#ifdef MODULE_THROWS
#define NEEDS_CXX
#else
#define NEEDS_CXX skip_test("needs a C++ compiler, and no sanitizer")
#endif

static void throws(const char *args, const char *request, const char *line, const char *what)
{
    struct process p;
    char text[1024];

    (void)snprintf(text, sizeof(text), ONE("throws", ", args: %s"), args);
    start(&p, text);
    int fd = client_connect(&p);
    client_send(fd, request);
    process_expect(&p, LIMIT_MS, ABORTED);
    assert_contains(p.log, line);
    assert_contains(p.log, "let an exception out");
    assert_contains(p.log, what); /* of the C++ library: std::terminate() */
    (void)close(fd);
    process_release(&p);
}

static void test_an_exception_of_a_handler_aborts(void **state)
{
    (void)state;
    NEEDS_CXX;
    throws("handler", GET("/m?throw=1"), "the handler of route m let ", "thrown by the handler");
}

/* On the loop's stack, where no frame is above. */
static void test_an_exception_of_an_inline_handler_aborts(void **state)
{
    (void)state;
    NEEDS_CXX;
    throws("inline", GET("/inline?throw=1"), "the handler of route /inline let ",
           "thrown by the handler");
}

/* The request would be half handled. */
static void test_an_exception_does_not_pass_the_library(void **state)
{
    (void)state;
    NEEDS_CXX;
    throws("middleware", GET("/m?throw=1"), "the handler of route m let ", "thrown by the handler");
}

static void test_an_exception_of_what_a_worker_begins_with_aborts(void **state)
{
    (void)state;
    NEEDS_CXX;
    throws("begin", GET("/m"), "begin() of lc_each_worker() let ", "thrown by begin");
}

static void test_an_exception_of_init_aborts_the_start(void **state)
{
    struct process p;

    (void)state;
    NEEDS_CXX;
    process_spawn(&p, ARGS("-c", write_file("x.conf", ONE("throws", ", args: init"))));
    process_expect(&p, LIMIT_MS, ABORTED);
    assert_contains(p.log, "init() of module " MODULE_FOLDER "/module_throws.so let ");
    assert_contains(p.log, "thrown by init");
    process_release(&p);
}

static void test_an_exception_of_fini_aborts_after_the_drain(void **state)
{
    struct process p;

    (void)state;
    NEEDS_CXX;
    start(&p, ONE("throws", ", args: fini"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, ABORTED);
    assert_contains(p.log, "fini() of module " MODULE_FOLDER "/module_throws.so let ");
    process_release(&p);
}

static void test_a_safe_handler_answers_500(void **state)
{
    struct process p;

    (void)state;
    NEEDS_CXX;
    start(&p, ONE("throws", ", args: safe"));
    assert_answer(&p, GET("/m?throw=1"), "HTTP/1.1 500 ");
    process_wait_log(&p, "500: thrown by the handler");
    assert_answer(&p, GET("/m"), "not thrown\n");
    finish(&p);
}

#define CLAIM(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_exit_in_a_handler_ends_the_process_at_once),
        CLAIM(test_exit_with_no_failure_is_said_as_well),
        CLAIM(test_requests_on_record_are_archived_at_the_next_start),
        CLAIM(test_exit_in_init_ends_the_start),
        CLAIM(test_a_handler_that_ends_its_thread_aborts),
        CLAIM(test_an_exception_of_a_handler_aborts),
        CLAIM(test_an_exception_of_an_inline_handler_aborts),
        CLAIM(test_an_exception_does_not_pass_the_library),
        CLAIM(test_an_exception_of_what_a_worker_begins_with_aborts),
        CLAIM(test_an_exception_of_init_aborts_the_start),
        CLAIM(test_an_exception_of_fini_aborts_after_the_drain),
        CLAIM(test_a_safe_handler_answers_500),
    };
    (void)alarm(600);
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

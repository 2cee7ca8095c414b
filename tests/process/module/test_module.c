/* handler.module in the real process: what is refused, what a module may do, and its end. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define MODULE(name, more)                                                                         \
    "{handler.module: {path: " MODULE_FOLDER "/module_" name ".so, name: m" more "}}"
#define ONE(name, more) LISTEN "hosts:\n  default:\n    paths:\n      /m: " MODULE(name, more) "\n"

/* ---- what is refused ---- */

struct refusal {
    const char *text, *line;
};

static void assert_refused(const struct refusal *refusal, bool by_test_as_well)
{
    const char *path = write_file("x.conf", refusal->text);

    if (by_test_as_well)
        assert_ends(ARGS("-t", "-c", path), 78, 1, refusal->line);
    assert_ends(ARGS("-c", path), 78, 1, refusal->line);
}

static void test_what_is_no_module_is_refused(void **state)
{
    static const struct refusal cases[] = {
        {PATH("handler.module: {path: /none.so, name: m}"),
         "module /none.so: cannot open shared object file: No such file or directory"},
        {PATH("handler.module: {path: none.so, name: m}"), "module ./none.so: cannot open"},
        {ONE("symbol", ""), "has no symbol lastcall_module_1: it was built for another version"},
        {ONE("newer", ""), "was built for version 2 of the interface, and this lastcall has 1 to "
                           "1: install a newer lastcall"},
        {ONE("more", ""), "undefined symbol: lc_of_a_later_version"},
        {PATH("handler.module: {name: m}"), "path is missing"},
        {PATH("handler.module: {path: x.so}"), "name is missing"},
        {PATH("handler.module: {path: x.so, name: m, x: y}"),
         "unknown key x; known are path, name, args"},
        {PATH("handler.module: {path: [x], name: m}"), "path must be a text or a number"},
        {PATH("handler.module: x.so"), "@/x.conf:6:"},
    };
    (void)state;
    write_file("no.so", "not a shared object");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct refusal refusal = {cases[i].text, expanded(cases[i].line)};
        assert_refused(&refusal, true);
    }
    struct refusal text = {PATH("handler.module: {path: @/no.so, name: m}"), "no.so: "};
    assert_refused(&text, true);
}

static void test_a_module_that_does_not_start_is_refused(void **state)
{
    static const struct refusal cases[] = {
        {ONE("refuses", ""), "module_refuses.so did not start: "},
        {ONE("good", ", args: error"), "module_good.so did not start: "},
        {ONE("good", ", args: no handler"), "has no handler m"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(&cases[i], false);
    /* The first line says that the first one was loaded. */
    const char *path =
        write_file("x.conf", LISTEN "hosts:\n  default:\n    paths:\n      /1: " MODULE(
                                 "good", "") "\n      /2: " MODULE("good", "") "\n");
    assert_ends(ARGS("-c", path), 78, 2, "there is one already");
}

/* Its code is not run for that. */
static void test_a_check_loads_it_and_does_not_start_it(void **state)
{
    (void)state;
    assert_accepted(ONE("good", ", args: error"));
}

/* ---- what it may do ---- */

static void test_its_handlers_answer(void **state)
{
    struct process p;
    (void)state;
    start(&p,
          LISTEN "hosts:\n  default:\n    paths:\n      /m: " MODULE(
              "good",
              ", args: one") "\n      /n: {handler.module: {path: " MODULE_FOLDER
                             "/module_good.so, name: n, args: pattern}}\n      /o: {handler: n}\n");
    assert_answer(&p, GET("/m"), "args: one\n");
    assert_answer(&p, GET("/m/below?a=b"), "args: one\n");
    assert_answer(&p, GET("/n"), "args: pattern\n");
    assert_answer(&p, GET("/o"), "args: pattern\n");
    assert_answer(&p, GET("/everywhere/a"), "args: pattern\n");
    assert_answer(&p, GET("/other"), "HTTP/1.1 404 ");
    process_wait_log(&p, "module test 1.0: handler m\n");
    finish(&p);
}

static void test_a_restart_loads_it_anew(void **state)
{
    struct process p;
    (void)state;
    start(&p, ONE("good", ", args: old"));
    assert_answer(&p, GET("/m"), "args: old\n");
    finish(&p);
    start(&p, ONE("good", ", args: new"));
    assert_answer(&p, GET("/m"), "args: new\n");
    finish(&p);
}

/* ---- its end ---- */

#define FILE_ARGS ", args: \"file=@/notes\""

static void test_it_ends_after_its_last_handler(void **state)
{
    struct process p;
    (void)state;
    (void)unlink(in_directory("notes"));
    start(&p, ONE("good", FILE_ARGS));
    int fd = client_connect(&p);
    client_send(fd, GET("/m?sleep=500"));
    client_wait_taken(fd);
    process_signal(&p, SIGTERM);
    client_expect(fd, "args: file=");
    process_expect(&p, LIMIT_MS, 0);
    char *notes = read_file(in_directory("notes"));
    assert_string_equal(notes, "returned\nended\n");
    free(notes);
    (void)close(fd);
    process_release(&p);
}

static void test_its_end_is_left_out_where_a_handler_is_stuck(void **state)
{
    struct process p;
    (void)state;
    (void)unlink(in_directory("notes"));
    start_with(&p, ONE("good", FILE_ARGS), ARGS("--deadline", "300ms"));
    int fd = client_connect(&p);
    client_send(fd, GET("/m?sleep=1000000"));
    client_wait_taken(fd);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_false(is_there("notes"));
    (void)close(fd);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_no_module_is_refused),
        cmocka_unit_test(test_a_module_that_does_not_start_is_refused),
        cmocka_unit_test(test_a_check_loads_it_and_does_not_start_it),
        cmocka_unit_test_teardown(test_its_handlers_answer, process_kill_left),
        cmocka_unit_test_teardown(test_a_restart_loads_it_anew, process_kill_left),
        cmocka_unit_test_teardown(test_it_ends_after_its_last_handler, process_kill_left),
        cmocka_unit_test_teardown(test_its_end_is_left_out_where_a_handler_is_stuck,
                                  process_kill_left),
    };
    (void)alarm(600);
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

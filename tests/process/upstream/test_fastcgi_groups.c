/* The real process before several FastCGI applications: which one gets a request, and what happens
 * when one of them is not there. They share a group with HTTP upstreams, which test_proxy_groups.c
 * and test_proxy_group_faults.c look at in more detail. */

#include "admin_client.h"
#include "with_fastcgi.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"

#define TEXT "Content-Type: text/plain\r\n"
#define HERE "{host: 127.0.0.1, port: @, type: tcp}"
#define ROUTE(list) "hosts: {default: {paths: {/: {fastcgi.connect: " list "}}}}\n"

/* Another application beside that of the fixture. */
static int other;

/* The application that gets the next request, the one of the fixture or the other: answer it. */
static void answer_ok(struct fixture *f)
{
    take_fastcgi(f);
    send_text(f, TEXT "\r\nok");
    send_end(f);
    expect_status(f, 200);
}

static void answer_at_other(struct fixture *f)
{
    int own = f->listener;

    f->listener = other;
    answer_ok(f);
    f->listener = own;
}

/* `list` has one %u, the port of the other application, and an @ for that of the fixture. */
static struct fixture *start_with_other(void **state, const char *directives, const char *list,
                                        unsigned port)
{
    char text[1024], route[512];

    (void)snprintf(route, sizeof(route), list, port);
    (void)snprintf(text, sizeof(text), "%s%s", directives, route);
    assert_int_equal(fixture_start(state, text), 0);
    return *state;
}

static json_t *upstream_in(const json_t *status, size_t i)
{
    return json_array_get(admin_at(status, "upstreams"), i);
}

static void test_applications_get_requests_in_turn_by_weight(void **state)
{
    uint16_t port;

    other = listen_here(&port, 16);
    struct fixture *f = start_with_other(
        state, "", ROUTE("[" HERE ", {host: 127.0.0.1, port: %u, type: tcp, weight: 2}]"), port);
    for (unsigned i = 0; i < 3; i++) {
        ask(f, ANSWER_HTTP11, false);
        answer_at_other(f);
        ask(f, ANSWER_HTTP11, false);
        answer_ok(f);
        ask(f, ANSWER_HTTP11, false);
        answer_at_other(f);
    }
    struct process admin = admin_of(&f->front);
    json_t *status = admin_status(&admin);
    assert_int_equal(json_array_size(admin_at(status, "upstreams")), 2);
    assert_int_equal(json_integer_value(json_object_get(upstream_in(status, 0), "requests")), 3);
    assert_int_equal(json_integer_value(json_object_get(upstream_in(status, 1), "requests")), 6);
    json_decref(status);
    (void)close(other);
}

/* Nothing of a request was sent: its method does not matter. */
static void test_a_request_goes_on_to_the_next_application(void **state)
{
    struct fixture *f = start_with_other(
        state, "", ROUTE("[{host: 127.0.0.1, port: %u, type: tcp}, " HERE "]"), free_port());

    for (unsigned i = 0; i < 10; i++) {
        if (f->client < 0)
            f->client = client_connect(&f->front);
        client_send(f->client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        answer_ok(f);
    }
    struct process admin = admin_of(&f->front);
    json_t *status = admin_status(&admin);
    assert_string_equal(json_string_value(json_object_get(upstream_in(status, 0), "state")),
                        "ejected");
    assert_string_equal(json_string_value(json_object_get(upstream_in(status, 1), "state")), "up");
    json_decref(status);
    process_wait_log(&f->front, "upstream fastcgi://127.0.0.1:");
    process_wait_log(&f->front, " gets no requests for ");
}

static void test_a_backup_gets_none_while_the_other_is_up(void **state)
{
    uint16_t port;

    other = listen_here(&port, 16);
    struct fixture *f = start_with_other(
        state, "fastcgi.eject: {failures: 1, time: 60000, most: 60000}\n",
        ROUTE("[{host: 127.0.0.1, port: %u, type: tcp, backup: ON}, " HERE "]"), port);
    for (unsigned i = 0; i < 3; i++) {
        ask(f, ANSWER_HTTP11, false);
        answer_ok(f);
    }
    (void)close(f->listener);
    f->listener = -1;
    ask(f, ANSWER_HTTP11, false);
    answer_at_other(f);
    (void)close(other);
}

static void test_without_any_that_is_up_a_request_waits_or_is_503(void **state)
{
    struct fixture *f = start_with_other(
        state, "fastcgi.wait: 100\n",
        ROUTE("[{host: 127.0.0.1, port: %u, type: tcp}, {host: 127.0.0.1, port: 1, type: tcp}]"),
        free_port());

    ask(f, ANSWER_HTTP11, false);
    expect_status(f, 503);
    process_wait_log(&f->front, "no upstream of default/ is up: GET is answered 503");
}

/* Scripts are requests of a path of no host's. */
static void test_scripts_have_several_applications(void **state)
{
    char text[512];
    const char *script = in_directory("index.php");

    FILE *file = fopen(script, "we");
    assert_non_null(file);
    (void)fclose(file);
    (void)snprintf(
        text, sizeof(text),
        "user: %s\nfile.custom-handler: {extension: .php, fastcgi.balance: least-connections,\n"
        "  fastcgi.connect: [{host: 127.0.0.1, port: %u, type: tcp}, " HERE "]}\n"
        "hosts: {default: {paths: {/: {file.dir: %s}, /b: {file.dir: %s}}}}\n",
        own_user_name(), free_port(), directory, directory);
    assert_int_equal(fixture_start(state, text), 0);
    struct fixture *f = *state;
    for (unsigned i = 0; i < 6; i++) {
        ask_for(f, ANSWER_HTTP11, false, i % 2 == 0 ? "/index.php" : "/b/index.php/info");
        answer_ok(f);
    }
    struct process admin = admin_of(&f->front);
    json_t *status = admin_status(&admin);
    assert_string_equal(json_string_value(json_object_get(upstream_in(status, 1), "route")),
                        "(scripts)");
    assert_int_equal(json_integer_value(json_object_get(upstream_in(status, 1), "requests")), 6);
    json_decref(status);
}

#define SCRIPTS "file.custom-handler: {extension: .php, fastcgi.connect: " HERE "}"

/* The route of the first one ends before the server does. */
static void test_an_application_whose_extension_another_takes_is_gone(void **state)
{
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "user: %s\n"
                   "hosts: {default: {paths: {/: [{" SCRIPTS "}, {" SCRIPTS
                   "}, {file.dir: %s}]}}}\n",
                   own_user_name(), directory);
    assert_int_equal(fixture_start(state, text), 0);
    struct fixture *f = *state;
    ask_for(f, ANSWER_HTTP11, false, "/index.php");
    answer_ok(f);
    struct process admin = admin_of(&f->front);
    json_t *status = admin_status(&admin);
    assert_int_equal(json_array_size(json_object_get(status, "upstreams")), 1);
    json_decref(status);
}

static void test_lists_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *list, *want;
        const char *directive; /* NULL: fastcgi.connect */
    } wrong[] = {
        {"['true', 'false']", "a list: want one command", "fastcgi.spawn"},
        {"[]", "0 upstreams: want 1 to 64", NULL},
        {"[{port: 9000, backup: ON}]", "all upstreams are backups", NULL},
        {"[9000, {port: 9000, type: tcp}]", "is there twice: give it a weight of 2 instead", NULL},
        {"[{port: 9000, weight: 0}]", "want a whole number from 1 to 256", NULL},
        {"[[9000]]", "value must be a string or a mapping", NULL},
    };
    struct process p;
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        FILE *file = fopen(in_directory("bad"), "we");
        assert_non_null(file);
        (void)fprintf(file,
                      "listen: {host: 127.0.0.1, port: 0}\n"
                      "hosts: {default: {paths: {/: {%s: %s}}}}\n",
                      wrong[i].directive != NULL ? wrong[i].directive : "fastcgi.connect",
                      wrong[i].list);
        (void)fclose(file);
        process_spawn(&p, (const char *const[]){"--conf", in_directory("bad"), NULL});
        process_expect(&p, 20000, 78);
        assert_contains(p.log, wrong[i].want);
        process_release(&p);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_applications_get_requests_in_turn_by_weight),
        TEST(test_a_request_goes_on_to_the_next_application),
        TEST(test_a_backup_gets_none_while_the_other_is_up),
        TEST(test_without_any_that_is_up_a_request_waits_or_is_503),
        TEST(test_scripts_have_several_applications),
        TEST(test_an_application_whose_extension_another_takes_is_gone),
        cmocka_unit_test_teardown(test_lists_that_make_no_sense_are_refused, process_kill_left),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

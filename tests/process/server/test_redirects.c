/* Where `redirect` may lead: never to a host that the request's path names. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

static char *answer_to(const struct process *p, const char *request)
{
    int fd = client_connect(p);
    client_send(fd, request);
    char *answer = client_read_answer(fd);
    assert_non_null(answer);
    (void)close(fd);
    return answer;
}

static void test_a_path_cannot_name_another_host(void **state)
{
    static const char *const requests[] = {
        GET("//evil.test/.."),  GET("//evil.test/%2e%2e"),
        GET("///evil.test/x"),  GET("//evil.test"),
        GET("/a//evil.test/x"), "HEAD //evil.test/x HTTP/1.1\r\nHost: test\r\n\r\n"};
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  default:\n    paths:\n"
                     "      /a: {redirect: {url: /, status: 301}}\n"
                     "      /: {redirect: {url: /, status: 302}}\n");
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int fd = client_connect(&p);
        client_send(fd, requests[i]);
        char *head = client_read_until(fd, "\r\n\r\n");
        const char *location = strcasestr(head, "location: /");
        if (location == NULL || location[11] == '/' || location[11] == '\\')
            fail_msg("%s is sent on: %s", requests[i], head);
        free(head);
        (void)close(fd);
    }
    finish(&p);
}

/* The server would connect to that host by itself. */
static void test_an_internal_redirect_stays_here(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  default:\n    paths:\n"
                     "      /to: {redirect: {url: /, internal: YES, status: 307}}\n"
                     "      /hello: {handler: hello}\n");
    char *answer = answer_to(&p, GET("/to//hello"));
    assert_contains(answer, "HTTP/1.1 200 ");
    free(answer);
    answer = answer_to(&p, GET("/to//127.0.0.1:1/x"));
    assert_contains(answer, "HTTP/1.1 404 "); /* not a 502 of a connection that was refused */
    free(answer);
    finish(&p);
}

static void test_a_folder_is_no_host(void **state)
{
    struct process p;
    (void)state;
    assert_int_equal(mkdir(in_directory("evil.test"), 0755), 0);
    start(&p, PATH("file.dir: @/"));
    char *answer = answer_to(&p, GET("//e%76il.test?x"));
    assert_non_null(strcasestr(answer, "location: /evil.test/?x\r\n"));
    free(answer);
    finish(&p);
}

static void test_a_host_that_the_configuration_names_is_meant(void **state)
{
    struct process p;
    (void)state;
    start(&p, PATH("redirect: {url: //other.test/, status: 301}"));
    char *answer = answer_to(&p, GET("/x?y"));
    assert_non_null(strcasestr(answer, "location: //other.test/x?y\r\n"));
    free(answer);
    finish(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_path_cannot_name_another_host, process_kill_left),
        cmocka_unit_test_teardown(test_an_internal_redirect_stays_here, process_kill_left),
        cmocka_unit_test_teardown(test_a_folder_is_no_host, process_kill_left),
        cmocka_unit_test_teardown(test_a_host_that_the_configuration_names_is_meant,
                                  process_kill_left),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

/* PHP, which fastcgi.spawn starts: what a real application makes of the variables and of the body,
 * and what a client sees when it dies. It needs php-cgi, and the helpers of Debian's package h2o.
 */

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
#include "skip.h"

static struct process front;

static int set_up(void **state)
{
    char conf[1024];

    if (with_config_set_up(state) != 0)
        return -1;
    if (access("/usr/bin/php-cgi", X_OK) != 0)
        return 0;
    (void)write_file("vars.php", "<?php foreach (['SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', "
                                 "'REQUEST_METHOD', 'HTTP_X_A', 'HTTP_PROXY', 'MADE'] as $n) "
                                 "echo $n, '=', $_SERVER[$n] ?? '(none)', \"\\n\";");
    (void)write_file("body.php", "<?php echo strlen(file_get_contents('php://input')), ' bytes';");
    (void)write_file("move.php", "<?php header('Location: /else');");
    (void)write_file("head.php", "<?php for ($i = 0; $i < 60; $i++) "
                                 "header('X-' . $i . ': ' . str_repeat('v', 1000)); echo 'ok';");
    (void)write_file("die.php", "<?php echo str_repeat('half', 5000); "
                                "while (ob_get_level()) ob_end_flush(); flush(); "
                                "exec('kill -9 ' . getmypid()); sleep(60);");
    (void)write_file("front.php", "<?php if ($_SERVER['PATH_INFO'] == '/login') "
                                  "header('Location: /vars.php'); else echo "
                                  "$_SERVER['PATH_INFO'], ' for ', $_SERVER['REQUEST_URI'];");
    (void)write_file("err.php", "<?php error_log(\"one\\ntwo\"); echo 'ok';");
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "user: %s\nfile.custom-handler:\n  extension: .php\n"
                          "  fastcgi.timeout.keepalive: 5000\n"
                          "  fastcgi.spawn: \"PHP_FCGI_CHILDREN=2 exec php-cgi -n\"\n"
                          "hosts: {default: {paths: {/: {file.dir: \"@\", "
                          "setenv: {MADE: here}, "
                          "redirect: {url: /front.php/, internal: YES, status: 307}}}}}\n",
                   own_user_name());
    start(&front, conf);
    return 0;
}

static int tear_down(void **state)
{
    if (front.pid > 0)
        process_release(&front);
    return process_kill_left(state) != 0 || remove_directory(state) != 0 ? -1 : 0;
}

static void need_php(void)
{
    if (access("/usr/bin/php-cgi", X_OK) != 0)
        skip_test("needs php-cgi (apt-get install php-cgi)");
    if (access("/usr/share/h2o/kill-on-close", X_OK) != 0)
        skip_test("needs h2o's helpers (apt-get install h2o)");
}

/* HTTP/1.0: up to the end of the connection.     Owner: the caller. */
static char *ask_php(const char *request)
{
    int fd = client_connect(&front);

    client_send(fd, request);
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    return answer;
}

static void expect_php(const char *request, const char *want)
{
    char *answer = ask_php(request);

    assert_contains(answer, want);
    free(answer);
}

static void test_variables(void **state)
{
    (void)state;
    need_php();
    for (unsigned i = 0; i < 3; i++) /* on kept connections */
        expect_php("GET /vars.php/info?q=1 HTTP/1.0\r\nX-A: 1\r\nX-A: 2\r\nProxy: evil\r\n\r\n",
                   "SCRIPT_NAME=/vars.php\nPATH_INFO=/info\nQUERY_STRING=q=1\n"
                   "REQUEST_METHOD=GET\nHTTP_X_A=1, 2\nHTTP_PROXY=(none)\nMADE=here\n");
}

static void test_a_body(void **state)
{
    enum { SIZE = 1000000 };
    char *request = malloc(SIZE + 200);
    (void)state;
    need_php();
    assert_non_null(request);
    int n = snprintf(request, 200, "POST /body.php HTTP/1.0\r\nContent-Length: %d\r\n\r\n", SIZE);
    memset(request + n, 'b', SIZE);
    request[n + SIZE] = '\0';
    expect_php(request, "1000000 bytes");
    free(request);
}

static void test_heads(void **state)
{
    (void)state;
    need_php();
    expect_php("GET /move.php HTTP/1.0\r\n\r\n", " 302 Found\r\n");
    expect_php("GET /head.php HTTP/1.0\r\n\r\n", "\r\n\r\nok");
    char *answer = ask_php("HEAD /vars.php HTTP/1.0\r\n\r\n");
    assert_contains(answer, " 200 OK\r\n");
    assert_lacks(answer, "SCRIPT_NAME");
    free(answer);
}

/* Through an internal redirect; what it redirects itself is for the client. */
static void test_a_front_controller(void **state)
{
    (void)state;
    need_php();
    expect_php("GET /some/path HTTP/1.0\r\n\r\n", "\r\n\r\n/some/path for /some/path");
    expect_php("GET /login HTTP/1.0\r\n\r\n", " 302 Found\r\n");
}

static void test_a_worker_that_dies_is_seen_to(void **state)
{
    char byte;
    (void)state;
    need_php();
    int fd = client_connect(&front);
    client_send(fd, "GET /die.php HTTP/1.1\r\nHost: x\r\n\r\n");
    char *answer = client_read_until(fd, "half");
    free(answer);
    char last[5] = "";
    while (client_recv(fd, &byte, 1, 0) == 1) {
        memmove(last, last + 1, 4);
        last[4] = byte;
    }
    assert_memory_not_equal(last, "0\r\n\r\n", 5); /* it is in chunks, and has no last one */
    (void)close(fd);
    expect_php("GET /vars.php HTTP/1.0\r\n\r\n", "SCRIPT_NAME=/vars.php\n");
}

static void test_words_for_the_log(void **state)
{
    (void)state;
    need_php();
    expect_php("GET /err.php HTTP/1.0\r\n\r\n", "\r\n\r\nok");
    process_wait_log(&front, "upstream fastcgi");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_a_body),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_a_front_controller),
        cmocka_unit_test(test_a_worker_that_dies_is_seen_to),
        cmocka_unit_test(test_words_for_the_log),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

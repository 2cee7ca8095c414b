/* A stop under a load of WebSockets: every client is told, and no message is torn or lost on its
 * way to a client. The load is websockets.py, upstream and clients. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "command.h"
#include "expect.h"
#include "loopback.h"
#include "skip.h"

#define CLIENTS "40"

/* lastcall sends the client its Close frame half a second after the farewell of the tunnel has
 * begun, even if the upstream has not answered its own. An upstream that gets no processor for that
 * long loses what it sends meanwhile. */
#define TOO_LATE_MS 100

static void expect_none_lost(const char *out)
{
    const char *late = strstr(out, " late ");

    assert_contains(out, "clients " CLIENTS " told " CLIENTS " torn 0 lost ");
    if (strstr(out, " lost 0 ") == NULL && late != NULL &&
        strtol(late + strlen(" late "), NULL, 10) > TOO_LATE_MS)
        skip_test("the machine is too busy for an upstream that answers in time");
    assert_contains(out, " lost 0 ");
}

static void stop_under_load(const char *drain)
{
    struct process front;
    struct command load;
    char conf[512], front_port[16], upstream_port[16];

    (void)snprintf(upstream_port, sizeof(upstream_port), "%u", free_port());
    (void)snprintf(conf, sizeof(conf),
                   LISTEN "num-threads: 2\ndrain: %s\nhosts: {default: {paths: {/: {"
                          "proxy.websocket: ON, proxy.reverse.url: \"http://127.0.0.1:%s/\"}}}}\n",
                   drain, upstream_port);
    start(&front, conf);
    (void)snprintf(front_port, sizeof(front_port), "%u", front.port);
    command_start(&load, ARGS("python3", LASTCALL_SUPPORT_FOLDER "/peers/websockets.py", front_port,
                              upstream_port, CLIENTS));
    (void)command_wait_output(&load, 0, "ready");
    process_signal(&front, SIGTERM);
    process_expect(&front, LIMIT_MS, 0);
    command_expect(&load, 0);
    char out[256];
    assert_contains(load.out, "clients ");
    (void)snprintf(out, sizeof(out), "%s", strstr(load.out, "clients "));
    command_release(&load);
    process_release(&front);
    expect_none_lost(out);
}

static void test_all_at_once(void **state)
{
    (void)state;
    stop_under_load("{deadline: 15s, deadlines: {tunnel: 5s}}");
}

static void test_each_at_its_instant(void **state)
{
    (void)state;
    stop_under_load("{deadline: 15s, spread: 2s}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        TEST(test_all_at_once),
        TEST(test_each_at_its_instant),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

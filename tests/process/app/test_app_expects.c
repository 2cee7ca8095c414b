/* What an application finds when `lastcall -- COMMAND` stands before it, without a line of it
 * changed: a port, the client's Host, an id for each request; and one that cannot be served is said
 * to be so. */

#include "with_app_master.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define HEX "0123456789abcdef"

/* ---- a port ---- */

/* lastcall without --proxy. */
static void start_picked(struct process *p, const char *const *flags, const char *const *command)
{
    const char *args[24] = {"--app-hold", "60s", "--app-start-timeout", "60s"};
    size_t n = 4;

    for (; flags != NULL && *flags != NULL; flags++)
        args[n++] = *flags;
    args[n++] = "--";
    for (; *command != NULL; command++)
        args[n++] = *command;
    assert_true(n < 24);
    (void)setenv("PORT", "1",
                 1); /* of the platform's, say: it is lastcall's, not the application's */
    process_start(p, NULL, args);
    (void)unsetenv("PORT");
    process_wait_log(p, " answers at 127.0.0.1:");
}

static void test_a_free_port_is_picked_and_said(void **state)
{
    struct process p;
    char want[32];
    (void)state;
    start_picked(&p, NULL, APP(PYTHON));
    pid_t port = last_pid(&p, " answers at 127.0.0.1:");
    assert_in_range(port, 1024, 65535);
    (void)snprintf(want, sizeof(want), "\"port\": \"%d\"", (int)port);
    assert_answer(&p, GET("/world"), want);
    assert_answer(&p, GET("/world"), "\"picked\": null");
    stop(&p);
}

/* A new worker reads the command line anew, and the application stays where it is. */
static void test_the_port_outlives_a_restart(void **state)
{
    struct process p;
    (void)state;
    start_picked(&p, APP(MASTER), APP(PYTHON));
    (void)wait_generation(&p, 1);
    pid_t app = app_pid(&p);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_int_equal(app_pid(&p), app);
    assert_lacks(p.log, "requests now go to");
    stop(&p);
}

static void fails(const char *const *args, const char *said, const char *more)
{
    struct process p;

    process_spawn(&p, args);
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, said);
    assert_contains(p.log, more);
    process_release(&p);
}

static void test_one_that_does_not_listen_there_is_said(void **state)
{
    (void)state;
    fails(APP("--listen", "127.0.0.1:0", "--app-start-timeout", "100ms", "--", "sleep", "1000"),
          "application sleep did not answer at 127.0.0.1:", "on the port that PORT says");
}

/* ---- fields ---- */

static void test_it_gets_the_clients_host_and_an_id(void **state)
{
    struct process p;
    (void)state;
    start_picked(&p, APP("--trusted-proxies", "none"), APP(PYTHON));
    char *answer = client_ask(&p, "GET /fields HTTP/1.1\r\nHost: shop.test:8443\r\n"
                                  "X-Forwarded-For: 9.9.9.9\r\nX-Request-Id: forged\r\n"
                                  "X-Forwarded-Proto: https\r\nForwarded: for=9.9.9.9\r\n"
                                  "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-1-01\r\n\r\n");
    assert_contains(answer, "\nhost: shop.test:8443\n");
    assert_contains(answer, "\nx-forwarded-host: shop.test:8443\n");
    assert_contains(answer, "\nx-forwarded-for: 127.0.0.1\n");
    assert_contains(answer, "\nx-forwarded-proto: http\n");
    assert_contains(answer, "\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-1-01\n");
    assert_lacks(answer, "9.9.9.9");
    assert_lacks(answer, "forged");
    const char *id = strstr(answer, "\nx-request-id: ");
    assert_non_null(id);
    assert_int_equal(strspn(id + strlen("\nx-request-id: "), HEX), 32);
    free(answer);
    stop(&p);
}

/* ---- one that cannot be served ---- */

static void test_one_that_ends_before_it_answers_is_an_error(void **state)
{
    (void)state;
    fails(APP("--listen", "127.0.0.1:0", "--", "sh", "-c", "exit 5"), "ended with status 5",
          ", before it answered");
    fails(APP("--listen", "127.0.0.1:0", "--restart", "--", "true"), "ended with status 0",
          ", before it answered: if it runs in the background now");
}

static bool is_taken(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    bool is_it = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return is_it;
}

/* What is left of it ends at its own address, which the next one takes. */
static void end_daemon(void)
{
    struct process daemon = {.port = app_port};

    (void)snprintf(daemon.address, sizeof(daemon.address), "127.0.0.1:%u", app_port);
    free(client_ask(&daemon, GET("/exit?status=0")));
    while (is_taken((uint16_t)app_port))
        (void)usleep(1000);
}

static void test_one_that_goes_into_the_background_is_an_error(void **state)
{
    (void)state;
    fails(APP("--listen", "127.0.0.1:0", "--proxy", url, "--", PYTHON, "daemon"),
          "ended with status 0", "but something still answers at its address");
    end_daemon();
}

static void goes_later(const char *const *flags)
{
    struct process p;

    start_up(&p, flags, APP(PYTHON, "daemon", "patient"));
    assert_answer(&p, GET("/"), "python\n");
    open_gate(NULL);
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, "ended with status 0, but something still answers at its address");
    process_release(&p);
    end_daemon();
    shut_gate();
}

static void test_also_once_it_has_answered(void **state)
{
    (void)state;
    goes_later(NULL);
    goes_later(APP("--restart"));
}

/* Its status is there, and nobody has taken it. */
static void wait_until_zombie(pid_t pid)
{
    char path[64], text[256];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (;;) {
        FILE *file = fopen(path, "re");
        assert_non_null(file); /* it was reaped before it was seen */
        size_t size = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file);
        text[size] = '\0';
        const char *state = strrchr(text, ')');
        if (state != NULL && strncmp(state, ") Z", 3) == 0)
            return;
        (void)usleep(1000);
    }
}

/* Whether something answers is looked at for a second; a signal is obeyed meanwhile. */
static void stop_while_it_is_looked_at(const char *const *flags)
{
    struct process p;

    start_up(&p, flags, APP(PYTHON, "daemon", "patient"));
    assert_answer(&p, GET("/"), "python\n");
    pid_t leader = last_pid(&p, " started as process ");
    open_gate(NULL);
    wait_until_zombie(leader);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "ended with status 0, before the drain was over");
    assert_lacks(p.log, "runs in the background");
    process_release(&p);
    end_daemon();
    shut_gate();
}

static void test_a_signal_is_obeyed_while_its_address_is_looked_at(void **state)
{
    (void)state;
    stop_while_it_is_looked_at(NULL);
    stop_while_it_is_looked_at(APP("--restart"));
    stop_while_it_is_looked_at(APP(MASTER));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, with_app_master_set_up, with_app_master_clean_up)
    const struct CMUnitTest tests[] = {
        TEST(test_a_free_port_is_picked_and_said),
        TEST(test_the_port_outlives_a_restart),
        TEST(test_one_that_does_not_listen_there_is_said),
        TEST(test_it_gets_the_clients_host_and_an_id),
        TEST(test_one_that_ends_before_it_answers_is_an_error),
        TEST(test_one_that_goes_into_the_background_is_an_error),
        TEST(test_also_once_it_has_answered),
        TEST(test_a_signal_is_obeyed_while_its_address_is_looked_at),
    };

    return cmocka_run_group_tests_name("app_expects", tests, with_app_master_begin, NULL);
}

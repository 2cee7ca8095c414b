/* The real master and its workers: orders to a worker, a stop that is called off, signals that
 * reach both, and restarts that come faster than drains end. */

#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "as_manager.h"
#include "expect.h"

#define LIMIT_MS 30000
#define MASTER(...)                                                                                \
    ((const char *const[]){"-m", "master", "--restart-probation", "0", "--admin", admin_address,   \
                           __VA_ARGS__, NULL})

static char admin_address[64];

static int set_up(void **state)
{
    static unsigned n;
    (void)state;
    (void)snprintf(admin_address, sizeof(admin_address), "unix:/tmp/lastcall-master-%ld-%u.admin",
                   (long)getpid(), n++);
    return 0;
}

static pid_t wait_generation(struct process *p, unsigned n)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "generation %u serves: process ", n);
    process_wait_log(p, text);
    process_wait_log(p, "\n");
    return (pid_t)strtol(strstr(p->log, text) + strlen(text), NULL, 10);
}

static void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    process_release(p);
}

/* Without its lame duck. Two of a kind could be one to the kernel. */
static void cut_short(struct process *p)
{
    process_signal(p, SIGTERM);
    process_signal(p, SIGINT);
    process_expect(p, LIMIT_MS, 4);
    process_release(p);
}

/* A successor would take sockets that the worker is about to shut. */
static void test_no_restart_while_the_worker_drains_and_again_when_that_was_called_off(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, MASTER("--lame-duck", "60s"));
    struct process admin = admin_of(&p);
    (void)wait_generation(&p, 1);
    admin_order(&admin, "/drain", "{}", 202, "true");
    process_wait_log(&p, "lame duck for ");
    process_signal(&p, SIGHUP); /* perhaps before the worker reports it: then the restart fails */
    process_wait_log(&p, "this process is stopping");
    assert_serves(&p);
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_serves(&p);
    assert_int_equal(count_in(p.log, "generation 2 serves"), 1);
    cut_short(&p);
}

/* What the order began goes on: it ends the service, and the listeners close without a loss. */
static void test_an_order_to_drain_ends_the_service(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, MASTER("--lame-duck", "100ms"));
    struct process admin = admin_of(&p);
    (void)wait_generation(&p, 1);
    admin_order(&admin, "/drain", "{}", 202, "true");
    process_expect(&p, LIMIT_MS, 0);
    assert_null(strstr(p.log, "starting another one"));
    process_release(&p);
}

static void test_a_stop_that_is_called_off_leaves_a_whole_master(void **state)
{
    struct process p;
    char path[64], text[512] = "";
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/lastcall-master-%ld.notify", (long)getpid());
    int fd = listen_as_manager(path);
    process_start(&p, NULL, MASTER("--lame-duck", "60s"));
    (void)unsetenv("NOTIFY_SOCKET");
    struct process admin = admin_of(&p);
    (void)wait_generation(&p, 1);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    process_signal(&p, SIGHUP);
    pid_t worker = wait_generation(&p, 2);
    process_wait_log(&p, "has drained and exited with status 0");
    assert_serves(&p);
    assert_int_equal(kill(worker, SIGKILL), 0); /* and it is replaced */
    (void)wait_generation(&p, 3);
    assert_serves(&p);
#ifdef LASTCALL_SYSTEMD
    while (recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0) {
        assert_null(strstr(text, "STOPPING"));
        memset(text, 0, sizeof(text));
    }
#endif
    cut_short(&p);
    (void)close(fd);
    (void)unlink(path);
}

/* A manager that ends a service tells all of its processes. */
/* The drain may be called off before the coordinator has seen it. */
static void test_stops_that_are_called_off_at_once_leave_a_whole_master(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, MASTER("--lame-duck", "60s"));
    struct process admin = admin_of(&p);
    (void)wait_generation(&p, 1);
    for (unsigned i = 0; i < 30; i++) {
        char *answer = NULL;
        uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
        process_signal(&p, i % 2 == 0 ? SIGTERM : SIGINT);
        do { /* until the worker has it */
            free(answer);
            assert_true(now_ns() < until_ns);
            answer =
                admin_call(&admin, "POST", "/undrain", "Content-Type: application/json\r\n", "{}");
        } while (strstr(answer, " 200 OK") == NULL);
        free(answer);
        process_wait_log_times(&p, "restarts are possible again", i + 1);
    }
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGINT);
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
}

static void test_a_signal_to_all_is_one(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, MASTER("--threads", "1"));
    pid_t worker = wait_generation(&p, 1);
    int fd = client_begin(&p);
    assert_int_equal(kill(worker, SIGTERM), 0);
    process_wait_log(&p, "SIGTERM received");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "passed on to the worker");
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* The master forgets none of them; the last restart is reported after all others. */
static void test_there_are_no_more_restarts_than_drains_can_be_watched(void **state)
{
    enum { WORKERS = 32 };
    struct process p;
    int fds[WORKERS];
    (void)state;
    process_start(&p, NULL, MASTER("--threads", "1", "--workers", "1", "--deadline", "60s"));
    for (unsigned i = 0; i < WORKERS; i++) {
        (void)wait_generation(&p, i + 1);
        process_wait_log_times(&p, "listeners closed after", i); /* only the new one accepts */
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=60000"));
        assert_serves(&p);
        process_signal(&p, SIGHUP);
    }
    (void)wait_generation(&p, WORKERS + 1);
    assert_serves(&p);
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "no restart: the workers of 32 earlier restarts still drain");
    assert_serves(&p);
    (void)close(fds[0]); /* its worker has nothing to wait for any more */
    process_wait_log(&p, "has drained and exited with status 0");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, WORKERS + 2);
    for (unsigned i = 1; i < WORKERS; i++)
        (void)close(fds[i]);
    stop(&p);
}

/* A process that drains since the restart would take a second stop for an order to cut. */
static void test_a_stop_after_one_that_was_called_off_cuts_nothing(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, MASTER("--lame-duck", "4s", "--threads", "1"));
    struct process admin = admin_of(&p);
    (void)wait_generation(&p, 1);
    int fd = client_begin(&p);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "listeners closed after");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    admin_order(&admin, "/undrain", "{}", 200, "true");
    process_wait_log(&p, "restarts are possible again");
    process_signal(&p, SIGINT);
    process_wait_log_times(&p, "passed on to the worker", 2);
    client_end(fd);
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "forced");
    process_release(&p);
}

/* Their words for a manager went through its channel, the number of which the next client had. */
static void test_workers_of_a_dead_master_say_nothing_to_clients(void **state)
{
    struct process p;
    int fds[8];
    (void)state;
    process_start(&p, NULL, MASTER("--lame-duck", "4s", "--idle-grace", "20s"));
    (void)wait_generation(&p, 1);
    process_signal(&p, SIGKILL);
    process_wait_log(&p, "lame duck for ");
    for (unsigned i = 0; i < 8; i++)
        fds[i] = client_connect(&p);
    process_wait_log(&p, "listeners closed after");
    for (unsigned i = 0; i < 8; i++) {
        client_send(fds[i], GET("/hello"));
        char *answer = client_read_answer(fds[i]);
        assert_int_equal(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
        free(answer);
        (void)close(fds[i]);
    }
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    process_wait_log(&p, "drained in ");
    process_release(&p);
}

/* One that drains for long would write to a file that is rotated away. */
static void test_log_files_are_opened_again_by_workers_that_drain_too(void **state)
{
    struct process p;
    char conf[64], access_log[64];
    (void)state;
    (void)snprintf(conf, sizeof(conf), "/tmp/lastcall-master-%ld.conf", (long)getpid());
    (void)snprintf(access_log, sizeof(access_log), "/tmp/lastcall-master-%ld.log", (long)getpid());
    FILE *file = fopen(conf, "w");
    assert_non_null(file);
    (void)fprintf(
        file,
        "user: %s\nlisten: {host: 127.0.0.1, port: 0}\naccess-log: %s\n"
        "hosts: {default: {paths: {/sleep: {handler: sleep}, /hello: {handler: hello}}}}\n",
        own_user_name(), access_log);
    assert_int_equal(fclose(file), 0);
    process_start_configured(&p, MASTER("-c", conf));
    (void)wait_generation(&p, 1);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    admin_wait_in_flight(&p, 1);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "listeners closed after");
    process_signal(&p, SIGUSR1);
    process_wait_log_times(&p, "opened 1 log file again", 2);
    (void)close(fd);
    stop(&p);
    (void)unlink(conf);
    (void)unlink(access_log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_restart_while_the_worker_drains_and_again_when_that_was_called_off),
        TEST(test_an_order_to_drain_ends_the_service),
        TEST(test_a_stop_that_is_called_off_leaves_a_whole_master),
        TEST(test_stops_that_are_called_off_at_once_leave_a_whole_master),
        TEST(test_a_signal_to_all_is_one),
        TEST(test_there_are_no_more_restarts_than_drains_can_be_watched),
        TEST(test_a_stop_after_one_that_was_called_off_cuts_nothing),
        TEST(test_workers_of_a_dead_master_say_nothing_to_clients),
        TEST(test_log_files_are_opened_again_by_workers_that_drain_too),
    };

    (void)alarm(240); /* a hang is a failure */
    return cmocka_run_group_tests_name("master", tests, NULL, NULL);
}

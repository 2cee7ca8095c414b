/* A real process drains for long, while a second one starts with the same command line, the admin
 * address included. The second one serves and answers operators there; clients that watch the first
 * one's drain keep their streams. */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "loopback.h"

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char listen_at[32], admin_at_text[96];

/* Addresses for one test; with a Unix socket for the admin. */
static void choose(bool is_unix)
{
    static unsigned n;

    (void)snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%u", free_port());
    if (is_unix)
        (void)snprintf(admin_at_text, sizeof(admin_at_text),
                       "unix:/tmp/lastcall-share-%ld-%u.admin", (long)getpid(), n++);
    else
        (void)snprintf(admin_at_text, sizeof(admin_at_text), "127.0.0.1:%u", free_port());
}

static struct process start_one(struct process *p, const char *mode)
{
    process_start(
        p, listen_at,
        ARGS("--admin", admin_at_text, "-m", mode, "--threads", "1", "--deadline", "60s"));
    process_wait_log(p, "admin on ");
    if (mode[0] == 'm')
        process_wait_log(p, "generation 1 serves");
    return admin_of(p);
}

static pid_t pid_there(const struct process *admin)
{
    json_t *status = admin_status(admin);
    pid_t pid = (pid_t)admin_number(status, "pid");
    json_decref(status);
    return pid;
}

/* Which process answers there, and until when? */
static void wait_answers(const struct process *admin, pid_t not )
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (pid_there(admin) == not )
        assert_true(now_ns() < until_ns);
}

/* The drain lasts until the rest of it comes, however long a start takes. */
static int begin_long_request(const struct process *p)
{
    int fd = client_connect(p);
    client_send(fd, "POST /sleep?ms=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12");
    return fd;
}

static void end_long_request(int fd)
{
    client_send(fd, "345");
    client_expect(fd, " 200 OK");
    (void)close(fd);
}

static void wait_drains(const struct process *admin)
{
    admin_wait_text(admin, "phase", "draining");
}

static void starts_while_the_old_one_drains(bool is_unix, const char *mode, int signo)
{
    struct process old, new;

    choose(is_unix);
    struct process admin = start_one(&old, mode);
    int request = begin_long_request(&old);
    pid_t before = pid_there(&admin);
    int watcher = client_connect(&admin); /* an operator who is connected already */
    client_send(watcher, GET("/status"));
    client_expect(watcher, " 200 OK");
    process_signal(&old, signo);
    wait_drains(&admin);
    (void)start_one(&new, mode);
    process_wait_log(&new, "is draining and has the admin address");
    assert_serves(&new);
    wait_answers(&admin, before);
    process_wait_log(&old, "a new process answers on the admin address"); /* for a moment, both */
    for (unsigned i = 0; i < 8; i++) /* none is left to the old one */
        assert_int_not_equal(pid_there(&admin), before);
    client_send(watcher, GET("/status"));
    client_expect(watcher, "draining");
    (void)close(watcher);
    end_long_request(request);
    process_expect(&old, LIMIT_MS, signo == SIGKILL ? 128 + SIGKILL : 0);
    process_release(&old);
    assert_int_not_equal(pid_there(&admin), before); /* its end has taken nothing away */
    process_signal(&new, SIGTERM);
    process_expect(&new, LIMIT_MS, 0);
    process_release(&new);
    if (is_unix)
        assert_int_equal(access(admin_at_text + strlen("unix:"), F_OK), -1);
}

static void test_a_new_process_has_the_admin_address_of_one_that_drains(void **state)
{
    (void)state;
    starts_while_the_old_one_drains(false, "worker", SIGTERM);
    starts_while_the_old_one_drains(true, "worker", SIGTERM);
}

static void test_a_new_master_has_the_admin_address_of_an_old_one(void **state)
{
    (void)state;
    starts_while_the_old_one_drains(false, "master", SIGTERM);
    starts_while_the_old_one_drains(true, "master", SIGTERM);
}

/* Its worker drains, and has the address. */
static void test_a_new_master_has_the_admin_address_of_one_that_was_killed(void **state)
{
    (void)state;
    starts_while_the_old_one_drains(false, "master", SIGKILL);
    starts_while_the_old_one_drains(true, "master", SIGKILL);
}

/* It has the listeners for a moment, and the old one answers on. */
static void test_a_start_that_fails_takes_nothing(void **state)
{
    (void)state;
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        struct process old, new;
        choose(is_unix);
        struct process admin = start_one(&old, "worker");
        int request = begin_long_request(&old);
        pid_t before = pid_there(&admin);
        process_signal(&old, SIGTERM);
        wait_drains(&admin);
        process_spawn(&new, ARGS("--listen", listen_at, "--admin", admin_at_text, "--journal-dir",
                                 "/proc/none"));
        assert_int_not_equal(process_wait(&new, LIMIT_MS), 0);
        assert_contains(new.log, "is draining and has the admin address");
        process_release(&new);
        assert_int_equal(pid_there(&admin), before);
        (void)start_one(&new, "worker"); /* another one may have them */
        wait_answers(&admin, before);
        end_long_request(request);
        process_expect(&old, LIMIT_MS, 0);
        process_release(&old);
        process_signal(&new, SIGTERM);
        process_expect(&new, LIMIT_MS, 0);
        process_release(&new);
    }
}

/* One that serves lends nothing. */
static void test_the_address_of_one_that_serves_is_taken(void **state)
{
    (void)state;
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        struct process old, new;
        choose(is_unix);
        struct process admin = start_one(&old, "worker");
        process_spawn(&new, ARGS("--listen", "127.0.0.1:0", "--admin", admin_at_text));
        process_expect(&new, LIMIT_MS, 69);
        assert_contains(new.log, "the admin listener: cannot listen on ");
        process_release(&new);
        assert_int_equal(pid_there(&admin), old.pid);
        process_signal(&old, SIGTERM);
        process_expect(&old, LIMIT_MS, 0);
        process_release(&old);
    }
}

static int begin(void **state)
{
    (void)state;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static int end(void **state)
{
    int err = process_kill_left(state);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return err;
}

#define TEST(test) cmocka_unit_test_teardown(test, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_process_has_the_admin_address_of_one_that_drains),
        TEST(test_a_new_master_has_the_admin_address_of_an_old_one),
        TEST(test_a_new_master_has_the_admin_address_of_one_that_was_killed),
        TEST(test_a_start_that_fails_takes_nothing),
        TEST(test_the_address_of_one_that_serves_is_taken),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}

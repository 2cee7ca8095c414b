/* What goes over to a successor besides listeners and connections: the admin socket and the
 * registration. Neither is missed for a moment. */

#include "process.h"

#include <poll.h>
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
#include "redis_server.h"

#define LIMIT_MS 30000
#define RESTARTS 3
#define ARGS(...)                                                                                  \
    ((const char *const[]){"--threads", "1", "--restart-probation", "20ms", "--deadline", "20s",   \
                           __VA_ARGS__, NULL})

static struct redis_server redis;

/* Restart `p`, and call `look` again and again until the next generation serves. */
static pid_t restart(struct process *p, pid_t pid, unsigned generation, void (*look)(void *),
                     void *arg)
{
    char text[64];
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    (void)snprintf(text, sizeof(text), "generation %u serves: process ", generation);
    assert_int_equal(kill(pid, SIGHUP), 0);
    while (!process_says(p, text, 1)) {
        if (now_ns() > until_ns)
            fail_msg("there is no generation %u; log:\n%s", generation, p->log);
        look(arg);
    }
    return (pid_t)strtol(strstr(p->log, text) + strlen(text), NULL, 10);
}

/* This process adopts what the ones that ended have left. */
static void wait_gone(pid_t pid, void (*look)(void *), void *arg)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (kill(pid, 0) == 0 && waitpid(pid, NULL, WNOHANG) != pid) {
        if (now_ns() > until_ns)
            fail_msg("process %ld does not end", (long)pid);
        look(arg);
        (void)poll(NULL, 0, 1);
    }
}

static void run_restarts(struct process *p, void (*look)(void *), void *arg)
{
    pid_t pid = p->pid;

    for (unsigned i = 0; i < RESTARTS; i++) {
        pid_t next = restart(p, pid, 2 + i, look, arg);
        if (pid == p->pid)
            process_expect(p, LIMIT_MS, 0);
        else
            wait_gone(pid, look, arg);
        look(arg);
        pid = next;
    }
    p->pid = pid; /* for the caller, to stop it */
    assert_int_equal(kill(pid, SIGTERM), 0);
}

static void look_at_nothing(void *arg)
{
    (void)arg;
}

static void look_at_admin(void *admin)
{
    admin_expect(admin, "GET", "/livez", "", NULL, 200, "live");
}

static void test_admin_socket_answers_at_every_instant(void **state)
{
    struct process p, admin;
    char path[] = "/tmp/lastcall-passes-XXXXXX", address[64];
    (void)state;
    assert_non_null(mkdtemp(path));
    (void)snprintf(address, sizeof(address), "unix:%s/admin", path);
    process_start(&p, NULL, ARGS("--admin", address));
    admin = admin_of(&p);
    run_restarts(&p, look_at_admin, &admin);
    wait_gone(p.pid, look_at_nothing, NULL);
    assert_int_equal(access(admin_path(&admin), F_OK), -1); /* the last one took it away */
    assert_int_equal(rmdir(path), 0);
    process_release(&p);
}

static void look_at_key(void *arg)
{
    (void)arg;
    char *value = redis_server_ask(&redis, "GET service");
    assert_string_not_equal(value, "(nil)");
    free(value);
}

static void test_registration_is_there_at_every_instant(void **state)
{
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(
        &p, NULL,
        ARGS("--register", redis.url, "--register-key", "service", "--register-value", "%i"));
    redis_server_wait(&redis, "GET service", "!(nil)");
    char *first = redis_server_ask(&redis, "GET service");
    run_restarts(&p, look_at_key, NULL);
    redis_server_wait(&redis, "GET service", "(nil)"); /* by the last one's stop */
    free(first);
    process_release(&p);
    redis_server_stop(&redis);
}

static int tear_down(void **state)
{
    (void)redis_server_kill_left(state);
    return process_kill_left(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_admin_socket_answers_at_every_instant, tear_down),
        cmocka_unit_test_teardown(test_registration_is_there_at_every_instant, tear_down),
    };
    (void)alarm(240);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests_name("restart_passes", tests, NULL, NULL);
}

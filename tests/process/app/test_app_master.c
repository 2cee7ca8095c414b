/* A master with an application, `lastcall -m master --proxy URL -- COMMAND`: the workers come and
 * go, and the application stays. What it shares with a server that has one of its own is in
 * test_app.c; how it ends, in test_app_master_stop.c. */

#include "with_app_master.h"

#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"
#include "loopback.h"
#include "skip.h"

static char conf_path[64];

static int set_up(void **state)
{
    (void)snprintf(conf_path, sizeof(conf_path), "/tmp/lastcall-app-%ld.conf", (long)getpid());
    return with_app_master_set_up(state);
}

static int clean_up(void **state)
{
    (void)unlink(conf_path);
    return with_app_master_clean_up(state);
}

/* A configuration with a path that says whether the application is up, and `more`. */
static void write_conf(const char *user, const char *more)
{
    FILE *file = fopen(conf_path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nuser: %s\nrestart: {probation: 20ms}\n"
                  "hosts: {default: {paths: {/ready: {handler: ready}, /: {proxy.reverse.url: "
                  "'%s'}}}}\n%s\n",
                  user, url, more);
    (void)fclose(file);
}

/* Requests wait for as long as a test needs, in a worker that drains, too. */
static void write_app_conf(const char *app)
{
    char more[256];
    (void)snprintf(more, sizeof(more),
                   "app: {url: '%s', start-timeout: 60s, hold: 60s%s}\ndrain: {deadline: 60s}", url,
                   app);
    write_conf(own_user_name(), more);
}

static void start_configured(struct process *p, const char *const *command)
{
    const char *args[16] = {"-m", "master", "-c", conf_path, "--"};
    for (size_t n = 5; *command != NULL; command++)
        args[n++] = *command;
    process_start_configured(p, args);
}

static void wait_answer(const struct process *p, const char *request, const char *want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    for (;;) {
        char *answer = client_ask(p, request);
        bool found = answer != NULL && strstr(answer, want) != NULL;
        if (!found && now_ns() > until_ns)
            fail_msg("no `%s` in:\n%s", want, answer);
        free(answer);
        if (found)
            return;
        (void)poll(NULL, 0, 2);
    }
}

/* ---- it stays ---- */

struct restarts {
    struct process *p;
    unsigned done;
    pthread_t thread;
    bool begun;
};

static void *restart_three_times(void *arg)
{
    struct restarts *restarts = arg;
    char text[64];

    for (; restarts->done < 3; restarts->done++) {
        (void)kill(restarts->p->pid, SIGHUP);
        (void)snprintf(text, sizeof(text), "generation %u serves: process ", restarts->done + 2);
        if (!process_says(restarts->p, text, LIMIT_MS))
            break;
    }
    return NULL;
}

static void begin_restarts(void *arg)
{
    struct restarts *restarts = arg;
    assert_int_equal(pthread_create(&restarts->thread, NULL, restart_three_times, restarts), 0);
    restarts->begun = true;
}

static void restart_under_load(enum load_protocol protocol)
{
    struct process p;
    struct load_result result;
    struct restarts restarts = {.p = &p};
    struct load_options load = {.protocol = protocol,
                                .connections = 16,
                                .path = "/",
                                .expect_body = "python\n",
                                .duration_ms = 1000,
                                .patience_ms = LIMIT_MS,
                                .signal_after_ms = 100,
                                .signal_after_answers = 20,
                                .on_signal = begin_restarts,
                                .on_signal_arg = &restarts};

    start_up(&p, APP(MASTER, "--deadline", "20s"), APP(PYTHON));
    pid_t app = app_pid(&p);
    load.address = p.address;
    assert_int_equal(load_run(&load, &result), 0);
    if (!restarts.begun) /* too few answers in that time */
        begin_restarts(&restarts);
    assert_int_equal(pthread_join(restarts.thread, NULL), 0);
    if (restarts.done != 3 || result.lost != 0 || result.waiting != 0 || result.refused != 0 ||
        result.answered_2xx != result.answered)
        fail_msg("%u restarts; %llu lost, %llu waiting, %llu refused, %llu of %llu answers are "
                 "2xx; first: %s; log:\n%s",
                 restarts.done, (unsigned long long)result.lost, (unsigned long long)result.waiting,
                 (unsigned long long)result.refused, (unsigned long long)result.answered_2xx,
                 (unsigned long long)result.answered, result.first_loss, p.log);
    assert_int_equal(app_pid(&p), app);
    assert_int_equal(count_in(p.log, "started as process "), 1);
    assert_answer(&p, GET("/hups"), "hups=0\n"); /* SIGHUP was for the workers */
    stop(&p);
}

static void test_restarts_under_load_leave_it_alone(void **state)
{
    (void)state;
    restart_under_load(LOAD_HTTP1_KEEPALIVE);
    (void)with_app_set_up(NULL); /* another port */
    restart_under_load(LOAD_HTTP1_CLOSE);
}

static void test_a_worker_that_is_killed_is_replaced_and_it_stays(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON));
    pid_t app = app_pid(&p);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(kill(wait_generation(&p, i), SIGKILL), 0);
        assert_int_equal(app_pid(&p), app); /* the request waits in the listener */
    }
    assert_int_equal(count_in(p.log, "started as process "), 1);
    wait_no_zombies(&p);
    stop(&p);
}

static void test_an_order_restarts_the_worker_and_it_stays(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--admin", admin_address), APP(PYTHON));
    pid_t app = app_pid(&p);
    struct process admin = admin_of(&p);
    admin_order(&admin, "/restart", "{}", 202, "true");
    (void)wait_generation(&p, 2);
    assert_int_equal(app_pid(&p), app);
    stop(&p);
}

static void test_without_a_master_the_refusal_names_it(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP("--admin", admin_address), APP(PYTHON));
    struct process admin = admin_of(&p);
    admin_order(&admin, "/restart", "{}", 409, "-m master");
    stop(&p);
}

static void test_its_orphans_are_reaped(void **state)
{
    struct process p;
    int child = 0, orphan = 0;
    pid_t parent = 0;
    (void)state;
    start_up(&p, APP(MASTER), APP(PYTHON, "family"));
    char *answer = client_ask(&p, GET("/pids"));
    assert_int_equal(sscanf(strstr(answer, "\r\n\r\n"), "%d %d", &child, &orphan), 2);
    free(answer);
    assert_int_not_equal(state_of(orphan, &parent), 0);
    assert_int_equal(parent, p.pid);
    (void)kill(orphan, SIGKILL);
    wait_dead(orphan);
    wait_no_zombies(&p);
    process_signal(&p, SIGHUP); /* and no worker is taken for one */
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "has drained and exited with status 0");
    wait_no_zombies(&p);
    stop(&p);
    wait_dead(child);
}

/* ---- requests wait ---- */

/* Those in the old worker, too, which hears of it while it drains. */
static void test_requests_wait_over_a_restart(void **state)
{
    struct process p;
    (void)state;
    write_app_conf("");
    start_configured(&p, APP(PYTHON, "late"));
    (void)wait_generation(&p, 1);
    int old = client_connect(&p);
    client_send(old, GET("/"));
    wait_taken(&p, 1);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "listeners closed");
    int new = client_connect(&p);
    client_send(new, GET("/"));
    wait_taken(&p, 2);
    assert_answer(&p, GET("/ready"), "HTTP/1.1 503 ");
    open_gate(NULL);
    expect_200(old);
    expect_200(new);
    assert_answer(&p, GET("/ready"), "HTTP/1.1 200 ");
    process_wait_log(&p, "has drained and exited with status 0");
    stop(&p);
}

static void test_it_is_started_again_and_requests_wait_meanwhile(void **state)
{
    struct process p;
    (void)state;
    open_gate(NULL);
    write_app_conf(", restart: ON");
    start_configured(&p, APP(PYTHON, "late"));
    process_wait_log(&p, " answers at ");
    for (unsigned i = 2; i <= 3; i++) {
        pid_t app = app_pid(&p);
        shut_gate();
        assert_int_equal(kill(app, SIGKILL), 0);
        wait_answer(&p, GET("/ready"), "HTTP/1.1 503 "); /* the worker knows */
        int fds[20];
        for (size_t j = 0; j < 20; j++)
            client_send(fds[j] = client_connect(&p), GET("/"));
        wait_taken(&p, 20);
        if (i == 3) { /* one that comes now has to know it, too */
            assert_int_equal(kill(last_pid(&p, "serves: process "), SIGKILL), 0);
            for (size_t j = 0; j < 20; j++)
                (void)close(fds[j]);
            for (size_t j = 0; j < 20; j++)
                client_send(fds[j] = client_connect(&p), GET("/"));
            (void)wait_generation(&p, 2);
            wait_taken(&p, 20);
        }
        wait_count(&p, "started as process ", i);
        open_gate(NULL);
        for (size_t j = 0; j < 20; j++)
            expect_200(fds[j]);
        assert_int_not_equal(app_pid(&p), app);
    }
    assert_int_equal(count_in(p.log, "started as process "), 3);
    wait_no_zombies(&p);
    stop(&p);
}

static void test_a_new_worker_knows_that_it_is_up(void **state)
{
    struct process p;
    (void)state;
    start_up(&p, APP(MASTER, "--app-hold", "0"), APP(PYTHON));
    for (unsigned i = 2; i <= 4; i++) {
        process_signal(&p, SIGHUP);
        (void)wait_generation(&p, i);
        for (unsigned j = 0; j < 10; j++) /* one that was held would get 503 at once */
            assert_answer(&p, GET("/"), "python\n");
    }
    stop(&p);
}

static void test_the_manager_gets_ready_when_it_answers_and_no_restart_before(void **state)
{
    struct process p;
    char text[512];
    (void)state;
    int fd = listen_for_ready();
    start(&p, APP(MASTER), APP(PYTHON, "late"));
    (void)unsetenv("NOTIFY_SOCKET");
    (void)wait_generation(&p, 1);
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "has drained and exited with status 0");
    assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), -1);
    open_gate(NULL);
    ssize_t n = client_recv(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    assert_contains(text, "READY=1\n");
    stop(&p);
    (void)close(fd);
}

static void test_a_daemon_is_there_when_it_answers(void **state)
{
    struct process p;
    char more[320], log[64], pid_file[64], text[4096] = "";
    int status;
    (void)state;
    (void)snprintf(log, sizeof(log), "/tmp/lastcall-app-%ld.log", (long)getpid());
    (void)snprintf(pid_file, sizeof(pid_file), "/tmp/lastcall-app-%ld.pid", (long)getpid());
    (void)snprintf(more, sizeof(more), "app: {url: '%s'}\nerror-log: %s\npid-file: %s", url, log,
                   pid_file);
    write_conf(own_user_name(), more);
    process_spawn(&p, APP("-m", "daemon", "-c", conf_path, "--", "sh", "-c",
                          "echo said by it; exec \"$@\"", "sh", PYTHON, "late"));
    while (access(pid_file, F_OK) != 0) /* the worker is in charge */
        (void)poll(NULL, 0, 5);
    assert_false(process_is_gone(&p));
    open_gate(NULL);
    process_expect(&p, LIMIT_MS, 0);
    FILE *file = fopen(pid_file, "r");
    assert_int_equal(fscanf(file, "%4095s", text), 1);
    (void)fclose(file);
    pid_t master = (pid_t)strtol(text, NULL, 10);
    assert_int_equal(kill(master, SIGTERM), 0);
    assert_int_equal(waitpid(master, &status, 0), master);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    file = fopen(log, "r");
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    assert_contains(text, "said by it\n");
    assert_contains(text, "was ended by SIGTERM");
    (void)unlink(log);
    process_release(&p);
}

/* ---- its environment, and changes of the configuration ---- */

static void test_it_finds_the_world_as_if_started_alone(void **state)
{
    (void)state;
    finds_the_world_as_if_started_alone(APP(MASTER));
}

/* A line of /proc/PID/status. */
static char *status_of(pid_t pid, const char *name)
{
    static char line[256];
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && strncmp(line, name, strlen(name)) != 0)
        ;
    (void)fclose(file);
    return line + strlen(name);
}

/* Python would do so by itself. */
static void test_no_signal_is_ignored(void **state)
{
    struct process p;
    (void)state;
    start(&p, APP(MASTER), APP("sleep", "1000"));
    process_wait_log(&p, "started as process ");
    pid_t app = last_pid(&p, "started as process ");
    char *ours = strdup(status_of(getpid(), "SigIgn:"));
    assert_string_equal(status_of(app, "SigIgn:"), ours);
    free(ours);
    stop(&p);
}

static void test_it_runs_as_the_user_of_the_configuration(void **state)
{
    const struct passwd *nobody = getpwnam("nobody");
    struct process p;
    char more[160], want[64];
    (void)state;
    skip_unless_root();
    if (nobody == NULL)
        skip_test("needs a user nobody");
    (void)snprintf(more, sizeof(more), "app: {url: '%s'}", url);
    write_conf("nobody", more);
    start_configured(&p, APP("sleep", "1000"));
    pid_t worker = wait_generation(&p, 1);
    process_wait_log(&p, "started as process ");
    pid_t app = last_pid(&p, "started as process ");
    (void)snprintf(want, sizeof(want), "\t%u\t%u\t%u\t%u\n", nobody->pw_uid, nobody->pw_uid,
                   nobody->pw_uid, nobody->pw_uid);
    assert_string_equal(status_of(app, "Uid:"), want);
    (void)snprintf(want, sizeof(want), "\t%u\t%u\t%u\t%u\n", nobody->pw_gid, nobody->pw_gid,
                   nobody->pw_gid, nobody->pw_gid);
    assert_string_equal(status_of(app, "Gid:"), want);
    char *groups = strdup(status_of(worker, "Groups:"));
    assert_string_equal(status_of(app, "Groups:"), groups);
    free(groups);
    process_signal(&p, SIGKILL); /* setuid(2) clears PDEATHSIG: see app.c */
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    wait_dead(app);
    wait_dead(worker);
    process_release(&p);
}

static void test_what_a_later_configuration_says_holds(void **state)
{
    struct process p;
    (void)state;
    write_app_conf(", grace: 5m");
    start_configured(&p, APP(PYTHON, "deaf"));
    process_wait_log(&p, " answers at ");
    pid_t app = app_pid(&p);
    write_app_conf(", grace: 100ms, restart: ON");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    assert_int_equal(kill(app, SIGKILL), 0);
    process_wait_log(&p, "again in 100ms"); /* it was not to be, at first */
    wait_count(&p, " answers at ", 2);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "SIGKILL in 100ms");
    process_release(&p);
}

static void test_another_address_is_logged_and_starts_nothing(void **state)
{
    struct process p;
    char first[sizeof(url)];
    (void)state;
    write_app_conf("");
    start_configured(&p, APP(PYTHON));
    process_wait_log(&p, " answers at ");
    memcpy(first, url, sizeof(first));
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port());
    write_app_conf("");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 2);
    process_wait_log(&p, "a restart does not restart it");
    memcpy(url, first, sizeof(url)); /* and back */
    write_app_conf("");
    process_signal(&p, SIGHUP);
    (void)wait_generation(&p, 3);
    wait_count(&p, "has drained and exited with status 0", 2); /* they may answer until then */
    assert_answer(&p, GET("/"), "python\n");
    assert_int_equal(count_in(p.log, "a restart does not restart it"), 1);
    assert_int_equal(count_in(p.log, "started as process "), 1);
    stop(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_restarts_under_load_leave_it_alone),
        TEST(test_a_worker_that_is_killed_is_replaced_and_it_stays),
        TEST(test_an_order_restarts_the_worker_and_it_stays),
        TEST(test_without_a_master_the_refusal_names_it),
        TEST(test_its_orphans_are_reaped),
        TEST(test_requests_wait_over_a_restart),
        TEST(test_it_is_started_again_and_requests_wait_meanwhile),
        TEST(test_a_new_worker_knows_that_it_is_up),
        TEST(test_the_manager_gets_ready_when_it_answers_and_no_restart_before),
        TEST(test_a_daemon_is_there_when_it_answers),
        TEST(test_it_finds_the_world_as_if_started_alone),
        TEST(test_no_signal_is_ignored),
        TEST(test_it_runs_as_the_user_of_the_configuration),
        TEST(test_what_a_later_configuration_says_holds),
        TEST(test_another_address_is_logged_and_starts_nothing),
    };

    (void)alarm(600);
    return cmocka_run_group_tests_name("app_master", tests, with_app_master_begin, NULL);
}

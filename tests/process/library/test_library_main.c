/* lc_main(): the program lastcall with handlers of its own: flags, a file, a restart without a gap.
 * This program starts itself again, with $LASTCALL_TEST_MAIN. */

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"
#include "with_library.h"

extern char **environ;

/* ---- the program ---- */

static void say_pid(lc_req *req, void *user)
{
    (void)lc_sendf(req, 200, "text/plain", "%s %ld", (const char *)user, (long)getpid());
}

static void begin_task(lc_req *req, void *user)
{
    static lc_task *for_ever; /* where a leak sanitizer finds it */

    for_ever = lc_task_begin(user, "for ever");
    (void)lc_send(req, for_ever != NULL ? 200 : 500, NULL, NULL);
}

static void begin_drain(lc_req *req, void *user)
{
    (void)lc_send(req, lc_drain(user, -1, "asked for by a request") == LC_OK ? 200 : 500, NULL,
                  NULL);
}

static int setup(lc_server *server, void *user)
{
    if (getenv("LASTCALL_TEST_REFUSE") != NULL)
        return LC_E_STATE;
    (void)lc_handle(server, "GET /pid", say_pid, user);
    (void)lc_handle(server, "POST /task", begin_task, server);
    (void)lc_handle(server, "POST /drain", begin_drain, server);
    (void)lc_set(server, "drain.deadline", "60s");      /* flags and the file count more */
    (void)lc_set(server, "limit-request-body", "1000"); /* a directive of libh2o's */
    (void)lc_listen(server, "127.0.0.1:1");             /* nobody may */
    if (lc_start(server) != LC_E_STATE || lc_free(server) != LC_E_THREAD)
        return LC_E_ARG; /* both are not for this server */
    return LC_OK;
}

/* ---- starting it ---- */

struct program {
    pid_t pid;
    int port;
    FILE *lines;
};

static void spawn(struct program *program, const char *const arguments[])
{
    char *argv[16] = {NULL}, self[4096];
    posix_spawn_file_actions_t actions;
    int out[2];

    argv[0] = (char *)(uintptr_t)in_directory("program"); /* a restart finds it by its name */
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(n > 0);
    self[n] = '\0';
    (void)unlink(argv[0]);
    assert_int_equal(symlink(self, argv[0]), 0);
    for (size_t i = 0; arguments[i] != NULL && i < 14; i++)
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    assert_int_equal(setenv("LASTCALL_TEST_MAIN", "1", 1), 0);
    assert_int_equal(posix_spawn(&program->pid, argv[0], &actions, NULL, argv, environ), 0);
    (void)unsetenv("LASTCALL_TEST_MAIN");
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(out[1]);
    program->lines = fdopen(out[0], "r");
}

/* Read its log up to a line with that text. */
static void expect_line(struct program *program, const char *text)
{
    char line[1024] = "";

    while (strstr(line, text) == NULL)
        if (fgets(line, sizeof(line), program->lines) == NULL)
            fail_msg("no line says: %s", text);
}

static int end(struct program *program)
{
    int status = 0;

    assert_int_equal(waitpid(program->pid, &status, 0), program->pid);
    (void)fclose(program->lines);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void start(struct program *program, const char *deadline)
{
    char address[32];
    uint16_t port = free_port();

    program->port = port;
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    spawn(program,
          ARGS("--listen", address, "--threads", "1", "--admin", "off", "--deadline", deadline));
    expect_line(program, "listening on 127.0.0.1:");
}

static int post(int port, const char *path)
{
    char request[256], answer[64] = "";
    int fd = library_connect(port);
    int n = snprintf(request, sizeof(request),
                     "POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n"
                     "Connection: close\r\n\r\n",
                     path);

    assert_int_equal(write(fd, request, (size_t)n), n);
    assert_true(read(fd, answer, sizeof(answer) - 1) > 12);
    (void)close(fd);
    return atoi(answer + 9);
}

/* Who answers? */
static long ask_pid(int port)
{
    char answer[1024] = "";
    size_t size = 0;
    ssize_t n;
    int fd = library_ask(port, "/pid");

    assert_true(fd >= 0); /* at no time is the port closed */
    while (size < sizeof(answer) - 1 &&
           (n = read(fd, answer + size, sizeof(answer) - 1 - size)) > 0)
        size += (size_t)n;
    (void)close(fd);
    const char *says = strstr(answer, "a word ");
    assert_non_null(says);
    return atol(says + 7);
}

/* ---- tests ---- */

static void test_handlers_answer_and_the_demo_is_gone(void **state)
{
    struct program program;

    (void)state;
    start(&program, "10s");
    assert_int_equal(ask_pid(program.port), program.pid);
    assert_int_equal(library_get(program.port, "/hello"), 404);
    assert_int_equal(kill(program.pid, SIGTERM), 0);
    expect_line(&program, "deadline 10s"); /* the flag, not what the setup has set */
    assert_int_equal(end(&program), 0);
}

static void test_a_restart_takes_the_handlers_along(void **state)
{
    struct program program;

    (void)state;
    start(&program, "10s");
    assert_int_equal(ask_pid(program.port), program.pid);
    assert_int_equal(kill(program.pid, SIGHUP), 0);
    long successor = program.pid;
    while (successor == program.pid)
        successor = ask_pid(program.port);
    assert_int_equal(kill((pid_t)successor, SIGTERM), 0);
    char rest[4096];
    while (fread(rest, 1, sizeof(rest), program.lines) > 0) /* until both have ended */
        ;
    assert_int_equal(library_ask(program.port, "/pid"), -1);
    assert_int_equal(end(&program), 0);
}

static void test_a_drain_from_a_handler_and_a_task_that_is_cut(void **state)
{
    struct program program;

    (void)state;
    start(&program, "500ms");
    assert_int_equal(post(program.port, "/task"), 200);
    assert_int_equal(post(program.port, "/drain"), 200);
    expect_line(&program, "asked for by a request");
    expect_line(&program, "unfinished: TASK for ever");
    assert_int_equal(end(&program), 3);
}

static void test_a_program_without_a_name(void **state)
{
    char *none[] = {NULL};

    (void)state;
    assert_int_equal(lc_main(0, none, NULL, NULL), 64);
    assert_int_equal(lc_main(1, none, NULL, NULL), 64);
    assert_int_equal(lc_main(1, NULL, NULL, NULL), 64);
}

static void test_a_setup_that_fails_and_flags_that_are_wrong(void **state)
{
    struct program program;

    (void)state;
    assert_int_equal(setenv("LASTCALL_TEST_REFUSE", "1", 1), 0);
    spawn(&program, ARGS("--listen", "127.0.0.1:1"));
    (void)unsetenv("LASTCALL_TEST_REFUSE");
    expect_line(&program, "cannot start: ");
    assert_int_equal(end(&program), 78);
    spawn(&program, ARGS("--no-such-flag"));
    assert_int_equal(end(&program), 64);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handlers_answer_and_the_demo_is_gone),
        cmocka_unit_test(test_a_restart_takes_the_handlers_along),
        cmocka_unit_test(test_a_drain_from_a_handler_and_a_task_that_is_cut),
        cmocka_unit_test(test_a_program_without_a_name),
        cmocka_unit_test(test_a_setup_that_fails_and_flags_that_are_wrong),
    };

    if (getenv("LASTCALL_TEST_MAIN") != NULL)
        return lc_main(argc, argv, setup, (void *)(uintptr_t) "a word");
    return cmocka_run_group_tests_name("library_main", tests, library_group_setup,
                                       library_group_teardown);
}

/* How functions of the program may not end that the library calls: by exit(3), by an exception, or
 * with their thread. The process ends with a line that names whose function it was, and does not
 * hang. tests/process/module/test_module_ends.c has handlers of modules. This program starts itself
 * again as `ends PLACE WAY`. */

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
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
#include <unwind.h>

#include <cmocka.h>

#include "expect.h"
#include "with_library.h"

extern char **environ;

/* ---- the program ---- */

static const char *place, *way;

/* As __cxa_throw() and std::terminate(), which need a C++ compiler. */
static void throw(void)
{
    static struct _Unwind_Exception exception;

    (void)_Unwind_RaiseException(&exception); /* it returns if no frame wants it */
    abort();
}

static void end_if(const char *here)
{
    if (strcmp(here, place) != 0)
        return;
    if (strcmp(way, "exit") == 0)
        exit(7);
    if (strcmp(way, "throw") == 0)
        throw();
    pthread_exit(NULL);
}

static void on_line(int level, const char *event, const char *text, const char *json, void *user)
{
    (void)level;
    (void)event;
    (void)text;
    (void)json;
    (void)user;
    end_if("log");
}

static void on_phase(int phase, void *user)
{
    (void)phase;
    (void)user;
    end_if("phase");
}

static void on_free(void *user)
{
    end_if(user);
}

/* The routes' texts are the places of their handlers. */
static void on_free_user(void *user)
{
    if (strcmp(user, "free") == 0 || strcmp(user, "pattern") == 0)
        end_if(user);
}

static void *begin_worker(unsigned worker, void *user)
{
    (void)worker;
    end_if("begin");
    return user;
}

static void end_worker(void *own, void *user)
{
    (void)own;
    (void)user;
    end_if("end");
}

static sem_t was_called;

static void on_cancel(void *user)
{
    end_if(user);
    (void)sem_post(&was_called);
}

/* Its return would take the function back. */
static void cancelled(lc_req *req, void *user)
{
    (void)lc_on_cancel(req, on_cancel, user);
    while (sem_wait(&was_called) != 0)
        ;
}

/* Its function is called at once. */
static void cancelled_before(lc_req *req, void *user)
{
    (void)lc_sleep(req, -1);
    (void)lc_on_cancel(req, on_cancel, user);
}

static void on_kept(lc_server *server, lc_token token, int what, void *user)
{
    (void)server;
    (void)token;
    (void)what;
    end_if(user);
}

static void keep(lc_req *req, void *user)
{
    (void)lc_keep(req);
    (void)lc_on_kept(req, on_kept, user);
}

static void send_owned(lc_req *req, void *user)
{
    (void)lc_send_owned(req, 200, NULL, "text", 4, on_free, user);
}

/* It is freed before the handler returns, and the handler has called the library. */
static void send_owned_wrongly(lc_req *req, void *user)
{
    (void)lc_send_owned(req, 99, NULL, "text", 4, on_free, user);
}

static void answer(lc_req *req, void *user)
{
    end_if(user);
    (void)lc_send(req, 200, NULL, NULL);
}

static void middleware(lc_req *req, void *user)
{
    end_if(user);
    lc_next(req);
}

static void work(lc_task *task, void *user)
{
    (void)task;
    end_if(user);
}

static int setup(lc_server *server, void *user)
{
    (void)server;
    (void)user;
    end_if("setup");
    return 0;
}

static void handle(lc_server *server, const char *pattern, lc_handler handler, const char *user,
                   int64_t timeout_ms)
{
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;

    options.timeout_ms = timeout_ms;
    options.free_user = on_free_user;
    (void)lc_handle_with(server, pattern, handler, (void *)(uintptr_t)user, &options);
}

static lc_server *set_up(void)
{
    lc_server *server = lc_new();

    (void)lc_set(server, "num-threads", "1");
    (void)lc_listen(server, "127.0.0.1:0");
    (void)lc_on_log(server, on_line, NULL);
    (void)lc_on_phase(server, on_phase, NULL);
    (void)lc_each_worker(server, begin_worker, end_worker, server);
    (void)lc_use(server, "/middleware", middleware, "middleware");
    handle(server, "/handler", answer, "handler", 0);
    handle(server, "/middleware", answer, "", 0);
    handle(server, "/cancel", cancelled, "cancel", 1);
    handle(server, "/cancelled", cancelled_before, "cancelled", 1);
    handle(server, "/kept", keep, "kept", 1);
    handle(server, "/owned", send_owned, "owned", 0);
    handle(server, "/refused", send_owned_wrongly, "refused", 0);
    handle(server, "/free", answer, "free", 0);
    return server;
}

/* Every function is called; that of `place` ends the process. */
static int be_program(char *argv[])
{
    static const char *const paths[] = {"/handler", "/middleware", "/cancel", "/cancelled",
                                        "/kept",    "/owned",      "/refused"};
    char *no_flags[] = {argv[0], NULL};

    place = argv[2];
    way = argv[3];
    (void)alarm(300);
    (void)sem_init(&was_called, 0, 0);
    if (strcmp(place, "setup") == 0)
        return lc_main(1, no_flags, setup, NULL);
    lc_server *server = lc_new();
    handle(server, "no pattern", answer, "pattern", 0);
    if (lc_start(server) != LC_E_ARG || lc_free(server) != LC_OK)
        return 98;
    server = set_up();
    if (lc_start(server) != LC_OK)
        return 97;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        do /* on a busy machine the limit of time may come before the handler */
            (void)library_get(lc_port(server), paths[i]);
        while (strcmp(paths[i] + 1, place) == 0);
    (void)lc_send_owned(NULL, 200, NULL, "text", 4, on_free, "stale");
    (void)lc_go(server, "work", work, "task");
    (void)lc_shutdown(server, -1, NULL);
    (void)lc_free(server);
    return 99;
}

/* ---- the tests ---- */

#define ABORTED (128 + SIGABRT)

/* Start it and read all that it says; its status. */
static int run(const char *at, const char *how, char said[4096])
{
    char *argv[] = {"/proc/self/exe", "ends", (char *)(uintptr_t)at, (char *)(uintptr_t)how, NULL};
    posix_spawn_file_actions_t actions;
    size_t size = 0;
    int out[2], status = 0;
    pid_t pid;
    ssize_t n;

    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(out[1]);
    while (size < 4095 && (n = read(out[0], said + size, 4095 - size)) > 0)
        size += (size_t)n;
    said[size] = '\0';
    (void)close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const struct {
    const char *place;
    const char *line; /* begins so */
    bool is_usual;    /* no server runs: exit(3) is what it always is */
} places[] = {
    {"log", "the function of lc_on_log() ", false},
    {"phase", "the function of lc_on_phase() ", false},
    {"begin", "begin() of lc_each_worker() ", false},
    {"end", "end() of lc_each_worker() ", false},
    {"handler", "the handler of route /handler ", false},
    {"middleware", "the middleware of /middleware ", false},
    {"cancel", "the function of lc_on_cancel() of route /cancel ", false},
    {"cancelled", "the function of lc_on_cancel() of route /cancelled ", false},
    {"kept", "the function of lc_on_kept() of route /kept ", false},
    {"owned", "the function of lc_send_owned() of route /owned ", false},
    {"refused", "the function of lc_send_owned() of route /refused ", false},
    {"stale", "the function of lc_send_owned() ", false},
    {"task", "the task work ", false},
    {"free", "free_user() of route /free ", false},
    {"pattern", "free_user() of route no pattern ", true},
    {"setup", "the function of lc_main() ", true},
};

#define PLACES (sizeof(places) / sizeof(places[0]))

static void test_exit_ends_the_process_at_once(void **state)
{
    char said[4096], line[256];

    (void)state;
    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(run(places[i].place, "exit", said), 7);
        (void)snprintf(line, sizeof(line), "%scalled exit(7): the process ends", places[i].line);
        if (places[i].is_usual)
            assert_lacks(said, "called exit(7)");
        else
            assert_contains(said, line);
    }
}

static void aborts(const char *how, const char *text)
{
    char said[4096], line[256];

    for (size_t i = 0; i < PLACES; i++) {
        assert_int_equal(run(places[i].place, how, said), ABORTED);
        (void)snprintf(line, sizeof(line), "%s%s", places[i].line, text);
        assert_contains(said, line);
    }
}

static void test_an_exception_aborts(void **state)
{
    (void)state;
    aborts("throw", "let an exception out");
}

static void test_the_end_of_the_thread_aborts(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it has no pthread_exit(3) on the stack of a loop */
#endif
    aborts("leave", "ended its thread");
}

int main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_ends_the_process_at_once),
        cmocka_unit_test(test_an_exception_aborts),
        cmocka_unit_test(test_the_end_of_the_thread_aborts),
    };

    if (argc == 4 && strcmp(argv[1], "ends") == 0)
        return be_program(argv);
    (void)alarm(900);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

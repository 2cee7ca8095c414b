/* A program with a life of its own has a server, and notices nothing of it: signals, children,
 * umask, limits, environment, standard descriptors and working directory are the program's. And
 * lc_run(), which takes over all of that. This program starts itself again for the latter. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "with_library.h"

extern char **environ;

/* ---- what is the program's ---- */

struct belongings {
    void (*handlers[NSIG])(int);
    sigset_t mask;
    mode_t umask;
    struct rlimit files;
    char folder[4096];
    char *variables[256]; /* the pointers themselves: nobody has put or taken one */
    struct stat standard[3];
};

static void take_stock(struct belongings *stock)
{
    memset(stock, 0, sizeof(*stock));
    for (int signo = 1; signo < NSIG; signo++) {
        struct sigaction action;
        if (sigaction(signo, NULL, &action) == 0)
            stock->handlers[signo] = action.sa_handler;
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &stock->mask);
    stock->umask = umask(0);
    (void)umask(stock->umask);
    (void)getrlimit(RLIMIT_NOFILE, &stock->files);
    assert_non_null(getcwd(stock->folder, sizeof(stock->folder)));
    for (size_t i = 0; environ[i] != NULL && i < 255; i++)
        stock->variables[i] = environ[i];
    for (int fd = 0; fd < 3; fd++)
        assert_int_equal(fstat(fd, &stock->standard[fd]), 0);
}

static void assert_same(const struct belongings *stock)
{
    struct belongings now;

    take_stock(&now);
    assert_memory_equal(now.handlers, stock->handlers, sizeof(now.handlers));
    for (int signo = 1; signo < NSIG; signo++)
        assert_int_equal(sigismember(&now.mask, signo), sigismember(&stock->mask, signo));
    assert_int_equal(now.umask, stock->umask);
    assert_int_equal(now.files.rlim_cur, stock->files.rlim_cur);
    assert_int_equal(now.files.rlim_max, stock->files.rlim_max);
    assert_string_equal(now.folder, stock->folder);
    assert_memory_equal(now.variables, stock->variables, sizeof(now.variables));
    for (int fd = 0; fd < 3; fd++) {
        assert_int_equal(now.standard[fd].st_ino, stock->standard[fd].st_ino);
        assert_int_equal(now.standard[fd].st_dev, stock->standard[fd].st_dev);
    }
}

static volatile sig_atomic_t terms, children;

static void on_signal(int signo)
{
    if (signo == SIGTERM)
        terms++;
    else
        children++;
}

static void handle(int signo)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    assert_int_equal(sigaction(signo, &action, NULL), 0);
}

/* A child of the program has its mask, its process group, and no thread of the server's. */
static void fork_once(void)
{
    pid_t group = getpgrp(), child = fork();
    int status = 0;

    if (child == 0) {
        sigset_t mask;
        (void)sigprocmask(SIG_SETMASK, NULL, &mask);
        bool is_mine = getpgrp() == group && sigismember(&mask, SIGTERM) == 0 &&
                       sigismember(&mask, SIGCHLD) == 0;
        _exit(is_mine ? 7 : 8);
    }
    assert_true(child > 0);
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

/* A socket of a service manager that must get no message. */
static int be_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_directory("manager"));
    (void)unlink(address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
    return fd;
}

static void test_a_program_keeps_what_is_its_own(void **state)
{
    struct library_log log;
    struct belongings stock;
    struct rlimit files;
    char message[64];
    int manager = be_manager();

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max < 256 ? files.rlim_max : 256; /* something to raise */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", directory, 1), 0);
    (void)umask(027);
    handle(SIGTERM);
    handle(SIGCHLD);
    take_stock(&stock);

    lc_server *server = library_start(&log);
    assert_same(&stock);
    assert_int_equal(library_get(lc_port(server), "/hello"), 200);
    for (int i = 1; i <= 20; i++) { /* each comes to this thread: those of the server block all */
        assert_int_equal(kill(getpid(), SIGTERM), 0);
        assert_int_equal(terms, i);
        fork_once();
        assert_int_equal(children, i);
    }
    assert_int_equal(lc_phase(server), LC_RUNNING);
    assert_int_equal(library_get(lc_port(server), "/sleep?ms=1"), 200);
    assert_same(&stock);
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_same(&stock);
    assert_int_equal(lc_free(server), LC_OK);
    assert_same(&stock);
    assert_true(read(manager, message, sizeof(message)) < 0); /* the manager has heard nothing */
    (void)close(manager);
    assert_int_not_equal(access(in_directory("lastcall"), F_OK), 0); /* no admin socket */
    assert_contains(log.text, "listening");                          /* and the lines came here */
}

static void test_a_line_of_the_program_comes_where_the_servers_come(void **state)
{
    struct library_log log;
    lc_server *server = library_start(&log);

    (void)state;
    lc_log(server, LC_LOG_WARNING, "%d bottles\nof beer", 99);
    assert_contains(log.text, "application: 99 bottles?of beer");
    assert_int_equal(lc_on_log(server, NULL, NULL), LC_E_STATE);
    assert_int_equal(lc_free(server), LC_OK);
}

static void log_again(int level, const char *event, const char *text, const char *json, void *user)
{
    (void)level, (void)event, (void)json;
    lc_log(user, LC_LOG_INFO, "again: %s", text);
    lc_let_go(NULL); /* a call that logs, too */
    (void)lc_shutdown(user, -1, NULL);
}

/* It must not, but does not wait for itself then. */
static void test_a_function_of_the_log_that_logs(void **state)
{
    lc_server *server = library_new(NULL);

    (void)state;
    assert_int_equal(lc_on_log(server, log_again, server), LC_OK);
    assert_int_equal(lc_start(server), LC_OK);
    lc_log(server, LC_LOG_INFO, "a line");
    assert_int_equal(lc_phase(server), LC_RUNNING);
    assert_int_equal(lc_shutdown(server, -1, NULL), LC_OK);
    assert_int_equal(lc_free(server), LC_OK);
}

static void test_await_a_signal_that_is_blocked(void **state)
{
    (void)state;
    assert_int_equal(lc_block_signals(SIGUSR1, SIGUSR2, 0), 0);
    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(lc_await_signal(SIGUSR1, SIGUSR2, 0), SIGUSR2);
    assert_int_equal(lc_block_signals(NSIG + 1, 0), -EINVAL);
    assert_int_equal(lc_await_signal(SIGUSR1, NSIG + 1, 0), -EINVAL);
    assert_int_equal(lc_await_signal(0), -EINVAL);
}

/* ---- lc_run() ---- */

/* The program; its port is in its log. */
static int be_program(const char *conf)
{
    lc_server *server = lc_new();

    (void)lc_conf(server, conf);
    (void)lc_set(server, "num-threads", "1");
    (void)lc_set(server, "drain.deadline", "60s");
    (void)lc_set(server, "drain.force-after", "0s");
    (void)lc_listen(server, "127.0.0.1:0");
    int status = lc_run(server);
    return lc_free(server) == LC_OK ? status : 99;
}

struct program {
    pid_t pid;
    int port;
    FILE *lines; /* what it logs */
};

static void program_start(struct program *program)
{
    char *argv[] = {"/proc/self/exe", "run", (char *)(uintptr_t)library_conf(), NULL};
    posix_spawn_file_actions_t actions;
    char line[1024] = "";
    int out[2];

    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    assert_int_equal(posix_spawn(&program->pid, argv[0], &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(out[1]);
    program->lines = fdopen(out[0], "r");
    while (fgets(line, sizeof(line), program->lines) != NULL &&
           strstr(line, "listening on 127.0.0.1:") == NULL)
        ;
    assert_contains(line, "listening on 127.0.0.1:");
    program->port = atoi(strstr(line, "127.0.0.1:") + 10);
}

static int program_end(struct program *program)
{
    int status = 0;

    assert_int_equal(waitpid(program->pid, &status, 0), program->pid);
    (void)fclose(program->lines);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void read_message(int manager, const char *want)
{
    char message[512] = "";

    for (;;) { /* until it comes */
        ssize_t n = recv(manager, message, sizeof(message) - 1, 0);
        assert_true(n > 0);
        message[n] = '\0';
        if (strstr(message, want) != NULL)
            return;
    }
}

static void test_run_drains_at_a_signal_and_tells_the_manager(void **state)
{
    struct program program;
    int manager = be_manager();
    const struct timeval patience = {.tv_sec = 60};

    (void)state;
    assert_int_equal(fcntl(manager, F_SETFL, 0), 0);
    assert_int_equal(setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    program_start(&program);
    read_message(manager, "READY=1");
    int fd = library_ask(program.port, "/sleep?ms=500");
    assert_int_equal(kill(program.pid, SIGTERM), 0);
    assert_int_equal(library_answer(fd), 200);
    read_message(manager, "STOPPING=1");
    assert_int_equal(program_end(&program), 0);
    (void)close(manager);
    (void)unsetenv("NOTIFY_SOCKET");
}

static void test_run_is_cut_short_by_a_second_signal(void **state)
{
    struct program program;
    char line[1024] = "";

    (void)state;
    program_start(&program);
    int fd = library_ask(program.port, "/sleep?ms=60000");
    assert_int_equal(kill(program.pid, SIGTERM), 0);
    while (strstr(line, "SIGTERM received") == NULL) /* else both may be pending as one */
        assert_non_null(fgets(line, sizeof(line), program.lines));
    assert_int_equal(kill(program.pid, SIGTERM), 0);
    assert_int_equal(library_answer(fd), 0);
    assert_int_equal(program_end(&program), 4);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_program_keeps_what_is_its_own),
        cmocka_unit_test(test_a_line_of_the_program_comes_where_the_servers_come),
        cmocka_unit_test(test_a_function_of_the_log_that_logs),
        cmocka_unit_test(test_await_a_signal_that_is_blocked),
        cmocka_unit_test(test_run_drains_at_a_signal_and_tells_the_manager),
        cmocka_unit_test(test_run_is_cut_short_by_a_second_signal),
    };

    if (argc > 2 && strcmp(argv[1], "run") == 0)
        return be_program(argv[2]);
    return cmocka_run_group_tests_name("library_host", tests, library_group_setup,
                                       library_group_teardown);
}

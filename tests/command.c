#include "command.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"

#define LIMIT_NS (60 * NS_PER_S)
#define ARGS_MAX 48
#define LEFT_MAX 4

static pid_t left[LEFT_MAX];

static void note(pid_t from, pid_t to)
{
    for (size_t i = 0; i < LEFT_MAX; i++) {
        if (left[i] == from) {
            left[i] = to;
            return;
        }
    }
}

void command_start(struct command *command, const char *const *argv)
{
    const char *binary = getenv("LASTCALL_BINARY"), *args[ARGS_MAX];
    size_t n = 0;
    int out[2];

    args[n++] = binary != NULL ? binary : "build/release/lastcall";
    while (*argv != NULL && n < ARGS_MAX - 1)
        args[n++] = *argv++;
    args[n] = NULL;
    memset(command, 0, sizeof(*command));
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    command->pid = fork();
    assert_true(command->pid >= 0);
    if (command->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(out[1], STDERR_FILENO);
        execv(args[0], (char *const *)args);
        _exit(127);
    }
    note(0, command->pid);
    (void)close(out[1]);
    command->fd = out[0];
}

int command_wait(struct command *command)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    size_t n = 0, room = 65536;
    ssize_t got = 1;
    int status;

    command->text = calloc(1, room);
    while (got > 0) {
        struct pollfd out = {.fd = command->fd, .events = POLLIN};
        if (clock_now_ns() > until_ns) {
            (void)kill(command->pid, SIGKILL);
            fail_msg("it still runs, and said:\n%s", command->text);
        }
        if (poll(&out, 1, 100) <= 0)
            continue;
        if (n + 4097 > room)
            command->text = realloc(command->text, room *= 2);
        got = read(command->fd, command->text + n, 4096);
        n += got > 0 ? (size_t)got : 0;
        command->text[n] = '\0';
    }
    (void)waitpid(command->pid, &status, 0);
    note(command->pid, 0);
    command->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return command->status;
}

void command_run(struct command *command, int want, const char *const *argv)
{
    command_start(command, argv);
    if (command_wait(command) != want)
        fail_msg("exit status %d in place of %d; it said:\n%s", command->status, want,
                 command->text);
}

void command_release(struct command *command)
{
    (void)close(command->fd);
    free(command->text);
    memset(command, 0, sizeof(*command));
}

int command_kill_left(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEFT_MAX; i++) {
        if (left[i] != 0) {
            (void)kill(left[i], SIGKILL);
            (void)waitpid(left[i], NULL, 0);
            left[i] = 0;
        }
    }
    return 0;
}

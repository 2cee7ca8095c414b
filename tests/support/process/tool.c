#include "tool.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
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
#define PIECE 4096

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

void tool_start(struct tool *tool, const char *const *argv)
{
    const char *binary = getenv("LASTCALL_BINARY"), *args[ARGS_MAX];
    size_t n = 0;
    int out[2];

    args[n++] = binary != NULL ? binary : "build/release/lastcall";
    while (*argv != NULL && n < ARGS_MAX - 1)
        args[n++] = *argv++;
    args[n] = NULL;
    memset(tool, 0, sizeof(*tool));
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    tool->pid = fork();
    assert_true(tool->pid >= 0);
    if (tool->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(out[1], STDERR_FILENO);
        execv(args[0], (char *const *)args);
        _exit(127);
    }
    note(0, tool->pid);
    (void)close(out[1]);
    tool->fd = out[0];
    tool->text = calloc(1, 1);
    assert_non_null(tool->text);
}

/* Read what it has written, and wait for that up to 100 ms. False: it writes no more. */
static bool read_some(struct tool *tool, uint64_t until_ns)
{
    struct pollfd out = {.fd = tool->fd, .events = POLLIN};

    if (clock_now_ns() > until_ns) {
        (void)kill(tool->pid, SIGKILL);
        fail_msg("it still runs, and said:\n%s", tool->text);
    }
    if (poll(&out, 1, 100) <= 0)
        return true;
    tool->text = realloc(tool->text, tool->bytes + PIECE + 1);
    assert_non_null(tool->text);
    ssize_t got = read(tool->fd, tool->text + tool->bytes, PIECE);
    tool->bytes += got > 0 ? (size_t)got : 0;
    tool->text[tool->bytes] = '\0';
    return got > 0;
}

void tool_wait_text(struct tool *tool, const char *text)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;

    while (strstr(tool->text, text) == NULL)
        if (!read_some(tool, until_ns))
            fail_msg("it ended without \"%s\", and said:\n%s", text, tool->text);
}

int tool_wait(struct tool *tool)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    int status;

    while (read_some(tool, until_ns))
        ;
    (void)waitpid(tool->pid, &status, 0);
    note(tool->pid, 0);
    tool->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return tool->status;
}

void tool_run(struct tool *tool, int want, const char *const *argv)
{
    tool_start(tool, argv);
    if (tool_wait(tool) != want)
        fail_msg("exit status %d instead of %d; output:\n%s", tool->status, want, tool->text);
}

void tool_release(struct tool *tool)
{
    (void)close(tool->fd);
    free(tool->text);
    memset(tool, 0, sizeof(*tool));
}

int tool_kill_left(void **state)
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

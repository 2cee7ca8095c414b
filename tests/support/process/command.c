#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
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

#include "process.h"

#define LIMIT_MS 30000

static bool as_nobody; /* the next one */

static const char *binary(void)
{
    const char *path = getenv("LASTCALL_BINARY");
    return path != NULL ? path : "build/release/lastcall";
}

static void become(const char *const *argv)
{
    const char *args[32] = {argv[0] != NULL ? argv[0] : binary()};
    size_t n = 1;

    for (; argv[n] != NULL && n < 31; n++)
        args[n] = argv[n];
    if (as_nobody && (setgid(65534) != 0 || setuid(65534) != 0))
        _exit(126);
    /* The child dies with the test, however early that ends. After setuid(2), which clears it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(args[0], (char *const *)args);
    _exit(127);
}

static void begin(struct command *command)
{
    memset(command, 0, sizeof(*command));
    command->status = -1;
    command->err_fd = command->end_fd = command->stay_fd = -1;
    command->out = calloc(1, 1);
    command->err = calloc(1, 1);
}

void command_start(struct command *command, const char *const *argv)
{
    int out[2], err[2];

    begin(command);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    command->pid = fork();
    assert_true(command->pid >= 0);
    if (command->pid == 0) {
        (void)dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(err[1], STDERR_FILENO);
        become(argv);
    }
    (void)close(out[1]);
    (void)close(err[1]);
    command->out_fd = out[0];
    command->err_fd = err[0];
    (void)fcntl(out[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(err[0], F_SETFL, O_NONBLOCK);
}

/* When a session's leader exits, the kernel hangs up the terminal and discards output that the
 * other side has not received yet. So the command is not the leader: it runs in the foreground of a
 * leader that stays until the test has read everything. */
static void lead_session(const char *const *argv, int end_fd, int stay_fd)
{
    sigset_t ttou;
    int status;
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)sigemptyset(&ttou);
        (void)sigaddset(&ttou, SIGTTOU);
        (void)sigprocmask(SIG_BLOCK, &ttou, NULL); /* see tcsetpgrp(3): in the background */
        (void)setpgid(0, 0);
        (void)tcsetpgrp(STDIN_FILENO, getpid());
        (void)sigprocmask(SIG_UNBLOCK, &ttou, NULL);
        become(argv);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid > 0)
        (void)!write(end_fd, &status, sizeof(status));
    (void)!read(stay_fd, &byte, 1);
    _exit(0);
}

void command_start_on_terminal(struct command *command, unsigned columns, unsigned rows,
                               const char *const *argv)
{
    const struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    int end[2], stay[2];

    begin(command);
    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    assert_int_equal(pipe2(stay, O_CLOEXEC), 0);
    command->pid = forkpty(&command->out_fd, NULL, NULL, &size);
    assert_true(command->pid >= 0);
    if (command->pid == 0) {
        (void)close(stay[1]);
        lead_session(argv, end[1], stay[0]);
    }
    (void)close(end[1]);
    (void)close(stay[0]);
    command->end_fd = end[0];
    command->stay_fd = stay[1];
    (void)fcntl(command->out_fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(command->out_fd, F_SETFL, O_NONBLOCK);
}

/* Take what there is; returns false at the end. */
static bool take(int fd, char **text, size_t *size)
{
    char bytes[4096];

    for (;;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        *text = realloc(*text, *size + (size_t)n + 1);
        assert_non_null(*text);
        memcpy(*text + *size, bytes, (size_t)n);
        *size += (size_t)n;
        (*text)[*size] = '\0';
    }
}

static int status_of(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

static void take_status(struct command *command)
{
    int status;

    assert_int_equal(read(command->end_fd, &status, sizeof(status)), sizeof(status));
    command->status = status_of(status);
    (void)close(command->end_fd);
    command->end_fd = -1;
}

/* One look, of up to 100 ms. Returns false once all output has ended. */
static bool look(struct command *command)
{
    struct pollfd fds[3] = {{.fd = command->out_fd, .events = POLLIN},
                            {.fd = command->err_fd, .events = POLLIN},
                            {.fd = command->end_fd, .events = POLLIN}};

    (void)poll(fds, 3, 100);
    if (fds[2].revents != 0) { /* read(2) of a terminal finds all that was written before */
        take_status(command);
        (void)take(command->out_fd, &command->out, &command->out_bytes);
        return false;
    }
    if (command->stay_fd >= 0 && command->end_fd < 0)
        return false;
    bool more = take(command->out_fd, &command->out, &command->out_bytes);
    if (command->err_fd >= 0)
        more |= take(command->err_fd, &command->err, &command->err_bytes);
    return more;
}

size_t command_wait_output(struct command *command, size_t from, const char *text)
{
    uint64_t until_ns = now_ns() + 60000 * NS_PER_MS;

    for (bool more = true; strstr(command->out + from, text) == NULL; more = look(command))
        if (!more || now_ns() > until_ns)
            fail_msg("no `%s` in the output:\n%s\n%s", text, command->out + from, command->err);
    return command->out_bytes;
}

void command_expect(struct command *command, int want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    int status;

    while (look(command))
        if (now_ns() > until_ns)
            fail_msg("still running; output:\n%s\n%s", command->out, command->err);
    if (command->stay_fd >= 0) {
        (void)close(command->stay_fd);
        command->stay_fd = -1;
    }
    while (waitpid(command->pid, &status, WNOHANG) != command->pid) {
        if (now_ns() > until_ns)
            fail_msg("still running, with its output closed; output:\n%s", command->out);
        (void)poll(NULL, 0, 1);
    }
    if (command->status < 0)
        command->status = status_of(status);
    command->pid = 0;
    if (command->status != want)
        fail_msg("exit status %d instead of %d; output:\n%s\n%s", command->status, want,
                 command->out, command->err);
}

void command_run(struct command *command, int want, const char *const *argv)
{
    command_start(command, argv);
    command_expect(command, want);
}

void command_run_as_nobody(struct command *command, int want, const char *const *argv)
{
    as_nobody = true;
    command_start(command, argv);
    as_nobody = false;
    command_expect(command, want);
}

void command_release(struct command *command)
{
    if (command->pid > 0) {
        (void)kill(command->pid, SIGKILL);
        (void)waitpid(command->pid, NULL, 0);
    }
    (void)close(command->out_fd);
    for (size_t i = 0; i < 3; i++) {
        int fd = i == 0 ? command->err_fd : i == 1 ? command->end_fd : command->stay_fd;
        if (fd >= 0)
            (void)close(fd);
    }
    free(command->out);
    free(command->err);
    memset(command, 0, sizeof(*command));
    command->err_fd = command->end_fd = command->stay_fd = -1;
}

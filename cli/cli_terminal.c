#include "cli_terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};

int cli_signals_open(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        (void)sigaddset(&set, taken[i]);
    (void)signal(SIGPIPE, SIG_IGN); /* the write then fails with EPIPE */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

int cli_signals_take(int fd)
{
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

void cli_signals_obey(int signo)
{
    sigset_t set, before;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, signo);
    (void)signal(signo, SIG_DFL);
    (void)raise(signo);
    (void)sigprocmask(SIG_UNBLOCK, &set, &before); /* the kernel delivers it here */
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

void cli_terminal_size(size_t *ret_columns, size_t *ret_rows)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;

    *ret_columns = known && size.ws_col > 0 ? size.ws_col : 80;
    *ret_rows = known && size.ws_row > 0 ? size.ws_row : 24;
}

/* ---- the whole screen ---- */

static bool entered;
static struct termios before;

static void put(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* the terminal is gone */
        bytes += n;
        size -= (size_t)n;
    }
}

int cli_screen_enter(void)
{
    static bool registered;
    struct termios keys;

    if (tcgetattr(STDIN_FILENO, &before) != 0 || !isatty(STDOUT_FILENO))
        return -ENOTTY;
    keys = before;
    keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    keys.c_cc[VMIN] = 0;
    keys.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &keys) != 0)
        return -errno;
    entered = true;
    if (!registered)
        registered = atexit(cli_screen_leave) == 0;
    static const char enter[] = "\033[?1049h\033[?25l\033[H\033[2J";
    put(enter, sizeof(enter) - 1);
    return 0;
}

void cli_screen_leave(void)
{
    static const char leave[] = "\033[?25h\033[?1049l";

    if (!entered)
        return;
    entered = false;
    put(leave, sizeof(leave) - 1);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

void cli_screen_show(const char *text, size_t size)
{
    char *frame = NULL;
    size_t frame_bytes = 0;
    FILE *out = open_memstream(&frame, &frame_bytes);

    if (out == NULL)
        return;
    (void)fputs("\033[H", out);
    for (const char *end = text + size; text < end;) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((line_end != NULL ? line_end : end) - text);
        (void)fwrite(text, 1, n, out);
        (void)fputs("\033[K", out);
        if (line_end != NULL && line_end + 1 < end) /* after the last line it would scroll */
            (void)fputc('\n', out);
        text += n + 1;
    }
    (void)fputs("\033[J", out);
    (void)fclose(out);
    put(frame, frame_bytes);
    free(frame);
}

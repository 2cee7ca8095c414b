/* The successor's standard error: passed on to our log in whole lines, and its end kept, to be
 * quoted when the restart fails. */

#include "succession_p.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "log.h"

/* Pass on the first `n` bytes of `line`. */
static void pass_line(struct succession *succession, size_t n)
{
    if (n == 0)
        return;
    log_pass(succession->line, n);
    succession->line_bytes -= n;
    memmove(succession->line, succession->line + n, succession->line_bytes);
}

/* Whole lines, because other processes write to the same log. */
static void pass_lines(struct succession *succession, const char *bytes, size_t n)
{
    while (n > 0) {
        size_t room = sizeof(succession->line) - succession->line_bytes;
        size_t take = n < room ? n : room;
        memcpy(succession->line + succession->line_bytes, bytes, take);
        succession->line_bytes += take;
        bytes += take;
        n -= take;
        const char *end = memrchr(succession->line, '\n', succession->line_bytes);
        if (end != NULL)
            pass_line(succession, (size_t)(end - succession->line) + 1);
        else if (succession->line_bytes == sizeof(succession->line))
            pass_line(succession, succession->line_bytes);
    }
}

void succession_flush_stderr(struct succession *succession)
{
    pass_line(succession, succession->line_bytes);
}

void succession_read_stderr(struct succession *succession)
{
    char bytes[1024];
    ssize_t n;

    while (succession->child_stderr_fd >= 0 &&
           (n = read(succession->child_stderr_fd, bytes, sizeof(bytes))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        pass_lines(succession, bytes, (size_t)n);
        size_t keep = (size_t)n < SUCCESSION_TAIL / 2 ? SUCCESSION_TAIL - (size_t)n : 0;
        if (succession->tail_bytes > keep) {
            memmove(succession->tail, succession->tail + succession->tail_bytes - keep, keep);
            succession->tail_bytes = keep;
        }
        memcpy(succession->tail + succession->tail_bytes, bytes, (size_t)n);
        succession->tail_bytes += (size_t)n;
    }
    succession_flush_stderr(succession);
    file_close(&succession->child_stderr_fd);
}

/* Skip `<3>`, the priority of a line for systemd's journal. */
static size_t skip_priority(const char *tail, size_t at, size_t end)
{
    return end - at >= 3 && tail[at] == '<' && tail[at + 2] == '>' ? at + 3 : at;
}

const char *succession_last_lines(struct succession *succession, char *text, size_t size)
{
    size_t n = succession->tail_bytes, begin, lines = 0, at = 0;

    while (n > 0 && succession->tail[n - 1] == '\n')
        n--;
    for (begin = n; begin > 0; begin--)
        if (succession->tail[begin - 1] == '\n' && ++lines == 3)
            break;
    for (size_t i = skip_priority(succession->tail, begin, n); i < n && at + 4 < size; i++) {
        unsigned char c = (unsigned char)succession->tail[i];
        if (c == '\n') {
            memcpy(text + at, " | ", 3);
            at += 3;
            i = skip_priority(succession->tail, i + 1, n) - 1;
        } else if (c >= 0x20) {
            text[at++] = (char)c;
        }
    }
    text[at] = '\0';
    return text;
}

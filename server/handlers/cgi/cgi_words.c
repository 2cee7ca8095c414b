/* A script's standard error: each line is one in the log, at most 10 a second of each route; the
 * next one says how many were left out. */

#include "cgi_p.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CGI_WORDS_AT_ONCE 4096
#define CGI_PIPE_BYTES 65536 /* pipe(7) */

static void say(struct cgi_run *run)
{
    size_t n = run->words_bytes;

    run->words_bytes = 0;
    while (n > 0 && run->words[n - 1] == '\r')
        n--;
    if (n > 0)
        log_limited(&run->cgi->words, LOG_LEVEL_WARN, "cgi-stderr", "%.300s (process %ld): %.*s",
                    run->script->name, (long)run->pid, (int)n, run->words);
}

static void take(struct cgi_run *run, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            say(run);
            continue;
        }
        run->words[run->words_bytes++] = bytes[i];
        if (run->words_bytes == sizeof(run->words))
            say(run);
    }
}

void cgi_words_read_rest(struct cgi_run *run)
{
    /* What a pipe holds at most: a child that goes on may write for ever. */
    for (unsigned pieces = 0; pieces < CGI_PIPE_BYTES / CGI_WORDS_AT_ONCE; pieces++) {
        struct pollfd more = {.fd = run->error_fd, .events = POLLIN};
        if (poll(&more, 1, 0) <= 0 || !cgi_words_read(run))
            return;
    }
}

bool cgi_words_read(struct cgi_run *run)
{
    char bytes[CGI_WORDS_AT_ONCE];
    ssize_t n;

    do
        n = read(run->error_fd, bytes, sizeof(bytes));
    while (n < 0 && errno == EINTR);
    if (n > 0)
        take(run, bytes, (size_t)n);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

void cgi_words_end(struct cgi_run *run)
{
    say(run);
}

#include "log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define LINE_SIZE 2048 /* with its JSON clothes still within PIPE_BUF, so written whole */
#define PATIENCE_MS 10

static struct {
    /* immutable after log_init */
    enum log_format format;
    bool terminal;
    /* atomic: relaxed, written and read by any; a line that is being written keeps its fate */
    _Atomic int level;
    /* mu */
    pthread_mutex_t mu;
    bool status_shown;
    unsigned long dropped; /* lines since standard error stopped taking them */
} state = {.level = LOG_LEVEL_INFO, .mu = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_names[] = {"error", "warning", "info"};

void log_init(enum log_format format, bool quiet)
{
    state.format = format;
    log_set_level(quiet ? LOG_LEVEL_WARN : LOG_LEVEL_INFO);
    state.terminal = format == LOG_FORMAT_TEXT && !quiet && isatty(STDERR_FILENO) == 1;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&state.level, (int)level, memory_order_relaxed);
}

bool log_level_named(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    return false;
}

/* A reader of standard error that has stopped reading must not hold up a deadline: a line waits for
 * it a moment, the lines behind that one not at all, and when it reads again it is told. */
static bool is_writable(void)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&out, 1, state.dropped == 0 ? PATIENCE_MS : 0) != 0;
}

static void write_all(const char *bytes, size_t n)
{
    while (n > 0) {
        if (!is_writable()) {
            state.dropped++;
            return;
        }
        /* A writable pipe has room for this much. */
        ssize_t done = write(STDERR_FILENO, bytes, n < PIPE_BUF ? n : PIPE_BUF);
        if (done < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (done <= 0)
            return; /* nobody listens any more: nothing can be said about that */
        bytes += done;
        n -= (size_t)done;
    }
}

static void confess_drops(void)
{
    char line[96];
    if (state.dropped == 0 || !is_writable())
        return;
    unsigned long dropped = state.dropped;
    state.dropped = 0;
    int n = snprintf(line, sizeof(line),
                     state.format == LOG_FORMAT_JSON
                         ? "{\"level\":\"warning\",\"event\":\"log-dropped\",\"lines\":%lu}\n"
                         : "(%lu log lines dropped: standard error was not read)\n",
                     dropped);
    write_all(line, (size_t)n);
}

static void write_json(enum log_level level, const char *event, json_t *fields, const char *text)
{
    char wall[CLOCK_TEXT_SIZE + 8];
    json_t *line = json_pack("{s:s, s:s, s:s, s:o}", "time", clock_format_wall(wall), "level",
                             level_names[level], "event", event, "message", log_json_text(text));
    if (line == NULL)
        return;
    if (fields != NULL)
        (void)json_object_update_missing(line, fields);
    char *dump = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (dump == NULL)
        return;
    size_t n = strlen(dump);
    dump[n] = '\n'; /* in place of the terminator: one write, one line */
    write_all(dump, n + 1);
    free(dump);
}

static void write_text(enum log_level level, const char *text)
{
    char line[LINE_SIZE + 64], wall[CLOCK_TEXT_SIZE + 8];
    int n = snprintf(line, sizeof(line), "%s%s %s%s\n", state.status_shown ? "\r\033[K" : "",
                     clock_format_wall(wall),
                     level == LOG_LEVEL_INFO   ? ""
                     : level == LOG_LEVEL_WARN ? "warning: "
                                               : "error: ",
                     text);
    state.status_shown = false;
    if (n > 0)
        write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* What a client sent may stand in a line: no byte of it may end the line or move a cursor. */
static void defuse(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* the same in UTF-8: U+0080.. */
            at[0] = at[1] = '?';
    }
}

void log_line(enum log_level level, const char *event, json_t *fields, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list args;

    if ((int)level <= atomic_load_explicit(&state.level, memory_order_relaxed)) {
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        defuse(text);
        (void)pthread_mutex_lock(&state.mu);
        confess_drops();
        if (state.format == LOG_FORMAT_JSON)
            write_json(level, event, fields, text);
        else
            write_text(level, text);
        (void)pthread_mutex_unlock(&state.mu);
    }
    json_decref(fields);
}

void log_pass(const char *bytes, size_t n)
{
    (void)pthread_mutex_lock(&state.mu);
    confess_drops();
    write_all(bytes, n);
    (void)pthread_mutex_unlock(&state.mu);
}

bool log_has_status_line(void)
{
    return state.terminal;
}

void log_status(const char *format, ...)
{
    char text[LINE_SIZE], line[LINE_SIZE + 16];
    va_list args;

    if (!state.terminal)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    defuse(text);
    (void)pthread_mutex_lock(&state.mu);
    if (text[0] != '\0' || state.status_shown) {
        int n = snprintf(line, sizeof(line), "\r\033[K%s", text);
        if (n > 0)
            write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
        state.status_shown = text[0] != '\0';
    }
    (void)pthread_mutex_unlock(&state.mu);
}

json_t *log_json_text(const char *bytes)
{
    static const char replacement[] = "\xef\xbf\xbd";
    if (bytes == NULL)
        bytes = "?";
    json_t *whole = json_string(bytes);
    if (whole != NULL)
        return whole;

    /* json_string() takes valid UTF-8 only, so whatever is not ASCII is given up byte by byte. */
    size_t n = strlen(bytes);
    char *clean = malloc(n * 3 + 1), *to = clean;
    if (clean == NULL)
        return json_null();
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)bytes[i] < 0x80) {
            *to++ = bytes[i];
        } else {
            memcpy(to, replacement, 3);
            to += 3;
        }
    }
    *to = '\0';
    whole = json_string(clean);
    free(clean);
    return whole;
}

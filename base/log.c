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
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "scope.h"

#define LINE_SIZE 2048
#define PATIENCE_MS 10

static struct {
    /* immutable after log_init */
    enum log_format format;
    bool terminal;
    /* atomic: relaxed, written and read by any thread; a line that is being written keeps the old
     * level */
    _Atomic int level;
    /* mu */
    pthread_mutex_t mu;
    bool to_journal; /* of systemd, and not to a file that looks like it */
    bool to_file;    /* a regular file: a write(2) of any size stays whole */
    bool status_shown;
    unsigned long dropped; /* lines since standard error stopped taking them */
} state = {.level = LOG_LEVEL_INFO, .mu = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_names[] = {"error", "warning", "info"};

void log_init(enum log_format format, bool quiet)
{
    state.format = format;
    log_set_level(quiet ? LOG_LEVEL_WARN : LOG_LEVEL_INFO);
    state.terminal = format == LOG_FORMAT_TEXT && !quiet && isatty(STDERR_FILENO) == 1;
    log_look(-1);
}

/* systemd.exec(5): JOURNAL_STREAM names the socket by device and inode, so a process whose standard
 * error was replaced finds that out. */
static bool is_journal(const struct stat *st)
{
    const char *text = getenv("JOURNAL_STREAM");
    unsigned long device, inode;

    return text != NULL && sscanf(text, "%lu:%lu", &device, &inode) == 2 &&
           device == (unsigned long)st->st_dev && inode == (unsigned long)st->st_ino;
}

void log_look(int fd)
{
    struct stat st, end;
    bool is_known = fstat(STDERR_FILENO, &st) == 0;
    bool is_end_known = fd >= 0 && fstat(fd, &end) == 0;

    (void)pthread_mutex_lock(&state.mu);
    state.to_file = is_known && S_ISREG(st.st_mode);
    state.to_journal = is_end_known ? is_journal(&end) : is_known && is_journal(&st);
    (void)pthread_mutex_unlock(&state.mu);
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

/* A reader of standard error that has stopped reading must not delay a deadline. So the first line
 * waits for it briefly, and later lines are dropped until it reads again; then a line says how
 * many. */
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
        /* A writable pipe has room for PIPE_BUF, and takes that whole. */
        ssize_t done = write(STDERR_FILENO, bytes, n < PIPE_BUF || state.to_file ? n : PIPE_BUF);
        if (done < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (done <= 0)
            return; /* the reader has gone: there is no place to log that */
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

/* ---- a line in JSON ---- */

static bool is_fixed(const char *key)
{
    return strcmp(key, "time") == 0 || strcmp(key, "level") == 0 || strcmp(key, "event") == 0;
}

static size_t size_of(json_t *value)
{
    return json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
}

/* The first half of a text, in whole characters. Other values are left out. */
static json_t *half_of(json_t *value)
{
    size_t n = json_string_length(value) / 2;
    const char *bytes = json_string_value(value);

    if (bytes == NULL)
        return json_null();
    while (n > 0 && ((unsigned char)bytes[n] & 0xc0) == 0x80)
        n--;
    return json_stringn(bytes, n);
}

/* Shorten the largest field that may be shortened. False: there is none. */
static bool shorten(json_t *line)
{
    const char *key, *largest = NULL;
    json_t *value;
    size_t most = 8; /* shorter fields are not worth it */

    json_object_foreach(line, key, value)
    {
        size_t n = is_fixed(key) ? 0 : size_of(value);
        if (n > most) {
            most = n;
            largest = key;
        }
    }
    if (largest == NULL)
        return false;
    value = half_of(json_object_get(line, largest));
    (void)json_object_set_new(line, largest, value);
    (void)json_object_set_new(line, "cut", json_true());
    return true;
}

/* Owner: the caller. The caller replaces the terminating NUL by the end of the line. NULL: no
 * memory. */
static char *dump_line(json_t *line)
{
    char *dump = json_dumps(line, JSON_COMPACT);

    while (dump != NULL && strlen(dump) >= PIPE_BUF && !state.to_file && shorten(line)) {
        free(dump);
        dump = json_dumps(line, JSON_COMPACT);
    }
    return dump;
}

static json_t *make_line(enum log_level level, const char *event, json_t *fields, const char *text)
{
    char wall[CLOCK_TEXT_SIZE + 8];
    json_t *line = json_pack("{s:s, s:s, s:s, s:o}", "time", clock_format_wall(wall), "level",
                             level_names[level], "event", event, "message", log_json_text(text));

    if (line != NULL && fields != NULL)
        (void)json_object_update_missing(line, fields);
    return line;
}

char *log_json_line(enum log_level level, const char *event, json_t *fields, const char *text)
{
    json_t *line = make_line(level, event, fields, text);
    char *dump = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;

    json_decref(line);
    return dump;
}

static void write_json(enum log_level level, const char *event, json_t *fields, const char *text)
{
    json_t *line = make_line(level, event, fields, text);
    if (line == NULL)
        return;
    char *dump = dump_line(line);
    json_decref(line);
    if (dump == NULL)
        return;
    size_t n = strlen(dump);
    dump[n] = '\n'; /* instead of the terminator: one write, one line */
    write_all(dump, n + 1);
    free(dump);
}

/* What begins a line: the time; in systemd's journal the priority, as sd-daemon(3) defines it. */
static const char *begin_text(enum log_level level, char begin[CLOCK_TEXT_SIZE + 16])
{
    static const char *const priorities[] = {"<3>", "<4>", "<6>"};
    char wall[CLOCK_TEXT_SIZE + 8];

    if (state.to_journal)
        return priorities[level];
    (void)snprintf(begin, CLOCK_TEXT_SIZE + 16, "%s ", clock_format_wall(wall));
    return begin;
}

static void write_text(enum log_level level, const char *text)
{
    char line[LINE_SIZE + 64], begin[CLOCK_TEXT_SIZE + 16];
    int n = snprintf(line, sizeof(line), "%s%s%s%s\n", state.status_shown ? "\r\033[K" : "",
                     begin_text(level, begin),
                     level == LOG_LEVEL_INFO   ? ""
                     : level == LOG_LEVEL_WARN ? "warning: "
                                               : "error: ",
                     text);
    state.status_shown = false;
    if (n > 0)
        write_all(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* A line may contain what a client sent: none of its bytes may end the line or move the cursor. */
static void defuse(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* the same in UTF-8: U+0080.. */
            at[0] = at[1] = '?';
    }
}

void log_write(enum log_level level, const char *event, json_t *fields, const char *text)
{
    (void)pthread_mutex_lock(&state.mu);
    confess_drops();
    if (state.format == LOG_FORMAT_JSON)
        write_json(level, event, fields, text);
    else
        write_text(level, text);
    (void)pthread_mutex_unlock(&state.mu);
}

void log_line(enum log_level level, const char *event, json_t *fields, const char *format, ...)
{
    char text[LINE_SIZE];
    va_list args;

    if ((int)level <= atomic_load_explicit(&state.level, memory_order_relaxed)) {
        const struct scope *scope = scope_get();
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        defuse(text);
        if (scope != NULL && scope->line != NULL)
            scope->line(scope->arg, level, event, fields, text);
        else
            log_write(level, event, fields, text);
    }
    json_decref(fields);
}

/* `text` is our own: only quotes and backslashes need escaping in JSON. */
static void escape(const char *text, char *to, size_t size)
{
    size_t n = 0;

    for (; *text != '\0' && n + 3 < size; text++) {
        if (*text == '"' || *text == '\\')
            to[n++] = '\\';
        to[n++] = (unsigned char)*text < 0x20 ? ' ' : *text;
    }
    to[n] = '\0';
}

void log_last_line(const char *event, const char *text)
{
    char line[LINE_SIZE], message[LINE_SIZE / 2], plain[LINE_SIZE / 2];
    char wall[CLOCK_TEXT_SIZE + 8];
    bool locked = pthread_mutex_trylock(&state.mu) == 0;
    int n;

    (void)snprintf(plain, sizeof(plain), "%s", text);
    defuse(plain);
    text = plain;
    if (state.format == LOG_FORMAT_JSON) {
        escape(text, message, sizeof(message));
        n = snprintf(line, sizeof(line),
                     "{\"time\":\"%s\",\"level\":\"error\",\"event\":\"%s\",\"message\":\"%s\"}\n",
                     clock_format_wall(wall), event, message);
    } else if (locked && state.to_journal) {
        n = snprintf(line, sizeof(line), "<3>error: %s\n", text);
    } else {
        n = snprintf(line, sizeof(line), "%s error: %s\n", clock_format_wall(wall), text);
    }
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (n > 0 && poll(&out, 1, PATIENCE_MS) == 1)
        (void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    if (locked)
        (void)pthread_mutex_unlock(&state.mu);
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
    const struct scope *scope = scope_get();

    return state.terminal && (scope == NULL || scope->speaks_for_process);
}

void log_status(const char *format, ...)
{
    char text[LINE_SIZE], line[LINE_SIZE + 16];
    va_list args;

    if (!log_has_status_line())
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

    /* json_string() takes valid UTF-8 only, so every byte outside ASCII is replaced. */
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

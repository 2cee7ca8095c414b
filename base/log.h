#ifndef LASTCALL_LOG_H
#define LASTCALL_LOG_H

/* The log: one line per event on standard error (or where the thread's scope says, see scope.h),
 * for people or as JSON. On a terminal there is one more line below it, which changes in place.
 *
 * A line is one write(2), and no longer than what a pipe takes whole (PIPE_BUF), so lines of
 * several processes do not mix. Where standard error is systemd's journal, a line for people begins
 * with a priority (sd-daemon(3)) and has no time, which the journal adds. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Quiet drops LOG_LEVEL_INFO.     Thread: before start. */
void log_init(enum log_format format, bool quiet);

/* Find out where standard error leads. log_init() does this; code that replaces standard error has
 * to do it again. `fd`: another process reads our standard error and writes it there; -1: none
 * does.
 * Thread: any.     Blocks: never. */
void log_look(int fd);

/* Drop lines that are less severe than `level` from now on.     Thread: any.     Blocks: never. */
void log_set_level(enum log_level level);

/* The level with that name: error, warning or info. False: no level has it.     Thread: any. */
bool log_level_named(const char *name, enum log_level *ret_level);

/* Write one line. `event` is a stable word for tools, `fields` (stolen, may be NULL) are details
 * for tools; both appear in the JSON form only.     Thread: any.     Blocks: on stderr. */
void log_line(enum log_level level, const char *event, json_t *fields, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same on standard error, whatever the thread's scope (scope.h) is; `text` is one line, and
 * `fields` are borrowed.     Thread: any.     Blocks: on stderr. */
void log_write(enum log_level level, const char *event, json_t *fields, const char *text);

/* The JSON form of a line, of any length.     Owner: the caller; free(3). NULL: no memory.
 * Thread: any.     Blocks: never. */
char *log_json_line(enum log_level level, const char *event, json_t *fields, const char *text);

/* Write one line, an error, in a process that aborts: without the log's lock, which a stuck thread
 * may hold, and without memory.     Thread: any.     Blocks: on stderr, 10 ms at most. */
void log_last_line(const char *event, const char *text);

/* Write the output of another process unchanged.     Thread: any.     Blocks: on stderr. */
void log_pass(const char *bytes, size_t n);

/* Is standard error a terminal, so that there can be a changing line, and is it this thread's scope
 * that shows it?     Thread: any. */
bool log_has_status_line(void);

/* Replace the changing line; an empty text removes it. Does nothing without a terminal.
 * Thread: any.     Blocks: on stderr. */
void log_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A JSON string from bytes that a client sent: bytes that are not UTF-8 become U+FFFD, NULL becomes
 * "?".
 * Owner: the caller.     Thread: any. */
json_t *log_json_text(const char *bytes);

#endif

#ifndef LASTCALL_LOG_H
#define LASTCALL_LOG_H

/* The log: one line an event on standard error, for people or as JSON, and below it, on a terminal,
 * one line that keeps changing. A line is one write(2), so lines of several processes do not mix.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Quiet drops LOG_LEVEL_INFO.     Thread: before start. */
void log_init(enum log_format format, bool quiet);

/* From now on drop what is less grave than `level`.     Thread: any.     Blocks: never. */
void log_set_level(enum log_level level);

/* The level of that name: error, warning or info. False: there is none.     Thread: any. */
bool log_level_named(const char *name, enum log_level *ret_level);

/* Write one line. `event` is a stable word for tools, `fields` (stolen, may be NULL) what a tool
 * wants to know of it; both appear in the JSON form only.     Thread: any.     Blocks: on stderr.
 */
void log_line(enum log_level level, const char *event, json_t *fields, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Write what another process has to say, as it stands.     Thread: any.     Blocks: on stderr. */
void log_pass(const char *bytes, size_t n);

/* Is there a terminal to keep a changing line on?     Thread: any. */
bool log_has_status_line(void);

/* Replace the changing line; an empty text removes it. Nothing without a terminal.
 * Thread: any.     Blocks: on stderr. */
void log_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A JSON string from bytes that a client sent: what is not UTF-8 becomes U+FFFD. NULL makes "?".
 * Owner: the caller.     Thread: any. */
json_t *log_json_text(const char *bytes);

#endif

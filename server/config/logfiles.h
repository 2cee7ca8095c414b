#ifndef LASTCALL_LOGFILES_H
#define LASTCALL_LOGFILES_H

/* The log files, and opening them again after logrotate(8) has moved them. */

#include <stdbool.h>
#include <stddef.h>

/* Those of one server. */
struct logfiles;

/* Owner: the caller; ends with logfiles_free(), which closes none of them: libh2o does that. NULL:
 * no memory; every function here takes that, and then no file is opened again.     Thread: any. */
struct logfiles *logfiles_create(void);
void logfiles_free(struct logfiles *files);

/* From now on logs that this thread opens belong to `files`; NULL: to no server.
 * Thread: any; it sets its own. */
void logfiles_collect(struct logfiles *files);

/* Redirect standard output and error to the file at `path`, appending, or to the command after a
 * `|`.     Thread: main only, before any other starts.
 * Errors: false, and `error` holds one line. */
bool logfiles_redirect(struct logfiles *files, const char *path, char *error, size_t error_size);

/* The replacement of h2o_access_log_open_log(), see mends/replaced.h: open an access log, a file
 * for appending, or a command after a `|`.
 * Thread: the one that reads a configuration.      Errors: a descriptor; -1. */
int logfiles_open_log(const char *path);

/* Return and clear the errno of the last access log that this thread could not open; 0: there was
 * none.     Thread: the one that reads a configuration. */
int logfiles_take_error(void);

/* Open every log file again by its name: error-log, and each access-log. If one cannot be
 * opened, the old file stays in use, with a log line. Commands after a `|` rotate by themselves.
 * Thread: any.     Blocks: on the file system. */
void logfiles_reopen(const struct logfiles *files);

/* The same for files that were moved or removed since they were opened; silent if there are none.
 * Thread: any.     Blocks: on the file system. */
void logfiles_follow(const struct logfiles *files);

#endif

#ifndef LASTCALL_LOGFILES_H
#define LASTCALL_LOGFILES_H

/* The files that logs go to, and opening them again after somebody has moved them away
 * (logrotate(8)). */

#include <stdbool.h>
#include <stddef.h>

/* Have standard output and error go to the file at `path`, appended, or to the command behind a
 * `|`. Thread: main only, before any other starts.     Errors: false, and `error` holds one line.
 */
bool logfiles_redirect(const char *path, char *error, size_t error_size);

/* Why the last access log could not be opened, as an errno; 0: it could. Once.
 * Thread: main only, before any other starts. */
int logfiles_take_error(void);

/* Open every log file again by its name: error-log, and each access-log. What can not be opened
 * stays where it was, and that is said. Commands behind a `|` rotate by themselves.
 * Thread: any, one at a time.     Blocks: on the file system. */
void logfiles_reopen(void);

#endif

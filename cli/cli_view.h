#ifndef LASTCALL_CLI_VIEW_H
#define LASTCALL_CLI_VIEW_H

/* A status (docs/admin-api.md) as text for people. Nothing here writes to a terminal or asks a
 * server: it is text in, text out. What clients have chosen, paths above all, is cleaned before it
 * is shown, so that it cannot move a cursor. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "clock.h"

/* Columns of a frame that nobody measures. */
#define CLI_WIDTH_ANY SIZE_MAX
#define CLI_ROWS_ANY ((size_t)1024)

/* The value at `path`, names with dots between; `fallback` where there is none or it is no number.
 * Thread: any. */
double cli_number(const json_t *status, const char *path, double fallback);

/* The text at `path`, borrowed; "" where there is none.     Thread: any. */
const char *cli_text(const json_t *status, const char *path);

/* Is there an object at `path`?     Thread: any. */
bool cli_has(const json_t *status, const char *path);

/* Copy at most `columns` columns of text from elsewhere; what the locale cannot show, and every
 * control character, becomes `?`. Text that is cut ends in `...`, where there is room for that.
 * Returns `buf`.     Thread: any. */
char *cli_clean(const char *text, char *buf, size_t size, size_t columns);

/* Milliseconds for people: `7.2s`, `2m10s`, `450ms`. Returns `buf`.     Thread: any. */
char *cli_duration(double ms, char buf[CLOCK_TEXT_SIZE]);

/* `127.0.0.1:8080, [::1]:8080`. Returns `buf`.     Thread: any. */
char *cli_listeners(const json_t *status, char *buf, size_t size);

/* The part above the list: who it is, requests, connections, workers and the drain; at most
 * CLI_OVERVIEW_LINES lines of `width` columns.     Thread: any. */
#define CLI_OVERVIEW_LINES 9
void cli_print_overview(FILE *out, const json_t *status, size_t width);

/* The oldest requests as a table with a heading, `rows` lines in all, of `width` columns; what does
 * not fit is counted in the last.     Thread: any. */
void cli_print_requests(FILE *out, const json_t *status, size_t rows, size_t width);

/* How far a drain is, in one line of `width` columns without its end: with a bar where there is
 * room for one and `with_bar` says so. `most` is the largest number of requests and connections
 * that were waited for so far, and is kept by this function: begin with 0.     Thread: any. */
void cli_print_progress(FILE *out, const json_t *status, bool with_bar, size_t width, double *most);

/* How it ended: `drained in 1.98s: 12 answered, 28 idle connections released`, and if that was not
 * clean, the requests that were last seen in flight, a line each.     Thread: any. */
void cli_print_end(FILE *out, const json_t *status, int exit_status);

#endif

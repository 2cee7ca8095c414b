#ifndef LASTCALL_CLI_VIEW_H
#define LASTCALL_CLI_VIEW_H

/* A status (docs/admin-api.md) as text for people. Nothing here touches a terminal or a server.
 * Text that clients chose, such as paths, is cleaned (cli_text.h). */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* For output that is no terminal. */
#define CLI_WIDTH_ANY SIZE_MAX
#define CLI_ROWS_ANY ((size_t)1024)

/* Server, listeners, requests, connections, workers and drain: at most nine lines of
 * at most `width` columns.     Thread: any. */
void cli_print_overview(FILE *out, const json_t *status, size_t width);

/* A table of the upstreams, with an empty line before it: at most `rows` lines, each of at most
 * `width` columns; nothing if there are none. The last line counts those that do not fit.
 * Thread: any. */
void cli_print_upstreams(FILE *out, const json_t *status, size_t rows, size_t width);

/* A table of the oldest requests: `rows` lines with the heading, each of at most `width` columns.
 * The last line counts the requests that do not fit.     Thread: any. */
void cli_print_requests(FILE *out, const json_t *status, size_t rows, size_t width);

/* The progress of a drain: one line of `width` columns without \n, with a bar if `with_bar` and if
 * it fits. *most is the largest number of requests and connections seen so far: the caller begins
 * with 0, this function updates it.     Thread: any. */
void cli_print_progress(FILE *out, const json_t *status, bool with_bar, size_t width, double *most);

/* How the drain ended: `drained in 1.98s: 12 answered, 28 idle connections released`. If it was not
 * clean, one line for each request that the last status listed.     Thread: any. */
void cli_print_end(FILE *out, const json_t *status, int exit_status);

#endif

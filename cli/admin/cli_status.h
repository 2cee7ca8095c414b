#ifndef LASTCALL_CLI_STATUS_H
#define LASTCALL_CLI_STATUS_H

/* Fields of a status, the answer to GET /status (docs/admin-api.md). A field that is missing or has
 * another type reads as its fallback. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Does the status have the schema that this program knows?     Thread: any. */
bool cli_is_status(const json_t *status);

/* The number at `path`: names joined by dots.     Thread: any. */
double cli_number(const json_t *status, const char *path, double fallback);

/* The text at `path`, borrowed; "" if there is none.     Thread: any. */
const char *cli_text(const json_t *status, const char *path);

/* The value at `path`, borrowed; NULL if there is none.     Thread: any. */
const json_t *cli_value(const json_t *status, const char *path);

/* Is there an object at `path`?     Thread: any. */
bool cli_has(const json_t *status, const char *path);

/* The listeners as `127.0.0.1:8080, [::1]:8080`. Returns `buf`.     Thread: any. */
char *cli_listeners(const json_t *status, char *buf, size_t size);

#endif

#ifndef LASTCALL_CLI_EXPLAIN_H
#define LASTCALL_CLI_EXPLAIN_H

/* Failures of a request to an admin listener as one message each. Every function prints it and
 * returns the exit status.     Thread: main only, for all of them. */

#include <curl/curl.h>
#include <jansson.h>

#include "cli_server.h"

/* The exit status for an order that the server refuses in its present state. */
#define CLI_REFUSED 1

/* libcurl failed. */
int cli_explain_curl(const struct cli_server *server, CURL *easy, CURLcode code);

/* The answer has a status of 300 or more; `text` is its body, NULL if empty. */
int cli_explain_answer(const struct cli_server *server, long http, const char *text);

/* `status` fails cli_is_status(). */
int cli_explain_schema(const struct cli_server *server, const json_t *status);

#endif

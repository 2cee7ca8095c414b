#ifndef LASTCALL_CLI_ADMIN_P_H
#define LASTCALL_CLI_ADMIN_P_H

/* Between the files of the client. */

#include <curl/curl.h>

#include "cli_admin.h"

/* What is gathered of an answer. */
struct cli_body {
    char *text; /* NUL-terminated; NULL: empty */
    size_t bytes;
};

/* libcurl's write callback for it; an answer beyond CLI_SSE_MAX is an error.     Thread: any. */
size_t cli_body_write(char *bytes, size_t one, size_t size, void *body);

/* A handle with all that the requests have in common, and its header fields (*ret_fields, to be
 * freed behind the handle). NULL: no memory.     Thread: main only. */
CURL *cli_easy_open(const struct cli_server *server, const char *path,
                    struct curl_slist **ret_fields);

/* Say why libcurl could not; returns the status to leave with.     Thread: main only. */
int cli_explain_curl(const struct cli_server *server, CURL *easy, CURLcode code);

/* Say what an answer of 300 or more is about; returns the status to leave with.
 * Thread: main only. */
int cli_explain_answer(const struct cli_server *server, long http, const char *text);

/* Is this a status of the schema that is known here?     Thread: any. */
bool cli_is_status(const json_t *status);

/* Say that it is not; returns the status to leave with.     Thread: main only. */
int cli_explain_schema(const struct cli_server *server, const json_t *status);

/* connect(2) to a Unix socket. `limit_ms` bounds nothing but the wait for its queue.
 * Thread: any.     Errors: 0; a negative errno. */
int cli_try_socket(const char *path);

#endif

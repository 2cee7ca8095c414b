#ifndef LASTCALL_CLI_HTTP_H
#define LASTCALL_CLI_HTTP_H

/* HTTP to an admin listener through libcurl: what one request, the event stream and the search for
 * a socket have in common. */

#include <curl/curl.h>

#include "cli_server.h"

#define CLI_ANSWER_MS 10000L         /* time limit for one answer */
#define CLI_TOKEN_MAX ((size_t)4096) /* bytes of the secret, with its NUL */

/* An answer's body. */
struct cli_body {
    char *text; /* NUL-terminated; NULL: empty */
    size_t bytes;
};

/* libcurl's write callback for a cli_body. An answer larger than 4 MiB is an error.
 * Thread: any. */
size_t cli_body_write(char *bytes, size_t one, size_t size, void *body);

/* A handle with the options that all requests share. The caller frees *ret_fields after the handle.
 * Thread: main only.     Errors: NULL out of memory. */
CURL *cli_easy_open(const struct cli_server *server, const char *path,
                    struct curl_slist **ret_fields);

/* connect(2) to a Unix socket and close it. A full accept queue counts as success.
 * Thread: any.     Blocks: never.     Errors: 0; a negative errno. */
int cli_try_socket(const char *path);

#endif

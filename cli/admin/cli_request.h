#ifndef LASTCALL_CLI_REQUEST_H
#define LASTCALL_CLI_REQUEST_H

/* One request to an admin listener (docs/admin-api.md). */

#include <jansson.h>

#include "cli_server.h"

/* Send `method` `path` with `body` (borrowed; NULL: none). The answer is a JSON object.
 * Thread: main only.     Blocks: at most ten seconds.
 * Errors: 0 and *ret_answer, the caller's; or the exit status, after the message has been printed:
 *     EX_UNAVAILABLE no connection or no answer; EX_NOPERM the socket or the token is refused;
 *     EX_USAGE the server cannot parse the order; EX_PROTOCOL not an admin listener;
 *     CLI_REFUSED the server refuses the order in its present state. */
int cli_request(const struct cli_server *server, const char *method, const char *path,
                const json_t *body, json_t **ret_answer);

/* GET /status, and check its schema. As cli_request(). */
int cli_get_status(const struct cli_server *server, json_t **ret_status);

#endif

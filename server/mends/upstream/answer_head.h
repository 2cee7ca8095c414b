#ifndef LASTCALL_ANSWER_HEAD_H
#define LASTCALL_ANSWER_HEAD_H

/* Heads of answers: what they may be. */

#include <stdbool.h>

#include "h2o_api.h"

/* The largest head; a larger one is refused before it has arrived. HTTP/2 clients accept fields of
 * 64 KiB at most; at a larger one they end the connection, with all of its streams. */
#define ANSWER_HEAD_MAX ((size_t)64 * 1024 - 1)

/* May the answer have a body at all? (RFC 9112 section 6.3)     Thread: any. */
bool answer_has_body(const h2o_req_t *req);

#endif

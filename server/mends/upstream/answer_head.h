#ifndef LASTCALL_ANSWER_HEAD_H
#define LASTCALL_ANSWER_HEAD_H

/* Checks that the head of an upstream's answer is unambiguous, see answer_head.c. */

#include <stdbool.h>
#include <stddef.h>

#include "h2o_api.h"
#include "picohttpparser.h"

/* The largest head; a larger one is refused before it has arrived. HTTP/2 clients accept fields of
 * 64 KiB at most; at a larger one they end the connection, with all of its streams. */
#define ANSWER_HEAD_MAX ((size_t)64 * 1024 - 1)

/* The fault in the head of an HTTP/1 answer; NULL: none. Changes the value of Transfer-Encoding,
 * which is case-insensitive, to lower case, as the library expects it.
 * Thread: any.     Blocks: never. */
const char *answer_head_fault(int status, struct phr_header *headers, size_t count);

/* The same for the head that a FastCGI application sends, whose status is a header. */
const char *answer_head_fault_of_cgi(struct phr_header *headers, size_t count);

/* May the answer have a body at all? (RFC 9112 section 6.3)     Thread: any. */
bool answer_has_body(const h2o_req_t *req);

#endif

#ifndef LASTCALL_INTERIM_H
#define LASTCALL_INTERIM_H

/* Interim answers (1xx, RFC 9110 section 15.2) for the client of a request, before the final one.
 *
 * libh2o knows none but its own 100 (Continue), so they are written past it:
 *
 *     HTTP/1.0    never: such a client knows no interim answers
 *     HTTP/1.1    to the socket. libh2o asserts that no write is under way when it begins one, so
 *                 the final answer waits until the interim ones are written
 *     HTTP/2      into the connection's buffer, in front of all that follows
 *
 * They are hints: one that has no room is dropped. The final answer is never dropped.
 *
 * All of these: Thread: owner loop only.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>

#include "h2o_api.h"
#include "request.h"

/* For one request, whoever sends them. */
#define INTERIM_MOST 64
#define INTERIM_BYTES_MOST ((size_t)64 * 1024)
/* HTTP/2: no more is added to a connection's buffer that holds so much. */
#define INTERIM_H2_WAITING_MOST ((size_t)32 * 1024)

/* May one be sent, whose head has `size` bytes? False: it would be dropped, so the caller need not
 * make it. */
bool interim_may_send(const struct inflight *inflight, int status, size_t size);

/* Send it, after interim_may_send() has allowed that. `fields` are without those that are for one
 * connection only; they and `reason` may be freed after the call. */
void interim_send(struct inflight *inflight, int status, size_t size, h2o_iovec_t reason,
                  const h2o_headers_t *fields);

/* The final answer begins, and its filters are set up at `slot`; request.c calls this. */
void interim_hold_answer(struct inflight *inflight, h2o_ostream_t **slot);

/* For a final answer that is no stream of the library's, as 101 is. False: nothing is being
 * written. True: `then` will be called when all is, unless the request ends before. */
bool interim_await(struct inflight *inflight, void (*then)(void *data), void *data);

#endif

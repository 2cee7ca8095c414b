#ifndef LASTCALL_INTERIM_H
#define LASTCALL_INTERIM_H

/* Interim answers (1xx, RFC 9110 section 15.2) for the client of an HTTP/2 request, before the
 * final one. libh2o knows none but its own 100 (Continue), so they are written past it, into the
 * connection's buffer, in front of all that follows. They are hints: one that has no room is
 * dropped.
 *
 * Clients of HTTP/1 get none. Too many of them take an interim answer for the final one, or lose
 * the next answer (RFC 8297 section 3); behind nginx 1.22 a client then waits in vain.
 *
 * All of these: Thread: owner loop only.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>

#include "h2o_api.h"
#include "request.h"

/* No more is added to a connection's buffer that holds so much. */
#define INTERIM_WAITING_MOST ((size_t)32 * 1024)

/* May one be sent? False: it would be dropped, so the caller need not make it. */
bool interim_may_send(const struct inflight *inflight, int status);

/* Send it, after interim_may_send() has allowed that. `fields` are without those that are for one
 * connection or for this server only; they may be freed after the call. */
void interim_send(struct inflight *inflight, int status, const h2o_headers_t *fields);

#endif

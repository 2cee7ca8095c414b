#ifndef LASTCALL_PROXIED_HEAD_H
#define LASTCALL_PROXIED_HEAD_H

/* The head of a proxied request, and what becomes of the head of its answer.
 * Thread: owner loop only.     Blocks: never. */

#include "answer_reader.h"
#include "h2o_api.h"

enum proxied_connection { PROXIED_KEEP, PROXIED_CLOSE, PROXIED_UPGRADE };

/* What a route adds to the head; bits. */
enum proxied_with {
    PROXIED_WITH_PROXY_LINE = 1 << 0, /* before it (proxy.proxy-protocol) */
    PROXIED_WITH_FORWARDED = 1 << 1,  /* RFC 7239 (proxy.forwarded) */
};

/* The head to send, in memory of the request. The fields of one name that a server reads as a list
 * (Cookie, Via, X-Forwarded-For, Forwarded) become one, in time and memory that grow with their
 * size only. `with`: enum proxied_with. */
h2o_iovec_t proxied_head_make(h2o_req_t *req, enum proxied_connection connection, unsigned with);

/* Does the request ask for another protocol, one that a proxy may pass on? It names one protocol
 * (RFC 9110 section 7.8), and not HTTP/2: requests in a tunnel would get past the routes. It has no
 * body: a server may switch before it has read that. */
bool proxied_asks_for_upgrade(const h2o_req_t *req);
/* Is that protocol WebSocket? */
bool proxied_asks_for_websocket(const h2o_req_t *req);

/* Does the field say for whom the request is, in the name of a proxy? */
bool proxied_is_claim(const h2o_header_t *field);

/* Pass an interim head, whose `size` bytes are at `bytes`, on to a client of HTTP/2, and let HTTP/2
 * push its links.     Thread: owner loop only. */
void proxied_head_interim(h2o_req_t *req, const struct answer_fields *fields, const char *bytes,
                          size_t size);

/* The server was told by another answer to fetch this one: it follows redirects itself. True: that
 * has begun. */
bool proxied_head_follow(h2o_req_t *req, const struct answer_fields *fields);

/* Fill the answer from a final head, whose `size` bytes are at `bytes`. */
void proxied_head_answer(h2o_req_t *req, const struct answer_fields *fields, const char *bytes,
                         size_t size);

#endif

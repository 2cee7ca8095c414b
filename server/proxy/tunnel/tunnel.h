#ifndef LASTCALL_TUNNEL_H
#define LASTCALL_TUNNEL_H

#include "upstream_pool.h"

/* The upstream has answered 101, and the head is in the answer of `req`, which asked for it:
 * answer, and connect the client's socket with `sock`. `was_closed`: close_notify has come on that.
 * `bytes` came after the head, and stay until the request ends.
 * Thread: owner loop only.     Blocks: never. */
void tunnel_begin(h2o_req_t *req, struct upstream *upstream, h2o_socket_t *sock, bool was_closed,
                  const char *bytes, size_t size);

#endif

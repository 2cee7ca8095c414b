#ifndef LASTCALL_GOAWAY_H
#define LASTCALL_GOAWAY_H

/* GOAWAY (RFC 9113 section 6.8), as we send it. Thread: owner loop only. */

#include "h2o_api.h"

struct conn;

/* The first one: the client is to open no more streams. */
void goaway_announce(h2o_http2_conn_t *h2, struct conn *conn);

/* The last one, with the last stream and `error`; the connection closes when its last stream ends.
 */
void goaway_last(h2o_http2_conn_t *h2, struct conn *conn, int error);

/* The last one, for a connection without streams, whether its client has spoken or not. */
void goaway_end(h2o_http2_conn_t *h2, struct conn *conn);

#endif

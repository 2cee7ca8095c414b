#ifndef LASTCALL_CALM_H
#define LASTCALL_CALM_H

/* HTTP/2 clients that only reset streams. Thread: owner loop only. */

#include "h2o_api.h"

struct conn;

/* A stream that has not ended is reset or refused, by the client or by us. */
void calm_count_reset(h2o_http2_conn_t *h2, const h2o_http2_stream_t *stream);

/* Between two frames: send ENHANCE_YOUR_CALM to a client that only resets streams. */
void calm_look(h2o_http2_conn_t *h2, struct conn *conn);

/* The library closes this connection once the client has read GOAWAY; if that takes too long, it is
 * cut. */
void calm_close_soon(struct conn *conn);

/* The library has closed the connection's socket. */
void calm_end(struct conn *conn);

#endif

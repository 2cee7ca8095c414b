#ifndef LASTCALL_IDLE_H
#define LASTCALL_IDLE_H

/* What a connection is in the middle of, as far as the library has read it.
 * All of these: Thread: owner loop only. */

#include <stdbool.h>

#include "h2o_api.h"

struct conn;

/* HTTP/1: no request has begun to arrive. */
bool h1_is_idle(h2o_req_t *req);

/* Before its TLS handshake, or its PROXY line: it has sent nothing. */
bool conn_is_silent(const struct conn *conn);

/* HTTP/2: the client's preface has come, and we have answered it. */
bool h2_has_begun(const h2o_http2_conn_t *h2);

/* The streams of a connection, one after the other; `at` is 0 at first. NULL: no more. No stream
 * may be opened or closed meanwhile. */
static inline h2o_http2_stream_t *h2_next_stream(const h2o_http2_conn_t *h2, khiter_t *at)
{
    while (*at != kh_end(h2->streams)) {
        khiter_t i = (*at)++;
        if (kh_exist(h2->streams, i))
            return kh_val(h2->streams, i);
    }
    return NULL;
}

#endif

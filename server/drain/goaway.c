#include "goaway.h"

#include <string.h>

#include "conn.h"
#include "idle.h"

/* GOAWAY (RFC 9113 section 6.8), as we send it. */

void goaway_announce(h2o_http2_conn_t *h2, struct conn *conn)
{
    h2o_http2_encode_goaway_frame(&h2->_write.buf, INT32_MAX, 0,
                                  (h2o_iovec_t){H2O_STRLIT("graceful shutdown")});
    h2o_http2_conn_request_write(h2);
    conn->h2.stage = H2_STAGE_ANNOUNCED;
}

void goaway_last(h2o_http2_conn_t *h2, struct conn *conn, int error)
{
    /* The client may still be sending frames; see linger.c. */
    conn_will_close(conn);
    h2o_http2_encode_goaway_frame(&h2->_write.buf, h2->pull_stream_ids.max_open, error,
                                  (h2o_iovec_t){NULL, 0});
    /* In this state the library opens no stream, and closes after the last write of the last one.
     */
    h2->state = H2O_HTTP2_CONN_STATE_HALF_CLOSED;
    h2o_http2_conn_request_write(h2);
    conn->h2.stage = H2_STAGE_LAST;
}

/* The client chose HTTP/2 by ALPN and has sent nothing since. SETTINGS has to be our first frame,
 * and need not wait for the client's preface (RFC 9113 section 3.4). GOAWAY then says that no
 * stream was processed. With an end of file alone the client could not know that of a request on
 * its way. */
static void refuse_before_preface(h2o_http2_conn_t *h2, struct conn *conn)
{
    static const char settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0}; /* an empty one */
    h2o_iovec_t room = h2o_buffer_reserve(&h2->_write.buf, sizeof(settings));

    memcpy(room.base, settings, sizeof(settings));
    h2->_write.buf->size += sizeof(settings);
    conn->idle_released = true;
    goaway_last(h2, conn, 0);
}

void goaway_end(h2o_http2_conn_t *h2, struct conn *conn)
{
    if (h2_has_begun(h2))
        goaway_last(h2, conn, 0);
    else
        refuse_before_preface(h2, conn);
}

#include "interim.h"

#include <string.h>

#include "conn.h"
#include "interim_bytes.h"
#include "loop.h"

/* A lower SETTINGS_HEADER_TABLE_SIZE has to be confirmed at the beginning of the next header block
 * (RFC 7541 section 4.2). libh2o does not do that, so such a client gets no interim answer: what
 * it makes of the final one does not depend on us. A pushed stream begins with a promise that may
 * not be sent yet. */
static bool has_room(const h2o_http2_conn_t *h2, const h2o_http2_stream_t *stream)
{
    return h2->sock != NULL && h2->state < H2O_HTTP2_CONN_STATE_IS_CLOSING &&
           stream->stream_id % 2 == 1 && stream->state == H2O_HTTP2_STREAM_STATE_SEND_HEADERS &&
           h2->peer_settings.header_table_size >= h2->_output_header_table.hpack_capacity &&
           h2->_write.buf->size < INTERIM_WAITING_MOST;
}

/* 100 is not for the client: libh2o has answered its expectation when it read the body. 101 ends
 * HTTP, and is final. */
bool interim_may_send(const struct inflight *inflight, int status)
{
    const h2o_req_t *req = inflight->req;

    return status >= 102 && status <= 199 && req->version >= 0x200 && !inflight->given_up &&
           inflight->conn->sock != NULL && req->_generator == NULL &&
           req->timestamps.response_start_at.tv_sec == 0 &&
           has_room((const h2o_http2_conn_t *)req->conn,
                    container_of(req, h2o_http2_stream_t, req));
}

static void add_frame(h2o_http2_conn_t *h2, h2o_iovec_t frame)
{
    if (frame.len - H2O_HTTP2_FRAME_HEADER_SIZE > h2->peer_settings.max_frame_size)
        return;
    h2o_iovec_t room = h2o_buffer_reserve(&h2->_write.buf, frame.len);
    memcpy(room.base, frame.base, frame.len);
    h2->_write.buf->size += frame.len;
    h2o_http2_conn_request_write(h2);
}

void interim_send(struct inflight *inflight, int status, const h2o_headers_t *fields)
{
    h2o_req_t *req = inflight->req;
    const h2o_http2_stream_t *stream = container_of(req, h2o_http2_stream_t, req);
    h2o_mem_pool_t pool; /* a request may get many of them */

    h2o_mem_init_pool(&pool);
    add_frame((h2o_http2_conn_t *)req->conn,
              interim_to_http2(&pool, stream->stream_id, status, fields));
    h2o_mem_clear_pool(&pool);
}

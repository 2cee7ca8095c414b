#include "reset.h"

#include "library.h"

/* The library's own function tells the client nothing. */

void reset_h2_stream(h2o_http2_stream_t *stream, int error)
{
    h2o_http2_conn_t *h2 = (h2o_http2_conn_t *)stream->req.conn;

    h2o_http2__encode_rst_stream_frame(&h2->_write.buf, stream->stream_id, -error);
    library.h2o_http2_stream_reset(h2, stream);
    h2o_http2_conn_request_write(h2);
}

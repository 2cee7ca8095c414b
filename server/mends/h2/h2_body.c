#include "mends.h"

#include "log_limit.h"
#include "library.h"
#include "conn.h"
#include "server_state.h"

/* Bodies of HTTP/2 requests.
 *
 * Larger than limit-request-body: the library resets the stream with REFUSED_STREAM, which means
 * that the request was not processed and may be repeated (RFC 9113 section 8.7). Clients repeat it,
 * and nothing is logged. Upstream still does this. The mend answers 413 as soon as the
 * content-length, or the body so far, is too large.
 *
 * An answer before the end of the body, such as that 413. The library resets the stream at the next
 * DATA frame, and the answer is lost. The mend skips such frames; their bytes still count for the
 * window of the connection. A client that sends much more gets RST_STREAM with NO_ERROR, which
 * tells it to stop (section 8.1). The reset is not sent together with the answer: some clients
 * (curl 7.88) that read both at once, while they send, drop the answer.
 *
 * More DATA than content-length says: the library notices at the end of the body. The mend resets
 * the stream at the first excess byte. */

void h2_body_note_too_long(const h2o_req_t *req)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);
    const char *query = memchr(req->input.path.base, '?', req->input.path.len);
    size_t path = query != NULL ? (size_t)(query - req->input.path.base) : req->input.path.len;

    count_add(&loop->metrics.h2_body_limit, 1);
    static struct log_limit limit;

    log_limited(
        &limit, LOG_LEVEL_WARN, "refused",
        "refused with 413: %.*s %.*s, its body is larger than limit-request-body (%zu bytes)",
        (int)(req->input.method.len < 32 ? req->input.method.len : 32), req->input.method.base,
        (int)(path < 256 ? path : 256), req->input.path.base,
        loop->server->globalconf.max_request_entity_size);
}

#define STOP_AFTER_BYTES (256 * 1024)

/* Is its body still arriving, although the request was processed? */
static bool is_early(const h2o_http2_stream_t *stream)
{
    return stream->_req_body != NULL && stream->req.entity.base == NULL &&
           stream->state > H2O_HTTP2_STREAM_STATE_RECV_BODY;
}

/* Account for the bytes of a skipped frame as the library does for frames that it takes. */
static void give_back(h2o_http2_conn_t *h2, size_t bytes)
{
    h2o_http2_window_t *window = &h2->_input_window;
    ssize_t full = H2O_HTTP2_SETTINGS_HOST.initial_window_size;

    h2o_http2_window_consume_window(window, bytes);
    ssize_t left = h2o_http2_window_get_window(window);
    if (left * 2 >= full)
        return;
    h2o_http2_encode_window_update_frame(&h2->_write.buf, 0, (int32_t)(full - left));
    h2o_http2_conn_request_write(h2);
    (void)h2o_http2_window_update(window, full - left);
}

static void drop_body(h2o_http2_stream_t *stream)
{
    h2o_buffer_dispose(&stream->_req_body);
    h2o_buffer_init(&stream->_req_body, &h2o_socket_buffer_prototype);
}

static void answer_413(h2o_http2_conn_t *h2, h2o_http2_stream_t *stream)
{
    drop_body(stream);
    h2_body_note_too_long(&stream->req);
    h2o_http2_stream_set_state(h2, stream, H2O_HTTP2_STREAM_STATE_REQ_PENDING);
    h2o_http2_stream_set_state(h2, stream, H2O_HTTP2_STREAM_STATE_SEND_HEADERS);
    h2o_send_error_generic(&stream->req, 413, "Request Entity Too Large",
                           "the body of the request is too large", 0);
}

static void stop_liar(h2o_http2_conn_t *h2, h2o_http2_stream_t *stream)
{
    struct loop *loop = container_of(h2->super.ctx, struct loop, ctx);

    count_add(&loop->metrics.h2_malformed, 1);
    h2o_http2_encode_rst_stream_frame(&h2->_write.buf, stream->stream_id,
                                      -H2O_HTTP2_ERROR_PROTOCOL);
    h2o_http2_conn_request_write(h2);
    h2o_http2_stream_reset(h2, stream);
}

/* DATA for a stream whose answer has ended. */
static bool pass_rest(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame)
{
    for (size_t i = 0; i < H2_EARLY_MAX; i++) {
        if (conn->h2_early[i].stream_id != frame->stream_id)
            continue;
        uint32_t before = conn->h2_early[i].bytes;
        if ((frame->flags & H2O_HTTP2_FRAME_FLAG_END_STREAM) != 0)
            conn->h2_early[i].stream_id = 0;
        if (before < STOP_AFTER_BYTES) {
            conn->h2_early[i].bytes += frame->length;
            if (conn->h2_early[i].bytes >= STOP_AFTER_BYTES) {
                h2o_http2__encode_rst_stream_frame(&h2->_write.buf, frame->stream_id, 0);
                h2o_http2_conn_request_write(h2);
            }
        }
        return true;
    }
    return false;
}

/* Returns true if the frame is skipped. */
static bool judge(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame,
                  size_t bytes)
{
    h2o_http2_stream_t *stream = h2o_http2_conn_get_stream(h2, frame->stream_id);

    if (stream == NULL)
        return pass_rest(h2, conn, frame);
    if (stream->state != H2O_HTTP2_STREAM_STATE_RECV_BODY)
        return is_early(stream);
    size_t size = stream->_req_body->size + bytes;
    if (size > h2->super.ctx->globalconf->max_request_entity_size)
        answer_413(h2, stream);
    else if (size > stream->_expected_content_length)
        stop_liar(h2, stream);
    else
        return false;
    return true;
}

bool h2_body_data(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame)
{
    const char *ignored;
    h2o_http2_data_payload_t payload;
    h2o_http2_frame_t theirs = {frame->length, frame->type, frame->flags, frame->stream_id,
                                frame->payload};

    if (h2->state != H2O_HTTP2_CONN_STATE_OPEN || frame->stream_id == 0 ||
        h2o_http2_decode_data_payload(&payload, &theirs, &ignored) != 0 ||
        !judge(h2, conn, frame, payload.length))
        return false;
    give_back(h2, frame->length);
    return true;
}

void h2_body_note_reset(h2o_http2_conn_t *h2, const h2o_http2_stream_t *stream)
{
    if (stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY && stream->req.entity.base != NULL &&
        stream->_expected_content_length != SIZE_MAX &&
        stream->req.entity.len != stream->_expected_content_length)
        count_add(&container_of(h2->super.ctx, struct loop, ctx)->metrics.h2_malformed, 1);
}

void h2_body_sent(h2o_http2_conn_t *h2, h2o_http2_stream_t *stream)
{
    if (stream->state != H2O_HTTP2_STREAM_STATE_END_STREAM || !is_early(stream))
        return;
    struct conn *conn = h2->sock->on_close.data;
    unsigned at = conn->h2_early_next++ % H2_EARLY_MAX;
    conn->h2_early[at].stream_id = stream->stream_id;
    conn->h2_early[at].bytes = 0;
}

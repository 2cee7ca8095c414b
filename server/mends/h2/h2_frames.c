#include "mends.h"

#include "library.h"
#include "conn.h"
#include "calm.h"

/* Sees every frame of HTTP/2 before the library does. The mends for single frames are in
 * h2_window.c, h2_body.c and h2_headers.c.
 *
 * libh2o calls conn->_read_expect for each frame; that pointer leads to static functions. When a
 * connection begins to speak HTTP/2, the library calls h2o_socket_read_start() for the first time,
 * and this program puts h2_expect() into the pointer. h2_expect() inspects the frame and calls the
 * library's function, which may change the pointer: that value is kept, and ours is put back. To
 * skip a frame that the library must not see, h2_expect() returns its length.
 *
 * Mended here:
 *
 * Frames of an unknown type. The library ignores them, as RFC 9113 section 4.1 demands, but writes
 * a line to standard error for each. Upstream removed the line (78f6d92ff). They are skipped here.
 *
 * CONTINUATION after the last GOAWAY. The library returns 0 for it, "no byte used", and its loop
 * calls it again with the same bytes, forever. Later versions check the state in another place.
 * Here they are skipped up to END_HEADERS.
 *
 * Answers to control frames (PING, SETTINGS, resets) that the client does not read. They are not
 * under flow control, and the library buffers them all. Upstream stops reading at 512 KB
 * (743d6b611). Here a client that leaves more than UNSENT_MAX unread gets ENHANCE_YOUR_CALM.
 *
 * Errors of a connection. The library closes once GOAWAY is written, however long the client takes
 * to read it. Here calm_close_soon() limits that time. Until then the library reads on, and keeps
 * all of it: a client that sends on has its bytes dropped here. */

/* DATA is never more than some 200 KB of it. Above 512 KB Debian's library would read no more. */
#define UNSENT_MAX (384 * 1024)
#define UNKNOWN_TYPE 10 /* and above: the library does not know these */

static size_t unsent(const h2o_http2_conn_t *h2)
{
    size_t in_flight = h2->_write.buf_in_flight != NULL ? h2->_write.buf_in_flight->size : 0;
    return h2->_write.buf->size + in_flight;
}

/* The frame is complete, and within the library's limit. */
static bool is_whole(const struct h2_frame *frame, size_t len)
{
    return frame->length <= H2O_HTTP2_SETTINGS_HOST.max_frame_size &&
           len >= H2O_HTTP2_FRAME_HEADER_SIZE + frame->length;
}

static void read_frame(struct h2_frame *ret_frame, const uint8_t *src)
{
    ret_frame->length = h2o_http2_decode24u(src);
    ret_frame->type = src[3];
    ret_frame->flags = src[4];
    ret_frame->stream_id = h2o_http2_decode32u(src + 5) & INT32_MAX;
    ret_frame->payload = src + H2O_HTTP2_FRAME_HEADER_SIZE;
}

/* Does a header block go on after the last GOAWAY? */
static void pass_continuation(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame)
{
    if ((frame->flags & H2O_HTTP2_FRAME_FLAG_END_HEADERS) == 0)
        return;
    h2o_buffer_dispose(&h2->_headers_unparsed);
    h2->_headers_unparsed = NULL;
    conn->h2_expect = conn->h2_expect_any;
}

/* Returns true if the frame is skipped, or if *ret_error, which is 0 before, has an error. */
static bool look(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame,
                 ssize_t *ret_error, const char **err_desc)
{
    if (h2->_headers_unparsed != NULL) {
        if (frame->type != H2O_HTTP2_FRAME_TYPE_CONTINUATION)
            return false;
        if (h2->state >= H2O_HTTP2_CONN_STATE_HALF_CLOSED) {
            pass_continuation(h2, conn, frame);
            return true;
        }
        *ret_error = h2_headers_continue(h2, frame, err_desc);
        return *ret_error != 0;
    }
    conn->h2_expect_any = conn->h2_expect;
    if (frame->type >= UNKNOWN_TYPE)
        return true;
    switch (frame->type) {
    case H2O_HTTP2_FRAME_TYPE_DATA:
        return h2_body_data(h2, conn, frame);
    case H2O_HTTP2_FRAME_TYPE_HEADERS:
        *ret_error = h2_headers_begin(h2, frame, err_desc);
        return *ret_error != 0;
    case H2O_HTTP2_FRAME_TYPE_WINDOW_UPDATE:
        return h2_window_update_is_late(h2, frame);
    default:
        return false;
    }
}

static ssize_t h2_expect(h2o_http2_conn_t *h2, const uint8_t *src, size_t len,
                         const char **err_desc);

static ssize_t library_expect(h2o_http2_conn_t *h2, struct conn *conn, const uint8_t *src,
                              size_t len, const char **err_desc)
{
    h2->_read_expect = conn->h2_expect;
    ssize_t used = conn->h2_expect(h2, src, len, err_desc);
    conn->h2_expect = h2->_read_expect;
    h2->_read_expect = h2_expect;
    return used;
}

/* A connection error: the library sends GOAWAY, and closes. */
static ssize_t end(struct conn *conn, ssize_t error)
{
    if (error < 0 && error != H2O_HTTP2_ERROR_INCOMPLETE)
        calm_close_soon(conn);
    return error;
}

static ssize_t h2_expect(h2o_http2_conn_t *h2, const uint8_t *src, size_t len,
                         const char **err_desc)
{
    struct conn *conn = h2->sock->on_close.data;
    struct h2_frame frame;
    ssize_t error = 0;

    /* The client's preface begins with "PRI": read as a length, that is too long for a frame. */
    if (len >= H2O_HTTP2_FRAME_HEADER_SIZE)
        read_frame(&frame, src);
    if (len < H2O_HTTP2_FRAME_HEADER_SIZE || !is_whole(&frame, len))
        return end(conn, library_expect(h2, conn, src, len, err_desc));
    calm_look(h2, conn);
    if (unsent(h2) > UNSENT_MAX && h2->state == H2O_HTTP2_CONN_STATE_OPEN) {
        *err_desc = "answers are not read";
        count_add(&conn->loop->metrics.h2_calmed, 1);
        return end(conn, H2O_HTTP2_ERROR_ENHANCE_YOUR_CALM);
    }
    if (look(h2, conn, &frame, &error, err_desc))
        return error != 0 ? end(conn, error)
                          : (ssize_t)(H2O_HTTP2_FRAME_HEADER_SIZE + frame.length);
    return end(conn, library_expect(h2, conn, src, len, err_desc));
}

void h2_frames_expect_connection(h2o_socket_t *sock)
{
    struct conn *conn = conn_of_socket(sock);
    if (conn != NULL && mends_are_on())
        conn->h2_begins = true;
}

void h2_frames_expect_none(h2o_socket_t *sock)
{
    struct conn *conn = conn_of_socket(sock);
    if (conn != NULL)
        conn->h2_begins = false;
}

void h2_frames_after_read(struct conn *conn)
{
    if (conn->h2_expect == NULL)
        return;
    const h2o_http2_conn_t *h2 = conn->sock->data;
    if (h2->state == H2O_HTTP2_CONN_STATE_IS_CLOSING)
        h2o_buffer_consume(&conn->sock->input, conn->sock->input->size);
}

void h2_frames_read_start(h2o_socket_t *sock)
{
    struct conn *conn = conn_of_socket(sock);

    if (conn == NULL || !conn->h2_begins)
        return;
    h2o_http2_conn_t *h2 = sock->data;
    conn->h2_begins = false;
    conn->h2_expect = conn->h2_expect_any = h2->_read_expect;
    h2->_read_expect = h2_expect;
}

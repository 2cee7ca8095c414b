#include "interim.h"

#include <string.h>

#include "conn.h"
#include "interim_bytes.h"
#include "loop.h"
#include "require.h"

/* The interim answers of HTTP/1.1 on their way to the socket, and the final one after them:
 *
 *     interim_send() ----> waiting ----> is being written ----> on_written()
 *                                                                    |  nothing waits
 *     the final answer --> filters ... --> hold -- -- -- -- -- -- -- + --> libh2o
 *
 * The hold is the last filter of the answer, in front of libh2o's own stream. It is there only if a
 * write is under way when the answer begins, and nothing is sent after that.
 *
 * Note on lifetimes. A socket calls on_written() only while it is open, and libh2o disposes of an
 * HTTP/1 request in two places: where the final answer is written, which waits for on_written(),
 * and where it closes the socket. A plain socket forgets its callback when it is closed, and the
 * bytes of the pool with it. One of TLS has copied the bytes; tls_close.c takes the callback's
 * place before it lets the socket live on. */

struct hold {
    h2o_ostream_t super;
    struct interim *interim;
    bool has_answer;
    h2o_send_state_t state;
    h2o_iovec_t *bufs;
    size_t count;
};

struct interim {
    struct inflight *inflight;
    unsigned count; /* passed on */
    size_t bytes;   /* of their heads */
    /* HTTP/1.1 */
    bool is_writing;
    H2O_VECTOR(h2o_iovec_t) waiting;
    struct hold *hold; /* NULL: the final answer has not begun, or did not have to wait */
    void (*then)(void *data);
    void *data;
};

/* ---- whether ---- */

/* The final answer has not begun. That of a request that goes on elsewhere (an internal redirect)
 * has been dropped, and its hold with it. */
static bool is_before_answer(const struct inflight *inflight)
{
    const h2o_req_t *req = inflight->req;

    return req->_generator == NULL && req->timestamps.response_start_at.tv_sec == 0 &&
           (inflight->interim == NULL || inflight->interim->hold == NULL);
}

static bool may_send_h1(const struct inflight *inflight)
{
    const h2o_socket_t *sock = inflight->conn->sock;
    bool is_ours = inflight->interim != NULL && inflight->interim->is_writing;

    return inflight->req->version == 0x101 && (sock->_cb.write == NULL || is_ours);
}

/* A lower SETTINGS_HEADER_TABLE_SIZE has to be confirmed at the beginning of the next header block
 * (RFC 7541 section 4.2). libh2o does not do that, so such a client gets no interim answer: what
 * it makes of the final one does not depend on us. A pushed stream begins with a promise that may
 * not be sent yet. */
static bool may_send_h2(const struct inflight *inflight)
{
    const h2o_req_t *req = inflight->req;
    const h2o_http2_conn_t *h2 = (const h2o_http2_conn_t *)req->conn;
    const h2o_http2_stream_t *stream = container_of(req, h2o_http2_stream_t, req);

    return h2->sock != NULL && h2->state < H2O_HTTP2_CONN_STATE_IS_CLOSING &&
           stream->stream_id % 2 == 1 && stream->state == H2O_HTTP2_STREAM_STATE_SEND_HEADERS &&
           h2->peer_settings.header_table_size >= h2->_output_header_table.hpack_capacity &&
           h2->_write.buf->size < INTERIM_H2_WAITING_MOST;
}

/* 100 is not for the client: libh2o has answered its expectation when it read the body. 101 ends
 * HTTP, and is final. */
bool interim_may_send(const struct inflight *inflight, int status, size_t size)
{
    const struct interim *interim = inflight->interim;

    if (status < 102 || status > 199 || inflight->conn->sock == NULL || inflight->given_up ||
        size > INTERIM_BYTES_MOST || !is_before_answer(inflight))
        return false;
    if (interim != NULL &&
        (interim->count >= INTERIM_MOST || interim->bytes > INTERIM_BYTES_MOST - size))
        return false;
    return inflight->req->version >= 0x200 ? may_send_h2(inflight) : may_send_h1(inflight);
}

/* ---- the final answer waits ---- */

static void pass(struct hold *hold, h2o_iovec_t *bufs, size_t count, h2o_send_state_t state)
{
    h2o_req_t *req = hold->interim->inflight->req;

    /* The library's own helper leaves out an empty piece that is not the last one, but this one has
     * the head. */
    if (h2o_send_state_is_in_progress(state))
        hold->super.next->do_send(hold->super.next, req, bufs, count, state);
    else
        h2o_ostream_send_next(&hold->super, req, bufs, count, state);
}

/* What is sent stays where it is until the library asks for more: that is a filter's contract. */
static void on_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct hold *hold = container_of(self, struct hold, super);

    if (!hold->interim->is_writing) {
        pass(hold, bufs, count, state);
        return;
    }
    ASSERT(!hold->has_answer);
    hold->has_answer = true;
    hold->state = state;
    hold->count = count;
    hold->bufs = h2o_mem_alloc_pool(&req->pool, (count + 1) * sizeof(*bufs));
    if (count > 0)
        memcpy(hold->bufs, bufs, count * sizeof(*bufs));
}

/* The request ends, or goes on as another one (an internal redirect) that will begin an answer of
 * its own. */
static void on_stop(h2o_ostream_t *self, h2o_req_t *req)
{
    struct hold *hold = container_of(self, struct hold, super);

    (void)req;
    if (hold->interim->hold == hold)
        hold->interim->hold = NULL;
}

void interim_hold_answer(struct inflight *inflight, h2o_ostream_t **slot)
{
    struct interim *interim = inflight->interim;

    if (interim == NULL || !interim->is_writing)
        return;
    /* `slot` stays as it is: the filters that follow come in front of this one. It has no
     * start_pull: whoever would have the library fetch the body sends it. */
    struct hold *hold = (void *)h2o_add_ostream(inflight->req, sizeof(*hold), slot);
    hold->super.do_send = on_send;
    hold->super.stop = on_stop;
    hold->interim = interim;
    hold->has_answer = false;
    interim->hold = hold;
}

bool interim_await(struct inflight *inflight, void (*then)(void *data), void *data)
{
    struct interim *interim = inflight->interim;

    if (interim == NULL || !interim->is_writing)
        return false;
    interim->then = then;
    interim->data = data;
    return true;
}

/* ---- HTTP/1.1 ---- */

/* The final answer goes on. The last thing that a caller does: the request may end. */
static void go_on(struct interim *interim)
{
    struct hold *hold = interim->hold;
    void (*then)(void *data) = interim->then;

    interim->then = NULL;
    if (hold != NULL && hold->has_answer) {
        hold->has_answer = false;
        pass(hold, hold->bufs, hold->count, hold->state);
    } else if (then != NULL) {
        then(interim->data);
    }
}

static void write_waiting(struct interim *interim);

static void on_written(h2o_socket_t *sock, const char *error)
{
    struct conn *conn = sock->on_close.data;
    struct interim *interim = conn->interim;

    conn->interim = NULL;
    interim->is_writing = false;
    /* The library closes as it does when it cannot write an answer, and the request ends. The
     * kernel has told it to us, and would not tell again who watches the socket. */
    if (error != NULL)
        conn->deferred_read.cb(sock, h2o_socket_error_closed);
    else if (interim->waiting.size > 0)
        write_waiting(interim);
    else
        go_on(interim);
}

static void write_waiting(struct interim *interim)
{
    struct conn *conn = interim->inflight->conn;
    size_t count = interim->waiting.size;

    interim->is_writing = true;
    interim->waiting.size = 0; /* the socket copies the list, not the bytes */
    conn->interim = interim;
    h2o_socket_write(conn->sock, interim->waiting.entries, count, on_written); /* comes later */
}

static void send_h1(struct interim *interim, h2o_iovec_t bytes)
{
    h2o_mem_pool_t *pool = &interim->inflight->req->pool;

    h2o_vector_reserve(pool, &interim->waiting, interim->waiting.size + 1);
    interim->waiting.entries[interim->waiting.size++] = bytes;
    if (!interim->is_writing)
        write_waiting(interim);
}

/* ---- HTTP/2 ---- */

static void add_frame(h2o_http2_conn_t *h2, h2o_iovec_t frame)
{
    if (frame.len - H2O_HTTP2_FRAME_HEADER_SIZE > h2->peer_settings.max_frame_size)
        return;
    h2o_iovec_t room = h2o_buffer_reserve(&h2->_write.buf, frame.len);
    memcpy(room.base, frame.base, frame.len);
    h2->_write.buf->size += frame.len;
    h2o_http2_conn_request_write(h2);
}

static void send_h2(h2o_req_t *req, int status, const h2o_headers_t *fields)
{
    const h2o_http2_stream_t *stream = container_of(req, h2o_http2_stream_t, req);
    h2o_mem_pool_t pool;

    h2o_mem_init_pool(&pool);
    add_frame((h2o_http2_conn_t *)req->conn,
              interim_to_http2(&pool, stream->stream_id, status, fields));
    h2o_mem_clear_pool(&pool);
}

/* ---- both ---- */

static void on_dispose(void *data)
{
    struct interim *interim = data;
    struct conn *conn = interim->inflight->conn;

    if (conn->interim == interim) /* see the note on lifetimes: nobody will look for it */
        conn->interim = NULL;
}

static struct interim *find(struct inflight *inflight)
{
    if (inflight->interim != NULL)
        return inflight->interim;
    struct interim *interim =
        h2o_mem_alloc_shared(&inflight->req->pool, sizeof(*interim), on_dispose);
    memset(interim, 0, sizeof(*interim));
    interim->inflight = inflight;
    inflight->interim = interim;
    return interim;
}

void interim_send(struct inflight *inflight, int status, size_t size, h2o_iovec_t reason,
                  const h2o_headers_t *fields)
{
    struct interim *interim = find(inflight);
    h2o_req_t *req = inflight->req;

    interim->count++;
    interim->bytes += size;
    if (req->version >= 0x200)
        send_h2(req, status, fields);
    else
        send_h1(interim, interim_to_http1(&req->pool, status, reason, fields));
}

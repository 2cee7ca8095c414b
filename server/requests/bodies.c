#include "bodies.h"

#include <string.h>

#include "clock.h"
#include "conn.h"
#include "idle.h"
#include "log.h"
#include "log_limit.h"
#include "server_state.h"

/* Request bodies that arrive. The library keeps a body in memory until it is whole, and only then
 * calls a handler. Each body has a limit (limit-request-body); here their sum has one, over all
 * loops and both protocols: max-arriving-bodies.
 *
 *     HTTP/1    the socket's input, while no request of the connection is in work
 *     HTTP/2    the bodies of the streams that receive one
 *
 * After each read the loop looks how large that is, in steps of 64 KB. Below one step nothing is
 * counted, so a request without a body, or with a small one, writes nothing; and a header, which is
 * in the input too, may have more. `arriving_bytes` is the sum of all loops: one atomic addition
 * for 64 KB of body.
 *
 * When the sum is above the limit, the loop refuses bodies of its own connections until it is not:
 * the largest first, and one that does not grow counts as larger with each second. So the body that
 * holds the most memory for the longest time is refused; a client that has just sent is refused
 * only if its loop has no other. A refused request is answered with 503 and Retry-After, and its
 * memory is free at once. A connection that cannot be answered, such as one with a header of
 * megabytes, is cut.
 *
 * h2_frames.c notes which connections speak HTTP/2; without the mends, bodies of HTTP/2
 * are not counted. */

#define STEP (UINT64_C(64) << 10)

static bool speaks_h2(const struct conn *conn)
{
    return conn->h2_expect != NULL;
}

static uint64_t h2_bytes(const h2o_http2_conn_t *h2)
{
    h2o_http2_stream_t *stream;
    uint64_t bytes = 0;

    /* Usually every request is whole. */
    if (h2->num_streams.pull.open == h2->num_streams.pull.half_closed)
        return 0;
    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        if (stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY)
            bytes += stream->_req_body->size;
    }
    return bytes;
}

static uint64_t bytes_of(const struct conn *conn)
{
    if (speaks_h2(conn))
        return h2_bytes(conn->sock->data);
    return conn->active == 0 && !conn->is_tunnel ? conn->sock->input->size : 0;
}

static void set(struct conn *conn, uint64_t bytes)
{
    struct loop *loop = conn->loop;
    struct conn_bodies *bodies = &conn->bodies;

    /* relaxed: a bound, and nothing else depends on it */
    (void)atomic_fetch_add_explicit(&loop->server->arriving_bytes, bytes - bodies->bytes,
                                    memory_order_relaxed);
    if (bytes > bodies->bytes)
        bodies->grew_ns = loop_now_ns(loop);
    if (bodies->bytes == 0)
        h2o_linklist_insert(&loop->bodies.arriving, &bodies->link);
    else if (bytes == 0)
        h2o_linklist_unlink(&bodies->link);
    bodies->bytes = bytes;
}

/* Returns whether there is more than before. */
static bool count(struct conn *conn)
{
    uint64_t bytes = bytes_of(conn) / STEP * STEP, before = conn->bodies.bytes;

    if (bytes == before)
        return false;
    set(conn, bytes);
    return bytes > before;
}

void bodies_end(struct conn *conn)
{
    conn->bodies.over = true;
    if (conn->bodies.bytes > 0)
        set(conn, 0);
}

/* ---- refusing ---- */

static void say(struct loop *loop, const struct conn *conn, const char *what)
{
    static struct log_limit limit;

    count_add(&loop->metrics.bodies_refused, 1);
    log_limited(&limit, LOG_LEVEL_WARN, "bodies-refused",
                "%s: bodies that arrive take more than %llu MB of memory, %llu KB of them on this "
                "connection (max-arriving-bodies)",
                what, (unsigned long long)loop->server->max_arriving >> 20,
                (unsigned long long)conn->bodies.bytes >> 10);
}

static void add_retry_after(h2o_req_t *req)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL,
                          H2O_STRLIT("1"));
}

#define TEXT_503 "too many request bodies are arriving\n"

void bodies_refuse(struct conn *conn, h2o_req_t *req, int status, const char *reason,
                   const char *text)
{
    h2o_socket_t *sock = conn->sock;

    req->http1_is_persistent = 0;
    h2o_socket_read_stop(sock);
    h2o_send_error_generic(req, status, reason, text,
                           H2O_SEND_ERROR_HTTP1_CLOSE_CONNECTION | H2O_SEND_ERROR_KEEP_HEADERS);
    /* The library has copied the header of a request with a body, and does not look at the body
     * again. */
    if (sock->input->size > 0)
        h2o_buffer_consume(&sock->input, sock->input->size);
    bodies_end(conn);
}

struct search {
    const struct conn *conn;
    h2o_req_t *req; /* NULL: not found */
};

static int find_request(h2o_req_t *req, void *data)
{
    struct search *search = data;

    if (conn_of(req) != search->conn)
        return 0;
    search->req = req;
    return 1;
}

static void refuse_http1(struct conn *conn)
{
    struct search search = {.conn = conn};

    (void)conn->loop->ctx.globalconf->http1.callbacks.foreach_request(&conn->loop->ctx,
                                                                      find_request, &search);
    if (search.req != NULL && search.req->timestamps.request_body_begin_at.tv_sec != 0 &&
        search.req->timestamps.response_start_at.tv_sec == 0 && conn->sock->_cb.write == NULL) {
        say(conn->loop, conn, "refused a request with 503");
        add_retry_after(search.req);
        bodies_refuse(conn, search.req, 503, "Service Unavailable", TEXT_503);
        return;
    }
    say(conn->loop, conn, "cut a connection");
    conn_cut(conn);
    bodies_end(conn);
}

static h2o_http2_stream_t *largest_stream(h2o_http2_conn_t *h2)
{
    h2o_http2_stream_t *stream, *largest = NULL;

    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        if (stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY &&
            (largest == NULL || stream->_req_body->size > largest->_req_body->size))
            largest = stream;
    }
    return largest;
}

/* The rest of the body is ignored: see mends/h2/h2_body.c. */
static void refuse_h2(struct conn *conn)
{
    h2o_http2_conn_t *h2 = conn->sock->data;
    h2o_http2_stream_t *stream = largest_stream(h2);

    /* In the middle of a header block a stream must stay what it is. */
    if (stream == NULL || h2->state != H2O_HTTP2_CONN_STATE_OPEN || h2->_headers_unparsed != NULL) {
        say(conn->loop, conn, "cut a connection");
        conn_cut(conn);
        bodies_end(conn);
        return;
    }
    say(conn->loop, conn, "refused a request with 503");
    h2o_buffer_dispose(&stream->_req_body);
    h2o_buffer_init(&stream->_req_body, &h2o_socket_buffer_prototype);
    h2o_http2_stream_set_state(h2, stream, H2O_HTTP2_STREAM_STATE_REQ_PENDING);
    h2o_http2_stream_set_state(h2, stream, H2O_HTTP2_STREAM_STATE_SEND_HEADERS);
    add_retry_after(&stream->req);
    h2o_send_error_generic(&stream->req, 503, "Service Unavailable", TEXT_503,
                           H2O_SEND_ERROR_KEEP_HEADERS);
    (void)count(conn);
}

/* A second adds its size once more. */
static uint64_t weight(const struct conn *conn, uint64_t now_ns)
{
    return (conn->bodies.bytes / STEP) * ((now_ns - conn->bodies.grew_ns) / NS_PER_MS + 1000);
}

static struct conn *heaviest(struct loop *loop)
{
    uint64_t now_ns = loop_now_ns(loop);
    struct conn *heaviest = NULL;

    for (h2o_linklist_t *node = loop->bodies.arriving.next; node != &loop->bodies.arriving;
         node = node->next) {
        struct conn *conn = container_of(node, struct conn, bodies.link);
        if (heaviest == NULL || weight(conn, now_ns) > weight(heaviest, now_ns))
            heaviest = conn;
    }
    return heaviest;
}

static void make_room(struct loop *loop)
{
    struct server *server = loop->server;

    while (!h2o_linklist_is_empty(&loop->bodies.arriving) &&
           atomic_load_explicit(&server->arriving_bytes, memory_order_relaxed) >
               server->max_arriving) {
        struct conn *conn = heaviest(loop);
        if (speaks_h2(conn))
            refuse_h2(conn);
        else
            refuse_http1(conn);
    }
}

void bodies_after_read(struct conn *conn)
{
    if (!conn->bodies.over && count(conn))
        make_room(conn->loop);
}

void bodies_look(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->bodies.arriving.next, *next; node != &loop->bodies.arriving;
         node = next) {
        next = node->next;
        (void)count(container_of(node, struct conn, bodies.link));
    }
}

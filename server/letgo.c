#include "server_p.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* How open connections end in a drain. One function looks at all of them and does what is due;
 * everything that may make something due asks for another look (letgo_look_soon), and a timer looks
 * again for what tells nobody.
 *
 * HTTP/1. In flight: the response says `Connection: close` (gate.c). Idle: kept until idle-grace is
 * over, for the drain as a whole and for this connection since its last response (one that had said
 * keep-alive before the drain began, and whose last byte it has), because the client may be sending
 * this instant; then shutdown(SHUT_RD), and the library reads what has arrived, or the end of file,
 * and closes by itself. A connection with bytes unread is not idle. A connection that sent part of
 * a request is waited for. Over TLS a part of a record is a part of a request; who has not begun
 * the handshake is idle, and who is in the middle of it is given the library's time.
 *
 * HTTP/2 (RFC 9113 section 6.8). GOAWAY with the highest id says: open no more streams. A round
 * trip after it was written, all streams that were opened before it was read are here. Then GOAWAY
 * with the last id, and the close: but only once no stream is open. After its last GOAWAY libh2o
 * reads no HEADERS and no DATA: an upload under way would be lost, and a frame that belongs to a
 * stream it has ignored would be a protocol error, at the cost of every answer in flight. So a
 * client that goes on opening streams against the first GOAWAY is served until the deadline. The
 * library's own h2o_context_request_shutdown() is not used: it acts once, so connections that
 * become HTTP/2 later would be missed, it waits a fixed second, and it waits for no stream. */

#define ROUND_TRIP_MIN_NS (1 * NS_PER_MS)
#define RECEIVED_LOOK_NS (50 * NS_PER_MS)
#define IDLE_LOOKS 256 /* in a spread */
#define IDLE_LOOK_MOST_NS (100 * NS_PER_MS)
#define CALM_AFTER_RESETS 100 /* then a peer must let at least as many requests be answered */

/* ---- HTTP/1 ---- */

/* TLS: close_notify has come, which to the library looks like the beginning of a request. */
static bool has_said_goodbye(const struct conn *conn)
{
    return conn->ssl != NULL && (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* Empty lines before a request are none of it (RFC 9112 section 2.2); old clients send one behind a
 * body. */
bool letgo_is_idle(h2o_req_t *req)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    if (req->processed_at.at.tv_sec != 0)
        return false;
    if (sock->input->size == 0) {
        const struct conn *conn = sock->on_close.data;
        if (conn->ssl == NULL)
            return req->timestamps.request_begin_at.tv_sec == 0;
        /* Over TLS the stamp also comes with records that carry nothing, and does not with a part
         * of one that came behind the handshake or the last request. */
        return has_said_goodbye(conn) ||
               (req->input.method.len == 0 && !tls_is_mid_record(conn->ssl));
    }
    for (size_t i = 0; i < sock->input->size; i++)
        if (sock->input->bytes[i] != '\r' && sock->input->bytes[i] != '\n')
            return false;
    return true;
}

/* The grace is for a client that has its answer, and the kernel may send for long what the library
 * has written in one go. While that becomes less, the grace begins anew. (What waits in the
 * client's own kernel, nobody here can see.) */
static void note_received(struct conn *conn)
{
    int unacked = 0;

    if (conn->has_received || conn->idle_released)
        return;
    (void)ioctl(h2o_socket_get_fd(conn->sock), SIOCOUTQ, &unacked);
    if (unacked != conn->unacked)
        conn->idle_since_ns = loop_now_ns(conn->loop);
    conn->unacked = unacked;
    conn->has_received = unacked == 0;
}

static int note_received_if_idle(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && letgo_is_idle(req))
        note_received(conn);
    return 0;
}

/* Has the instant come that this connection has in a spread of `spread_ns`? */
static bool is_its_turn(const struct conn *conn, uint64_t since_ns, uint64_t spread_ns,
                        uint64_t now_ns)
{
    /* In steps of a 2^20th, which no product overflows: a spread of a day is one of 2^47 ns. */
    return now_ns - since_ns >= (spread_ns >> 20) * (conn->share >> 12);
}

static bool is_grace_over(const struct conn *conn)
{
    const struct loop *loop = conn->loop;
    uint64_t now_ns = loop_now_ns(conn->loop);
    int unread = 0;

    if (conn->idle_released ||
        now_ns - conn->idle_since_ns < loop->server->options->idle_grace_ns ||
        !is_its_turn(conn, loop->released_since_ns, loop->release_spread_ns, now_ns))
        return false; /* the slow look comes by again */
    /* What is unread is read in this loop's next turn. */
    return ioctl(h2o_socket_get_fd(conn->sock), FIONREAD, &unread) != 0 || unread == 0;
}

static void release(struct conn *conn)
{
    note_received(conn);
    if (is_grace_over(conn))
        conn->idle_released = shutdown(h2o_socket_get_fd(conn->sock), SHUT_RD) == 0;
}

static int release_if_idle(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && letgo_is_idle(req) && !pass_wants(conn, req))
        release(conn);
    return 0;
}

/* Nobody but us knows of them before their handshake, or their PROXY line, is over. */
static void release_silent(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        if (conn->sock == NULL)
            continue;
        if ((conn->is_tls && conn->ssl == NULL && !conn->handshake_begun) ||
            (conn->expects_proxy_line && conn->sock->bytes_read == 0 &&
             conn->sock->input->size == 0))
            release(conn);
    }
}

/* ---- HTTP/2 ---- */

static void announce(h2o_http2_conn_t *h2, struct conn *conn)
{
    h2o_http2_encode_goaway_frame(&h2->_write.buf, INT32_MAX, 0,
                                  (h2o_iovec_t){H2O_STRLIT("graceful shutdown")});
    h2o_http2_conn_request_write(h2);
    conn->h2_stage = H2_STAGE_ANNOUNCED;
}

/* Mark the connections on which a request is still arriving. */
static int mark_receiving(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && req->timestamps.request_begin_at.tv_sec != 0 &&
        req->processed_at.at.tv_sec == 0)
        conn->h2_receiving = true;
    return 0;
}

static void say_last(h2o_http2_conn_t *h2, struct conn *conn, int error)
{
    /* Frames may still be on their way to us; see linger.c. */
    conn_will_close(conn);
    h2o_http2_encode_goaway_frame(&h2->_write.buf, h2->pull_stream_ids.max_open, error,
                                  (h2o_iovec_t){NULL, 0});
    /* In this state the library opens no stream, and closes after the last write of the last one.
     */
    h2->state = H2O_HTTP2_CONN_STATE_HALF_CLOSED;
    h2o_http2_conn_request_write(h2);
    conn->h2_stage = H2_STAGE_LAST;
}

bool letgo_h2_has_begun(const h2o_http2_conn_t *h2)
{
    return h2->sock->bytes_written != 0 || h2->_write.buf->size != 0 ||
           h2->_write.buf_in_flight != NULL;
}

/* Chosen by ALPN, and silent since. SETTINGS has to be our first frame, and need not wait for the
 * client's preface (RFC 9113 section 3.4); GOAWAY then says that nothing was taken. An end of file
 * alone would leave a request that is on its way in doubt. */
static void refuse_before_preface(h2o_http2_conn_t *h2, struct conn *conn)
{
    static const char settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0}; /* an empty one */
    h2o_iovec_t room = h2o_buffer_reserve(&h2->_write.buf, sizeof(settings));

    memcpy(room.base, settings, sizeof(settings));
    h2->_write.buf->size += sizeof(settings);
    conn->idle_released = true;
    say_last(h2, conn, 0);
}

/* The file may limit the patience with HTTP/2 further than the deadline does. */
static bool is_out_of_patience(const struct loop *loop, uint64_t now_ns)
{
    uint64_t limit_ms = loop->server->globalconf.http2.graceful_shutdown_timeout;
    return limit_ms != 0 && now_ns - loop->draining_since_ns >= limit_ms * NS_PER_MS;
}

static uint64_t round_trip_ns(const h2o_http2_conn_t *h2, const struct conn *conn)
{
    uint64_t two_ns = conn->is_tcp ? 2 * listener_peer_rtt_ns(h2o_socket_get_fd(h2->sock)) : 0;
    return two_ns > ROUND_TRIP_MIN_NS ? two_ns : ROUND_TRIP_MIN_NS;
}

/* Returns true if this connection wants to be looked at again in a millisecond. */
static bool advance(h2o_http2_conn_t *h2, uint64_t now_ns)
{
    if (h2->sock == NULL) /* in the middle of an upgrade from HTTP/1 */
        return true;
    struct conn *conn = h2->sock->on_close.data;
    bool receiving = conn->h2_receiving || h2->_headers_unparsed != NULL;
    conn->h2_receiving = false; /* marked anew at each look */
    if (is_out_of_patience(conn->loop, now_ns)) {
        giveup_conn(conn, "http2-graceful-shutdown-timeout");
        conn_cut(conn);
        return false;
    }
    if (h2->state != H2O_HTTP2_CONN_STATE_OPEN)
        return false;
    if (conn->h2_stage == H2_STAGE_OPEN &&
        !is_its_turn(conn, conn->loop->draining_since_ns, conn->loop->spread_ns, now_ns))
        return false; /* served as ever; the slow look comes by again */
    if (conn->ssl != NULL && tls_is_mid_record(conn->ssl))
        return false;
    if (!letgo_h2_has_begun(h2)) {
        if (conn->loop->released && is_grace_over(conn))
            refuse_before_preface(h2, conn);
        return false;
    }
    if (h2->sock->input->size != 0) /* half a frame, or half a preface */
        return false;
    if (conn->h2_stage == H2_STAGE_OPEN)
        announce(h2, conn);
    if (h2->_write.buf->size != 0 || h2->_write.buf_in_flight != NULL)
        return true; /* the first GOAWAY, or something behind it, is not out yet */
    if (conn->h2_last_due_ns == 0)
        conn->h2_last_due_ns = now_ns + round_trip_ns(h2, conn);
    if (now_ns < conn->h2_last_due_ns)
        return true;
    if (!receiving && h2->num_streams.pull.half_closed + h2->num_streams.push.half_closed == 0)
        say_last(h2, conn, 0);
    return false;
}

void letgo_calm(h2o_req_t *req)
{
    struct conn *conn = conn_of(req);
    h2o_http2_conn_t *h2 = (h2o_http2_conn_t *)req->conn;

    if (conn->h2_resets < CALM_AFTER_RESETS || conn->h2_resets / 2 < conn->h2_answers ||
        h2->state != H2O_HTTP2_CONN_STATE_OPEN)
        return;
    say_last(h2, conn, H2O_HTTP2_ERROR_ENHANCE_YOUR_CALM);
}

/* ---- the look ---- */

static bool advance_all(struct loop *loop, uint64_t now_ns)
{
    h2o_linklist_t *all = &loop->ctx.http2._conns;
    bool soon = false;

    (void)loop->ctx.globalconf->http2.callbacks.foreach_request(&loop->ctx, mark_receiving, NULL);
    for (h2o_linklist_t *node = all->next; node != all; node = node->next)
        soon |= advance(container_of(node, h2o_http2_conn_t, _conns), now_ns);
    return soon;
}

static void note_all_received(struct loop *loop, uint64_t now_ns)
{
    if (now_ns - loop->received_looked_ns < RECEIVED_LOOK_NS)
        return;
    loop->received_looked_ns = now_ns;
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, note_received_if_idle,
                                                                NULL);
}

/* With a spread, idle connections may be many for long, while requests end and ask for looks. */
static bool wants_idle_look(struct loop *loop, uint64_t now_ns)
{
    uint64_t every_ns = loop->release_spread_ns / IDLE_LOOKS;

    if (every_ns > IDLE_LOOK_MOST_NS)
        every_ns = IDLE_LOOK_MOST_NS;
    if (!loop->released || now_ns - loop->idle_looked_ns < every_ns)
        return false;
    loop->idle_looked_ns = now_ns;
    return true;
}

static void look(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, letgo_timer);
    uint64_t now_ns = clock_now_ns();

    bool soon = loop->handing && pass_idle(loop);
    if (loop->draining || loop->released)
        note_all_received(loop, now_ns);
    if (wants_idle_look(loop, now_ns)) {
        (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, release_if_idle,
                                                                    NULL);
        release_silent(loop);
    }
    soon |= loop->draining && advance_all(loop, now_ns);
    /* The slow look finds what tells nobody: a stream that was reset while it sent its body, a
     * connection that has only now turned into HTTP/2. */
    if (!h2o_timeout_is_linked(entry))
        loop_tick(loop, soon ? TICK_1_MS : TICK_10_MS, entry);
}

void letgo_look_soon(struct loop *loop)
{
    assert_owner(loop);
    if (loop->frozen || !(loop->draining || loop->released || loop->handing))
        return;
    loop->letgo_timer.cb = look;
    h2o_timeout_unlink(&loop->letgo_timer);
    h2o_timeout_link(loop->evloop, &loop->ctx.zero_timeout, &loop->letgo_timer);
}

void letgo_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->letgo_timer);
}

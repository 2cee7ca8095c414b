#include "idle_close_h2.h"

#include "clock.h"
#include "conn.h"
#include "goaway.h"
#include "idle.h"
#include "idle_close_h1.h"
#include "idle_close_turn.h"
#include "listener.h"
#include "server_state.h"
#include "tls.h"
#include "given_up.h"

/* Idle close of HTTP/2. See idle_close.c. */

#define ROUND_TRIP_MIN_NS (1 * NS_PER_MS)

/* Mark the connections on which a request is still arriving. */
static int mark_receiving(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && req->timestamps.request_begin_at.tv_sec != 0 &&
        req->processed_at.at.tv_sec == 0)
        conn->h2.receiving = true;
    return 0;
}

/* http2-graceful-shutdown-timeout may be shorter than the deadline. */
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
    bool receiving = conn->h2.receiving || h2->_headers_unparsed != NULL;
    conn->h2.receiving = false; /* marked anew at each look */
    if (is_out_of_patience(conn->loop, now_ns)) {
        given_up_conn(conn, "http2-graceful-shutdown-timeout");
        conn_cut(conn);
        return false;
    }
    if (h2->state != H2O_HTTP2_CONN_STATE_OPEN)
        return false;
    if (conn->h2.stage == H2_STAGE_OPEN &&
        !is_its_turn(conn, conn->loop->draining_since_ns, conn->loop->idle_close.h2_spread_ns,
                     now_ns))
        return false; /* served as before; the slow look will see it again */
    if (conn->ssl != NULL && tls_is_mid_record(conn->ssl))
        return false;
    if (!h2_has_begun(h2)) {
        if (conn->loop->released && h1_is_grace_over(conn))
            goaway_end(h2, conn);
        return false;
    }
    if (h2->sock->input->size != 0) /* half a frame, or half a preface */
        return false;
    if (conn->h2.stage == H2_STAGE_OPEN)
        goaway_announce(h2, conn);
    if (h2->_write.buf->size != 0 || h2->_write.buf_in_flight != NULL)
        return true; /* the first GOAWAY, or something after it, is not written yet */
    if (conn->h2.last_due_ns == 0)
        conn->h2.last_due_ns = now_ns + round_trip_ns(h2, conn);
    if (now_ns < conn->h2.last_due_ns)
        return true;
    if (!receiving && h2->num_streams.pull.half_closed + h2->num_streams.push.half_closed == 0)
        goaway_last(h2, conn, 0);
    return false;
}

bool idle_close_h2(struct loop *loop, uint64_t now_ns)
{
    h2o_linklist_t *all = &loop->ctx.http2._conns;
    bool soon = false;

    (void)loop->ctx.globalconf->http2.callbacks.foreach_request(&loop->ctx, mark_receiving, NULL);
    for (h2o_linklist_t *node = all->next; node != all; node = node->next)
        soon |= advance(container_of(node, h2o_http2_conn_t, _conns), now_ns);
    return soon;
}

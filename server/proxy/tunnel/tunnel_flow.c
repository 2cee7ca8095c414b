#include "tunnel_p.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "library.h"
#include "loop.h"

/* One direction of a tunnel. */

/* In one turn of the loop; other connections wait meanwhile. */
#define TURN_MOST ((size_t)256 * 1024)

/* Returns false if that ended the tunnel. */
static bool pump(struct tunnel_flow *flow);

/* ---- memory ---- */

void flow_take_buffer(struct tunnel_flow *flow)
{
    if (flow->buffer == NULL)
        flow->buffer = proxy_loop_take_buffer(flow->tunnel->proxy);
}

void flow_drop_buffer(struct tunnel_flow *flow)
{
    if (flow->buffer != NULL)
        proxy_loop_give_buffer(flow->tunnel->proxy, flow->buffer);
    flow->buffer = NULL;
    flow->in_flight = 0;
}

/* ---- polling ---- */

static void on_readable(h2o_socket_t *sock, const char *error)
{
    struct tunnel *tunnel = sock->data;
    struct tunnel_flow *flow = &tunnel->flows[sock == tunnel->upstream ? TO_CLIENT : TO_UPSTREAM];

    flow->turn_bytes = 0;
    if (error != NULL)
        flow->read_error = error;
    (void)pump(flow);
}

/* Of a plain socket we read ourselves, so that no more is read than there is room for. */
static void start_polling(struct tunnel_flow *flow)
{
    h2o_socket_dont_read(flow->from, flow->from->ssl == NULL);
    library.h2o_socket_read_start(flow->from, on_readable);
}

static void stop_polling(struct tunnel_flow *flow)
{
    h2o_socket_read_stop(flow->from);
}

/* ---- reading ---- */

/* Over TLS the library has read; of a plain socket, what came with the request. */
static size_t take_input(struct tunnel_flow *flow, size_t room)
{
    h2o_socket_t *sock = flow->from;
    size_t taken = sock->input->size < room ? sock->input->size : room;

    if (taken == 0)
        return 0;
    memcpy(flow->buffer, sock->input->bytes, taken);
    h2o_buffer_consume(&sock->input, taken);
    return taken;
}

/* TLS: has close_notify come, which ends this direction also if the connection stays? libh2o does
 * not tell, nor does it read what comes after it. */
static bool was_closed(const struct tunnel_flow *flow)
{
    const struct tunnel *tunnel = flow->tunnel;

    if (flow->from == tunnel->upstream)
        return tunnel->upstream_was_closed;
    return tunnel->client->ssl != NULL &&
           (SSL_get_shutdown(tunnel->client->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* TLS: all that the library has read is taken. An end of the connection without close_notify may be
 * the work of another (RFC 8446 section 6.1). A WebSocket has frames that show what is missing. */
static ssize_t end_of_tls(const struct tunnel_flow *flow)
{
    if (was_closed(flow))
        return 0;
    if (flow->read_error == NULL)
        return -EAGAIN;
    return flow->read_error == h2o_socket_error_closed && flow->tunnel->has_frames ? 0 : -EIO;
}

/* Returns how many bytes; 0: the end; a negative errno; -EAGAIN: none yet. */
static ssize_t take(struct tunnel_flow *flow, size_t room)
{
    size_t taken = take_input(flow, room);
    ssize_t n;

    if (taken > 0)
        return (ssize_t)taken;
    if (flow->from->ssl != NULL)
        return end_of_tls(flow);
    do
        n = recv(h2o_socket_get_fd(flow->from), flow->buffer, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* ---- the end ---- */

/* `to` has all, and gets its end. TLS has no half of a connection in libh2o: the tunnel ends with
 * what is in flight the other way. */
static bool pass_on_end(struct tunnel_flow *flow)
{
    flow->is_over = true;
    if (flow->to->ssl == NULL)
        (void)shutdown(h2o_socket_get_fd(flow->to), SHUT_WR);
    else
        flow->tunnel->ends_when_written = true;
    tunnel_note_traffic(flow->tunnel);
    return tunnel_flow_is_over(flow->tunnel);
}

static struct tunnel_flow *opposite(const struct tunnel_flow *flow)
{
    return &flow->tunnel->flows[flow == flow->tunnel->flows ? TO_CLIENT : TO_UPSTREAM];
}

/* A reset that a write meets first looks like an end to the reads after it. But an end leaves the
 * connection half open, unless we have ended the other half; and close_notify is an end, whatever
 * the connection does after it. */
static bool was_reset(const struct tunnel_flow *flow)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    if (flow->from_failed || opposite(flow)->is_over || was_closed(flow))
        return flow->from_failed;
    return getsockopt(h2o_socket_get_fd(flow->from), IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state == TCP_CLOSE;
}

/* Returns false if that ended the tunnel. */
static bool ended(struct tunnel_flow *flow, bool in_order)
{
    struct tunnel *tunnel = flow->tunnel;

    in_order = in_order && !was_reset(flow);
    stop_polling(flow);
    flow->has_ended = true;
    if (farewell_say_at_end(flow))
        return true;
    flow_drop_buffer(flow);
    if (!in_order) {
        tunnel_end(tunnel, TUNNEL_BROKEN);
        return false;
    }
    return farewell_go_on(tunnel) && pass_on_end(flow);
}

/* `to` takes no more. What it has sent before is still passed on. */
static void write_failed(struct tunnel_flow *flow)
{
    struct tunnel *tunnel = flow->tunnel;
    struct tunnel_flow *back = opposite(flow);

    stop_polling(flow);
    flow_drop_buffer(flow);
    flow->has_ended = flow->is_over = true;
    back->from_failed = true;
    if (back->is_over) {
        tunnel_end(tunnel, TUNNEL_BROKEN);
        return;
    }
    tunnel_note_traffic(tunnel); /* half of it has ended */
    if (back->in_flight == 0 && !back->has_ended)
        (void)pump(back);
}

/* ---- passing on ---- */

static void on_written(h2o_socket_t *sock, const char *error)
{
    struct tunnel *tunnel = sock->data;
    struct tunnel_flow *flow = &tunnel->flows[sock == tunnel->upstream ? TO_UPSTREAM : TO_CLIENT];

    flow->in_flight = 0;
    tunnel_note_traffic(tunnel);
    if (error != NULL) {
        write_failed(flow);
        return;
    }
    if (tunnel->ends_when_written) {
        (void)tunnel_flow_is_over(tunnel);
        return;
    }
    if (farewell_say_if_due(flow) || !farewell_go_on(tunnel))
        return;
    if (flow->has_ended) {
        flow_drop_buffer(flow);
        (void)pass_on_end(flow);
        return;
    }
    /* The kernel need not be asked whether there is more. */
    if (flow->from->ssl != NULL || flow->from->input->size > 0 ||
        (flow->was_full && flow->turn_bytes < TURN_MOST)) {
        (void)pump(flow);
        return;
    }
    flow_drop_buffer(flow);
    start_polling(flow);
}

void flow_write(struct tunnel_flow *flow, size_t size)
{
    h2o_iovec_t bytes = h2o_iovec_init(flow->buffer, size);

    stop_polling(flow);
    flow->in_flight = size;
    h2o_socket_write(flow->to, &bytes, 1, on_written);
}

/* Read, and pass on; or wait. */
static bool pump(struct tunnel_flow *flow)
{
    size_t room = FLOW_BUFFER - WEBSOCKET_CLOSE_MAX;

    if (flow->in_flight > 0 || flow->has_ended)
        return true;
    flow_take_buffer(flow);
    for (;;) {
        ssize_t n = take(flow, room);
        if (n == -EAGAIN)
            break;
        if (n <= 0)
            return ended(flow, n == 0);
        flow->was_full = n == (ssize_t)room;
        flow->turn_bytes += (size_t)n;
        tunnel_note_traffic(flow->tunnel);
        size_t size = farewell_filter(flow, (size_t)n);
        if (size > 0) {
            flow_write(flow, size);
            return true;
        }
        /* It was dropped: a Close frame has gone before it. */
        if (!farewell_go_on(flow->tunnel))
            return false;
        if (flow->from->ssl == NULL && flow->turn_bytes >= TURN_MOST)
            break;
    }
    flow_drop_buffer(flow);
    start_polling(flow);
    return true;
}

bool flow_open(struct tunnel_flow *flow)
{
    if (flow->from->input->size > 0 || was_closed(flow))
        return pump(flow);
    start_polling(flow);
    return true;
}

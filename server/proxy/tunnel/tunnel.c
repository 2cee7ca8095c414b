#include "tunnel_p.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "loop.h"
#include "proxied_head.h"
#include "upstream_tls.h"

/* An upgraded connection: after 101 the bytes go from one side to the other, as they are. */

/* A WebSocket of which one side has ended. It has no use for half a connection (RFC 6455 section
 * 7.1.1), so the other side has this long for what it still sends. */
#define HALF_MS 1000

/* ---- time ---- */

static void link_idle(struct tunnel *tunnel, uint64_t ms)
{
    h2o_timeout_link(tunnel->proxy->loop->evloop, proxy_loop_timers(tunnel->proxy, ms),
                     &tunnel->idle_timer);
}

static void on_idle(h2o_timeout_entry_t *timer)
{
    struct tunnel *tunnel = container_of(timer, struct tunnel, idle_timer);
    bool half = tunnel->flows[TO_UPSTREAM].has_ended || tunnel->flows[TO_CLIENT].has_ended;

    /* It is not silent, if one side has bytes and the other does not take them. */
    if (half && tunnel->has_frames && !tunnel->is_blocked && tunnel->idle_ms > HALF_MS &&
        (tunnel->flows[TO_UPSTREAM].in_flight > 0 || tunnel->flows[TO_CLIENT].in_flight > 0)) {
        tunnel->is_blocked = true;
        link_idle(tunnel, tunnel->idle_ms - HALF_MS);
        return;
    }
    count_add(&tunnel->proxy->loop->metrics
                   .tunnels_ended[half && tunnel->has_frames ? TUNNEL_END_PEER : TUNNEL_END_IDLE],
              1);
    tunnel->leaver.is_counted = true;
    tunnel_end(tunnel, TUNNEL_IN_ORDER);
}

void tunnel_note_traffic(struct tunnel *tunnel)
{
    bool half = tunnel->flows[TO_UPSTREAM].has_ended || tunnel->flows[TO_CLIENT].has_ended;
    uint64_t ms = tunnel->idle_ms;

    if (half && tunnel->has_frames && ms > HALF_MS)
        ms = HALF_MS;
    tunnel->is_blocked = false;
    h2o_timeout_unlink(&tunnel->idle_timer);
    link_idle(tunnel, ms);
}

/* ---- the end ---- */

/* At once: over TLS the library sends a close_notify when it closes, which would be an end in
 * order. */
static void reset_upstream(const struct tunnel *tunnel)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    int fd = h2o_socket_get_fd(tunnel->upstream);

    if (!tunnel->upstream_is_tcp || connect(fd, &nowhere, sizeof(nowhere)) != 0)
        (void)shutdown(fd, SHUT_RDWR);
}

static void close_upstream(const struct tunnel *tunnel)
{
    if (tunnel->counted_at != NULL)
        upstream_end_tunnel(tunnel->counted_at);
    upstream_tls_watch(tunnel->upstream, NULL); /* the socket may live on, to send close_notify */
    h2o_socket_close(tunnel->upstream);
}

static void close_client(struct conn *conn, enum tunnel_how how)
{
    h2o_socket_t *sock = conn->sock;

    conn->tunnel = NULL;
    conn->is_tunnel = false;
    if (how == TUNNEL_IN_ORDER)
        conn_will_close(conn); /* and linger: what the client still sends must not reset it */
    else
        conn_cut(conn);
    sock->data = NULL;
    h2o_socket_close(sock);
}

static void count_end(struct tunnel *tunnel, enum tunnel_how how)
{
    struct loop_metrics *metrics = &tunnel->proxy->loop->metrics;

    count_add(&metrics->tunnels_open, (uint64_t)-1);
    if (how == TUNNEL_CUT || tunnel->leaver.kind->was_told(&tunnel->leaver))
        leaver_count(&tunnel->leaver);
    else if (!tunnel->leaver.is_counted)
        count_add(
            &metrics->tunnels_ended[how == TUNNEL_BROKEN ? TUNNEL_END_BROKEN : TUNNEL_END_PEER], 1);
}

void tunnel_end(struct tunnel *tunnel, enum tunnel_how how)
{
    struct conn *client = tunnel->client;
    bool resets = how != TUNNEL_IN_ORDER && !tunnel->has_frames;

    count_end(tunnel, how);
    leaver_part(&tunnel->leaver);
    h2o_timeout_unlink(&tunnel->idle_timer);
    h2o_timeout_unlink(&tunnel->farewell.timer);
    client->reset_when_cut = resets;
    if (resets)
        reset_upstream(tunnel);
    close_upstream(tunnel);
    close_client(client, how == TUNNEL_BROKEN && !resets ? TUNNEL_IN_ORDER : how);
    for (unsigned i = 0; i < TUNNEL_FLOWS; i++) /* the library writes them no more */
        flow_drop_buffer(&tunnel->flows[i]);
    free(tunnel);
}

bool tunnel_flow_is_over(struct tunnel *tunnel)
{
    const struct tunnel_flow *up = &tunnel->flows[TO_UPSTREAM], *down = &tunnel->flows[TO_CLIENT];

    if (!(up->is_over && down->is_over) &&
        !(tunnel->ends_when_written && up->in_flight == 0 && down->in_flight == 0))
        return true;
    tunnel_end(tunnel, TUNNEL_IN_ORDER);
    return false;
}

/* ---- the beginning ---- */

static void on_upgraded(void *data, h2o_socket_t *sock, size_t request_size)
{
    struct tunnel *tunnel = data;

    if (sock == NULL) { /* the client has gone */
        close_upstream(tunnel);
        free(tunnel);
        return;
    }
    h2o_buffer_consume(&sock->input, request_size);
    tunnel->client = sock->on_close.data;
    tunnel->client->tunnel = &tunnel->leaver;
    tunnel->flows[TO_UPSTREAM].from = tunnel->flows[TO_CLIENT].to = sock;
    sock->data = tunnel->upstream->data = tunnel;
    count_add(&tunnel->proxy->loop->metrics.tunnels_open, 1);
    leaver_join(&tunnel->leaver, &tunnel_leaver, tunnel->client);
    tunnel_note_traffic(tunnel);
    if (flow_open(&tunnel->flows[TO_CLIENT]))
        (void)flow_open(&tunnel->flows[TO_UPSTREAM]);
}

/* What came after the head, and what the library has read of it over TLS: the client gets both with
 * the head. */
static size_t first_words(h2o_req_t *req, struct tunnel *tunnel, const char *bytes, size_t size,
                          h2o_iovec_t bufs[2])
{
    h2o_socket_t *sock = tunnel->upstream;
    size_t count = 0;

    if (size > 0)
        bufs[count++] = h2o_iovec_init(bytes, size);
    if (sock->input->size > 0) {
        bufs[count++] = h2o_strdup(&req->pool, sock->input->bytes, sock->input->size);
        h2o_buffer_consume(&sock->input, sock->input->size);
    }
    for (size_t i = 0; i < count; i++)
        websocket_frames_pass(&tunnel->flows[TO_CLIENT].frames, bufs[i].base, bufs[i].len);
    return count;
}

static struct tunnel *make(const h2o_req_t *req, struct upstream *upstream, h2o_socket_t *sock)
{
    struct tunnel *tunnel = h2o_mem_alloc(sizeof(*tunnel));

    memset(tunnel, 0, sizeof(*tunnel));
    tunnel->proxy = upstream->proxy;
    tunnel->upstream = sock;
    tunnel->upstream_is_tcp = !upstream->target->is_unix;
    tunnel->idle_ms = upstream->settings->websocket_ms;
    tunnel->idle_timer.cb = on_idle;
    if (upstream->is_lasting) {
        tunnel->counted_at = upstream;
        upstream_begin_tunnel(upstream);
    }
    tunnel->has_frames = proxied_asks_for_websocket(req);
    for (unsigned i = 0; i < TUNNEL_FLOWS; i++)
        tunnel->flows[i].tunnel = tunnel;
    tunnel->flows[TO_UPSTREAM].to = tunnel->flows[TO_CLIENT].from = sock;
    return tunnel;
}

void tunnel_begin(h2o_req_t *req, struct upstream *upstream, h2o_socket_t *sock, bool was_closed,
                  const char *bytes, size_t size)
{
    struct tunnel *tunnel = make(req, upstream, sock);
    h2o_iovec_t bufs[2];

    tunnel->upstream_was_closed = was_closed;
    upstream_tls_watch(sock, &tunnel->upstream_was_closed);
    size_t count = first_words(req, tunnel, bytes, size, bufs);

    req->res.content_length = SIZE_MAX; /* it has none (RFC 9110 section 8.6) */
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_UPGRADE, NULL, req->upgrade.base,
                   req->upgrade.len);
    h2o_http1_upgrade(req, bufs, count, on_upgraded, tunnel);
}

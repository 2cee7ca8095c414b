#include "tunnel.h"

#include <stdlib.h>
#include <string.h>

#include "h2o/tunnel.h"
#include "loop.h"

/* WebSocket: after 101 the bytes go from one side to the other, as they are. */

struct tunnel_end {
    struct proxy_loop *proxy;
    h2o_socket_t *upstream;
    uint64_t timeout_ms;
};

static void on_upgraded(void *data, h2o_socket_t *sock, size_t request_size)
{
    struct tunnel_end *end = data;

    if (sock != NULL) {
        h2o_buffer_consume(&sock->input, request_size);
        (void)h2o_tunnel_establish(&end->proxy->loop->ctx, sock, end->upstream,
                                   proxy_loop_timers(end->proxy, end->timeout_ms));
    } else {
        h2o_socket_close(end->upstream);
    }
    free(end);
}

/* What came after the head, and what the library has read of it over TLS: the client gets both with
 * the head. (h2o_tunnel_establish() takes an input that is not empty, but goes on reading into it
 * while it is written.) */
static size_t first_words(h2o_req_t *req, h2o_socket_t *sock, const char *bytes, size_t size,
                          h2o_iovec_t bufs[2])
{
    size_t count = 0;

    if (size > 0)
        bufs[count++] = h2o_iovec_init(bytes, size);
    if (sock->input->size > 0) {
        bufs[count++] = h2o_strdup(&req->pool, sock->input->bytes, sock->input->size);
        h2o_buffer_consume(&sock->input, sock->input->size);
    }
    return count;
}

void tunnel_begin(h2o_req_t *req, const struct upstream *upstream, h2o_socket_t *sock,
                  const char *bytes, size_t size)
{
    struct tunnel_end *end = h2o_mem_alloc(sizeof(*end));
    h2o_iovec_t bufs[2];
    size_t count = first_words(req, sock, bytes, size, bufs);

    *end = (struct tunnel_end){upstream->proxy, sock, upstream->settings->websocket_ms};
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_UPGRADE, NULL, H2O_STRLIT("websocket"));
    h2o_http1_upgrade(req, bufs, count, on_upgraded, end);
}

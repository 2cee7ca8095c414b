#include "forward_p.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "deferred_read.h"
#include "loop.h"
#include "request.h"

/* ---- phases ---- */

void forward_set_phase(struct forward *forward, enum forward_phase phase)
{
    forward->phase = phase;
    forward->phase_ms = loop_patient_ms(forward->upstream->proxy->loop);
}

uint64_t forward_time_ms(const struct forward *forward)
{
    const struct proxy_settings *settings = forward->upstream->settings;

    return forward->phase == FORWARD_WAITING ? settings->first_byte_ms : settings->io_ms;
}

void forward_link_timer(struct forward *forward)
{
    struct proxy_loop *proxy = forward->upstream->proxy;
    uint64_t ms = forward_time_ms(forward);

    if (forward->unsent > 0 && forward_is_large(forward))
        ms = (ms + 3) / 4; /* so often it looks whether the upstream takes the request */
    h2o_timeout_link(proxy->loop->evloop, proxy_loop_timers(proxy, ms), &forward->timer);
}

void forward_set_timer(struct forward *forward)
{
    h2o_timeout_unlink(&forward->timer);
    forward->progress_ms = loop_patient_ms(forward->upstream->proxy->loop);
    forward_link_timer(forward);
}

void forward_leave(struct forward *forward)
{
    if (!forward->is_at_upstream)
        return;
    forward->is_at_upstream = false;
    upstream_end_request(forward->upstream);
}

void forward_let_go(struct forward *forward)
{
    forward_leave(forward);
    leaver_part(&forward->leaver);
    h2o_timeout_unlink(&forward->timer);
    if (forward->dial != NULL)
        dial_cancel(forward->dial);
    forward->dial = NULL;
    if (forward->conn != NULL)
        upstream_conn_close(forward->conn);
    forward->conn = NULL;
}

/* ---- the client, meanwhile ---- */

/* While libh2o waits for the answer to an HTTP/1 request, it does not poll the client's socket. It
 * would take the socket out of epoll and put it back for each request, which are two system calls.
 * So the socket stays polled, and is not read: a pipelined request must stay in the kernel. When
 * something comes, or the client leaves, it is polled no more. */
static void stop_polling(h2o_socket_t *sock)
{
    const struct conn *conn = sock->on_close.data;

    h2o_socket_read_stop(sock);
    h2o_socket_dont_read(sock, !conn->is_tls); /* see deferred_read.c */
}

static bool was_reset(h2o_socket_t *sock)
{
    int error = 0;
    socklen_t len = sizeof(error);

    return getsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
           error != 0;
}

/* A client that has reset its connection gets no answer: the library closes, and disposes of the
 * request. One that has ended its side may still wait for the answer. */
static void on_client(h2o_socket_t *sock, const char *error)
{
    const struct conn *conn = sock->on_close.data;

    (void)error;
    stop_polling(sock);
    if (was_reset(sock))
        conn->deferred_read.cb(sock, h2o_socket_error_closed);
}

static void watch_client(struct forward *forward)
{
    struct inflight *inflight = inflight_of(forward->req);

    if (forward->req->version >= 0x200 || inflight == NULL || inflight->conn->sock == NULL)
        return;
    h2o_socket_dont_read(inflight->conn->sock, 1);
    deferred_read_watch(inflight->conn->sock, on_client);
    forward->watches_client = true;
}

void forward_unwatch_client(struct forward *forward)
{
    if (!forward->watches_client)
        return;
    struct conn *conn = inflight_of(forward->req)->conn;
    forward->watches_client = false;
    if (conn->sock != NULL)
        stop_polling(conn->sock);
}

/* ---- the request ---- */

static void send_more(struct forward *forward);

static void on_written(h2o_socket_t *sock, const char *error)
{
    struct forward *forward = ((struct upstream_conn *)sock->data)->user;

    if (error != NULL) {
        /* An upstream may answer early and close: its answer is still to be read. */
        forward->has_write_failed = true;
        forward_read(forward);
        return;
    }
    if (forward->sent < forward->head.len + forward->req->entity.len) {
        send_more(forward);
        return;
    }
    forward->is_sent = true;
    if (forward->phase == FORWARD_SENDING) {
        forward_set_phase(forward, FORWARD_WAITING);
        forward_set_timer(forward);
    }
}

static void send_more(struct forward *forward)
{
    h2o_iovec_t bufs[1 + FORWARD_BUFS_MAX];
    size_t count = 0, body = forward->req->entity.len;

    if (forward->sent == 0) {
        bufs[count++] = forward->head;
        forward->sent = forward->head.len;
    }
    size_t from = forward->sent - forward->head.len;
    size_t piece = body - from < FORWARD_PIECE ? body - from : FORWARD_PIECE;
    count += forward->protocol->frame(forward, from, piece, bufs + count);
    forward->sent += piece;
    h2o_socket_write(forward->conn->sock, bufs, count, on_written); /* which comes later */
    forward->unsent = forward_is_large(forward) ? forward_unsent(forward)
                                                : (int)forward->sent; /* at most all of it */
    if (forward->phase == FORWARD_SENDING)
        forward_set_timer(forward);
}

static void use(struct forward *forward, struct upstream_conn *conn)
{
    forward->conn = conn;
    conn->user = forward;
    conn->on_readable = forward_on_readable;
    forward->sent = 0;
    forward->unsent = 0;
    forward->written_before = conn->sock->bytes_written;
    forward->is_sent = forward->has_write_failed = forward->has_bytes = false;
    forward->read_error = NULL;
    forward_set_phase(forward, FORWARD_SENDING);
    send_more(forward);
}

static void on_dialled(void *data, h2o_socket_t *sock, enum upstream_failure failure,
                       const char *what)
{
    struct forward *forward = data;

    forward->dial = NULL;
    if (sock == NULL) {
        forward_fail(forward, failure, what);
        return;
    }
    upstream_note_connect(forward->upstream,
                          loop_patient_ms(forward->upstream->proxy->loop) - forward->phase_ms);
    use(forward, upstream_take_new(forward->upstream, sock));
}

static bool is_safe_to_repeat(const h2o_req_t *req)
{
    return h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")) ||
           h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));
}

void forward_connect(struct forward *forward, bool fresh)
{
    bool be_sure = forward->protocol->looks_first || !is_safe_to_repeat(forward->req);
    struct upstream_conn *conn = fresh ? NULL : upstream_take_kept(forward->upstream, be_sure);

    if (conn != NULL) {
        use(forward, conn);
        return;
    }
    forward_set_phase(forward, FORWARD_CONNECTING);
    forward->dial = dial_begin(forward->upstream, on_dialled, forward);
}

/* ---- life ---- */

/* The client is gone, or another answer takes the place of this one. */
static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    struct forward *forward = container_of(generator, struct forward, super);

    (void)req;
    forward->phase = FORWARD_OVER;
    forward_let_go(forward);
}

static void on_dispose(void *data)
{
    struct forward *forward = data;

    /* Its client may have taken no bytes since, and was cut. */
    if (forward->was_ended_here && inflight_is_answered(inflight_of(forward->req)))
        count_add(&forward->upstream->proxy->loop->counts.streams_ended, 1);
    forward_let_go(forward);
    if (forward->buffer != NULL)
        forward_give_back(forward);
}

static void begin(h2o_req_t *req, struct upstream *upstream, bool was_sent_again)
{
    struct forward *forward = h2o_mem_alloc_shared(&req->pool, sizeof(*forward), on_dispose);

    memset(forward, 0, sizeof(*forward));
    forward->super = (h2o_generator_t){forward_proceed, on_stop};
    forward->req = req;
    forward->upstream = upstream;
    forward->protocol = upstream->settings->fcgi != NULL ? &forward_fcgi : &forward_http;
    forward->timer.cb = forward_on_timer;
    forward->is_at_upstream = true;
    upstream_begin_request(upstream);
    forward->protocol->begin(forward);
    watch_client(forward);
    forward->was_sent_again = was_sent_again;
    forward_connect(forward, was_sent_again);
}

void forward_begin(h2o_req_t *req, struct upstream *upstream)
{
    begin(req, upstream, false);
}

void forward_begin_again(h2o_req_t *req, struct upstream *upstream)
{
    begin(req, upstream, true);
}

#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "places.h"
#include "clock.h"
#include "listener.h"
#include "log.h"
#include "server_state.h"

/* A connection from accept to close. What the files above this one have to do then, they do in
 * hooks (loop.h). */

/* A client sends what was dropped a second time after its round trip and four times that trip's
 * spread, which it takes for half of it at first, and no sooner than 200 ms (Linux) or 300 ms. */
#define RESENT_WITHIN_NS (400 * NS_PER_MS)

/* libh2o has closed the socket, whatever the reason. */
static void on_close(void *data)
{
    struct conn *conn = data;
    const struct loop_hooks *hooks = conn->loop->hooks;

    conn->sock = NULL;
    if (conn->handshake_begun && conn->ssl == NULL)
        count_add(&conn->loop->metrics.handshakes_failed, 1);
    hooks->conn_closed(conn);
    if (conn->linger.fd >= 0 && !conn->given_up) {
        hooks->conn_linger(conn);
        return;
    }
    if (conn->linger.fd >= 0)
        (void)close(conn->linger.fd);
    conn_gone(conn);
}

/* Multiples of the golden ratio: however many connections are left in the end, their shares lie
 * evenly, and loops do not fall into step. */
static uint32_t share_of(struct loop *loop)
{
    uint64_t n = count_get(&loop->counts.accepted) + ((uint64_t)loop->index << 32);
    return (uint32_t)(n * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

void conn_lift_hops(struct conn *conn)
{
    bool had_limit;
    int fd = h2o_socket_get_fd(conn->sock);

    int err = listener_lift_hops(conn->listener, fd, &had_limit);
    if (err != 0)
        log_line(LOG_LEVEL_WARN, "limit-stays", NULL,
                 "cannot lift the hop limit of a connection to %s: %s (its client is not heard)",
                 conn->listener->name, strerrordesc_np(-err));
    if (had_limit)
        conn->silent_until_ns =
            loop_now_ns(conn->loop) + RESENT_WITHIN_NS + 4 * listener_peer_rtt_ns(fd);
}

void conn_open(struct loop_listener *from, h2o_socket_t *sock)
{
    struct loop *loop = from->loop;

    assert_owner(loop);
    struct conn *conn = h2o_mem_alloc(sizeof(*conn));

    memset(conn, 0, sizeof(*conn));
    conn->loop = loop;
    conn->sock = sock;
    conn->listener = from->listener;
    conn->is_tcp = from->listener->family != AF_UNIX;
    conn->is_tls = from->listener->tls != NULL;
    conn->expects_proxy_line = from->listener->expects_proxy_line;
    conn->deferred_read.defers =
        loop->server->config.journal_hold && loop->record.part != NULL && !conn->is_tls;
    conn->linger.fd = -1;
    conn->idle_since_ns = loop_now_ns(loop);
    conn->share = share_of(loop);
    h2o_linklist_insert(&loop->conns, &conn->link);
    count_add(&loop->counts.accepted, 1);
    count_add(&loop->counts.connections, 1);
    sock->on_close.cb = on_close;
    sock->on_close.data = conn;
    if (loop->closing.begun || listener_may_have_limited(from->listener))
        conn_lift_hops(conn);
    loop->hooks->conn_opened(conn);
    h2o_accept(&from->accept_ctx, sock);
}

struct conn *conn_of_socket(const h2o_socket_t *sock)
{
    return sock->on_close.cb == on_close ? sock->on_close.data : NULL;
}

static void note_handshake(struct conn *conn, SSL *done)
{
    assert_owner(conn->loop);
    conn->handshake_begun = true;
    if (done == NULL)
        return;
    if (conn->ssl == NULL) /* TLS 1.2 may do it again */
        count_add(&conn->loop->metrics.handshakes_done, 1);
    conn->ssl = done;
    conn->idle_since_ns = loop_now_ns(conn->loop);
}

/* A handshake begins, with the first bytes, or is over, and its client may send a request. The
 * library keeps its socket in the BIO. */
static void on_tls_info(const SSL *ssl, int where, int ret)
{
    (void)ret;
    if ((where & (SSL_CB_HANDSHAKE_START | SSL_CB_HANDSHAKE_DONE)) == 0)
        return;
    h2o_socket_t *sock = BIO_get_data(SSL_get_rbio(ssl));
    bool done = (where & SSL_CB_HANDSHAKE_DONE) != 0;
    note_handshake(sock->on_close.data, done ? (SSL *)(uintptr_t)ssl : NULL);
}

void conn_watch_handshakes(SSL_CTX *ctx, void *unused)
{
    (void)unused;
    SSL_CTX_set_info_callback(ctx, on_tls_info);
}

struct conn *conn_of(h2o_req_t *req)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    return sock != NULL ? sock->on_close.data : NULL;
}

void conn_will_close(struct conn *conn)
{
    /* libh2o calls on_close after close(2), when it is too late to linger: so a second descriptor
     * now. Without one (EMFILE) the close is as hard as libh2o's own. */
    if (conn->linger.fd < 0 && conn->sock != NULL)
        conn->linger.fd = fcntl(h2o_socket_get_fd(conn->sock), F_DUPFD_CLOEXEC, 0);
}

void conn_gone(struct conn *conn)
{
    struct loop *loop = conn->loop;

    if (conn->gave_way)
        count_add(&loop->metrics.gave_way, 1);
    else if (conn->idle_released)
        count_add(&loop->counts.idle_released, 1);
    if (conn->handed_over)
        count_add(&loop->counts.handed_over, 1);
    h2o_linklist_unlink(&conn->link);
    pool_share_release(loop->server->pool, conn->share_of_pool);
    if (!conn->given_up)
        count_add(&loop->counts.connections, (uint64_t)-1);
    free(conn);
    places_give_back(loop);
    loop_note_change(loop);
}

bool conn_discard_input(int fd, bool *ret_any)
{
    char waste[4096];

    *ret_any = false;
    for (unsigned i = 0; i < 16; i++) {
        ssize_t n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n < 0)
            return true;
        *ret_any = true;
    }
    return true;
}

void conn_cut(struct conn *conn)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    bool any;

    if (conn->sock == NULL) {
        conn->loop->hooks->conn_stop_lingering(conn);
        return;
    }
    int fd = h2o_socket_get_fd(conn->sock);
    /* connect(2) to AF_UNSPEC resets a TCP connection: a peer that reads until the end of file must
     * not take half an answer for a whole one. For everyone else an end of file is better: it
     * leaves them what the kernel has taken, such as whole answers that they have not read yet. */
    if (conn->reset_when_cut && conn->is_tcp && connect(fd, &nowhere, sizeof(nowhere)) == 0)
        return;
    (void)shutdown(fd, SHUT_RDWR);
    (void)conn_discard_input(fd, &any); /* unread input would turn the close into a reset */
}

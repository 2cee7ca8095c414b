#include "server_p.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Limit note. `open_connections` is one counter for all loops: a connection is rare enough, beside
 * a request, to pay for a shared cache line. A loop that finds the limit reached stops accepting
 * and must be woken when a connection of any loop ends. Both sides do two things in opposite order:
 *
 *     pausing loop:   some_loop_paused = true;   look at open_connections again
 *     closing loop:   open_connections -= 1;     look at some_loop_paused
 *
 * With sequentially consistent atomics at least one of the two sees the other's write: either the
 * pausing loop sees the free place and does not pause, or the closing loop sees the pause and wakes
 * everyone. */

static bool below_limit(struct server *server)
{
    return atomic_load(&server->open_connections) < server->max_connections;
}

bool conn_admit(struct loop *loop)
{
    struct server *server = loop->server;

    /* A closing listener is accepted dry, limit or not: those connections exist already. */
    if (loop->closing || atomic_fetch_add(&server->open_connections, 1) < server->max_connections) {
        if (loop->closing)
            atomic_fetch_add(&server->open_connections, 1);
        return true;
    }
    atomic_fetch_sub(&server->open_connections, 1);
    loop->accept_paused = true;
    atomic_store(&server->some_loop_paused, true);
    if (below_limit(server)) /* see limit note */
        loop_order(loop, ORDER_RESUME_ACCEPT);
    return false;
}

void conn_unadmit(struct loop *loop)
{
    struct server *server = loop->server;

    atomic_fetch_sub(&server->open_connections, 1);
    if (atomic_load(&server->some_loop_paused) && below_limit(server)) { /* see limit note */
        atomic_store(&server->some_loop_paused, false);
        for (unsigned i = 0; i < server->options->threads; i++)
            loop_order(&server->loops[i], ORDER_RESUME_ACCEPT);
    }
}

/* libh2o has closed the socket, whatever the reason. */
static void on_close(void *data)
{
    struct conn *conn = data;

    conn->sock = NULL;
    farewell_end(conn);
    if (conn->handshake_begun && conn->ssl == NULL)
        count_add(&conn->loop->metrics.handshakes_failed, 1);
    if (conn->loop->peeking == conn)
        conn->loop->peeking = NULL;
    if (conn->linger_fd >= 0 && !conn->given_up) {
        linger_begin(conn);
        return;
    }
    if (conn->linger_fd >= 0)
        (void)close(conn->linger_fd);
    conn_gone(conn);
}

/* Multiples of the golden ratio: however many connections are left in the end, their shares lie
 * evenly, and loops do not fall into step. */
static uint32_t share_of(struct loop *loop)
{
    uint64_t n = count_get(&loop->counts.accepted) + ((uint64_t)loop->index << 32);
    return (uint32_t)(n * UINT64_C(0x9e3779b97f4a7c15) >> 32);
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
    conn->peeks = loop->server->options->journal_hold && loop->journal != NULL && !conn->is_tls;
    conn->linger_fd = -1;
    conn->idle_since_ns = loop_now_ns(loop);
    conn->share = share_of(loop);
    h2o_linklist_insert(&loop->conns, &conn->link);
    count_add(&loop->counts.accepted, 1);
    count_add(&loop->counts.connections, 1);
    sock->on_close.cb = on_close;
    sock->on_close.data = conn;
    listener_spare_connection(from->listener, h2o_socket_get_fd(sock));
    h2o_accept(&from->accept_ctx, sock);
}

struct conn *conn_of_socket(const h2o_socket_t *sock)
{
    return sock->on_close.cb == on_close ? sock->on_close.data : NULL;
}

struct conn *conn_that_peeks(const h2o_socket_t *sock)
{
    struct conn *conn = conn_of_socket(sock);
    return conn != NULL && conn->peeks ? conn : NULL;
}

void conn_shakes_hands(struct conn *conn, SSL *ssl)
{
    assert_owner(conn->loop);
    conn->handshake_begun = true;
    if (ssl == NULL)
        return;
    if (conn->ssl == NULL) /* TLS 1.2 may do it again */
        count_add(&conn->loop->metrics.handshakes_done, 1);
    conn->ssl = ssl;
    conn->idle_since_ns = loop_now_ns(conn->loop);
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
    if (conn->linger_fd < 0 && conn->sock != NULL)
        conn->linger_fd = dup(h2o_socket_get_fd(conn->sock));
}

void conn_gone(struct conn *conn)
{
    struct loop *loop = conn->loop;

    if (conn->idle_released)
        count_add(&loop->counts.idle_released, 1);
    if (conn->handed_over)
        count_add(&loop->counts.handed_over, 1);
    h2o_linklist_unlink(&conn->link);
    if (!conn->given_up)
        count_add(&loop->counts.connections, (uint64_t)-1);
    free(conn);
    conn_unadmit(loop);
    loop_note_change(loop);
}

void conn_cut(struct conn *conn)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    bool any;

    if (conn->sock == NULL) {
        linger_end(conn);
        return;
    }
    int fd = h2o_socket_get_fd(conn->sock);
    /* connect(2) to AF_UNSPEC resets a TCP connection: a peer that reads until the end of file must
     * not take half an answer for a whole one. For everyone else an end of file is better: it
     * leaves them what the kernel has taken, such as whole answers that they have not read yet. */
    if (conn->reset_when_cut && conn->is_tcp && connect(fd, &nowhere, sizeof(nowhere)) == 0)
        return;
    (void)shutdown(fd, SHUT_RDWR);
    (void)linger_discard(fd, &any); /* unread input would turn the close into a reset */
}

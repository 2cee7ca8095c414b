#include "server_p.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

/* How connections that idle go on in a successor: their descriptors travel over a socket that all
 * loops of both processes share. A message has a handful of them, and which listener each came in
 * by.
 *
 * What a client sends meanwhile is read by exactly one of the two. The loop that owns a connection
 * passes it on between two reads, and only when nothing that was read is left: from sendmsg(2) on
 * it is the successor's, and the loop drops its side, without shutdown(2), before it comes to read
 * again. Bytes that the kernel has and nobody has read travel with the descriptor.
 *
 * A successor that takes them too slowly fills the socket; then they wait here, still served, and
 * answered with `Connection: close` if they speak. One that drains itself shuts its end for reading
 * first, so that nothing can get on the way any more, and takes what is on the way
 * (close_listeners, loop.c); here that is an EPIPE, and the connections end as in any drain. */

#define BATCH HANDOVER_FDS_MAX
#define BATCHES_A_TURN 8 /* requests in flight wait for this long */

struct batch {
    struct loop *loop;
    struct conn *conns[BATCH];
    uint64_t came_by[BATCH];
    size_t count;
};

bool pass_wants(const struct conn *conn, h2o_req_t *req)
{
    return conn->loop->handing && conn->sock != NULL && conn->listener->welcomed &&
           !conn->idle_released && conn->linger_fd < 0 && conn->active == 0 &&
           conn->sock->ssl == NULL && conn->sock->_cb.read != NULL &&
           !h2o_socket_is_writing(conn->sock) && letgo_is_idle(req);
}

static int collect(h2o_req_t *req, void *data)
{
    struct batch *batch = data;
    struct conn *conn = conn_of(req);

    if (conn != NULL && pass_wants(conn, req)) {
        batch->came_by[batch->count] = conn->listener->id;
        batch->conns[batch->count++] = conn;
    }
    return batch->count == BATCH;
}

static int send_batch(const struct batch *batch)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_CONNS);
    handover_put(&message, HANDOVER_CAME_BY, batch->came_by,
                 batch->count * sizeof(batch->came_by[0]));
    for (size_t i = 0; i < batch->count; i++)
        handover_put_fd(&message, h2o_socket_get_fd(batch->conns[i]->sock));
    return handover_send(batch->loop->server->successor.conns_fd, &message);
}

/* The library closes its descriptor, and takes it out of epoll(7) first; the connection itself goes
 * on, since the successor has another one. */
static void forget(struct conn *conn)
{
    conn->handed_over = true;
    conn->sock->_cb.read(conn->sock, h2o_socket_error_closed);
}

bool pass_idle(struct loop *loop)
{
    assert_owner(loop);
    for (unsigned i = 0; i < BATCHES_A_TURN; i++) {
        struct batch batch = {.loop = loop};
        (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, collect, &batch);
        if (batch.count == 0)
            return false;
        int err = send_batch(&batch);
        if (err == -EAGAIN)
            return true;
        if (err != 0) {
            loop->handing = false;
            log_line(LOG_LEVEL_INFO, "pass-ended", NULL,
                     "loop %u: the successor takes no more connections: %s", loop->index,
                     strerrordesc_np(-err));
            return false;
        }
        for (size_t j = 0; j < batch.count; j++)
            forget(batch.conns[j]);
        if (batch.count < BATCH)
            return false;
    }
    return true;
}

/* ---- as the successor ---- */

static struct loop_listener *listener_of(struct loop *loop, uint64_t id)
{
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        if (loop->server->listeners.items[i].id == id)
            return &loop->listeners[i];
    return NULL;
}

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t length = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

static void take_all(struct loop *loop, struct handover_message *message)
{
    uint64_t came_by[BATCH];
    size_t ids = handover_get_ids(message, HANDOVER_CAME_BY, came_by, BATCH);

    for (size_t i = 0; i < message->fd_count; i++) {
        struct loop_listener *from = i < ids ? listener_of(loop, came_by[i]) : NULL;
        if (from == NULL || from->listener->tls != NULL || !is_stream(message->fds[i]))
            continue; /* closed below */
        /* It was open before, and is not turned away by a limit: see has_room(). */
        atomic_fetch_add(&loop->server->open_connections, 1);
        conn_open(from, h2o_evloop_socket_create(loop->evloop, handover_take_fd(message, i),
                                                 H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION));
    }
    handover_release(message);
}

/* Beyond the limit they stay where they are. */
static bool has_room(const struct loop *loop)
{
    return atomic_load(&loop->server->open_connections) + BATCH <= loop->server->max_connections;
}

static void on_conns(h2o_socket_t *sock, const char *err);

static void on_retry(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, retry_take_timer);
    h2o_socket_read_start(loop->conns_sock, on_conns);
}

/* Returns false when there are no more to come. */
static bool take_some(struct loop *loop, bool dry)
{
    struct handover_message message;

    for (unsigned i = 0; dry || i < BATCHES_A_TURN; i++) {
        if (!dry && !has_room(loop)) {
            h2o_socket_read_stop(loop->conns_sock);
            loop->retry_take_timer.cb = on_retry;
            if (!h2o_timeout_is_linked(&loop->retry_take_timer))
                loop_tick(loop, TICK_10_MS, &loop->retry_take_timer);
            return true;
        }
        int err = handover_receive(h2o_socket_get_fd(loop->conns_sock), &message);
        if (err == -EAGAIN)
            return true;
        if (err != 0 && err != -EMFILE && err != -EPROTO && err != -EPROTONOSUPPORT)
            return false; /* gone */
        if (err != 0) {
            char why[HANDOVER_WHY_SIZE];
            log_line(LOG_LEVEL_WARN, "take-failed", NULL,
                     "cannot take connections of the predecessor: %s",
                     handover_why(err, &message, why));
            continue;
        }
        if (message.type == HANDOVER_CONNS)
            take_all(loop, &message);
        handover_release(&message);
    }
    return true;
}

static void on_conns(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;

    if (err == NULL && !take_some(loop, false))
        pass_end_taking(loop, false);
}

int pass_begin_taking(struct loop *loop)
{
    if (loop->server->options->conns_fd < 0)
        return 0;
    int fd = fcntl(loop->server->options->conns_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    loop->conns_sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->conns_sock->data = loop;
    h2o_socket_read_start(loop->conns_sock, on_conns);
    return 0;
}

void pass_end_taking(struct loop *loop, bool dry)
{
    if (loop->conns_sock == NULL)
        return;
    if (dry) {
        (void)shutdown(h2o_socket_get_fd(loop->conns_sock), SHUT_RD);
        (void)take_some(loop, true);
    }
    h2o_timeout_unlink(&loop->retry_take_timer);
    h2o_socket_close(loop->conns_sock);
    loop->conns_sock = NULL;
}

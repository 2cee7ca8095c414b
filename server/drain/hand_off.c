#include "hand_off.h"

#include <errno.h>
#include <string.h>

#include "conn.h"
#include "handover.h"
#include "idle.h"
#include "listener.h"
#include "log.h"
#include "server_state.h"

/* How idle connections go on in a successor: their descriptors are sent over a socket that all
 * loops of both processes share. A message holds several descriptors, and for each the identity of
 * the listener that accepted it.
 *
 * What a client sends meanwhile is read by exactly one of the two. The owner loop hands a
 * connection over between two reads, and only when no bytes that it has read are left. From
 * sendmsg(2) on the connection belongs to the successor; the loop closes its own descriptor,
 * without shutdown(2), before it reads again. Bytes that the kernel holds unread go with the
 * descriptor.
 *
 * A successor that takes them too slowly fills the socket. Then they wait here: they are served,
 * and a request is answered with `Connection: close`. A successor that drains shuts down its end
 * for reading, so nothing more can be sent, and takes what is already on the way
 * (close_listeners.c). Here sendmsg(2) then fails with EPIPE, and the connections end as in any
 * drain. */

#define BATCH MESSAGE_FDS_MAX
#define BATCHES_A_TURN 8 /* requests in flight wait meanwhile */

struct batch {
    struct loop *loop;
    struct conn *conns[BATCH];
    uint64_t came_by[BATCH];
    size_t count;
};

bool hand_off_wants(const struct conn *conn, h2o_req_t *req)
{
    return conn->loop->handing && conn->sock != NULL && conn->listener->welcomed &&
           !conn->idle_released && conn->linger.fd < 0 && conn->active == 0 &&
           conn->sock->ssl == NULL && conn->sock->_cb.read != NULL &&
           !h2o_socket_is_writing(conn->sock) && h1_is_idle(req);
}

static int collect(h2o_req_t *req, void *data)
{
    struct batch *batch = data;
    struct conn *conn = conn_of(req);

    if (conn != NULL && hand_off_wants(conn, req)) {
        batch->came_by[batch->count] = conn->listener->id;
        batch->conns[batch->count++] = conn;
    }
    return batch->count == BATCH;
}

static int send_batch(const struct batch *batch)
{
    struct message message;

    handover_begin(&message, HANDOVER_CONNS);
    message_put(&message, HANDOVER_CAME_BY, batch->came_by,
                batch->count * sizeof(batch->came_by[0]));
    for (size_t i = 0; i < batch->count; i++)
        message_put_fd(&message, h2o_socket_get_fd(batch->conns[i]->sock));
    return message_send(batch->loop->server->successor.conns_fd, &message);
}

/* The library takes its descriptor out of epoll(7) and closes it. The connection goes on: the
 * successor has another descriptor. */
static void forget(struct conn *conn)
{
    conn->handed_over = true;
    conn->sock->_cb.read(conn->sock, h2o_socket_error_closed);
}

bool hand_off_idle(struct loop *loop)
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

#include "hand_off_take.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "places.h"
#include "conn.h"
#include "handover.h"
#include "listener.h"
#include "log.h"
#include "server_state.h"

/* The successor's side of hand_off.c. */

#define BATCH MESSAGE_FDS_MAX
#define BATCHES_A_TURN 8 /* requests in flight wait meanwhile */

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

static void take_all(struct loop *loop, struct message *message)
{
    uint64_t came_by[BATCH];
    size_t ids = message_get_numbers(message, HANDOVER_CAME_BY, came_by, BATCH);

    for (size_t i = 0; i < message->fd_count; i++) {
        struct loop_listener *from = i < ids ? listener_of(loop, came_by[i]) : NULL;
        if (from == NULL || from->listener->tls != NULL || !is_stream(message->fds[i]))
            continue; /* closed below */
        places_take_anyway(loop);
        conn_open(from, h2o_evloop_socket_create(loop->evloop, message_take_fd(message, i),
                                                 H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION));
    }
    message_release(message);
}

static void on_conns(h2o_socket_t *sock, const char *err);

static void on_retry(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, hand_off.retry_timer);
    h2o_socket_read_start(loop->hand_off.take_sock, on_conns);
}

/* Returns false when no more will come. */
static bool take_some(struct loop *loop, bool dry)
{
    struct message message;

    for (unsigned i = 0; dry || i < BATCHES_A_TURN; i++) {
        if (!dry && !places_has_room(loop->server, BATCH)) { /* they stay where they are */
            h2o_socket_read_stop(loop->hand_off.take_sock);
            loop->hand_off.retry_timer.cb = on_retry;
            if (!h2o_timeout_is_linked(&loop->hand_off.retry_timer))
                loop_tick(loop, TICK_10_MS, &loop->hand_off.retry_timer);
            return true;
        }
        int err = handover_receive(h2o_socket_get_fd(loop->hand_off.take_sock), &message);
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
        message_release(&message);
    }
    return true;
}

static void on_conns(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;

    if (err == NULL && !take_some(loop, false))
        hand_off_take_end(loop, false);
}

int hand_off_take_begin(struct loop *loop)
{
    if (loop->server->config.conns_fd < 0)
        return 0;
    int fd = fcntl(loop->server->config.conns_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    loop->hand_off.take_sock =
        h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->hand_off.take_sock->data = loop;
    h2o_socket_read_start(loop->hand_off.take_sock, on_conns);
    return 0;
}

void hand_off_take_end(struct loop *loop, bool dry)
{
    if (loop->hand_off.take_sock == NULL)
        return;
    if (dry) {
        (void)shutdown(h2o_socket_get_fd(loop->hand_off.take_sock), SHUT_RD);
        (void)take_some(loop, true);
    }
    h2o_timeout_unlink(&loop->hand_off.retry_timer);
    h2o_socket_close(loop->hand_off.take_sock);
    loop->hand_off.take_sock = NULL;
}

#include "server_p.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Lingering close (RFC 9112 section 9.6). Closing a TCP socket whose peer is still sending makes the
 * kernel answer with a reset, and a reset can overtake the response in the peer's eyes. So we send
 * our FIN, read and discard, and close when nothing can go wrong any more:
 *
 *     the peer has closed too                                           the usual case, at once
 *     or the kernel has sent all of it, and for two round trips nothing has come
 *     or nothing has moved for the linger time                          the peer is gone or stuck
 *
 * The second rule is what lets the process end behind a client that keeps its side open: what it sent
 * before it saw our FIN has arrived by then. Acknowledged it need not be: a peer may delay that by
 * 40 ms and more, and the kernel goes on repeating what is lost after the process is gone. The round
 * trip is the shortest one seen, since the smoothed one contains such delays. */

#define QUIET_MIN_NS (NS_PER_MS / 2)

void linger_end(struct conn *conn)
{
    struct loop *loop = conn->loop;

    h2o_timeout_unlink(&conn->linger_timer);
    if (conn->linger_sock != NULL) {
        conn->linger_sock->on_close.cb = NULL;
        h2o_socket_close(conn->linger_sock); /* closes linger_fd */
    } else {
        (void)close(conn->linger_fd);
    }
    conn->linger_fd = -1;
    count_add(&loop->counts.lingering, (uint64_t)-1);
    conn_gone(conn);
}

static int unsent_bytes(const struct conn *conn)
{
    int unsent = 0;
    /* A Unix-domain peer has everything already, and keeps it after our close. */
    if (conn->is_tcp)
        (void)ioctl(conn->linger_fd, SIOCOUTQNSD, &unsent);
    return unsent;
}

/* Look often while it is fresh, then less: nobody waits for a peer that takes its time. */
static void arm_timer(struct conn *conn, uint64_t now_ns)
{
    struct loop *loop = conn->loop;
    uint64_t age_ns = now_ns - conn->linger_began_ns;
    enum loop_tick tick = age_ns < 20 * NS_PER_MS    ? TICK_1_MS
                          : age_ns < 200 * NS_PER_MS ? TICK_10_MS
                                                     : TICK_100_MS;
    loop_tick(loop, tick, &conn->linger_timer);
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    struct conn *conn = container_of(entry, struct conn, linger_timer);
    uint64_t now_ns = clock_now_ns();
    int unsent = unsent_bytes(conn);

    if (unsent < conn->linger_unsent)
        conn->linger_last_ns = now_ns;
    conn->linger_unsent = unsent;
    uint64_t still_ns = now_ns - conn->linger_last_ns;
    if ((unsent == 0 && still_ns >= conn->linger_quiet_ns) ||
        still_ns >= conn->loop->server->config.linger_ns)
        linger_end(conn);
    else
        arm_timer(conn, now_ns);
}

static void on_input(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->data;

    if (err != NULL) {
        linger_end(conn);
        return;
    }
    h2o_buffer_consume(&sock->input, sock->input->size);
    conn->linger_last_ns = clock_now_ns();
}

/* Discard what is there. Returns false when the peer has closed, or is gone. */
static bool discard_input(int fd)
{
    char waste[4096];
    for (unsigned i = 0; i < 16; i++) {
        ssize_t n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n < 0)
            return true;
    }
    return true;
}

void linger_begin(struct conn *conn)
{
    struct loop *loop = conn->loop;

    assert_owner(loop);
    count_add(&loop->counts.lingering, 1);
    (void)shutdown(conn->linger_fd, SHUT_WR);
    if (loop->frozen || !discard_input(conn->linger_fd)) {
        linger_end(conn);
        return;
    }
    conn->linger_began_ns = conn->linger_last_ns = clock_now_ns();
    conn->linger_quiet_ns = conn->is_tcp ? 2 * listener_peer_min_rtt_ns(conn->linger_fd) : 0;
    if (conn->linger_quiet_ns < QUIET_MIN_NS)
        conn->linger_quiet_ns = QUIET_MIN_NS;
    conn->linger_unsent = unsent_bytes(conn);
    conn->linger_sock = h2o_evloop_socket_create(loop->evloop, conn->linger_fd,
                                                 H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    conn->linger_sock->data = conn;
    h2o_socket_read_start(conn->linger_sock, on_input);
    conn->linger_timer.cb = on_timer;
    arm_timer(conn, conn->linger_began_ns);
}

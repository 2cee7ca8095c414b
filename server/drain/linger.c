#include "linger.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "conn.h"
#include "listener.h"
#include "server_state.h"

/* Lingering close (RFC 9112 section 9.6). Closing a TCP socket whose peer is still sending makes
 * the kernel answer with a reset, and a reset can overtake the response in the peer's eyes. So we
 * send our FIN, read and discard, and close when nothing can go wrong any more:
 *
 *     the peer has closed too                                           the usual case, at once
 *     or the kernel has sent all of it, and for two round trips nothing has come
 *     or the peer has taken nothing for the linger time                 it is gone, or stuck
 *
 * The second rule lets the process end although a client keeps its side open: what the client sent
 * before it saw our FIN has arrived by then. Our bytes need not be acknowledged: a peer may delay
 * the acknowledgement by 40 ms and more, and the kernel retransmits even after the process has
 * ended. The round trip is the shortest one seen, since the smoothed one contains such delays.
 *
 * All times of `linger` are on the loop's patient clock: while the process stood still, nobody
 * could look at what the peer did. */

#define QUIET_MIN_NS (NS_PER_MS / 2)
#define FRESH_LOOK_NS (NS_PER_MS / 2)
#define FRESH_NS (20 * NS_PER_MS)

void linger_end(struct conn *conn)
{
    struct loop *loop = conn->loop;

    h2o_timeout_unlink(&conn->linger.timer);
    fine_clear(&conn->linger.soon);
    if (conn->linger.sock != NULL) {
        conn->linger.sock->on_close.cb = NULL;
        h2o_socket_close(conn->linger.sock); /* closes linger_fd */
    } else {
        (void)close(conn->linger.fd);
    }
    conn->linger.fd = -1;
    count_add(&loop->counts.lingering, (uint64_t)-1);
    conn_gone(conn);
}

static int unsent_bytes(const struct conn *conn)
{
    int unsent = 0;
    /* A Unix-domain peer has all our bytes already, and keeps them after our close. */
    if (conn->is_tcp)
        (void)ioctl(conn->linger.fd, SIOCOUTQNSD, &unsent);
    return unsent;
}

/* The patient time of this moment. loop_patient_ns() is that of the turn, which may have taken
 * longer than a peer has to be quiet. */
static uint64_t patient_now_ns(struct loop *loop)
{
    uint64_t turn_ns = loop_now_ns(loop), now_ns = clock_now_ns();
    return loop_patient_ns(loop) + (now_ns - turn_ns) - clock_stood_ns(turn_ns, now_ns);
}

/* The next look. While bytes are unsent it has to poll, often at first, then less. Without any it
 * waits for the quiet time to be over: that may be the last thing that the process waits for, so
 * the time is exact. Input and the end of file are events. */
static void look_again(struct conn *conn, uint64_t now_ns)
{
    uint64_t age_ns = now_ns - conn->linger.began_ns;
    uint64_t end_ns = conn->linger.progress_ns + conn->loop->server->config.linger_ns;
    uint64_t due_ns = now_ns + FRESH_LOOK_NS;

    if (conn->linger.unsent == 0)
        due_ns = conn->linger.input_ns + conn->linger.quiet_ns;
    if (due_ns > end_ns)
        due_ns = end_ns;
    bool is_soon = age_ns < FRESH_NS && due_ns < now_ns + FRESH_NS;
    if (is_soon) /* fine timers are on the real clock */
        fine_set(conn->loop, &conn->linger.soon, clock_now_ns() + (due_ns - now_ns));
    /* Beside a fine timer, too: the loop learns only from its own timers, when they come late, that
     * the process stood still. */
    h2o_timeout_unlink(&conn->linger.timer);
    loop_tick(conn->loop, is_soon || age_ns >= 200 * NS_PER_MS ? TICK_100_MS : TICK_10_MS,
              &conn->linger.timer);
}

static void look(struct conn *conn)
{
    uint64_t now_ns = patient_now_ns(conn->loop);
    int unsent = unsent_bytes(conn);
    bool any, open = conn_discard_input(conn->linger.fd, &any);

    if (any)
        conn->linger.input_ns = now_ns;
    if (unsent < conn->linger.unsent)
        conn->linger.progress_ns = now_ns;
    conn->linger.unsent = unsent;
    if (!open || (unsent == 0 && now_ns - conn->linger.input_ns >= conn->linger.quiet_ns) ||
        now_ns - conn->linger.progress_ns >= conn->loop->server->config.linger_ns)
        linger_end(conn);
    else
        look_again(conn, now_ns);
}

static void on_soon(struct fine_timer *timer)
{
    look(container_of(timer, struct conn, linger.soon));
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    look(container_of(entry, struct conn, linger.timer));
}

static void on_input(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->data;

    if (err != NULL) {
        linger_end(conn);
        return;
    }
    h2o_buffer_consume(&sock->input, sock->input->size);
    conn->linger.input_ns = patient_now_ns(conn->loop);
}

void linger_begin(struct conn *conn)
{
    struct loop *loop = conn->loop;
    bool any;

    assert_owner(loop);
    count_add(&loop->counts.lingering, 1);
    (void)shutdown(conn->linger.fd, SHUT_WR);
    bool open = conn_discard_input(conn->linger.fd, &any);
    conn->linger.unsent = unsent_bytes(conn);
    /* A client that asked for the close sends nothing more, as a rule. So close at once, unless it
     * has sent something already, or the kernel still has bytes to send to it. */
    if (!open || loop->frozen || (conn->asked_to_close && !any && conn->linger.unsent == 0)) {
        linger_end(conn);
        return;
    }
    conn->linger.began_ns = conn->linger.input_ns = conn->linger.progress_ns = patient_now_ns(loop);
    conn->linger.quiet_ns = conn->is_tcp ? 2 * listener_peer_min_rtt_ns(conn->linger.fd) : 0;
    if (conn->linger.quiet_ns < QUIET_MIN_NS)
        conn->linger.quiet_ns = QUIET_MIN_NS;
    conn->linger.sock = h2o_evloop_socket_create(loop->evloop, conn->linger.fd,
                                                 H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    conn->linger.sock->data = conn;
    h2o_socket_read_start(conn->linger.sock, on_input);
    conn->linger.soon.cb = on_soon;
    conn->linger.timer.cb = on_timer;
    look_again(conn, conn->linger.began_ns);
}

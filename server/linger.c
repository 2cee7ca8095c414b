#include "server_p.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Lingering close (RFC 9112 section 9.6). Closing a TCP socket whose peer is still sending makes
 * the kernel answer with a reset, and a reset can overtake the response in the peer's eyes. So we
 * send our FIN, read and discard, and close when nothing can go wrong any more:
 *
 *     the peer has closed too                                           the usual case, at once
 *     or the kernel has sent all of it, and for two round trips nothing has come
 *     or it has taken nothing for the linger time                       it is gone, or stuck
 *
 * The second rule is what lets the process end behind a client that keeps its side open: what it
 * sent before it saw our FIN has arrived by then. Acknowledged it need not be: a peer may delay
 * that by 40 ms and more, and the kernel goes on repeating what is lost after the process is gone.
 * The round trip is the shortest one seen, since the smoothed one contains such delays. */

#define QUIET_MIN_NS (NS_PER_MS / 2)
#define FRESH_LOOK_NS (NS_PER_MS / 2)

void linger_end(struct conn *conn)
{
    struct loop *loop = conn->loop;

    h2o_timeout_unlink(&conn->linger_timer);
    if (h2o_linklist_is_linked(&conn->linger_link))
        h2o_linklist_unlink(&conn->linger_link);
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

bool linger_discard(int fd, bool *ret_any)
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

static int unsent_bytes(const struct conn *conn)
{
    int unsent = 0;
    /* A Unix-domain peer has everything already, and keeps it after our close. */
    if (conn->is_tcp)
        (void)ioctl(conn->linger_fd, SIOCOUTQNSD, &unsent);
    return unsent;
}

static void look(struct conn *conn);

/* The library's timers count whole milliseconds, and a process that ends would wait up to two of
 * them for its last connection. So the fresh ones share a finer timer of their own. */
static void on_fresh_timer(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;
    uint64_t expirations;
    h2o_linklist_t due;

    if (err != NULL)
        return;
    (void)!read(h2o_socket_get_fd(sock), &expirations, sizeof(expirations));
    h2o_linklist_init_anchor(&due);
    h2o_linklist_insert_list(&due, &loop->lingering_fresh);
    while (!h2o_linklist_is_empty(&due)) {
        struct conn *conn = container_of(due.next, struct conn, linger_link);
        h2o_linklist_unlink(&conn->linger_link);
        look(conn);
    }
}

static void arm_fresh(struct conn *conn)
{
    static const struct itimerspec soon = {.it_value.tv_nsec = FRESH_LOOK_NS};
    struct loop *loop = conn->loop;

    if (loop->linger_sock == NULL) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (fd < 0) { /* no descriptor left: the coarse timer will do */
            loop_tick(loop, TICK_1_MS, &conn->linger_timer);
            return;
        }
        loop->linger_sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
        loop->linger_sock->data = loop;
        h2o_socket_read_start(loop->linger_sock, on_fresh_timer);
    }
    if (h2o_linklist_is_empty(&loop->lingering_fresh))
        (void)timerfd_settime(h2o_socket_get_fd(loop->linger_sock), 0, &soon, NULL);
    h2o_linklist_insert(&loop->lingering_fresh, &conn->linger_link);
}

/* Look often while it is fresh, then less: nobody waits for a peer that takes its time. */
static void look_again(struct conn *conn, uint64_t now_ns)
{
    uint64_t age_ns = now_ns - conn->linger_began_ns;

    if (age_ns < 20 * NS_PER_MS)
        arm_fresh(conn);
    else
        loop_tick(conn->loop, age_ns < 200 * NS_PER_MS ? TICK_10_MS : TICK_100_MS,
                  &conn->linger_timer);
}

static void look(struct conn *conn)
{
    uint64_t now_ns = clock_now_ns();
    int unsent = unsent_bytes(conn);
    bool any, open = linger_discard(conn->linger_fd, &any);

    if (any)
        conn->linger_input_ns = now_ns;
    if (unsent < conn->linger_unsent)
        conn->linger_progress_ns = now_ns;
    conn->linger_unsent = unsent;
    if (!open || (unsent == 0 && now_ns - conn->linger_input_ns >= conn->linger_quiet_ns) ||
        now_ns - conn->linger_progress_ns >= conn->loop->server->options->linger_ns)
        linger_end(conn);
    else
        look_again(conn, now_ns);
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    look(container_of(entry, struct conn, linger_timer));
}

static void on_input(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->data;

    if (err != NULL) {
        linger_end(conn);
        return;
    }
    h2o_buffer_consume(&sock->input, sock->input->size);
    conn->linger_input_ns = clock_now_ns();
}

void linger_begin(struct conn *conn)
{
    struct loop *loop = conn->loop;
    bool any;

    assert_owner(loop);
    count_add(&loop->counts.lingering, 1);
    (void)shutdown(conn->linger_fd, SHUT_WR);
    bool open = linger_discard(conn->linger_fd, &any);
    conn->linger_unsent = unsent_bytes(conn);
    /* A client that asked for the close itself has nothing more to say, as a rule: unless it breaks
     * that rule already, or has yet to be sent to for so long that it may, that is the end. */
    if (!open || loop->frozen || (conn->asked_to_close && !any && conn->linger_unsent == 0)) {
        linger_end(conn);
        return;
    }
    conn->linger_began_ns = conn->linger_input_ns = conn->linger_progress_ns = clock_now_ns();
    conn->linger_quiet_ns = conn->is_tcp ? 2 * listener_peer_min_rtt_ns(conn->linger_fd) : 0;
    if (conn->linger_quiet_ns < QUIET_MIN_NS)
        conn->linger_quiet_ns = QUIET_MIN_NS;
    conn->linger_sock = h2o_evloop_socket_create(loop->evloop, conn->linger_fd,
                                                 H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    conn->linger_sock->data = conn;
    h2o_socket_read_start(conn->linger_sock, on_input);
    conn->linger_timer.cb = on_timer;
    look_again(conn, conn->linger_began_ns);
}

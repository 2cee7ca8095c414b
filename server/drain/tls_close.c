#include "tls_close.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bodies.h"
#include "conn.h"
#include "deferred_read.h"
#include "library.h"
#include "server_state.h"

/* The end of a TLS connection. libh2o writes close_notify (RFC 8446 section 6.1), and closes the
 * socket when the kernel has taken it. It has no time limit for that, so a drain would wait until
 * the deadline for a client that stops reading just before the end of its answer. The limit here is
 * that of a lingering close: the connection is cut when the kernel could send nothing for so long,
 * not counting the time in which the process stood still (loop_patient_ns()).
 * The library's protocols end every connection with h2o_socket_close(); mends/replaced.c directs
 * that call to this file.
 *
 * Note on writes. HTTP/2 closes in the same call in which it hands its last frames to the socket
 * (GOAWAY after an idle time-out, an error, or a drain), and libh2o sends no close_notify while a
 * write is pending, even if the kernel has taken all of it. So the close waits here until the write
 * is complete. The unwritten bytes are in memory of the socket's TLS part, not of the protocol, so
 * they outlive the protocol. Later versions of h2o still close at once. */

/* Only close_notify is left to write: the kernel's bytes become fewer, until there is room. */
static int unsent_bytes(const struct conn *conn)
{
    int unsent = 0;
    (void)ioctl(h2o_socket_get_fd(conn->sock), conn->is_tcp ? SIOCOUTQNSD : SIOCOUTQ, &unsent);
    return unsent;
}

static void give_up(struct conn *conn)
{
    if (conn->linger.fd >= 0) { /* it has lingered */
        (void)close(conn->linger.fd);
        conn->linger.fd = -1;
    }
    conn_cut(conn); /* the write fails, and the library closes */
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    struct conn *conn = container_of(entry, struct conn, linger.timer);
    uint64_t now_ns = loop_patient_ns(conn->loop);
    int unsent = unsent_bytes(conn);

    if (unsent < conn->linger.unsent)
        conn->linger.progress_ns = now_ns;
    conn->linger.unsent = unsent;
    if (now_ns - conn->linger.progress_ns >= conn->loop->server->config.linger_ns)
        give_up(conn);
    else
        loop_tick(conn->loop, TICK_100_MS, entry);
}

void tls_close_end(struct conn *conn)
{
    h2o_timeout_unlink(&conn->linger.timer);
    if (conn->loop->tls_close.conn == conn)
        conn->loop->tls_close.conn = NULL;
}

static void wait_for_kernel(struct conn *conn)
{
    conn->linger.unsent = unsent_bytes(conn);
    conn->linger.progress_ns = loop_patient_ns(conn->loop);
    conn->linger.timer.cb = on_timer;
    h2o_timeout_unlink(&conn->linger.timer);
    loop_tick(conn->loop, TICK_100_MS, &conn->linger.timer);
}

static void on_last_write(h2o_socket_t *sock, const char *err)
{
    (void)err; /* writing close_notify will meet it, too */
    tls_close_begin(sock);
}

void tls_close_begin(h2o_socket_t *sock)
{
    struct conn *conn = sock->ssl != NULL ? conn_of_socket(sock) : NULL;

    if (conn == NULL) {
        library.h2o_socket_close(sock);
        return;
    }
    /* The library frees its connection now; the socket may stay a while. */
    deferred_read_end(conn);
    bodies_end(conn);
    /* See the note on writes. The caller has freed what the socket's callbacks need. */
    if (mends_are_on() && conn->ssl != NULL && sock->_cb.write != NULL) {
        h2o_socket_read_stop(sock);
        sock->_cb.write = on_last_write;
        wait_for_kernel(conn);
        return;
    }
    struct loop *loop = conn->loop;
    loop->tls_close.conn = conn;
    library.h2o_socket_close(sock);
    if (loop->tls_close.conn == NULL) /* on_close() was called: `conn` may be freed */
        return;
    loop->tls_close.conn = NULL;
    wait_for_kernel(conn);
}

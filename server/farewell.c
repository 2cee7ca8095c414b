#include "server_p.h"

#include <dlfcn.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The end of a TLS connection: libh2o writes its farewell (close_notify, RFC 8446 section 6.1), and
 * closes the socket when the kernel has taken that. It has no time limit for it, so a client that
 * stops reading just before the end of its answer would be waited for until the deadline. Here it
 * has the one of a lingering close: gone, when the kernel could pass nothing on to it for so long.
 *
 * The protocols of the library call the function below through the dynamic linker, which finds ours
 * first (ld.so(8)); peek.c does the same. */

static void (*library_close)(h2o_socket_t *sock);

void farewell_init(void)
{
    library_close = (void (*)(h2o_socket_t *))dlsym(RTLD_NEXT, "h2o_socket_close");
    assert(library_close != NULL);
}

/* Only the farewell is left to write: what the kernel holds becomes less, until there is room. */
static int unsent_bytes(const struct conn *conn)
{
    int unsent = 0;
    (void)ioctl(h2o_socket_get_fd(conn->sock), conn->is_tcp ? SIOCOUTQNSD : SIOCOUTQ, &unsent);
    return unsent;
}

static void give_up(struct conn *conn)
{
    if (conn->linger_fd >= 0) { /* it has lingered */
        (void)close(conn->linger_fd);
        conn->linger_fd = -1;
    }
    conn_cut(conn); /* the write fails, and the library closes */
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    struct conn *conn = container_of(entry, struct conn, linger_timer);
    uint64_t now_ns = clock_now_ns();
    int unsent = unsent_bytes(conn);

    if (unsent < conn->linger_unsent)
        conn->linger_progress_ns = now_ns;
    conn->linger_unsent = unsent;
    if (now_ns - conn->linger_progress_ns >= conn->loop->server->options->linger_ns)
        give_up(conn);
    else
        loop_tick(conn->loop, TICK_100_MS, entry);
}

void farewell_end(struct conn *conn)
{
    h2o_timeout_unlink(&conn->linger_timer);
    if (conn->loop->closing_conn == conn)
        conn->loop->closing_conn = NULL;
}

/* In place of the library's function of that name. */
void h2o_socket_close(h2o_socket_t *sock)
{
    struct conn *conn = sock->ssl != NULL ? conn_of_socket(sock) : NULL;

    if (conn == NULL) {
        library_close(sock);
        return;
    }
    struct loop *loop = conn->loop;
    loop->closing_conn = conn;
    library_close(sock);
    if (loop->closing_conn == NULL) /* on_close() was called: `conn` may be freed */
        return;
    loop->closing_conn = NULL;
    conn->linger_unsent = unsent_bytes(conn);
    conn->linger_progress_ns = clock_now_ns();
    conn->linger_timer.cb = on_timer;
    loop_tick(loop, TICK_100_MS, &conn->linger_timer);
}

#include "server_p.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* `journal.hold`: the bytes of a request stay in the kernel until it is on record.
 *
 * libh2o reads a socket and then calls back, and in that callback a whole request passes the gate.
 * A process that is killed between the two has taken a request that nobody has on record, and its
 * client sees an end of file, as it would if a handler had run. One a loop, at most, but one.
 *
 *     without      read ........ parse, gate, record
 *     with         peek ........ parse, gate, record ... discard from the kernel
 *
 * A kernel that closes a socket with unread bytes resets the connection (RFC 2525 section 2.17, and
 * tcp_close() of Linux), so with it, whoever sees no answer and a reset knows that the request was
 * not taken, and whoever sees an end of file, that it is on record. The price is one more system
 * call a read. Over TLS the bytes go through libh2o's own buffers: there it changes nothing.
 *
 * The library has the function below, and its protocols call it through the dynamic linker, which
 * finds ours first (ld.so(8)); config.c does the same for messages. */

static void (*library_read_start)(h2o_socket_t *sock, h2o_socket_cb cb);

void hold_init(void)
{
    library_read_start =
        (void (*)(h2o_socket_t *, h2o_socket_cb))dlsym(RTLD_NEXT, "h2o_socket_read_start");
    assert(library_read_start != NULL);
}

/* Put what has arrived behind the input, and leave it in the kernel. */
static const char *peek(h2o_socket_t *sock, size_t *ret_bytes)
{
    h2o_iovec_t room = h2o_buffer_reserve(&sock->input, 4096);
    ssize_t n;

    if (room.base == NULL)
        return h2o_socket_error_out_of_memory;
    do
        n = recv(h2o_socket_get_fd(sock), room.base, room.len, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? NULL : h2o_socket_error_io;
    if (n == 0)
        return h2o_socket_error_closed;
    sock->input->size += (size_t)n;
    sock->bytes_read = (size_t)n;
    *ret_bytes = (size_t)n;
    return NULL;
}

static void discard(const struct conn *conn, size_t bytes)
{
    char scratch[16384];
    int fd = h2o_socket_get_fd(conn->sock);

    while (bytes > 0) {
        /* TCP discards without copying (tcp(7)), which what checks the arguments of recv(2) at run
         * time does not believe; a Unix socket has to be read. */
        size_t most = bytes < sizeof(scratch) ? bytes : sizeof(scratch);
        ssize_t n = conn->is_tcp ? syscall(SYS_recvfrom, fd, NULL, bytes, MSG_DONTWAIT | MSG_TRUNC,
                                           NULL, NULL)
                                 : recv(fd, scratch, most, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* reset meanwhile: there is nothing left */
            return;
        bytes -= (size_t)n;
    }
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->on_close.data;
    struct loop *loop = conn->loop;
    size_t bytes = 0;

    if (err == NULL)
        err = peek(sock, &bytes);
    loop->holding = conn;
    conn->held_read(sock, err);
    if (loop->holding == conn && bytes > 0) /* not closed by that: see on_close(), conn.c */
        discard(conn, bytes);
    loop->holding = NULL;
}

void hold_watch(h2o_socket_t *sock, h2o_socket_cb cb)
{
    library_read_start(sock, cb);
}

void h2o_socket_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    struct conn *conn = conn_that_holds(sock);

    if (conn == NULL) {
        library_read_start(sock, cb);
        return;
    }
    conn->held_read = cb;
    h2o_socket_dont_read(sock, 1);
    library_read_start(sock, on_readable);
}

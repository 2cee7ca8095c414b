#include "deferred_read.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bodies.h"
#include "conn.h"
#include "library.h"
#include "mends.h"

/* `journal.hold`: the bytes of a request stay in the kernel until it is on record.
 *
 * libh2o reads a socket and then calls back, and in that callback a whole request passes the gate.
 * A process that is killed between the two has read a request that is not on record, and its client
 * sees an end of file, as if a handler had run. This can happen to one request in each loop.
 *
 *     without      read ........ parse, gate, record
 *     with         peek ........ parse, gate, record ... discard from the kernel
 *
 * A kernel that closes a socket with unread bytes resets the connection (RFC 2525 section 2.17, and
 * tcp_close() of Linux). So with `journal.hold` a client that gets no answer and a reset knows that
 * the request was not taken; one that sees an end of file, that it is on record. It costs one more
 * system call for each read. Over TLS the setting has no effect: the bytes go through libh2o's own
 * buffers.
 *
 * The library's protocols call h2o_socket_read_start() when they want to read; mends/replaced.c
 * directs that call to this file. */

#define READ_MOST (256 * 1024) /* in one turn */

/* Append what has arrived to the input, and leave it in the kernel. */
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
        /* TCP discards without copying (tcp(7)). The system call is made directly because
         * sanitizers reject the NULL buffer. A Unix socket has to be read. */
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

static void after_read(struct conn *conn)
{
    bodies_after_read(conn);
    h2_frames_after_read(conn);
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->on_close.data;
    struct loop *loop = conn->loop;
    size_t bytes = 0;

    if (err == NULL)
        err = peek(sock, &bytes);
    loop->deferred_read.conn = conn;
    strict_note_reading(conn);
    conn->deferred_read.cb(sock, err);
    if (loop->deferred_read.conn == conn) { /* not closed by that: see deferred_read_end() */
        if (bytes > 0)
            discard(conn, bytes);
        after_read(conn);
    }
    loop->deferred_read.conn = NULL;
}

/* Read as much as one turn of the loop may. The library itself reads on while the sender keeps up,
 * for tens of megabytes, and all other connections wait. */
static const char *take(h2o_socket_t *sock)
{
    size_t before = sock->input->size;
    h2o_iovec_t room;
    ssize_t n;

    do {
        room = h2o_buffer_reserve(&sock->input, 4096);
        if (room.base == NULL)
            return h2o_socket_error_out_of_memory;
        if (room.len > READ_MOST)
            room.len = READ_MOST;
        do
            n = recv(h2o_socket_get_fd(sock), room.base, room.len, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EAGAIN)
            return h2o_socket_error_io;
        if (n > 0)
            sock->input->size += (size_t)n;
        else if (n == 0 && sock->input->size == before)
            return h2o_socket_error_closed;
        /* else the next read sees the end of file again */
    } while (n == (ssize_t)room.len && sock->input->size - before < READ_MOST);
    sock->bytes_read = sock->input->size - before;
    return NULL;
}

static void call_back(struct conn *conn, h2o_socket_t *sock, const char *err)
{
    struct loop *loop = conn->loop;

    loop->deferred_read.conn = conn;
    strict_note_reading(conn);
    conn->deferred_read.cb(sock, err);
    if (loop->deferred_read.conn == conn)
        after_read(conn);
    loop->deferred_read.conn = NULL;
}

static void on_plain(h2o_socket_t *sock, const char *err)
{
    call_back(sock->on_close.data, sock, err == NULL ? take(sock) : err);
}

/* Over TLS, the library has read. */
static void on_read(h2o_socket_t *sock, const char *err)
{
    call_back(sock->on_close.data, sock, err);
}

void deferred_read_watch(h2o_socket_t *sock, h2o_socket_cb cb)
{
    library.h2o_socket_read_start(sock, cb);
}

void deferred_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    struct conn *conn = conn_of_socket(sock);

    if (conn == NULL) {
        library.h2o_socket_read_start(sock, cb);
        return;
    }
    strict_note_reading(conn);
    conn->deferred_read.cb = cb;
    h2o_socket_dont_read(sock, !conn->is_tls);
    library.h2o_socket_read_start(sock, conn->is_tls                 ? on_read
                                        : conn->deferred_read.defers ? on_readable
                                                                     : on_plain);
}

void deferred_read_end(struct conn *conn)
{
    if (conn->loop->deferred_read.conn == conn)
        conn->loop->deferred_read.conn = NULL;
}

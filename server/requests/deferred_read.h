#ifndef LASTCALL_DEFERRED_READ_H
#define LASTCALL_DEFERRED_READ_H

/* How the sockets of clients are read. Thread: owner loop only. */

#include "h2o_api.h"

/* In place of the library's h2o_socket_read_start(). */
void deferred_read_start(h2o_socket_t *sock, h2o_socket_cb cb);

/* Call `cb` when a socket is readable, and read nothing. */
void deferred_read_watch(h2o_socket_t *sock, h2o_socket_cb cb);

struct conn;

/* The library has closed its socket. */
void deferred_read_end(struct conn *conn);

#endif

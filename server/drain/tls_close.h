#ifndef LASTCALL_TLS_CLOSE_H
#define LASTCALL_TLS_CLOSE_H

/* The end of a TLS connection. Thread: owner loop only. */

#include "h2o_api.h"

struct conn;

/* In place of the library's h2o_socket_close(). */
void tls_close_begin(h2o_socket_t *sock);

/* The library has closed the connection's socket. */
void tls_close_end(struct conn *conn);

#endif

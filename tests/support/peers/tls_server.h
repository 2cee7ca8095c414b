#ifndef LASTCALL_TEST_TLS_SERVER_H
#define LASTCALL_TEST_TLS_SERVER_H

/* The other side of tls_client.h, whose functions read, write and end its connections as well. */

#include <openssl/ssl.h>

/* Shake hands on a connection that was accepted, with a certificate for nobody.
 * Owner:  the socket is the SSL's, which is the caller's: tls_hang_up() or tls_cut().
 * Errors: NULL, the handshake failed; the socket is closed. */
SSL *tls_serve(int fd);

#endif

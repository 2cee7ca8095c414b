#ifndef LASTCALL_TLS_H
#define LASTCALL_TLS_H

/* TLS as the server speaks it: one certificate, TLS 1.2 and 1.3, HTTP/2 by ALPN. libh2o does the
 * handshakes and the records; its sockets hold the SSL. */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* Read the certificate chain and its key, both PEM. On failure `error` holds one line that names
 * the file and the cause.
 * Owner:  the caller; ends with SSL_CTX_free().
 * Thread: before start; the context itself may be used by all loops.
 * Errors: NULL. */
SSL_CTX *tls_create(const char *cert, const char *key, char *error, size_t error_size);

/* Does the kernel hold a request that nobody has read? `done`: the handshake is over. It can not be
 * read without the keys' owner, but records tell their kind and length (RFC 8446 section 5.1).
 * Thread: any.     Blocks: never. */
bool tls_has_unread_request(int fd, bool done);

/* Has the library read the beginning of a record, and not its end?     Thread: the SSL's loop. */
bool tls_is_mid_record(const SSL *ssl);

/* Has the peer announced that it will send no more? Its alert may be unread in the kernel.
 * Thread: any.     Blocks: never. */
bool tls_peer_is_leaving(int fd);

#endif

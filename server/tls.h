#ifndef LASTCALL_TLS_H
#define LASTCALL_TLS_H

/* TLS as a listener speaks it: its certificates, chosen by name (SNI, RFC 6066 section 3), and
 * HTTP/2 by ALPN (RFC 7301). libh2o does the handshakes and the records; its sockets hold the SSL.
 */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* What one certificate is used with. Texts are borrowed for the call. */
struct tls_certificate {
    const char *certificate_file; /* PEM, the chain behind it */
    const char *key_file;         /* PEM */
    const char *dh_file;          /* PEM; NULL: OpenSSL's choice */
    const char *ciphers;          /* up to TLS 1.2, see ciphers(1); NULL: OpenSSL's default */
    int version_min, version_max; /* TLS1_2_VERSION, ...; 0: 1.2 at least, no limit above */
    bool prefer_own_ciphers;      /* the server's order decides, not the client's */
};

/* What tls_add() could not use. */
enum tls_fault {
    TLS_NO_FAULT,
    TLS_FAULT_CERTIFICATE,
    TLS_FAULT_KEY,
    TLS_FAULT_CIPHERS,
    TLS_FAULT_DH,
    TLS_FAULT_MEMORY,
};

/* The certificates of one listener. The first is shown to clients that name no host, or an unknown
 * one.     Thread: before start; then any loop, through tls_context(). */
struct tls;

/* Owner: the caller; ends with tls_free().     Errors: NULL. */
struct tls *tls_new(void);
void tls_free(struct tls *tls); /* NULL is allowed */

/* Read a certificate and its key. On failure `error` holds one line that names the file and the
 * cause, and nothing was added. */
enum tls_fault tls_add(struct tls *tls, const struct tls_certificate *certificate, char *error,
                       size_t error_size);

/* Clients that ask for `host` (or `*.DOMAIN`) are shown the certificate of this file. False: no
 * such certificate was added. */
bool tls_add_name(struct tls *tls, const char *certificate_file, const char *host, size_t bytes);

/* For h2o_accept_ctx_t; belongs to *tls. */
SSL_CTX *tls_context(const struct tls *tls);

/* Call `visit` with every context. */
void tls_each(const struct tls *tls, void (*visit)(SSL_CTX *ctx, void *arg), void *arg);

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

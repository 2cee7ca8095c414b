#ifndef LASTCALL_TLS_H
#define LASTCALL_TLS_H

/* TLS of a listener: its certificates, chosen by name (SNI, RFC 6066 section 3), and HTTP/2 by ALPN
 * (RFC 7301). libh2o does the handshakes and the records; its sockets hold the SSL.
 */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* A certificate and its settings. Texts are borrowed for the call. */
struct tls_certificate {
    const char *certificate_file; /* PEM, followed by its chain */
    const char *key_file;         /* PEM */
    const char *dh_file;          /* PEM; NULL: OpenSSL's choice */
    const char *ciphers;          /* up to TLS 1.2, see ciphers(1); NULL: OpenSSL's default */
    int version_min, version_max; /* TLS1_2_VERSION, ...; 0: 1.2 at least, no limit above */
    bool prefer_own_ciphers;      /* the server's order decides, not the client's */
};

/* Which part of a certificate tls_add() could not use. */
enum tls_fault {
    TLS_NO_FAULT,
    TLS_FAULT_CERTIFICATE,
    TLS_FAULT_KEY,
    TLS_FAULT_CIPHERS,
    TLS_FAULT_DH,
    TLS_FAULT_MEMORY,
};

/* The certificates of one listener. Clients that name no host, or an unknown one, get the first.
 * Thread: before start; then any loop, through tls_context(). */
struct tls;

/* Owner: the caller; ends with tls_free().     Errors: NULL. */
struct tls *tls_new(void);
void tls_free(struct tls *tls); /* NULL is allowed */

/* Read a certificate and its key. On failure `error` holds one line that names the file and the
 * cause, and nothing was added. */
enum tls_fault tls_add(struct tls *tls, const struct tls_certificate *certificate, char *error,
                       size_t error_size);

/* Clients that name `host` (or a name of `*.DOMAIN`) get the certificate of this file. False: no
 * such certificate was added. */
bool tls_add_name(struct tls *tls, const char *certificate_file, const char *host, size_t bytes);

/* Let only this listener resume the sessions that begin on it. Their session id context is made
 * from `address`, as the listener was configured, and from all certificates: so it is the same in
 * the next process, and on another machine that has both. Sessions of other listeners are not
 * resumed, although their tickets are sealed with the same keys.
 * Thread: before start, when every certificate was added.     Errors: false, OpenSSL fails. */
bool tls_identify(struct tls *tls, const struct sockaddr *address);

/* For h2o_accept_ctx_t; belongs to *tls. */
SSL_CTX *tls_context(const struct tls *tls);

/* Call `visit` with every context. */
void tls_each(const struct tls *tls, void (*visit)(SSL_CTX *ctx, void *arg), void *arg);

/* Does the kernel hold an unread request? `done`: the handshake is over. Only the owner of the keys
 * can decrypt it, but records show their type and length (RFC 8446 section 5.1).
 * Thread: any.     Blocks: never. */
bool tls_has_unread_request(int fd, bool done);

/* Has libh2o read the beginning of a record, but not its end?     Thread: the SSL's loop. */
bool tls_is_mid_record(const SSL *ssl);

/* Has the peer sent close_notify? The alert may be unread in the kernel.
 * Thread: any.     Blocks: never. */
bool tls_peer_is_leaving(int fd);

#endif

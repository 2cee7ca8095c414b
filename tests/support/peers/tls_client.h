#ifndef LASTCALL_TEST_TLS_CLIENT_H
#define LASTCALL_TEST_TLS_CLIENT_H

/* A TLS client on a connected socket, which believes any certificate. It goes on where a stop of
 * this process (SIGSTOP, a freezer) interrupted a call: a socket with a time limit is not restarted
 * (signal(7)). What uses it ignores SIGPIPE: SSL_write() has no MSG_NOSIGNAL. */

#include <openssl/ssl.h>

struct tls_options {
    const char *name;     /* SNI; NULL: none */
    const char *alpn;     /* as on the wire, "\x02h2"; NULL: none */
    SSL_SESSION *session; /* to come back with; NULL: none */
    int version_max;      /* TLS1_2_VERSION ...; 0: the newest */
};

/* `options` NULL: none of them.
 * Owner:  the socket is the SSL's, which is the caller's: tls_hang_up() or tls_cut().
 * Errors: NULL, the handshake failed; the socket is closed. */
SSL *tls_connect(int fd, const struct tls_options *options);

/* As SSL_read(). */
int tls_read(SSL *ssl, char *bytes, size_t size);

/* All of the text. */
void tls_write(SSL *ssl, const char *text);

/* Until `end` is there; with less than that, the test fails. `text` is terminated. */
void tls_read_until(SSL *ssl, char *text, size_t size, const char *end);

/* With a close_notify, without which a session counts as broken; or without. */
void tls_hang_up(SSL *ssl);
void tls_cut(SSL *ssl);

#endif

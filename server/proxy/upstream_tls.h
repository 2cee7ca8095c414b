#ifndef LASTCALL_UPSTREAM_TLS_H
#define LASTCALL_UPSTREAM_TLS_H

#include <openssl/ssl.h>

/* What libh2o lacks for connections to upstreams: compare the name in the certificate, if the
 * certificate is verified at all (RFC 9110 section 4.3.4), and learn of close_notify (RFC 8446
 * section 6.1). NULL: nothing is done.
 * Thread: before start.     Blocks: never. */
void upstream_tls_set_up(SSL_CTX *ssl_ctx);

#endif

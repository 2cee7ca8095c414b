#ifndef LASTCALL_UPSTREAM_TLS_H
#define LASTCALL_UPSTREAM_TLS_H

#include <stdbool.h>

#include "h2o_api.h"

/* What libh2o lacks for connections to upstreams: compare the name in the certificate, if the
 * certificate is verified at all (RFC 9110 section 4.3.4), and learn of close_notify (RFC 8446
 * section 6.1). NULL: nothing is done.
 * Thread: before start.     Blocks: never. */
void upstream_tls_set_up(SSL_CTX *ssl_ctx);

/* Set *was_closed when close_notify comes on this socket, from now on; NULL: no more. It must live
 * until then. A plain socket does nothing.     Thread: owner loop only.     Blocks: never. */
void upstream_tls_watch(h2o_socket_t *sock, bool *was_closed);

#endif

#ifndef LASTCALL_VERIFY_NAME_H
#define LASTCALL_VERIFY_NAME_H

#include <openssl/ssl.h>

/* Have the handshakes of a client context fail if the certificate is for another name or address
 * than the one that the client asks for (SNI), unless the context does not verify at all.
 * Thread: before start. */
void verify_name(SSL_CTX *ssl_ctx);

#endif

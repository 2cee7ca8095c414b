#ifndef LASTCALL_TICKETS_H
#define LASTCALL_TICKETS_H

/* How TLS sessions are resumed: from a cache that each certificate keeps in this process, and by
 * tickets, which the client keeps (RFC 5077; RFC 8446 section 4.6.1). Tickets are sealed with keys
 * that are made here and replaced as they age, or that come from a file, so that several processes,
 * and the next one, can open them. */

#include <openssl/ssl.h>
#include <stdbool.h>

#include "tls.h"

struct tickets;

struct tickets_config {
    bool cache;       /* keep sessions here */
    bool tickets;     /* let clients keep them */
    const char *file; /* tickets: read the keys from here, again when it changes; NULL: make them */
    const char *cipher; /* tickets: of keys that are made, as OpenSSL names it; NULL: aes-256-cbc */
    const char *digest; /* tickets: likewise; NULL: sha256 */
    unsigned lifetime;  /* seconds, of sessions and of keys */
};

#define TICKETS_LIFETIME 3600 /* seconds, if nobody says otherwise */

/* Owner:  the caller; ends with tickets_free(), after join, when no context is in use any more.
 * Texts are copied. Thread: before start.     Errors: NULL, and `error` holds one line. */
struct tickets *tickets_new(const struct tickets_config *config, char *error, size_t error_size);
void tickets_free(struct tickets *tickets); /* NULL is allowed */

/* Have all contexts of a listener resume sessions in this way.     Thread: before start. */
void tickets_apply(struct tickets *tickets, const struct tls *tls);

#endif

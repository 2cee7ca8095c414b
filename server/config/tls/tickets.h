#ifndef LASTCALL_TICKETS_H
#define LASTCALL_TICKETS_H

/* How TLS sessions are resumed: from a cache that each certificate keeps in this process, and by
 * tickets, which the client keeps (RFC 5077; RFC 8446 section 4.6.1). Tickets are sealed with keys
 * that are made here and replaced as they age, or that come from a file, so that several processes,
 * and later ones, can open them. */

#include <openssl/ssl.h>
#include <stdbool.h>

#include "tls.h"

struct message;
struct tickets;

struct tickets_config {
    bool cache;         /* keep sessions in this process */
    bool tickets;       /* let clients keep sessions, in tickets */
    const char *file;   /* tickets: the keys, read again when the file changes; NULL: make keys */
    const char *cipher; /* tickets: for made keys, an OpenSSL name; NULL: aes-256-cbc */
    const char *digest; /* tickets: the same; NULL: sha256 */
    unsigned lifetime;  /* seconds, of sessions and of keys */
};

#define TICKETS_LIFETIME 3600 /* seconds, the default */

/* Owner:  the caller; ends with tickets_free(), after join, when no context is in use any more.
 * Texts are copied. Thread: before start.     Errors: NULL, and `error` holds one line. */
struct tickets *tickets_new(const struct tickets_config *config, char *error, size_t error_size);
void tickets_free(struct tickets *tickets); /* NULL is allowed */

/* Let all contexts of a listener resume sessions in this way.     Thread: before start. */
void tickets_apply(struct tickets *tickets, const struct tls *tls);

/* Store key number `i` of the keys made here, newest first, as HANDOVER_TICKET_KEY. With it a
 * successor can open the tickets of this process, so that a restart does not cost each client a
 * full handshake. Keys from a file are not offered: the successor reads the file. False: there are
 * no more. The message holds a secret: the caller wipes it.     Thread: any.     Blocks: for a
 * lock. */
bool tickets_offer_key(struct tickets *tickets, size_t i, struct message *ret_message);

/* Take such a key from a predecessor. A key with another cipher, digest or lifetime than the keys
 * made here is ignored: its tickets then cost a handshake.     Thread: any.     Blocks: for a lock.
 */
void tickets_take_key(struct tickets *tickets, const struct message *message);

#endif

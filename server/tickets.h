#ifndef LASTCALL_TICKETS_H
#define LASTCALL_TICKETS_H

/* How TLS sessions are resumed: from a cache that each certificate keeps in this process, and by
 * tickets, which the client keeps (RFC 5077; RFC 8446 section 4.6.1). Tickets are sealed with keys
 * that are made here and replaced as they age, or that come from a file, so that several processes,
 * and the next one, can open them. */

#include <openssl/ssl.h>
#include <stdbool.h>

#include "tls.h"

struct handover_message;
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

/* Key number `i` of those that were made here, the newest first, as HANDOVER_TICKET_KEY: a
 * successor that has it opens the tickets that clients were given here, so that a restart does not
 * cost each of them a whole handshake. False: there are no more. (Keys from a file are there for
 * everybody.) The message holds a secret: the caller wipes it.     Thread: any.     Blocks: for a
 * lock. */
bool tickets_offer_key(struct tickets *tickets, size_t i, struct handover_message *ret_message);

/* Such a key, from a predecessor. One that would not have been made here, by its cipher, digest or
 * age, is left aside: its tickets then cost a handshake.     Thread: any.     Blocks: for a lock.
 */
void tickets_take_key(struct tickets *tickets, const struct handover_message *message);

#endif

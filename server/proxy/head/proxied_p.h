#ifndef LASTCALL_PROXIED_P_H
#define LASTCALL_PROXIED_P_H

/* What the files of a proxied request's head share: proxied_request.c puts it together, and
 * proxied_origin.c says where the request comes from.
 * Thread: owner loop only.     Blocks: never. */

#include "claims.h"
#include "proxied_head.h"

struct head {
    h2o_req_t *req;
    const h2o_globalconf_t *conf;
    char *bytes;
    size_t size, room;
    h2o_headers_t fields; /* the client's, or what `proxy.header.*` has made of them */
    h2o_iovec_t id;       /* of the request, which is among the fields; base NULL: it has none */
    enum claims claims;
    unsigned with;            /* enum proxied_with */
    bool is_sifted;           /* those that are not passed on are out of `fields` already */
    bool has_nominations;     /* a Connection field of the client may name other fields */
    bool has_proto, has_host; /* of X-Forwarded-*; passed on, or set by the route */
};

/* ---- proxied_request.c ---- */

/* Append to the head. */
void proxied_put(struct head *head, const char *bytes, size_t size);
#define PUT(head, text) proxied_put(head, H2O_STRLIT(text))
/* Append a field. */
void proxied_put_field(struct head *head, const char *name, size_t name_len, h2o_iovec_t value);
/* Append one field `name` with the values of all of that name that are passed on, without the end
 * of its line. False: there are none, and nothing was appended. */
bool proxied_put_joined(struct head *head, const char *name, const char *separator);
/* The same for a list that ends with one more value, which the caller appends. */
void proxied_put_list(struct head *head, const char *name);

/* ---- proxied_origin.c ---- */

enum claim {
    CLAIM_NONE,
    CLAIM_FOR,
    CLAIM_PROTO,
    CLAIM_HOST,
    CLAIM_OTHER,
    CLAIM_FORWARDED,
    CLAIM_HIDDEN
};

/* What a field says about where its request comes from. */
enum claim proxied_claim_of(const h2o_header_t *field);
/* Is such a field of this client's not passed on? */
bool proxied_is_disbelieved(const struct head *head, enum claim claim);
/* Append X-Forwarded-* and Forwarded, after the client's fields. */
void proxied_put_origin(struct head *head);

#endif

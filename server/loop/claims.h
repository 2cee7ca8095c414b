#ifndef LASTCALL_CLAIMS_H
#define LASTCALL_CLAIMS_H

/* What a peer says about a request: for whom it asks, and which id the request has. It is believed
 * if the peer is a proxy that the operator trusts (trust.h).
 *
 * The id of a request stands in its field X-Request-Id from the gate on: so an upstream, a FastCGI
 * application, a handler and the in-flight record have it. %{request-id}x of an access log reads it
 * from a variable of the request's environment.
 *
 * Thread: owner loop only, for all of these.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"

#define CLAIMS_ID_FIELD "x-request-id"
#define CLAIMS_ID_MOST 128 /* bytes of an id that is taken over */

/* ---- variables of ours ---- */

/* Variables of a request's environment that access logs read: %{request-id}x is %{request-id}e to
 * libh2o. No application gets them, and `setenv`, whose variables are for applications, does not
 * meet these names. */
#define OWN_VARIABLE_REQUEST_ID "request-id"
#define OWN_VARIABLE_PROXY_ERROR "proxy.error" /* upstream_pool.c sets it */

/* Is this the name of one?     Thread: any. */
static inline bool own_variable_is(const h2o_iovec_t *name)
{
    return h2o_memis(name->base, name->len, H2O_STRLIT(OWN_VARIABLE_REQUEST_ID)) ||
           h2o_memis(name->base, name->len, H2O_STRLIT(OWN_VARIABLE_PROXY_ERROR));
}

/* ---- who is believed, and ids ---- */

/* Random bytes of a loop, for the next ids: a call of getrandom(2) serves 64 of them. */
struct claims_random {
    uint8_t bytes[1024];
    size_t left;
};

enum claims {
    CLAIMS_UNRULED,  /* `trusted-proxies` is not set: what libh2o does with each claim holds */
    CLAIMS_BELIEVED, /* the peer is a trusted proxy */
    CLAIMS_DROPPED   /* it is not */
};

/* What holds for the claims of this request's peer? */
enum claims claims_of(const h2o_req_t *req);

/* Give the request its id, in its field and in its environment: that of a trusted proxy if it may
 * be one (claims_may_be_id()), else a new one, 32 hexadecimal digits. It lives as long as the
 * request. */
h2o_iovec_t claims_give_id(h2o_req_t *req);

/* 1 to 128 letters, digits and characters of `-._~+/=:@`: it needs no quotes, in no log.
 * Thread: any. */
bool claims_may_be_id(const char *text, size_t bytes);

#endif

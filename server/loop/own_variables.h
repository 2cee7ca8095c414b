#ifndef LASTCALL_OWN_VARIABLES_H
#define LASTCALL_OWN_VARIABLES_H

/* Variables of a request's environment that are lastcall's own. An access log reads them:
 * %{request-id}x is %{request-id}e to libh2o. No application gets them, and `setenv`, whose
 * variables are for applications, does not meet these names.
 *
 * Thread: any.     Blocks: never. */

#include <stdbool.h>

#include "h2o_api.h"

#define OWN_VARIABLE_REQUEST_ID "request-id"   /* claims.c */
#define OWN_VARIABLE_PROXY_ERROR "proxy.error" /* upstream_pool.c */

/* Is this the name of one? */
static inline bool own_variable_is(const h2o_iovec_t *name)
{
    return h2o_memis(name->base, name->len, H2O_STRLIT(OWN_VARIABLE_REQUEST_ID)) ||
           h2o_memis(name->base, name->len, H2O_STRLIT(OWN_VARIABLE_PROXY_ERROR));
}

#endif

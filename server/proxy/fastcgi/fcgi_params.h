#ifndef LASTCALL_FCGI_PARAMS_H
#define LASTCALL_FCGI_PARAMS_H

#include "fcgi_request.h"

/* The parameters of a request as pairs of name and value, in memory of the request; see
 * fcgi_request.h for what they are.     Thread: owner loop only.     Blocks: never. */
h2o_iovec_t fcgi_params_make(h2o_req_t *req, const struct fcgi_settings *settings);

#endif

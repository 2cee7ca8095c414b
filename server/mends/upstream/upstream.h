#ifndef LASTCALL_UPSTREAM_H
#define LASTCALL_UPSTREAM_H

/* Incomplete answers of upstreams. */

#include "h2o_api.h"

/* An upstream did not finish the answer to `req`: let the client notice. If only the end of the
 * connection ends the answer, reset the connection now; otherwise the framing shows it when the
 * response ends with an error.
 * Thread: owner loop only.     Blocks: never. */
void answer_is_cut(h2o_req_t *req);

#endif

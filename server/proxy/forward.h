#ifndef LASTCALL_FORWARD_H
#define LASTCALL_FORWARD_H

/* One request on its way to its upstream, and the answer on its way back. See forward_p.h.
 * Thread: owner loop only.     Blocks: never. */

#include "upstream_pool.h"

/* Send `req` to `upstream`, and answer it; `upstream` lives as long as the request. */
void forward_begin(h2o_req_t *req, struct upstream *upstream);
/* The same for one that a kept connection has lost: it gets a new one, and is not sent again. */
void forward_begin_again(h2o_req_t *req, struct upstream *upstream);

#endif

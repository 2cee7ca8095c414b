#ifndef LASTCALL_POOL_ROUTE_H
#define LASTCALL_POOL_ROUTE_H

/* Routes whose handlers may block: they are called in place or by a worker, see place.h.
 * All of these: Thread: main only, before start. */

#include <stdbool.h>

#include "h2o_api.h"
#include "job.h"
#include "place.h"

/* Have requests for `path` answered by `handler`. `is_root_only`: on the path `/`, not what is
 * below it. */
void pool_route_register(h2o_pathconf_t *path, exchange_handler handler, bool is_root_only);

/* Where the handlers on `path` are called. False: it has none that were registered as above. */
bool pool_route_place(h2o_pathconf_t *path, enum place_mode mode);

#endif

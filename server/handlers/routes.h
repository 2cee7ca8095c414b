#ifndef LASTCALL_ROUTES_H
#define LASTCALL_ROUTES_H

#include <stdbool.h>

#include "h2o_api.h"

/* lastcall's own handlers, as the directive `handler` names them:
 *
 *     hello          answers `Hello World` at once, on the loop
 *     hello-later    waits 3 s in a worker first
 *     ready          200, and 503 from the beginning of a drain on, and at the limit on
 *                    connections: what a balancer asks
 *     live           200 as long as the loop turns
 *     sleep          ?ms=N blocks a worker N milliseconds (0..60000), any method; answers with the
 *                    number of body bytes it was sent; &ignore-cancel=1 never gives up early;
 *                    &one_in=N (1..1000000): only every N-th of such requests sleeps
 *     burn           ?us=N computes for N microseconds (0..1000000) in a worker
 *     stream         ?kb=N&ms=M sends N KiB (0..1048576) over M milliseconds (0..600000), on the
 *                    loop
 *
 * Register one on `path`. False: there is none of this name.     Thread: before start. */
bool routes_register(h2o_pathconf_t *path, const char *name);

#endif

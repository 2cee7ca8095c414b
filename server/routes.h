#ifndef LASTCALL_ROUTES_H
#define LASTCALL_ROUTES_H

#include "h2o_api.h"

/* The built-in routes:
 *
 *     /                    waits 3 s in a worker and answers `Hello World`
 *     /hello               answers at once, on the loop
 *     /sleep?ms=N          blocks a worker N milliseconds (0..60000), any method; answers with the
 *                          number of body bytes it was sent; `&ignore-cancel=1`: never gives up
 * early /stream?kb=N&ms=M    sends N KiB (0..1048576) over M milliseconds (0..600000), on the loop
 *     /files/              the files of `root`, if there is one
 *
 * Register them on `host`.     Thread: before start. */
void routes_register(h2o_hostconf_t *host, const char *root);

#endif

#ifndef LASTCALL_LIMIT_H
#define LASTCALL_LIMIT_H

/* How many connections the limit on open files allows. */

#include <stdint.h>

struct server;

/* What --max-connections and the limit on open files allow. Raises that limit as far as it may.
 * Thread: main only, once the configuration is read. */
uint64_t limit_connections(const struct server *server);

/* Are there descriptors enough to start with? libh2o aborts the process where it gets none.
 * Thread: main only, once all listeners are open.     Errors: 0; an enum exit_status: it was
 * logged.
 */
int limit_check_files(const struct server *server);

#endif

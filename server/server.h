#ifndef LASTCALL_SERVER_H
#define LASTCALL_SERVER_H

/* The HTTP server: listeners and loops on libh2o, as the coordinator sees them. Nothing of libh2o
 * shows in this header. */

#include <stddef.h>
#include <stdint.h>

#include "coord.h"
#include "handover.h"
#include "pool.h"

struct server;

struct options;

/* Read the configuration and open the listeners; nothing is accepted yet. With options->test it
 * only looks whether it could. What is wrong was logged, nothing is left open, and the return value
 * is the status for the process. Owner:  the caller; ends with server_destroy(). *options is
 * borrowed until then, and completed by what its file says. Thread: main only.     Errors: 0 and
 * *ret_server; an enum coord_exit. */
int server_create(struct options *options, struct server **ret_server);

/* To be called once what takes root is done, and before root is given up.     Thread: main only. */
void server_prepare_unprivileged(struct server *server);

/* Start the loops; from here on requests are answered.
 * Thread: main only, once.     Blocks: until the loops run.     Errors: 0; a negative errno. */
int server_start(struct server *server, struct pool *pool, struct coord *coord);

/* Accept, from now on. Thread: main, or the restarter's; once.     Blocks: never. */
void server_open(struct server *server);

/* ---- for the restarter, see restarter.h; Thread: the restarter's, or main only before it ---- */

bool server_offer(struct server *server, size_t i, struct handover_message *ret_message);
bool server_is_inherited(const struct server *server, size_t i);
void server_describe(const struct server *server, struct handover_message *message);
void server_followed(struct server *server, const uint64_t *taken, size_t taken_count,
                     const uint64_t *welcome, size_t welcome_count, int conns_fd);

/* What the coordinator may ask of the server. Of these, census, and list_requests without `freeze`,
 * are for any thread. */
extern const struct coord_server_ops server_ops;

/* End the loops and join them. Returns 0, or -EBUSY if a loop did not end until CLOCK_MONOTONIC
 * reads `deadline_ns`: then nothing may be freed and the process should leave by _exit(2). Thread:
 * main only.     Blocks: yes. */
int server_stop(struct server *server, uint64_t deadline_ns);

/* Free it all. NULL is allowed.     Thread: main only, after server_stop() returned 0 or if
 * server_start() was never called; after the pool is gone. */
void server_destroy(struct server *server);

#endif

#ifndef LASTCALL_SERVER_H
#define LASTCALL_SERVER_H

/* The HTTP server: listeners and loops on libh2o, as the coordinator sees them. Nothing of libh2o
 * shows in this header. */

#include <stddef.h>
#include <stdint.h>

#include "coord.h"
#include "pool.h"

struct server;

struct server_config {
    const char *const *listen; /* addresses, see listener_open() */
    size_t listen_count;
    const char *cert, *key;   /* PEM files, for listeners with `tls:`; both or neither */
    unsigned loops;           /* threads, 1..256 */
    uint64_t max_connections; /* accept no more than this; 0: as many as files allow */
    const char *root;         /* serve this directory under /files/; NULL: do not */
    uint64_t idle_grace_ns;   /* in a drain: how long an idle connection may begin a request */
    uint64_t linger_ns;       /* how long a closed connection may still send or read */
    uint64_t settle_max_ns;   /* how long closing a listener may take */
};

/* Open the listeners; nothing is accepted yet. On failure `error` holds one line, nothing is left
 * open, and the return value is the status for the process.
 * Owner:  the caller; ends with server_destroy(). The config is copied, its texts are borrowed.
 * Thread: main only.     Errors: 0 and *ret_server; an enum coord_exit. */
int server_create(const struct server_config *config, char *error, size_t error_size,
                  struct server **ret_server);

/* Start the loops; from here on requests are answered.
 * Thread: main only, once.     Blocks: until the loops run.     Errors: 0; a negative errno. */
int server_start(struct server *server, struct pool *pool, struct coord *coord);

/* What the coordinator may ask of the server. */
extern const struct coord_server_ops server_ops;

/* End the loops and join them. Returns 0, or -EBUSY if a loop did not end until CLOCK_MONOTONIC
 * reads `deadline_ns`: then nothing may be freed and the process should leave by _exit(2). Thread:
 * main only.     Blocks: yes. */
int server_stop(struct server *server, uint64_t deadline_ns);

/* Free it all. NULL is allowed.     Thread: main only, after server_stop() returned 0 or if
 * server_start() was never called; after the pool is gone. */
void server_destroy(struct server *server);

#endif

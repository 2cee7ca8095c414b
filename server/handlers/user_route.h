#ifndef LASTCALL_USER_ROUTE_H
#define LASTCALL_USER_ROUTE_H

/* Routes of a program that uses the library, of a module, and of CGI: a function is called for each
 * request, on a thread of the pool. All of these: Thread: before start. */

#include <stdbool.h>
#include <stdint.h>

#include "exchange.h"
#include "h2o_api.h"

struct mux;
struct server;

struct user_route {
    void (*handler)(struct exchange *exchange, void *user);
    void *user;
    int64_t timeout_ms;       /* from the request's arrival: then 503; 0: none */
    int64_t write_timeout_ms; /* that write() waits for a client that takes nothing */
    int64_t max_body;         /* bytes; 413 beyond; 0: limit-request-body */
    unsigned max_running;     /* handlers at once; 0: no limit */
    unsigned max_waiting;     /* that may wait for one of those; 0: pool.queue */
    bool on_loop;             /* called on the loop's thread: must not block */
    bool is_recorded;         /* on record whatever the method */
};

/* Have the requests on one path of the configuration answered by `route`, which lives as long as
 * the server. */
void user_route_register(h2o_pathconf_t *path, const struct user_route *route);

/* Have the requests of this server that nothing in its configuration takes answered by the routes
 * of `mux` (see mux.h; its values are struct user_route *). Both live as long as the server.
 * After config_apply(), once. */
void user_route_serve(struct server *server, const struct mux *mux);

#endif

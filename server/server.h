#ifndef LASTCALL_SERVER_H
#define LASTCALL_SERVER_H

/* The HTTP server: listeners and loops on libh2o, as the coordinator sees them. Nothing of libh2o
 * shows in this header. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coord.h"
#include "handover.h"
#include "pool.h"
#include "probe.h"

struct server;

struct options;

/* Read the configuration and open the listeners; nothing is accepted yet. With options->test it
 * only looks whether it could. What is wrong was logged, nothing is left open, and the return value
 * is the status for the process. Owner:  the caller; ends with server_destroy(). *options is
 * borrowed until then, and completed by what its file says. Thread: main only.     Errors: 0 and
 * *ret_server; an enum coord_exit. */
int server_create(struct options *options, struct server **ret_server);

/* What was passed on to this process and nobody has asked for is left alone, or is a mistake.
 * Thread: main only, when all listeners are open.     Errors: 0; an enum coord_exit: it was logged.
 */
int server_settle_inheritance(struct server *server);

/* To be called once what takes root is done, and before root is given up.     Thread: main only. */
void server_prepare_unprivileged(struct server *server);

/* The port of the first TCP listener; 0: there is none.     Thread: any, before the drain. */
int server_port(const struct server *server);

struct journal;

/* Keep requests on record there; NULL is allowed. Its partitions are the loops'.
 * Owner:  borrowed until server_destroy().     Thread: main only, before server_start(). */
void server_attach_journal(struct server *server, struct journal *journal);

/* Start the loops; they accept from server_open() on.
 * Thread: main only, once.     Blocks: until the loops stand ready.     Errors: 0; a negative
 * errno.
 */
int server_start(struct server *server, struct pool *pool, struct coord *coord);

/* Where the application will answer, and the port of that (0: a Unix socket). Says what is wrong.
 * Thread: main only, after server_create(), if options->command is set.
 * Blocks: on name resolution.     Errors: 0; a negative errno. */
int server_app_target(struct server *server, struct probe_target *ret_target, uint16_t *ret_port);

/* From now on (or no longer) requests for the application wait for it; they do from the start if
 * options->command is set.     Thread: any, one at a time.     Blocks: never. */
void server_hold(void *server, bool hold);

/* Accept, from now on. It can not fail: all that a start may fail of comes before, while nothing
 * has been accepted that could be lost.     Thread: main, or the restarter's; once.     Blocks:
 * never. */
void server_open(struct server *server);

/* ---- for the restarter, see restarter.h; Thread: the restarter's, or main only before it ---- */

bool server_offer(struct server *server, size_t i, struct handover_message *ret_message);
bool server_is_inherited(const struct server *server, size_t i);
size_t server_listener_count(const struct server *server);
/* `more` are identities of listeners that are taken, too. */
void server_describe(const struct server *server, const uint64_t *more, size_t more_count,
                     struct handover_message *message);
/* See tickets.h. */
bool server_offer_ticket_key(struct server *server, size_t i, struct handover_message *ret_message);
void server_take_ticket_key(struct server *server, const struct handover_message *message);
void server_followed(struct server *server, const uint64_t *taken, size_t taken_count,
                     const uint64_t *welcome, size_t welcome_count, int conns_fd);

/* What the coordinator may ask of the server. Of these, census, and list_requests without `freeze`,
 * are for any thread. */
extern const struct coord_server_ops server_ops;

/* Does every loop turn, and the pool finish jobs while it has a queue? As of the watchdog's last
 * look, see stall.h; true where watchdog.stall is off.     Thread: any, between server_start() and
 * server_destroy().     Blocks: never. */
bool server_is_moving(struct server *server);

/* How often a loop, a worker or the pool was found to stand still.     Thread: as above. */
uint64_t server_stalls(struct server *server);

/* End the loops and join them. Returns 0, or -EBUSY if a loop did not end until CLOCK_MONOTONIC
 * reads `deadline_ns`: then nothing may be freed and the process should leave by _exit(2). Thread:
 * main only.     Blocks: yes. */
int server_stop(struct server *server, uint64_t deadline_ns);

/* Free it all. NULL is allowed.     Thread: main only, after server_stop() returned 0 or if
 * server_start() was never called; after the pool is gone. */
void server_destroy(struct server *server);

#endif

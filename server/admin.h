#ifndef LASTCALL_ADMIN_H
#define LASTCALL_ADMIN_H

/* The admin listener: probes, metrics, status and orders for operators, as docs/admin-api.md has
 * them. It has a thread, an event loop and a context of libh2o of its own, and shares nothing with
 * the loops but what any thread may read; so it answers while they are busy or stuck, and costs
 * them nothing. It is the last to close, and nobody waits for its connections. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coord.h"
#include "pool.h"

struct admin;
struct options;
struct server;

/* Open its socket, while we may still be root: it is then handed to options->user. Nobody is
 * answered yet. The usual socket (options->admin is NULL) is a convenience: where it can not be
 * had, the log says so, and there is no admin listener (*ret_admin is NULL), as with `off`. Owner:
 * the caller; ends with admin_destroy(). Both are borrowed until then. Thread: main only, after
 * server_create(). Errors: 0; what is wrong was logged, and the return value is the status for the
 * process. */
int admin_open(const struct options *options, struct server *server, struct admin **ret_admin);

/* All of these take NULL. */

/* Start the thread, which answers from admin_accept() on.
 * Thread: main only, after server_start().     Errors: 0; a negative errno. */
int admin_start(struct admin *admin, struct pool *pool, struct coord *coord);

struct restarter;

/* Whom an order to restart goes to; without one it is refused.
 * Thread: main only, before admin_accept(). */
void admin_set_restarter(struct admin *admin, struct restarter *restarter);

/* Answer, from now on.     Thread: main, or the restarter's; once.     Blocks: never. */
void admin_accept(struct admin *admin);

/* ---- for a restart; Thread: the restarter's ---- */

struct handover_message;

/* Its listener number `i`, as HANDOVER_LISTENER. False: there are no more. */
bool admin_offer(struct admin *admin, size_t i, struct handover_message *ret_message);
/* Did that one come from our predecessor? */
bool admin_is_inherited(const struct admin *admin, size_t i);
/* The identities of its listeners, at most `room` of them; returns how many. */
size_t admin_ids(const struct admin *admin, uint64_t *ids, size_t room);
/* A successor has taken these: it answers on them, and we close them without a trace. */
void admin_followed(struct admin *admin, const uint64_t *taken, size_t count);

/* The process is about to end: take the socket file away, if it is still ours, and see to it that
 * who watches /events has been told, and behind a restart that who has asked is answered, which
 * takes no more than ADMIN_FAREWELL_MS. That takes some 100 us; the rest is for a machine that has
 * no processor for the admin thread. A watcher that has stopped reading is not waited for. Thread:
 * main only. Blocks: so long at most. */
#define ADMIN_FAREWELL_MS 100
void admin_leave(struct admin *admin);

/* End the thread and join it. Pool and coordinator must still be there.     Thread: main only.
 * Blocks: until it has cut its connections.     Errors: 0; -EBUSY if that was not done until
 * CLOCK_MONOTONIC reads `deadline_ns`: then nothing that it looks at may be freed. */
int admin_stop(struct admin *admin, uint64_t deadline_ns);

/* Thread: main only, after admin_stop() returned 0 or if admin_start() was never called. */
void admin_destroy(struct admin *admin);

#endif

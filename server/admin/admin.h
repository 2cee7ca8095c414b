#ifndef LASTCALL_ADMIN_H
#define LASTCALL_ADMIN_H

/* The admin listener: probes, metrics, status and orders for operators; docs/admin-api.md describes
 * it. It has its own thread, event loop and context of libh2o, and shares with the loops only what
 * any thread may read: so it answers while they are busy or stuck, and costs them nothing. It
 * closes last, and a drain does not wait for its connections. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "coord.h"
#include "pool.h"

struct admin;
struct inheritance;
struct server;

#define ADMIN_NAME_MAX 48

struct admin_config {
    const char *address;             /* as --admin takes it; NULL: the usual socket */
    const char *name;                /* NULL: after the first listener */
    const char *token_file;          /* NULL: no orders over TCP */
    const char *user;                /* gets a Unix socket that root makes; NULL: nobody */
    const char *journal_dir;         /* for /unfinished; NULL: no requests are kept */
    struct inheritance *inheritance; /* listeners of a predecessor; NULL: none */
    pid_t master_pid;                /* of the process that watches this one; 0: none */
};

/* Open its socket, while the process may still be root. Nobody is answered yet. The usual socket
 * (config->address is NULL) is a convenience: where it cannot be made, the log says so, and there
 * is no admin listener (*ret_admin is NULL), as with `off`. Owner:  the caller; ends with
 * admin_destroy(). What *config points to, and the server, are borrowed until then. Thread: main
 * only, after server_configure(). Errors: 0; an enum exit_status: the cause was logged. */
int admin_open(const struct admin_config *config, struct server *server, struct admin **ret_admin);

/* All of these take NULL. */

/* Start the thread, which answers from admin_accept() on.
 * Thread: main only, after server_start().     Errors: 0; a negative errno. */
int admin_start(struct admin *admin, struct pool *pool, struct coord *coord);

struct restarter;

/* Set the restarter that carries out the order /restart; without one the order is refused.
 * Thread: main only, before admin_accept(). */
void admin_set_restarter(struct admin *admin, struct restarter *restarter);

/* Answer, from now on.     Thread: main, or the restarter's; once.     Blocks: never. */
void admin_accept(struct admin *admin);

/* ---- for a restart; Thread: the restarter's ---- */

struct message;

/* Describe listener number `i`, as HANDOVER_LISTENER. False: there are no more.
 * Owner: the descriptor is the caller's, message_release(). */
bool admin_offer(struct admin *admin, size_t i, struct message *ret_message);
/* Did that listener come from the predecessor? */
bool admin_is_inherited(const struct admin *admin, size_t i);
/* Store the identities of the listeners, at most `room`; returns how many. */
size_t admin_ids(const struct admin *admin, uint64_t *ids, size_t room);
/* A successor answers on these listeners: stop accepting on them, and keep their files. */
void admin_followed(struct admin *admin, const uint64_t *taken, size_t count);

/* The process is about to end: remove the socket file, if it is still ours, and wait until the
 * watchers of /events have got the last status, and after a restart until all clients have their
 * answers. That takes some 100 us; the limit is for machines that give the admin thread no
 * processor. A watcher that has stopped reading is not waited for.
 * Debug builds wait longer, for slow machines.
 * Thread: main only.     Blocks: for ADMIN_LEAVE_MS at most. */
#ifdef NDEBUG
#define ADMIN_LEAVE_MS 100
#else
#define ADMIN_LEAVE_MS 2000
#endif
void admin_leave(struct admin *admin);

/* End the thread and join it. Pool and coordinator must still exist.     Thread: main only.
 * Blocks: until it has cut its connections.     Errors: 0; -EBUSY if it did not end until
 * CLOCK_MONOTONIC reads `deadline_ns`: then nothing that the thread reads may be freed. */
int admin_stop(struct admin *admin, uint64_t deadline_ns);

/* Thread: main only, after admin_stop() returned 0 or if admin_start() was never called. */
void admin_destroy(struct admin *admin);

#endif

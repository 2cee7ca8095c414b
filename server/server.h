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

struct server;

struct inheritance;
struct logfiles;
struct server_config;

/* Does libh2o call the functions that replace its own? Not if another libh2o came first in this
 * process. server_create() looks as well, and logs what is wrong.
 * Thread: one at a time.     Blocks: never.     Errors: false, and `error` holds one line. */
bool server_has_library(char *error, size_t error_size);

/* Make a server without listeners and without paths, and look whether libh2o calls the functions
 * that replace its own. config_apply() then reads the configuration into it. Listeners that were
 * passed to this process are taken from `inheritance`, which may be NULL.
 * Owner:  the caller; ends with server_destroy(). *inheritance is borrowed until then.
 * Thread: main only.     Errors: 0 and *ret_server; an enum exit_status: the cause was logged. */
int server_create(struct inheritance *inheritance, struct server **ret_server);

/* Take the settings, which are copied, and set the limits that follow from them. With `dry_run` the
 * limit on open files is not tried out.     Thread: main only, after config_apply(), once.
 * Errors: 0; an enum exit_status: the cause was logged. */
int server_configure(struct server *server, const struct server_config *config, bool dry_run);

/* A socket of the service manager that the configuration does not name is an error; one of a
 * predecessor is closed.
 * Thread: main only, when all listeners are open.     Errors: 0; an enum exit_status: it was
 * logged.
 */
int server_settle_inheritance(struct server *server);

/* The port of the first TCP listener; 0: there is none.     Thread: any, before the drain. */
int server_port(const struct server *server);

/* Its log files: see logfiles.h.     Thread: any, until server_destroy(). */
struct logfiles *server_logfiles(struct server *server);

struct journal;

/* Keep requests on record there; NULL is allowed. Its partitions are the loops'.
 * Owner:  borrowed until server_destroy().     Thread: main only, before server_start(). */
void server_attach_journal(struct server *server, struct journal *journal);

/* Start the loops; they accept from server_open() on.
 * Thread: main only, once.     Blocks: until the loops stand ready.     Errors: 0; a negative
 * errno.
 */
int server_start(struct server *server, struct pool *pool, struct coord *coord);

/* From now on (or no longer) requests for the application wait for it; they do from the start if
 * has_app is set.     Thread: any, one at a time.     Blocks: never. */
void server_hold(void *server, bool hold);

/* Accept, from now on. It cannot fail: every step of a start that may fail comes before, while no
 * accepted connection could be lost.     Thread: main, or the restarter's; once.     Blocks:
 * never. */
void server_open(struct server *server);

/* ---- for the restarter, see restarter.h; Thread: the restarter's, or main only before it ---- */

/* As admin_offer(), see admin.h. */
bool server_offer(struct server *server, size_t i, struct message *ret_message);
bool server_is_inherited(const struct server *server, size_t i);
size_t server_listener_count(const struct server *server);
/* `more` are identities of listeners that are taken, too. */
void server_describe(const struct server *server, const uint64_t *more, size_t more_count,
                     struct message *message);
/* See tickets.h. */
bool server_offer_ticket_key(struct server *server, size_t i, struct message *ret_message);
void server_take_ticket_key(struct server *server, const struct message *message);
void server_followed(struct server *server, const uint64_t *taken, size_t taken_count,
                     const uint64_t *welcome, size_t welcome_count, int conns_fd);

/* The coordinator's calls. census, and list_requests without `freeze`, are for any thread. */
extern const struct coord_server_ops server_ops;

/* Does every loop turn, and the pool finish jobs while it has a queue? As of the watchdog's last
 * look, see watchdog.h; true where watchdog.stall is off.     Thread: any, between server_start()
 * and server_destroy().     Blocks: never. */
bool server_is_moving(struct server *server);

/* How often a loop, a worker or the pool was found to stand still.     Thread: as above. */
uint64_t server_stalls(struct server *server);

/* End the loops. Returns 0, or -EBUSY if a loop did not end, or a thread still holds a request that
 * is kept (exchange_hold()), until CLOCK_MONOTONIC reads `deadline_ns`: then nothing may be freed
 * and the process should leave by _exit(2).     Thread: main only.     Blocks: yes. */
int server_stop(struct server *server, uint64_t deadline_ns);

/* Free what libh2o keeps for this thread, which ends now. For pool_config.on_driver_end, and for a
 * thread that has called server_destroy().     Thread: any; its own. */
void server_end_thread(void *server);

/* Free it all. NULL is allowed.     Thread: main only, after server_stop() returned 0 or if
 * server_start() was never called; when the pool is idle,
 * and before it is gone. */
void server_destroy(struct server *server);

/* After the drain: close the listeners that its deadline has left open. They keep newcomers out
 * without a word, as the drain does for a moment, and a process that goes on must not let them
 * wait. Thread: the coordinator's, after coord_run(). */
void server_close_listeners(struct server *server);

#endif

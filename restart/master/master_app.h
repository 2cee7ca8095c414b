#ifndef LASTCALL_MASTER_APP_H
#define LASTCALL_MASTER_APP_H

/* The application of a master: it stays while the workers change. A worker reads the configuration
 * and sends the settings of the application (app_message.h) before READY; those of the first
 * worker start it. The app thread (app.h) reports its state; a descriptor wakes the master's
 * thread, which passes the state on to the workers.
 *
 *     worker          --HANDOVER_APP-->   master_app_receive(), _start(), _settle()
 *     app thread      --[ mu, eventfd ]-> master_app_poll()  --HANDOVER_HOLD, _DRAIN--> workers
 *     no worker left                      master_app_is_stopped()
 *
 * Settings of later workers replace the time limits, and whether the application is restarted when
 * it ends. Its address and its user stay what they were when it was started; if the configuration
 * differs from that, the log says so. */

#include <stdbool.h>
#include <stdint.h>

#include "handover.h"

struct master_app;

struct master_app_state {
    bool holds;     /* requests for it wait */
    bool was_up;    /* it has answered once */
    bool has_ended; /* by itself, and is not restarted: the service ends with `status` */
    int status;
    char detail[96]; /* how it ended, for people */
    bool is_gone;    /* its process has ended */
};

/* `command` is borrowed. If it is NULL, there is no application, and *ret_app is NULL, which all
 * functions below accept.
 * Owner:  the caller; ends with master_app_destroy().
 * Thread: main only, before any other.     Errors: 0; a negative errno. */
int master_app_create(char *const *command, struct master_app **ret_app);

/* Thread: all of these: main only. */

/* A worker is about to be started: discard settings that an earlier one has sent. */
void master_app_begin_worker(struct master_app *app);

/* A worker has sent HANDOVER_APP, before READY.     Blocks: never. */
void master_app_receive(struct master_app *app, const struct message *message);

/* The first worker is READY: start the application, if it has sent settings.
 * Blocks: until execve(2) has succeeded; no client is served yet.
 * Errors: as app_start(), logged. */
int master_app_start(struct master_app *app);

/* The worker that sent settings last serves now: use them.     Blocks: never. */
void master_app_apply(struct master_app *app);

/* Add to COMMIT whether requests wait, and note that in *ret_sent_hold. */
void master_app_commit(const struct master_app *app, struct message *message, bool *ret_sent_hold);

/* Tell a worker whether requests wait, unless it already knows (*sent_hold). Returns false if it
 * does not read; try again later. */
bool master_app_send_hold(const struct master_app *app, int channel, bool *sent_hold);

/* Tell a worker that the application has ended.     Errors: as message_send(). */
int master_app_send_end(const struct master_app *app, int channel);

/* To be polled; readable when the state has changed. -1: no application. */
int master_app_fd(const struct master_app *app);

/* The current state. */
const struct master_app_state *master_app_poll(struct master_app *app);

/* Has it answered once? Also true without an application. */
bool master_app_is_up(const struct master_app *app);

/* The service stops (or its stop was called off): the application may end. */
void master_app_expect_end(struct master_app *app, bool expected);

/* See app_signal(). */
void master_app_signal(struct master_app *app, int signo);

/* No worker is left: stop the application within its grace, which is shorter if the drain was cut
 * short. Returns true once it has ended, or even SIGKILL has failed. */
bool master_app_is_stopped(struct master_app *app, bool was_cut_short);

/* When to call that again even if the state does not change; CLOCK_NEVER. */
uint64_t master_app_due_ns(const struct master_app *app);

void master_app_destroy(struct master_app *app);

#endif

#ifndef LASTCALL_MASTER_APP_H
#define LASTCALL_MASTER_APP_H

/* The application of a master: one that stays while the workers change. The worker reads the
 * configuration and says what it has about the application (app_settings.h) before it is READY; the
 * first one so starts it. The app thread (app.h) says how it fares, and the master's thread hears
 * of that through a descriptor, and passes it on to its workers.
 *
 *     worker          --HANDOVER_APP-->   master_app_hear(), _start(), _settle()
 *     app thread      --[ mu, eventfd ]-> master_app_look()  --HANDOVER_HOLD, _DRAIN--> workers
 *     no worker left                      master_app_is_stopped()
 *
 * What later workers say replaces the times and whether it is started again when it ends. Where it
 * answers and as whom it runs holds for as long as the master lives, since it was started so; a
 * configuration that says otherwise by then gets a line in the log. */

#include <stdbool.h>
#include <stdint.h>

#include "handover.h"

struct master_app;

struct master_app_state {
    bool holds;     /* requests for it are to wait */
    bool was_up;    /* it has answered once */
    bool has_ended; /* by itself, for good; so the service ends, with `status` */
    int status;
    char detail[96]; /* how, for people */
    bool is_gone;    /* it runs no more */
};

/* `command` is borrowed, NULL: there is none, and *ret_app is NULL. All that follow take that NULL.
 * Owner:  the caller; ends with master_app_destroy().
 * Thread: main only, before any other.     Errors: 0; a negative errno. */
int master_app_create(char *const *command, struct master_app **ret_app);

/* Thread: all of these: main only. */

/* A worker is about to be started: forget what the last one said. */
void master_app_forget(struct master_app *app);

/* A worker that is not READY yet has said something.     Blocks: never. */
void master_app_hear(struct master_app *app, const struct handover_message *message);

/* The first worker is READY: start the application, if it had anything to say of it.
 * Blocks: until execve(2) has succeeded, while nobody is served yet.
 * Errors: as app_start(), and there is one line in the log. */
int master_app_start(struct master_app *app);

/* The worker that spoke last is in charge: what it said holds.     Blocks: never. */
void master_app_settle(struct master_app *app);

/* Whether COMMIT goes to a worker that has to know of a hold; what it is told is noted. */
void master_app_commit(const struct master_app *app, struct handover_message *message,
                       bool *ret_told_hold);

/* Tell a worker whether requests are to wait, unless that is what `told_hold` says already. Returns
 * false if it does not read just now: later, then. */
bool master_app_tell(const struct master_app *app, int channel, bool *told_hold);

/* Tell a worker that the application has ended.     Errors: as handover_send(). */
int master_app_tell_end(const struct master_app *app, int channel);

/* To be polled; readable when there is news. -1: none will come. */
int master_app_fd(const struct master_app *app);

/* Take the news. Returns how it fares by now. */
const struct master_app_state *master_app_look(struct master_app *app);

/* Has it answered, or is there none to wait for? */
bool master_app_is_up(const struct master_app *app);

/* The service stops (or no longer does): an end that comes by now was to be expected. */
void master_app_expect_end(struct master_app *app, bool expected);

/* For the application: see app_signal(). */
void master_app_signal(struct master_app *app, int signo);

/* No worker is left: see to it that the application ends, within its grace (less, where requests
 * were cut short). Returns whether it has, or is beyond help. */
bool master_app_is_stopped(struct master_app *app, bool was_cut_short);

/* When to call that again if there is no news; CLOCK_NEVER. */
uint64_t master_app_due_ns(const struct master_app *app);

void master_app_destroy(struct master_app *app);

#endif

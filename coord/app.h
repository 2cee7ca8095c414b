#ifndef LASTCALL_APP_H
#define LASTCALL_APP_H

/* The application behind the server: `lastcall --proxy URL -- command`. One thread, "app", starts
 * its process, finds out when it answers, sees it end, and ends it. What is decided is decided by
 * app_rules.h; here are the process, the descriptors and the clock.
 *
 *     main          app_start(): returns once the process runs (or can not)
 *     app thread    --on_hold()--> the server: requests wait, or go on
 *                   --coord_request_drain(), coord_end_with()--> it has ended, so must we
 *     main          app_stop(): after the drain; TERM, and KILL after its grace
 *
 * The process has a group of its own, no signal blocked, the limit on open files that we were
 * started with, and PORT from the address unless that is set. Whatever is left of its group when it
 * has ended is killed. It does not survive us: the kernel sends it SIGKILL when we are gone.
 *
 * What the application leaves behind becomes our child, as it becomes that of process 1 (we are a
 * subreaper, prctl(2)), and the thread reaps it: also where the container's first process would
 * not. So it is the only one that may wait for children. (libh2o does so while it reads a
 * configuration, which is over by then.) */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "app_rules.h"
#include "coord.h"
#include "probe.h"

struct app;

struct app_config {
    char *const *argv; /* the command, NULL-terminated; NULL: none, only orphans are reaped */
    struct probe_target target;
    uint16_t port; /* PORT for it; 0: none */
    struct app_rules_config rules;
    struct rlimit files; /* its limit on open files */
    /* Requests are to wait (they do from the start), or to go on. On the app thread, must not
     * block. */
    void (*on_hold)(void *arg, bool hold);
    void *on_hold_arg;
};

/* Is there anything to do? As process 1 there are orphans to reap.     Thread: any. */
bool app_wanted(const struct app_config *config);

/* Start the thread, and on it the process.
 * Owner:  the caller; ends with app_destroy(). What the config points to is borrowed until then.
 * Thread: main only.     Blocks: until execve(2) has succeeded.
 * Errors: 0; -EADDRINUSE, something answers at the address already; -ENOENT and whatever else
 *         execve(2) says; another negative errno. */
int app_start(const struct app_config *config, struct coord *coord, struct app **ret_app);

/* A signal that is for the application rather than for us: hand it on to its group; or one that
 * asks us to end, while the application is all that we wait for: then it is killed. Returns whether
 * there was somebody to hand it to.     Thread: any.     Blocks: never. */
bool app_signal(struct app *app, int signo);

/* Tell the application to end, kill it after `grace_ns`, and wait for that; then no request may be
 * in flight at it any more. NULL is allowed.
 * Thread: main only.     Blocks: for the grace, and a moment. */
void app_stop(struct app *app, uint64_t grace_ns);

/* Stop and join the thread, after app_stop(). NULL is allowed.     Thread: main only. */
void app_destroy(struct app *app);

#endif

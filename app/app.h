#ifndef LASTCALL_APP_H
#define LASTCALL_APP_H

/* The application that lastcall starts: `lastcall --proxy URL -- command`. One thread, "app",
 * starts its process, finds out when it answers, sees it end, and stops it. app_rules.h decides;
 * this module has the process, the descriptors and the clock. It knows its owner only through
 * `struct app_ops`.
 *
 *     main          app_start(): returns once the process runs, or could not be started
 *     app thread    --hold()---> requests for the application wait, or go on
 *                   --up()-----> the application answers for the first time
 *                   --ended()--> it ended by itself and is not restarted: the service must end
 *     main          app_stop(): after the drain; SIGTERM, and SIGKILL after the grace
 *                   --gone()---> the process has ended
 *
 * The process leads a process group of its own. It has no signal blocked, the limit on open files
 * that lastcall was started with, and PORT from the address unless PORT is set. When it has ended
 * by itself, the rest of its group is killed. It does not outlive lastcall: the kernel sends it
 * SIGKILL (PR_SET_PDEATHSIG).
 *
 * Orphans of the application become our children, because this process is a subreaper (prctl(2)).
 * The app thread reaps them, unless a master does. Children that another thread waits for are
 * claimed (claim.h). (libh2o waits for children too, but only while it reads a configuration, and
 * that is over before app_start().) A master has other children, and reaps orphans itself: see
 * reap_orphans() in master.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "app_settings.h"

struct app;

/* The owner's callbacks. All are called on the app thread, and must not block. */
struct app_ops {
    /* Requests for the application wait (as they do from the start), or go on. */
    void (*hold)(void *arg, bool hold);
    /* The application answers for the first time. */
    void (*up)(void *arg);
    /* The application ended by itself and is not restarted, or it never answered. The service must
     * end, too, with exit status `status`. `detail` says what happened, for people. */
    void (*ended)(void *arg, const char *detail, int status);
    /* The application has ended and will not be started again.     May be NULL. */
    void (*gone)(void *arg);
    /* Are the listeners closed, or about to be? The log line about the end depends on it. */
    bool (*is_closing)(void *arg);
};

struct app_config {
    char *const *argv; /* the command, NULL-terminated; NULL: no application, only reap orphans */
    struct app_settings settings;
    struct rlimit files; /* its limit on open files */
    bool reaps;          /* reap every child: each is the application's, or an orphan */
    const struct app_ops *ops;
    void *arg;
};

/* Does this process need an app thread? Process 1 does even without an application, to reap
 * orphans.     Thread: any. */
bool app_wanted(const struct app_config *config);

/* Start the app thread, and on it the process.
 * Owner:  the caller; ends with app_destroy(). What the config points to is borrowed until then.
 * Thread: main only.     Blocks: until execve(2) has succeeded.
 * Errors: 0; -EADDRINUSE, something already answers at the address; -ENOENT and other errors of
 *         execve(2); another negative errno. */
int app_start(const struct app_config *config, struct app **ret_app);

/* Pass a signal that is meant for the application on to its process group. SIGINT, SIGTERM or
 * SIGQUIT instead ends the application's grace, if app_begin_stop() has been called. Returns
 * whether there was a process to signal.     Thread: any.     Blocks: never. */
bool app_signal(struct app *app, int signo);

/* Use these rules from now on. A start or a stop that is under way keeps its time limit.
 * Thread: any.     Blocks: never. */
void app_set_rules(struct app *app, const struct app_rules_config *rules);

/* Send SIGTERM, and SIGKILL after `grace_ns`. No request may be in flight at the application any
 * more. Calls gone() when the process has ended. Returns the time by which it must have ended:
 * after that, even SIGKILL has failed.
 * Thread: main only.     Blocks: never. */
uint64_t app_begin_stop(struct app *app, uint64_t grace_ns);

/* The same, and wait for the end. NULL is allowed.
 * Thread: main only.     Blocks: for the grace, plus at most a second. */
void app_stop(struct app *app, uint64_t grace_ns);

/* Stop and join the thread, after app_stop(). NULL is allowed.     Thread: main only. */
void app_destroy(struct app *app);

#endif

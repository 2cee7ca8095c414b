#ifndef LASTCALL_APP_H
#define LASTCALL_APP_H

/* The application behind the server: `lastcall --proxy URL -- command`. One thread, "app", starts
 * its process, finds out when it answers, sees it end, and ends it. What is decided is decided by
 * app_rules.h; here are the process, the descriptors and the clock. It knows nothing of who has it,
 * but what `struct app_ops` says.
 *
 *     main          app_start(): returns once the process runs (or can not)
 *     app thread    --hold()---> requests wait, or go on
 *                   --up()-----> it answers, for the first time
 *                   --ended()--> by itself, for good: so must we
 *     main          app_stop(): after the drain; TERM, and KILL after its grace
 *                   --gone()---> in answer to that
 *
 * The process has a group of its own, no signal blocked, the limit on open files that we were
 * started with, and PORT from the address unless that is set. Whatever is left of its group when it
 * has ended is killed. It does not survive us: the kernel sends it SIGKILL when we are gone.
 *
 * What the application leaves behind becomes our child, as it becomes that of process 1 (we are a
 * subreaper, prctl(2)), and has to be reaped: also where the container's first process would not.
 * The thread does so where it is the only one that waits for children. (libh2o does while it reads
 * a configuration, which is over by then.) A master has other ones, and reaps for itself: see
 * reap_strays() in master.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "app_settings.h"

struct app;

/* What who has it is told, and asked. All are called on the app thread, and must not block. */
struct app_ops {
    /* Requests for it are to wait (they do from the start), or to go on. */
    void (*hold)(void *arg, bool hold);
    /* It answers, for the first time. */
    void (*up)(void *arg);
    /* It has ended by itself and is not tried again, or never came up: the service has to end, too,
     * and with `status`. `detail` says how, for people. */
    void (*ended)(void *arg, const char *detail, int status);
    /* It runs no more, and will not.     May be NULL. */
    void (*gone)(void *arg);
    /* Are the listeners closed, or about to be? For the words about its end. */
    bool (*is_closing)(void *arg);
};

struct app_config {
    char *const *argv; /* the command, NULL-terminated; NULL: none, only orphans are reaped */
    struct app_settings settings;
    struct rlimit files; /* its limit on open files */
    bool reaps;          /* whatever child has ended is the application's, or an orphan */
    const struct app_ops *ops;
    void *arg;
};

/* Is there anything to do? As process 1 there are orphans to reap.     Thread: any. */
bool app_wanted(const struct app_config *config);

/* Start the thread, and on it the process.
 * Owner:  the caller; ends with app_destroy(). What the config points to is borrowed until then.
 * Thread: main only.     Blocks: until execve(2) has succeeded.
 * Errors: 0; -EADDRINUSE, something answers at the address already; -ENOENT and whatever else
 *         execve(2) says; another negative errno. */
int app_start(const struct app_config *config, struct app **ret_app);

/* A signal that is for the application rather than for us: hand it on to its group; or one that
 * asks us to end, while the application is all that we wait for: then it is killed. Returns whether
 * there was somebody to hand it to.     Thread: any.     Blocks: never. */
bool app_signal(struct app *app, int signo);

/* From now on it lives by these; not so a start, or an end, that is under way.
 * Thread: any.     Blocks: never. */
void app_set_rules(struct app *app, const struct app_rules_config *rules);

/* Tell the application to end, and kill it after `grace_ns`: no request may be in flight at it any
 * more. gone() follows, at the latest at what is returned: behind that it is beyond SIGKILL, too.
 * Thread: main only.     Blocks: never. */
uint64_t app_begin_stop(struct app *app, uint64_t grace_ns);

/* The same, and wait for it. NULL is allowed.
 * Thread: main only.     Blocks: for the grace, and a moment. */
void app_stop(struct app *app, uint64_t grace_ns);

/* Stop and join the thread, after app_stop(). NULL is allowed.     Thread: main only. */
void app_destroy(struct app *app);

#endif

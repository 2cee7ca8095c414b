#ifndef LASTCALL_APP_P_H
#define LASTCALL_APP_P_H

/* What the files of the application share:
 *
 *     app.c          the thread, and what other threads order
 *     app_watch.c    does the application answer?
 *     app_exit.c     its leader, its group and orphans end
 *     app_advice.c   carries out what the rules (app_rules.h) advise
 *     app_process.c  starts the process, signals its group
 *
 * Each file calls only files below it in this list. All functions run on the app thread, except
 * where they say otherwise. */

#include <pthread.h>
#include <sys/types.h>

#include "app.h"

struct app {
    /* immutable after app_start */
    struct app_config config;
    pthread_t thread;
    char **environment;
    char port[16];  /* PORT=65535 */
    int event_fd;   /* wake-ups, see wakeup.h */
    int orphans_fd; /* signalfd for SIGCHLD */
    bool runs_thread;
    bool picked_port; /* PORT is ours to say, see APP_PORT_ENVIRONMENT */
    /* app thread */
    struct app_rules rules;
    struct probe probe;
    uint64_t probe_at_ns;    /* the next attempt, or the time limit of this one */
    uint64_t probe_pause_ns; /* from the next attempt to the one after it */
    int pid_fd;              /* -1: no leader to wait for */
    pid_t group;             /* 0: none; outlives its leader, see group note */
    uint64_t term_sent_ns;   /* when SIGTERM was sent; 0: it was not */
    int status;              /* of the last leader: exit status, or 128 + signal */
    bool held;               /* the argument of the last hold() */
    bool said_up;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed; /* `started`, `gone` */
    pid_t leader;           /* 0: none; reaped under the lock, so no signal meets a reused pid */
    bool started;           /* the first start has succeeded or failed; then: */
    int start_error;
    bool gone; /* the rules are in APP_GONE */
    bool want_stop, want_exit, want_rules;
    uint64_t grace_ns;
    struct app_rules_config new_rules;
};

/* ---- app_process.c ---- */

/* The command's name, for messages.     Thread: any. */
const char *app_name(const struct app *app);

/* The environment of the application: ours, without what concerns only us, and with `port`
 * ("PORT=8080") if it `overrides` PORT, or PORT is not set.
 * Thread: main only.     Errors: NULL, no memory. */
char **app_make_environment(char *port, bool overrides);

/* Start the process.     Blocks: until execve(2) has succeeded.     Errors: 0; a negative errno. */
int app_spawn(struct app *app);

void app_signal_group(struct app *app, int signo);

/* "ended with status 3", "was ended by SIGKILL".     Thread: any. */
const char *app_describe_end(int status, char text[48]);

/* ---- app_advice.c ---- */

/* Call hold() if what the rules say has changed. */
void app_tell_hold(struct app *app);

/* Do what `advice` (enum app_advice) says. */
void app_carry_out(struct app *app, unsigned advice);

/* The process has ended, and the rules have given `advice`. */
void app_after_end(struct app *app, unsigned advice);

/* The process has ended, and its group if that is waited for: inform the rules. */
void app_ended(struct app *app);

/* Take over the rules that app_set_rules() has stored. */
void app_take_rules(struct app *app);

/* ---- app_exit.c ---- */

void app_check_leader(struct app *app);
void app_check_group(struct app *app);
void app_reap_orphans(struct app *app);

/* ---- app_watch.c ---- */

/* Go on with the probe while the application starts; `seen` is what poll(2) saw on its descriptor.
 */
void app_watch(struct app *app, short seen);

/* Does something else answer at the application's address? `app` NULL: it does not run yet; else it
 * is false as soon as the server or the application is to stop.
 * Thread: main, before the app thread runs; then that.     Blocks: up to 200 ms for each address.
 */
bool app_address_is_taken(const struct probe_target *target, struct app *app);

/* Is the server closing, or the application to stop?     Thread: the app thread. Lock: mu is not
 * held. */
bool app_is_to_stop(struct app *app);
#define APP_STOP_LOOK_MS 10 /* the app thread waits no longer without asking that */

#endif

#ifndef LASTCALL_PROCESS_H
#define LASTCALL_PROCESS_H

/* All that runs, in one place: main.c makes it ready, parts.c brings its parts up and down,
 * parts_app.c is what has to do with an application behind it, and parts_restart.c what a restart
 * asks of it. */

#include <stdbool.h>
#include <sys/resource.h>

#include "admin.h"
#include "app.h"
#include "app_settings.h"
#include "budget.h"
#include "coord.h"
#include "heartbeat.h"
#include "journal.h"
#include "options.h"
#include "pool.h"
#include "queue.h"
#include "registration.h"
#include "restarter.h"
#include "server.h"
#include "signals.h"
#include "upstream.h"
#include "watch.h"

struct process {
    const struct options *options;
    struct upstream upstream;
    char **argv;
    char *binary;
    bool is_successor; /* or a master's worker: somebody else says when to accept */
    struct restarter *restarter;
    struct server *server;
    struct coord *coord;
    struct journal *journal;
    struct queue *queue;
    struct pool *pool;
    struct signals *signals;
    struct watch *watch;
    struct admin *admin; /* NULL: there is none */
    struct heartbeat *heartbeat;
    struct budget *budget;
    struct app *app;                  /* NULL: none that is ours */
    struct app_settings *masters_app; /* what a master that has it is told of it; NULL: none has */
    struct registration *registration;
    struct rlimit files;  /* the limit on open files, before the server raised it */
    int status;           /* of the process, once it is known; -1; with `error`, of its start */
    const char *at_fault; /* what a start that failed was about, if it knows better than its part */
    char error[JOURNAL_ERROR_SIZE]; /* the whole line about a start that failed; or "" */
};

/* ---- parts.c ---- Thread: main only. */

/* Bring everything up, be the coordinator until it is over, and take everything down, by _exit(2)
 * where something is stuck or nothing is left to do. Returns the exit status. */
int process_serve(struct process *process);

/* The journal's folder and settings, for `--test`.     Errors: 0; an enum coord_exit, logged. */
int process_check_journal(const struct options *options);

struct drain_config process_drain_config(const struct options *options);

/* Of a process or a drain: were requests given up?     Thread: any. */
bool process_is_cut_short(int status);

/* One line in the log; returns `status`.     Thread: any. */
int process_fail(int status, const char *what, int err);
int process_fail_with(int status, const char *error);

/* ---- parts_app.c ---- Thread: main only. */

/* Is there an application that would be started twice by a restart? */
bool process_owns_app(const struct process *process);
int process_start_app(struct process *process);
void process_leave_app(struct process *process);
void process_stop_app(struct process *process);
/* For signals_on_spare(): SIGHUP and the like are for the application, if there is one.
 * Thread: the signal thread. */
bool process_take_spare_signal(void *process, int signo);

/* ---- parts_restart.c ---- */

/* From here on it is this process that serves.     Thread: main, or the restarter's; once. */
void process_take_charge(struct process *process);
int process_start_restarter(struct process *process);
void process_leave_restarter(struct process *process);
void process_stop_restarter(struct process *process);
/* For signals_on_restart().     Thread: the signal thread. */
void process_on_restart_signal(void *restarter, const char *name, const char *detail);

#endif

#ifndef LASTCALL_PROCESS_H
#define LASTCALL_PROCESS_H

/* Everything that runs in the process. main.c prepares it, subsystems.c starts and stops it,
 * subsystems_app.c has what concerns an application, and subsystems_restart.c the callbacks of a
 * restart. */

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
#include "predecessor.h"
#include "watch.h"

struct process {
    const struct options *options;
    struct predecessor predecessor;
    char **argv;
    char *binary;
    bool is_successor; /* or a master's worker: the process that started it says when to accept */

    /* the subsystems; NULL: not started, or not configured */
    struct restarter *restarter;
    struct server *server;
    struct coord *coord;
    struct journal *journal;
    struct queue *queue;
    struct pool *pool;
    struct signals *signals;
    struct watch *watch;
    struct admin *admin;
    struct heartbeat *heartbeat;
    struct budget *budget;
    struct app *app; /* only if this process has started it */
    struct registration *registration;

    struct app_settings
        *masters_app;     /* for a master that starts the application; NULL: none does */
    struct rlimit files;  /* the limit on open files before the server raised it */
    int status;           /* the exit status, once it is known, before that -1; with `error`, of a
                           * start that failed */
    const char *at_fault; /* what a failed start was about; NULL: the subsystem's name says it */
    char error[JOURNAL_ERROR_SIZE]; /* the whole log line about a failed start; or "" */
};

/* ---- subsystems.c ---- Thread: main only. */

/* Start everything, be the coordinator until the drain is over, and stop everything; by _exit(2) if
 * a thread is stuck or nothing is left to do. Returns the exit status. */
int process_serve(struct process *process);

/* End the threads of the pool, after server_destroy(). One that does not end makes the process
 * leave by _exit(2) with `status`.     Thread: main only.     Blocks: briefly. */
void process_end_threads(struct process *process, int status);

/* The journal's folder and settings, for `--test`.     Errors: 0; an enum exit_status, logged. */
int process_check_journal(const struct options *options);

/* ---- paths.c ---- Thread: main only. */

/* Could the files be written that are written while the process serves, or at its end?
 * Errors: 0; an enum exit_status, logged. */
int process_check_paths(const struct options *options);

/* ---- subsystems.c ---- Thread: any. */

/* Does this exit status mean that requests were given up? */
bool process_is_cut_short(int status);

/* Log why the start failed; they return `status`. */
int process_fail(int status, const char *what, int err);
int process_fail_with(int status, const char *error);

/* ---- subsystems_app.c ---- Thread: main only. */

/* Has this process an application, which a successor would start a second time? */
bool process_owns_app(const struct process *process);
int process_start_app(struct process *process);
void process_leave_app(struct process *process);
void process_stop_app(struct process *process);
/* For signals_on_spare(): pass SIGHUP and the like on to the application, if there is one.
 * Thread: the signal thread. */
bool process_take_spare_signal(void *process, int signo);

/* ---- subsystems_restart.c ---- */

/* Accept from now on.     Thread: main, or the restarter's; once. */
void process_take_charge(struct process *process);
int process_start_restarter(struct process *process);
void process_leave_restarter(struct process *process);
void process_stop_restarter(struct process *process);
/* For signals_on_reopen(): open the log files again, and tell the successor and the master.
 * Thread: the signal thread. */
void process_reopen_logs(void *process);
/* For signals_on_restart().     Thread: the signal thread. */
void process_on_restart_signal(void *restarter, const char *name, const char *detail);

#endif

#ifndef LASTCALL_PROCESS_H
#define LASTCALL_PROCESS_H

/* Everything that runs for a server. prepare.c reads the configuration, subsystems.c starts and
 * stops it, subsystems_app.c has what concerns an application, and subsystems_restart.c the
 * callbacks of a restart. */

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

/* Whose server it is; each has all that the ones before it have. */
enum process_role {
    PROCESS_EMBEDDED, /* of a program that has a life of its own */
    PROCESS_RUNNER,   /* of a program that leaves its signals to it */
    PROCESS_PROGRAM,  /* of lastcall itself: an application, restarts */
};

/* What stands before a server of process_main(): see lc_main(). Thread: main only. */
struct process_front {
    /* The flags were read, the file was not. 0; an enum exit_status, logged. */
    int (*set_up)(void *arg);
    /* The server has its configuration. 0; an enum exit_status, logged. */
    int (*configured)(void *arg);
    void (*coordinated)(void *arg); /* there is a coordinator; nothing runs yet */
    void (*began)(void *arg);       /* it accepts */
    void (*over)(void *arg);        /* the drain is over, and process->status the exit status */
    const struct coord_server_ops *ops;
};

struct process {
    const struct process_front *front; /* of a program */
    void *front_arg;                   /* of these calls, and of its ops */
    enum process_role role;
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
    size_t started;       /* subsystems, in their order */
    int status;           /* the exit status, once it is known, before that -1; with `error`, of a
                           * start that failed */
    int start_error;      /* of a subsystem that could not start: a negative errno */
    const char *at_fault; /* what a failed start was about; NULL: the subsystem's name says it */
    char error[JOURNAL_ERROR_SIZE]; /* the whole log line about a failed start; or "" */
};

/* ---- program.c ---- */

/* Be the program lastcall, whose command line this is: a master, or a server. *process has its
 * role, argv, options and front, and the rest zeroed; *options is filled here. By _exit(2) once a
 * drain is over, in a release build; else the exit status.     Thread: main only, before any other
 * starts. */
int process_main(int argc, char **argv, struct process *process, struct options *options);

/* ---- prepare.c ---- Thread: main only. Errors: 0; an enum exit_status, logged. */

/* Make the server, read the configuration, and open the listeners. */
int process_read_configuration(struct process *process, struct options *options);
/* What needs files with passwords, which may be readable by root only. */
int process_read_secrets(struct process *process);
/* `ops` and `server` are those of the server, or of a front before it. */
int process_create_coord(struct process *process, const struct coord_server_ops *ops, void *server);

/* ---- subsystems.c ---- Thread: that of the coordinator. */

/* Start everything; it accepts when this returns. If it fails, what was started must still be left
 * and stopped.     Errors: 0; an enum exit_status, logged. */
int process_start(struct process *process);
/* Is everything started, or was a part left out because the start failed? */
bool process_has_started(const struct process *process);

/* After the drain, and after a start that failed, in this order: */

/* Work that other processes see: leave the registration, the pid file, the journal. It may change
 * process->status. */
void process_leave(struct process *process);
/* End the loops and the jobs, before CLOCK_MONOTONIC reads `until_ns`.     Blocks: yes.
 * Errors: 0; -EBUSY a thread is stuck: nothing may be freed. It may be called again. */
int process_stop_loops(struct process *process, uint64_t until_ns);
/* End the other threads.     Blocks: briefly. */
void process_stop(struct process *process);

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

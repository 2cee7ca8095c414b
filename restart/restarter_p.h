#ifndef LASTCALL_RESTARTER_P_H
#define LASTCALL_RESTARTER_P_H

/* What the files of the restart thread share:
 *
 *     restarter.c              the thread
 *     restarter_successor.c    this process as a successor, or as a master's worker
 *     restarter_predecessor.c  this process as the predecessor
 *     restarter_leave.c        this process at its end
 *     restarter_coord.c        between the coordinator and a restart
 *     restarter_requests.c     what other threads ask for
 *
 * Each file calls only files below it in this list. All functions run on the restart thread, except
 * where they say otherwise. */

#include <pthread.h>
#include <sys/types.h>

#include "restarter.h"

struct restarter {
    /* immutable after restarter_start */
    struct restarter_config config;
    pthread_t thread;
    int wake_fd; /* eventfd */
    uint64_t generation;
    bool is_successor;
    struct restart_news news; /* has its own lock */
    /* restart thread */
    struct succession succession;
    int predecessor_fd; /* -1: none, or closed */
    bool has_handed_over;
    bool is_committed;
    bool owns_listeners;  /* no predecessor will close our listeners, so a restart may begin */
    bool reported_drains; /* what the predecessor was last sent */
    /* mu */
    pthread_mutex_t mu;
    bool asked;
    char trigger[24];
    char detail[96];
    bool must_stop;
    bool logs_reopened;
    enum coord_phase phase; /* the coordinator's last step */
    bool stepped;
    bool is_needed; /* see restarter_leave() */
    bool leaves;
    bool hurries;             /* a stop signal came after the drain */
    bool gives_up;            /* stop waiting for SETTLED: kill the successor */
    pid_t stopping_successor; /* a successor that stops with this process; 0: none */
    bool successor_resumed;   /* its stop was called off */
    bool second_signal_sent;  /* to stopping_successor */
    int successor_status;     /* exit status, once it has ended */
    pthread_cond_t changed;
};

/* ---- restarter_requests.c ---- */

/* Thread: any. */
void restarter_wake(struct restarter *restarter);

/* ---- restarter_coord.c ---- */

/* For coord_on_step(): the coordinator has taken a step.     Thread: the coordinator's. */
void restarter_on_step(void *arg, enum coord_phase phase);

/* Carry out what a step means for a restart. */
void restarter_take_step(struct restarter *restarter, enum coord_phase phase);

/* Tell the predecessor, or the master, that this process drains, or does not any more. */
void restarter_tell_drains(struct restarter *restarter, bool drains);

/* How many signals have asked this process to stop; a stop without a signal counts as one. */
unsigned restarter_count_signals(void *arg);

/* A stop came during the hand-over: pass it on to the successor. */
void restarter_pass_stop_on(struct restarter *restarter, pid_t successor, bool is_final);

/* ---- restarter_leave.c ---- */

/* `stopping_successor` stops with this process: restarter_leave() waits for its end. */
void restarter_set_stopping_successor(struct restarter *restarter, pid_t stopping_successor);

/* Must restarter_leave() wait? Set it, or find out. */
void restarter_set_needed(struct restarter *restarter, bool is_needed);
void restarter_look_whether_needed(struct restarter *restarter);

/* ---- restarter_predecessor.c ---- */

extern const struct succession_hooks restarter_hooks; /* argument: the restarter */

/* A restart is requested: begin it, pass it on to the master, or refuse it. */
void restarter_ask(struct restarter *restarter, const char *trigger, const char *detail);

/* A successor accepts: leave the listeners in `message` to it, and drain. `successor` is 0 where it
 * is another worker of our master. */
void restarter_retire(struct restarter *restarter, const struct message *message, int conns_fd,
                      pid_t successor);

/* Send the keys of session tickets. */
void restarter_send_keys(const struct restarter *restarter, int fd);

/* ---- restarter_successor.c ---- */

/* Errors: 0; -E2BIG, too many listeners; another negative errno.     Thread: main only. */
int restarter_say_ready(struct restarter *restarter);

void restarter_read_predecessor(struct restarter *restarter);

/* Close the channel to the predecessor. */
void restarter_leave_predecessor(struct restarter *restarter);

/* The log files were opened again here: tell the successor, and the master. */
void restarter_pass_logs_reopened(const struct restarter *restarter);

#endif

#ifndef LASTCALL_MASTER_P_H
#define LASTCALL_MASTER_P_H

/* What the files of the master share:
 *
 *     master.c          the loop, signals, the ends of workers
 *     master_workers.c  how one worker follows another
 *     master_stop.c     stops, and the end of the service
 *
 * One thread runs all of them. (The application has a thread of its own, see master_app.h.) */

#include <sys/types.h>

#include "inherit.h"
#include "master.h"
#include "master_app.h"
#include "stops.h"
#include "succession.h"
#include "predecessor.h"

#define RETIRING_MAX 32 /* old workers that still drain; with more, restarts are refused */
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)
#define SEND_AGAIN_NS                                                                              \
    (10 * NS_PER_MS)              /* before a message to a worker that did not read is sent again */
#define STEADY_NS (10 * NS_PER_S) /* after such a life, a worker is replaced at once */

struct worker {
    pid_t pid; /* 0: none */
    int pid_fd;
    int channel;
    bool sent_hold;    /* what it knows: requests for the application wait */
    bool told_to_stop; /* retiring: it was told to stop, and its successor, too */
    uint64_t began_ns;
};

struct master {
    const struct master_config *config;
    int signal_fd;
    struct master_app *app; /* NULL: none */
    struct succession succession;
    struct worker current;
    struct worker retiring[RETIRING_MAX];
    size_t retiring_count;
    struct inheritance listeners;     /* the listeners of the current worker, kept open */
    struct inheritance new_listeners; /* those that the next worker has opened itself */
    char pid_file[256];
    bool is_up;         /* the first worker has accepted */
    bool said_ready;    /* also, the application has answered, if there is one */
    bool is_stopping;   /* a stop has come */
    struct stops stops; /* stop signals, since one was last called off */
    char stop_name[24]; /* the signal; "": none */
    char stop_detail[48];
    uint64_t force_after_ns;   /* which signals count, see stops.h */
    bool worker_stopped_first; /* a worker was told to stop before the master: the next signal is
                                  the same stop */
    bool worker_drains;        /* the worker drains; may be called off */
    bool ends_with_app;        /* the application ended by itself, so the service ends */
    bool must_send_again;      /* a worker did not read a message */
    bool sent_successor_hold;
    bool is_ending; /* the service ends once the last old worker has drained */
    int status;
    int successor_status; /* exit status of a successor that stopped with the service */
    uint64_t backoff_ns;
    uint64_t retry_at_ns; /* CLOCK_NEVER: a worker runs or is starting */
};

/* ---- master_workers.c ---- */

/* Argument: the master. */
extern const struct succession_hooks master_hooks;

/* Start a worker. `trigger` NULL: not a request, but a replacement. */
void master_start_worker(struct master *master, const char *trigger, const char *detail);
/* No worker serves, and the last one died young: wait before the next one. */
void master_try_again_later(struct master *master);
/* Send READY=1 once the worker and the application are up; not after STOPPING=1, which is final to
 * systemd. */
void master_say_ready(struct master *master);
/* Remove the pid file, if it names this process. */
void master_remove_pid_file(const struct master *master);

/* HANDOVER_LOGS of the worker that serves: write to the same log file. */
void master_take_log(const struct message *message);

/* ---- master_stop.c ---- */

/* Start no more workers, and end with `status` once the last one has drained. */
void master_end(struct master *master, int status);
void master_stop_succession(struct master *master);
int master_exit_status(const struct master *master);

/* A stop signal came at `now_ns`: does it count as another order? */
bool master_counts_stop(struct master *master, uint64_t now_ns);
/* A stop that counts: pass it on. At the third, kill all workers. `name` and `detail` are for the
 * workers' log. */
void master_stop(struct master *master, int signo, const char *name, const char *detail);
/* A worker does not read a message: make it drain by SIGTERM, or by closing its channel. */
void master_make_drain(struct worker *worker);
/* A worker was told to stop before the master was: the same signal may be about to arrive here. */
void master_stop_after_worker(struct master *master);
/* Send the current count of stops to the current worker. */
void master_send_stop(struct master *master, bool is_final);

/* The current worker drains, or its drain was called off; or it closes its listeners. */
void master_on_worker_drain(struct master *master, bool drains);
void master_on_worker_stopping(struct master *master);
/* The same from a worker that was retired meanwhile. */
void master_on_retired_drain(struct master *master, const struct worker *worker);
void master_on_retired_stopping(struct master *master, const struct worker *worker);

#endif

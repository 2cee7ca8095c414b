#ifndef LASTCALL_MASTER_P_H
#define LASTCALL_MASTER_P_H

/* What the files of the master share: master.c the loop, its signals, and the workers as processes;
 * master_workers.c how one worker follows another; master_stop.c how it ends. One thread: nothing
 * is shared. (The application has another one, behind master_app.h.) */

#include <sys/types.h>

#include "inherit.h"
#include "master.h"
#include "master_app.h"
#include "succession.h"
#include "upstream.h"

#define RETIRING_MAX 32 /* old workers that still drain; beyond it there is no restart */
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)
#define BEHIND_NS (10 * NS_PER_MS) /* until a worker that did not read is told again */
#define STEADY_NS (10 * NS_PER_S)  /* a worker that lived for so long had no trouble starting */

struct worker {
    pid_t pid; /* 0: none */
    int pid_fd;
    int channel;
    bool told_hold;  /* requests for the application are to wait */
    bool was_told;   /* retiring: to stop, and so was its successor */
    bool by_message; /* it was told to stop by one, and so it is from then on */
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
    struct inheritance held; /* the listeners of the current worker, by our own descriptors */
    struct inheritance new;  /* those that the one to come has opened itself */
    char pid_file[256];
    bool is_up;         /* the first worker has accepted */
    bool said_ready;    /* and the application has answered, if there is one */
    bool is_stopping;   /* told to */
    unsigned stops;     /* how often, since that was called off last */
    bool is_ahead;      /* of the next signal: the worker has been told already */
    bool worker_drains; /* the worker was told to, or we have told it: may be called off */
    bool ends_with_app; /* since that has ended by itself */
    bool is_behind;     /* a worker has to be told something, and does not read */
    bool told_successor_hold;
    bool may_fail;  /* a worker that can not be started is tried again */
    bool is_ending; /* as soon as the last old worker has drained */
    int status;
    int left_status; /* of a successor that had to stop with us */
    uint64_t backoff_ns;
    uint64_t retry_at_ns; /* CLOCK_NEVER: there is a worker, or one is being started */
};

/* ---- master_workers.c ---- */

/* How a worker comes to take over.     Argument: the master. */
extern const struct succession_hooks master_hooks;

/* `trigger` NULL: nobody has asked, there has to be one. */
void master_start_worker(struct master *master, const char *trigger, const char *detail);
/* Nobody serves, and the last one did not live for long. */
void master_try_again_later(struct master *master);
/* The service is up when the worker and the application are. Not behind STOPPING, which a manager
 * takes for final. */
void master_say_ready(struct master *master);
/* Ours only. */
void master_remove_pid_file(const struct master *master);

/* ---- master_stop.c ---- */

/* No other worker from here on; with `status`, as soon as the last one has drained. */
void master_end(struct master *master, int status);
void master_stop_succession(struct master *master);
int master_exit_status(const struct master *master);

/* A signal asks: pass it on. At the third, whoever is left is killed. */
void master_stop(struct master *master, int signo);
/* A worker was told before we were: a signal to all processes may be on its way to us. */
void master_stop_ahead(struct master *master);
/* The same count once more, to who is new: by message. */
void master_send_stop(struct master *master, bool is_final);

/* The worker that serves drains, or does not any more; or has come past the point of no return. */
void master_hear_drain(struct master *master, bool drains);
void master_hear_stopping(struct master *master);
/* The same of one that was retired meanwhile. */
void master_hear_late_drain(struct master *master, const struct worker *worker);
void master_hear_late_stopping(struct master *master, const struct worker *worker);

#endif

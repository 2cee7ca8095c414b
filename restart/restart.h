#ifndef LASTCALL_RESTART_H
#define LASTCALL_RESTART_H

/* The rules of a restart, and nothing else: no process, no clock, no descriptor. succession.c
 * passes in what happened and when, and gets the actions to carry out.
 * docs/dev/life-of-a-restart.md tells the story; the table in restart.c is complete.
 *
 *              REQUEST           READY             probation over        SETTLED
 *     IDLE ------------> STARTING ----> PROBATION --------------> COMMITTING ----> HANDED
 *      ^                  |   |          |   |                     |   |
 *      +---- EXIT --------+   |    EXIT -+   | BROKEN        EXIT -+   | timeout, BROKEN
 *      |                      | timeout,     |                         |
 *      |                      v BROKEN       v                         |
 *      +---- EXIT -------- ENDING <---------------------------<--------+
 *
 *     STOP, from anywhere but COMMITTING and HANDED ----> STOPPED ----> IDLE, when it is called off
 *     CLOSE, from COMMITTING ----> LEAVING ---- SETTLED, EXIT ----> STOPPED
 *
 * After COMMIT the successor holds the same sockets as this process. If the stop is then called
 * off, one of the two goes on serving them, so the other one must not shut them down. Hence a stop
 * that comes in COMMITTING waits for SETTLED, and then applies to the successor. If the stop
 * becomes final first (CLOSE), both processes stop. This process then still waits for SETTLED or
 * EXIT: it ends only after the successor is responsible for what it has accepted, and after the
 * service manager knows its pid.
 *
 * If no process serves (ALONE), there is no probation. */

#include <stdbool.h>
#include <stdint.h>

#define RESTART_STATES(X)                                                                          \
    X(IDLE, "idle")                                                                                \
    X(STARTING, "starting")                                                                        \
    X(PROBATION, "probation")                                                                      \
    X(COMMITTING, "committing")                                                                    \
    X(ENDING, "ending")                                                                            \
    X(LEAVING, "leaving")                                                                          \
    X(HANDED, "handed over")                                                                       \
    X(STOPPED, "stopped")

#define RESTART_STATE_ENUM(id, name) RESTART_##id,
enum restart_state { RESTART_STATES(RESTART_STATE_ENUM) RESTART_STATE_COUNT };
#undef RESTART_STATE_ENUM

enum restart_event {
    RESTART_ON_REQUEST, /* a restart is requested */
    RESTART_ON_READY,   /* the successor has sent READY */
    RESTART_ON_SETTLED, /* it has sent SETTLED: it accepts */
    RESTART_ON_EXIT,    /* its process has ended, or could not be started */
    RESTART_ON_BROKEN,  /* it sent an invalid message */
    RESTART_ON_TIME,    /* the state's time limit has passed */
    RESTART_ON_STOP,    /* this process stops: requests are refused from now on */
    RESTART_ON_CLOSE,   /* after STOP: it cannot be called off any more */
    RESTART_ON_RESUME,  /* the stop was called off */
    RESTART_ON_ALONE,   /* the process that served has ended */
    RESTART_EVENT_COUNT
};

/* What to do, as bits. */
enum restart_action {
    RESTART_DO_SPAWN = 1 << 0,
    RESTART_DO_COMMIT = 1 << 1,   /* tell the successor to accept */
    RESTART_DO_KILL = 1 << 2,     /* it has accepted nothing, or does not respond */
    RESTART_DO_STOP = 1 << 3,     /* tell it to stop; final, without a lame duck */
    RESTART_DO_RETIRE = 1 << 4,   /* hand over the rest, and drain */
    RESTART_DO_REPORT = 1 << 5,   /* log that it failed, and why: see `failure` */
    RESTART_DO_RECLAIM = 1 << 6,  /* it may have overwritten the pid file */
    RESTART_DO_REMEMBER = 1 << 7, /* log that another restart will follow */
    RESTART_DO_REFUSE = 1 << 8,   /* log that there will be no restart */
    RESTART_DO_TRANSFER = 1 << 9, /* it stops after us: the files that both share are its own */
};

enum restart_failure {
    RESTART_FAILED_NOT,          /* also: killed, because a stop had made it useless */
    RESTART_FAILED_BEFORE_READY, /* it exited */
    RESTART_FAILED_TIMEOUT,      /* it did not get ready in time */
    RESTART_FAILED_PROBATION,    /* it exited in probation */
    RESTART_FAILED_COMMIT,       /* it exited, or did not answer, after COMMIT */
    RESTART_FAILED_BROKEN,       /* it sent an invalid message */
};

struct restart_config {
    uint64_t timeout_ns;   /* from the start to READY, and from COMMIT to SETTLED */
    uint64_t probation_ns; /* from READY to COMMIT */
    bool stays;            /* a master: it stays after HANDED, and can restart again */
};

struct restart {
    struct restart_config config;
    enum restart_state state;
    enum restart_failure failure; /* of the present attempt */
    bool again;                   /* requested again while one was under way */
    bool is_stopping;             /* STOP came, and not RESUME */
    bool has_successor;           /* its EXIT has not come yet */
    bool is_alone;                /* no process serves */
    uint64_t due_ns;              /* when RESTART_ON_TIME is due; CLOCK_NEVER: it is not */
};

/* Thread: all of these: the owner's. */
void restart_init(struct restart *restart, const struct restart_config *config);

/* Something happened. Returns the actions to carry out. */
unsigned restart_on(struct restart *restart, enum restart_event event, uint64_t now_ns);

/* In IDLE or HANDED: was another restart requested meanwhile? Returns true once. */
bool restart_take_again(struct restart *restart);

const char *restart_state_name(enum restart_state state);

#endif

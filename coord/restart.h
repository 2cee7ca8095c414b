#ifndef LASTCALL_RESTART_H
#define LASTCALL_RESTART_H

/* The rules of a restart, and nothing else: no process, no clock, no descriptor. Who drives it
 * (succession.c) says what happened and when, and is told what to do. docs/restart.md tells the
 * story; the table in restart.c is all of it.
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
 * A successor that was told to accept holds the same sockets as this process, and one of the two
 * will serve them if the stop is called off: the other one must not shut them behind its back. So a
 * stop that comes then waits for SETTLED, and is the successor's; unless it has become final
 * (CLOSE), and both stop. Then, too, it is waited for: what it has accepted by now must be in good
 * hands, and a service manager must know of it, before this process goes.
 *
 * Where nobody serves (ALONE), nobody waits to see whether the successor stays. */

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
    RESTART_ON_REQUEST, /* somebody wants one */
    RESTART_ON_READY,   /* the successor is up */
    RESTART_ON_SETTLED, /* it accepts */
    RESTART_ON_EXIT,    /* it is gone, or was never there */
    RESTART_ON_BROKEN,  /* it says what makes no sense */
    RESTART_ON_TIME,    /* the state's time is over */
    RESTART_ON_STOP,    /* this process was told to stop: no request is taken from here on */
    RESTART_ON_CLOSE,   /* behind STOP: that can not be called off any more */
    RESTART_ON_RESUME,  /* that was called off */
    RESTART_ON_ALONE,   /* who served is gone */
    RESTART_EVENT_COUNT
};

/* What to do, as bits; in this order. */
enum restart_action {
    RESTART_DO_SPAWN = 1 << 0,
    RESTART_DO_COMMIT = 1 << 1,   /* tell the successor to accept */
    RESTART_DO_KILL = 1 << 2,     /* it has accepted nothing, or is beyond help */
    RESTART_DO_STOP = 1 << 3,     /* tell it to stop, for good and at once */
    RESTART_DO_RETIRE = 1 << 4,   /* hand over what is left, and drain */
    RESTART_DO_REPORT = 1 << 5,   /* say that it failed, and why: see `failure` */
    RESTART_DO_RECLAIM = 1 << 6,  /* it may have put its name where ours was */
    RESTART_DO_REMEMBER = 1 << 7, /* say that another one will follow */
    RESTART_DO_REFUSE = 1 << 8,   /* say that there will be none */
    RESTART_DO_BEQUEATH = 1 << 9, /* it stops as well, but later: what bears our name is its own */
};

enum restart_failure {
    RESTART_FAILED_NOT,          /* or: it was killed when a stop had made it needless */
    RESTART_FAILED_BEFORE_READY, /* it exited */
    RESTART_FAILED_TIMEOUT,      /* it did not get ready in time */
    RESTART_FAILED_PROBATION,    /* it exited in probation */
    RESTART_FAILED_COMMIT,       /* it exited, or was silent, when it was told to accept */
    RESTART_FAILED_BROKEN,       /* it talked nonsense */
};

struct restart_config {
    uint64_t timeout_ns;   /* from the start to READY, and from COMMIT to SETTLED */
    uint64_t probation_ns; /* from READY to COMMIT */
    bool stays;            /* a master: hands over what its worker had, and can do it again */
};

struct restart {
    struct restart_config config;
    enum restart_state state;
    enum restart_failure failure; /* of the present attempt */
    bool again;                   /* asked for once more while it was under way */
    bool is_stopping;             /* STOP came, and not RESUME */
    bool has_successor;           /* its EXIT is still to come */
    bool is_alone;                /* nobody serves */
    uint64_t due_ns;              /* when RESTART_ON_TIME comes; CLOCK_NEVER: it does not */
};

/* Thread: all of these: the caller's own. */
void restart_init(struct restart *restart, const struct restart_config *config);

/* Something happened. Returns the actions to carry out. */
unsigned restart_on(struct restart *restart, enum restart_event event, uint64_t now_ns);

/* Back in IDLE or HANDED: is another one wanted? Asks once: the wish is gone then. */
bool restart_take_again(struct restart *restart);

const char *restart_state_name(enum restart_state state);

#endif

#ifndef LASTCALL_APP_RULES_H
#define LASTCALL_APP_RULES_H

/* The rules by which the application behind the server lives, and nothing else: no process, no
 * clock, no descriptor. The thread beside it (app.c) tells it the time and what it sees, and is
 * told what to do. One list makes the enum and the names, one table the allowed steps.
 *
 *                    it answers
 *      STARTING -------------------> UP
 *       ^  |  |                      | |
 *       |  |  | ended, never ready   | | ended, no restart
 *       |  |  +----------------------(-+------------> GONE
 *       |  | ended, restart          | ended, restart  ^ ^
 *       |  +---------> BACKOFF <-----+                 | |
 *       |                 |    |  stop                 | |
 *       +-----------------+    +-----------------------+ | ended
 *           time is up                                   |
 *      STARTING, UP --------------> STOPPING ------------+
 *                    stop; never ready in time
 *
 *     state      what is true                        requests for it are
 *     STARTING   its process runs, nobody answers    held
 *     UP         its process runs and has answered   handed on
 *     BACKOFF    it has ended and is tried again     held
 *     STOPPING   its process was told to end         handed on (there are none, as a rule)
 *     GONE       it has ended, for good              handed on, and so answered 502
 *
 * "Never ready" is about the first start: an application that can not come up is a mistake, which
 * trying again would only hide. Once it has been up, --restart tries for as long as it takes. */

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

#define APP_STATES(X)                                                                              \
    X(STARTING, "starting")                                                                        \
    X(UP, "up")                                                                                    \
    X(BACKOFF, "backoff")                                                                          \
    X(STOPPING, "stopping")                                                                        \
    X(GONE, "gone")

#define APP_STATE_ENUM(id, name) APP_##id,
enum app_state { APP_STATES(APP_STATE_ENUM) APP_STATE_COUNT };
#undef APP_STATE_ENUM

/* Thread: any. */
const char *app_state_name(enum app_state state);
bool app_state_step_is_allowed(enum app_state from, enum app_state to);

#define APP_BACKOFF_LEAST_NS (100 * NS_PER_MS)
#define APP_BACKOFF_MOST_NS (30 * NS_PER_S)
#define APP_SHORT_GRACE_NS (1 * NS_PER_S)
#define APP_CALM_NS (10 * NS_PER_S) /* so long up, and the next backoff is the least again */

struct app_rules_config {
    uint64_t start_timeout_ns; /* to answer; then it has to go */
    uint64_t grace_ns;         /* from SIGTERM to SIGKILL, where app_rules_stop() says no other */
    bool restart;
};

/* What became of the application as a whole; the first that happens stays. */
enum app_end {
    APP_END_NONE,      /* it runs, or was stopped by us */
    APP_END_BY_ITSELF, /* it ended, and is not started again */
    APP_END_TIMEOUT,   /* it never answered */
};

struct app_rules {
    struct app_rules_config config;
    enum app_state state;
    uint64_t entered_ns;
    uint64_t until_ns; /* when the state's time is up; CLOCK_NEVER: it has none */
    uint64_t backoff_ns;
    unsigned restarts;
    bool was_up; /* ever */
    bool killed; /* SIGKILL was advised: STOPPING, or a later start that took too long */
    enum app_end end;
};

/* What to do now, as bits. */
enum app_advice {
    APP_DO_NOTHING = 0,
    APP_DO_SPAWN = 1 << 0,
    APP_DO_TERM = 1 << 1,
    APP_DO_KILL = 1 << 2,
    APP_DO_DRAIN = 1 << 3, /* the server has to go: `end` says why */
};

/* Thread: all of these: the caller's own lock or thread. Each returns advice, to be followed.
 *
 * The first process is started by the caller: STARTING begins here. */
void app_rules_init(struct app_rules *rules, const struct app_rules_config *config,
                    uint64_t now_ns);

/* From now on these hold. Of a start, or an end, that is under way the time stays as it was. */
void app_rules_configure(struct app_rules *rules, const struct app_rules_config *config);

/* What it is given to end in behind a drain: less where that was cut short, and its requests are
 * answered no more. */
uint64_t app_rules_grace_ns(const struct app_rules_config *config, bool was_cut_short);

/* There is none, and never will be. */
void app_rules_init_gone(struct app_rules *rules);

/* Its address, or its health path, has answered. */
unsigned app_rules_answered(struct app_rules *rules, uint64_t now_ns);

/* Its process has ended, or could not be started again. */
unsigned app_rules_ended(struct app_rules *rules, uint64_t now_ns);

/* It is to end, within `grace_ns`. A later call can only shorten that. */
unsigned app_rules_stop(struct app_rules *rules, uint64_t now_ns, uint64_t grace_ns);

/* Has the clock brought anything? */
unsigned app_rules_look(struct app_rules *rules, uint64_t now_ns);

/* Are requests to wait for it? */
bool app_rules_hold(const struct app_rules *rules);

#endif

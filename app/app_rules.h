#ifndef LASTCALL_APP_RULES_H
#define LASTCALL_APP_RULES_H

/* The rules of the application's life, and nothing else: no process, no clock, no descriptor. The
 * app thread (app.c) passes in the time and what it has seen, and gets advice. One list makes the
 * enum and the names, one table holds the allowed steps.
 *
 *                    it answers
 *      STARTING -------------------> UP
 *       ^  |  |                      | |
 *       |  |  | ended, never ready   | | ended, no restart; went into the background
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
 *     STARTING   its process runs, no answer yet     held
 *     UP         its process runs and has answered   passed on
 *     BACKOFF    it has ended; is restarted later    held
 *     STOPPING   its process has got SIGTERM          passed on (usually there are none)
 *     GONE       it has ended, and stays so          passed on, and so answered 502
 *
 * "Never ready" is about the first start: an application that cannot start is a mistake that
 * retries would only hide. Once it has been up, --restart retries without limit. */

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
#define APP_CALM_NS (10 * NS_PER_S) /* after so long in UP, the next backoff is the least again */

struct app_rules_config {
    uint64_t start_timeout_ns; /* time to answer; after that it is stopped */
    uint64_t grace_ns;         /* from SIGTERM to SIGKILL, for a stop that the rules decide on */
    bool restart;
};

/* Why the service has to end; the first cause stays. */
enum app_end {
    APP_END_NONE,       /* it runs, or lastcall stopped it */
    APP_END_BY_ITSELF,  /* it ended, and is not restarted */
    APP_END_EARLY,      /* it ended before it answered for the first time */
    APP_END_BACKGROUND, /* its process ended, and another of it serves on */
    APP_END_TIMEOUT,    /* it never answered */
};

struct app_rules {
    struct app_rules_config config;
    enum app_state state;
    uint64_t entered_ns;
    uint64_t until_ns; /* the time limit of the state; CLOCK_NEVER: none */
    uint64_t backoff_ns;
    unsigned restarts;
    bool was_up; /* it has answered once */
    bool killed; /* SIGKILL was advised: STOPPING, or a later start that took too long */
    enum app_end end;
};

/* What to do now, as bits. */
enum app_advice {
    APP_DO_NOTHING = 0,
    APP_DO_SPAWN = 1 << 0,
    APP_DO_TERM = 1 << 1,
    APP_DO_KILL = 1 << 2,
    APP_DO_DRAIN = 1 << 3, /* the server must end: `end` says why */
};

/* Thread: all of these: one thread, or under the caller's lock. The caller follows the advice that
 * is returned.
 *
 * Begin in STARTING; the caller starts the first process. */
void app_rules_init(struct app_rules *rules, const struct app_rules_config *config,
                    uint64_t now_ns);

/* Use `config` from now on. A start or a stop that is under way keeps its time limit. */
void app_rules_configure(struct app_rules *rules, const struct app_rules_config *config);

/* The grace after a drain: shorter if the drain was cut short, because no client waits for its
 * answers any more. */
uint64_t app_rules_grace_ns(const struct app_rules_config *config, bool was_cut_short);

/* Begin in GONE: there is no application. */
void app_rules_init_gone(struct app_rules *rules);

/* The probe was answered. */
unsigned app_rules_answered(struct app_rules *rules, uint64_t now_ns);

/* Its process has ended, or could not be restarted. */
unsigned app_rules_ended(struct app_rules *rules, uint64_t now_ns);

/* Its process has ended, and something answers at its address still: it has put itself into the
 * background, out of reach. To restart it would meet itself there. */
unsigned app_rules_went_background(struct app_rules *rules, uint64_t now_ns);

/* It must end within `grace_ns`. A later call can only shorten that. */
unsigned app_rules_stop(struct app_rules *rules, uint64_t now_ns, uint64_t grace_ns);

/* Check the time limit of the state. */
unsigned app_rules_look(struct app_rules *rules, uint64_t now_ns);

/* Must requests wait for it? */
bool app_rules_hold(const struct app_rules *rules);

#endif

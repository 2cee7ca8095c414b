#include "restart.h"

#include <stddef.h>
#include <string.h>

#include "clock.h"

#define RESTART_STATE_NAME(id, name) [RESTART_##id] = name,
static const char *const names[] = {RESTART_STATES(RESTART_STATE_NAME)};

const char *restart_state_name(enum restart_state state)
{
    return names[state];
}

struct step {
    enum restart_state from;
    enum restart_event event;
    enum restart_state to;
    unsigned actions;
    enum restart_failure failure;
};

/* An event without a step changes nothing: a second READY, an exit that was already seen. */
static const struct step steps[] = {
    {RESTART_IDLE, RESTART_ON_REQUEST, RESTART_STARTING, RESTART_DO_SPAWN, 0},
    {RESTART_IDLE, RESTART_ON_STOP, RESTART_STOPPED, 0, 0},

    {RESTART_STARTING, RESTART_ON_READY, RESTART_PROBATION, 0, 0},
    {RESTART_STARTING, RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT,
     RESTART_FAILED_BEFORE_READY},
    {RESTART_STARTING, RESTART_ON_TIME, RESTART_ENDING, RESTART_DO_KILL, RESTART_FAILED_TIMEOUT},
    {RESTART_STARTING, RESTART_ON_BROKEN, RESTART_ENDING, RESTART_DO_KILL, RESTART_FAILED_BROKEN},
    {RESTART_STARTING, RESTART_ON_REQUEST, RESTART_STARTING, RESTART_DO_REMEMBER, 0},
    {RESTART_STARTING, RESTART_ON_STOP, RESTART_STOPPED, RESTART_DO_KILL, 0},

    {RESTART_PROBATION, RESTART_ON_TIME, RESTART_COMMITTING, RESTART_DO_COMMIT, 0},
    {RESTART_PROBATION, RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT, RESTART_FAILED_PROBATION},
    {RESTART_PROBATION, RESTART_ON_BROKEN, RESTART_ENDING, RESTART_DO_KILL, RESTART_FAILED_BROKEN},
    {RESTART_PROBATION, RESTART_ON_REQUEST, RESTART_PROBATION, RESTART_DO_REMEMBER, 0},
    {RESTART_PROBATION, RESTART_ON_STOP, RESTART_STOPPED, RESTART_DO_KILL, 0},
    {RESTART_PROBATION, RESTART_ON_ALONE, RESTART_COMMITTING, RESTART_DO_COMMIT, 0},

    {RESTART_COMMITTING, RESTART_ON_SETTLED, RESTART_HANDED, RESTART_DO_RETIRE, 0},
    {RESTART_COMMITTING, RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM,
     RESTART_FAILED_COMMIT},
    {RESTART_COMMITTING, RESTART_ON_TIME, RESTART_ENDING, RESTART_DO_KILL, RESTART_FAILED_COMMIT},
    {RESTART_COMMITTING, RESTART_ON_BROKEN, RESTART_ENDING, RESTART_DO_KILL, RESTART_FAILED_BROKEN},
    {RESTART_COMMITTING, RESTART_ON_REQUEST, RESTART_COMMITTING, RESTART_DO_REMEMBER, 0},
    {RESTART_COMMITTING, RESTART_ON_CLOSE, RESTART_LEAVING, RESTART_DO_STOP, 0},

    {RESTART_LEAVING, RESTART_ON_SETTLED, RESTART_STOPPED, RESTART_DO_TRANSFER, 0},
    {RESTART_LEAVING, RESTART_ON_EXIT, RESTART_STOPPED, RESTART_DO_RECLAIM, 0},
    {RESTART_LEAVING, RESTART_ON_TIME, RESTART_LEAVING, RESTART_DO_KILL, RESTART_FAILED_COMMIT},
    {RESTART_LEAVING, RESTART_ON_BROKEN, RESTART_LEAVING, RESTART_DO_KILL, RESTART_FAILED_BROKEN},

    {RESTART_ENDING, RESTART_ON_EXIT, RESTART_IDLE, RESTART_DO_REPORT | RESTART_DO_RECLAIM, 0},
    {RESTART_ENDING, RESTART_ON_REQUEST, RESTART_ENDING, RESTART_DO_REMEMBER, 0},
    {RESTART_ENDING, RESTART_ON_STOP, RESTART_STOPPED, 0, 0},

    {RESTART_HANDED, RESTART_ON_REQUEST, RESTART_HANDED, RESTART_DO_REFUSE, 0},
    {RESTART_STOPPED, RESTART_ON_RESUME, RESTART_IDLE, 0,
     0}, /* ENDING, if the successor has not ended yet */
};

void restart_init(struct restart *restart, const struct restart_config *config)
{
    memset(restart, 0, sizeof(*restart));
    restart->config = *config;
    restart->due_ns = CLOCK_NEVER;
    restart->is_alone = config->stays; /* a master has no worker at first */
}

static void enter(struct restart *restart, enum restart_state state, uint64_t now_ns)
{
    if (state == restart->state)
        return;
    restart->state = state;
    switch (state) {
    case RESTART_STARTING:
        restart->failure = RESTART_FAILED_NOT;
        restart->due_ns = now_ns + restart->config.timeout_ns;
        break;
    case RESTART_COMMITTING:
        restart->due_ns = now_ns + restart->config.timeout_ns;
        break;
    case RESTART_PROBATION:
        restart->due_ns = now_ns + (restart->is_alone ? 0 : restart->config.probation_ns);
        break;
    case RESTART_LEAVING: /* keeps the time limit of COMMITTING */
        break;
    default:
        restart->due_ns = CLOCK_NEVER;
        break;
    }
}

static enum restart_state resolve(const struct restart *restart, const struct step *step)
{
    if (step->to == RESTART_HANDED && restart->config.stays)
        return RESTART_IDLE;
    if (step->event == RESTART_ON_RESUME && restart->has_successor)
        return RESTART_ENDING;
    return step->to;
}

static unsigned take(struct restart *restart, const struct step *step, uint64_t now_ns)
{
    if (step->failure != RESTART_FAILED_NOT)
        restart->failure = step->failure;
    if ((step->actions & RESTART_DO_REMEMBER) != 0)
        restart->again = true;
    enter(restart, resolve(restart, step), now_ns);
    if ((step->actions & RESTART_DO_SPAWN) != 0)
        restart->has_successor = true;
    if ((step->actions & RESTART_DO_RETIRE) != 0) /* it belongs to no one, or is now the worker */
        restart->has_successor = restart->is_alone = false;
    return step->actions;
}

unsigned restart_on(struct restart *restart, enum restart_event event, uint64_t now_ns)
{
    if (event == RESTART_ON_STOP) {
        restart->is_stopping = true;
        restart->again = false;
    } else if (event == RESTART_ON_RESUME) {
        restart->is_stopping = false;
    } else if (event == RESTART_ON_EXIT) {
        restart->has_successor = false;
    } else if (event == RESTART_ON_ALONE) {
        restart->is_alone = true;
    } else if (event == RESTART_ON_TIME) {
        restart->due_ns = CLOCK_NEVER; /* comes once */
    } else if (event == RESTART_ON_REQUEST && restart->is_stopping) {
        return RESTART_DO_REFUSE;
    }
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (steps[i].from == restart->state && steps[i].event == event)
            return take(restart, &steps[i], now_ns);
    }
    return 0;
}

bool restart_take_again(struct restart *restart)
{
    if (restart->state != RESTART_IDLE && restart->state != RESTART_HANDED)
        return false;
    bool again = restart->again;
    restart->again = false;
    return again;
}

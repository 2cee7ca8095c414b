#include "app_rules.h"

#include <string.h>

#include "require.h"

static const char *const names[APP_STATE_COUNT] = {
#define NAME(id, name) [APP_##id] = (name),
    APP_STATES(NAME)
#undef NAME
};

#define TO(id) (1U << APP_##id)

static const unsigned allowed[APP_STATE_COUNT] = {
    [APP_STARTING] = TO(UP) | TO(BACKOFF) | TO(STOPPING) | TO(GONE),
    [APP_UP] = TO(BACKOFF) | TO(STOPPING) | TO(GONE),
    [APP_BACKOFF] = TO(STARTING) | TO(GONE),
    [APP_STOPPING] = TO(GONE),
    [APP_GONE] = 0,
};

const char *app_state_name(enum app_state state)
{
    REQUIRE(state < APP_STATE_COUNT);
    return names[state];
}

bool app_state_step_is_allowed(enum app_state from, enum app_state to)
{
    REQUIRE(from < APP_STATE_COUNT && to < APP_STATE_COUNT);
    return (allowed[from] & (1U << to)) != 0;
}

/* The only function that writes the state. */
static void enter(struct app_rules *rules, enum app_state next, uint64_t now_ns, uint64_t for_ns)
{
    REQUIRE(app_state_step_is_allowed(rules->state, next));
    rules->state = next;
    rules->entered_ns = now_ns;
    rules->until_ns = for_ns == CLOCK_NEVER ? CLOCK_NEVER : now_ns + for_ns;
    rules->killed = false;
}

void app_rules_init(struct app_rules *rules, const struct app_rules_config *config, uint64_t now_ns)
{
    memset(rules, 0, sizeof(*rules));
    rules->config = *config;
    rules->state = APP_STARTING;
    rules->entered_ns = now_ns;
    rules->until_ns = now_ns + config->start_timeout_ns;
    rules->backoff_ns = APP_BACKOFF_LEAST_NS;
}

void app_rules_configure(struct app_rules *rules, const struct app_rules_config *config)
{
    rules->config = *config;
}

uint64_t app_rules_grace_ns(const struct app_rules_config *config, bool was_cut_short)
{
    return was_cut_short && config->grace_ns > APP_SHORT_GRACE_NS ? APP_SHORT_GRACE_NS
                                                                  : config->grace_ns;
}

void app_rules_init_gone(struct app_rules *rules)
{
    memset(rules, 0, sizeof(*rules));
    rules->state = APP_GONE;
    rules->until_ns = CLOCK_NEVER;
}

unsigned app_rules_answered(struct app_rules *rules, uint64_t now_ns)
{
    /* It was killed because it was late: the process that answers now is about to end. */
    if (rules->state != APP_STARTING || rules->killed)
        return APP_DO_NOTHING;
    enter(rules, APP_UP, now_ns, CLOCK_NEVER);
    rules->was_up = true;
    return APP_DO_NOTHING;
}

static unsigned try_again(struct app_rules *rules, uint64_t now_ns)
{
    if (rules->state == APP_UP && now_ns - rules->entered_ns >= APP_CALM_NS)
        rules->backoff_ns = APP_BACKOFF_LEAST_NS;
    enter(rules, APP_BACKOFF, now_ns, rules->backoff_ns);
    rules->backoff_ns =
        rules->backoff_ns * 2 < APP_BACKOFF_MOST_NS ? rules->backoff_ns * 2 : APP_BACKOFF_MOST_NS;
    return APP_DO_NOTHING;
}

unsigned app_rules_ended(struct app_rules *rules, uint64_t now_ns)
{
    switch (rules->state) {
    case APP_STARTING:
    case APP_UP:
        if (rules->config.restart && rules->was_up)
            return try_again(rules, now_ns);
        rules->end = rules->was_up ? APP_END_BY_ITSELF : APP_END_EARLY;
        enter(rules, APP_GONE, now_ns, CLOCK_NEVER);
        return APP_DO_DRAIN;
    case APP_STOPPING:
        enter(rules, APP_GONE, now_ns, CLOCK_NEVER);
        return APP_DO_NOTHING;
    default:
        return APP_DO_NOTHING;
    }
}

unsigned app_rules_went_background(struct app_rules *rules, uint64_t now_ns)
{
    if (rules->state != APP_STARTING && rules->state != APP_UP)
        return app_rules_ended(rules, now_ns);
    enter(rules, APP_GONE, now_ns, CLOCK_NEVER);
    rules->end = APP_END_BACKGROUND;
    return APP_DO_DRAIN;
}

unsigned app_rules_stop(struct app_rules *rules, uint64_t now_ns, uint64_t grace_ns)
{
    switch (rules->state) {
    case APP_STARTING:
    case APP_UP:
        enter(rules, APP_STOPPING, now_ns, grace_ns);
        return APP_DO_TERM;
    case APP_BACKOFF:
        enter(rules, APP_GONE, now_ns, CLOCK_NEVER);
        return APP_DO_NOTHING;
    case APP_STOPPING:
        if (!rules->killed && now_ns + grace_ns < rules->until_ns)
            rules->until_ns = now_ns + grace_ns;
        return APP_DO_NOTHING;
    default:
        return APP_DO_NOTHING;
    }
}

unsigned app_rules_look(struct app_rules *rules, uint64_t now_ns)
{
    if (now_ns < rules->until_ns)
        return APP_DO_NOTHING;
    rules->until_ns = CLOCK_NEVER;
    switch (rules->state) {
    case APP_STARTING:
        if (!rules->was_up) {
            rules->end = APP_END_TIMEOUT;
            enter(rules, APP_STOPPING, now_ns, rules->config.grace_ns);
            return APP_DO_TERM | APP_DO_DRAIN;
        }
        rules->killed = true; /* when it ends, BACKOFF follows */
        return APP_DO_KILL;
    case APP_BACKOFF:
        enter(rules, APP_STARTING, now_ns, rules->config.start_timeout_ns);
        rules->restarts++;
        return APP_DO_SPAWN;
    case APP_STOPPING:
        rules->killed = true;
        return APP_DO_KILL;
    default:
        return APP_DO_NOTHING;
    }
}

bool app_rules_hold(const struct app_rules *rules)
{
    return rules->state == APP_STARTING || rules->state == APP_BACKOFF;
}

#include "drain.h"

#include <string.h>

#include "require.h"

void drain_init(struct drain *drain, const struct drain_config *config, uint64_t now_ns)
{
    memset(drain, 0, sizeof(*drain));
    drain->config = *config;
    drain->phase = PHASE_RUNNING;
    drain->entered_ns[PHASE_RUNNING] = now_ns;
    drain->deadline_at_ns = CLOCK_NEVER;
    drain->limit_at_ns = CLOCK_NEVER;
    drain->grace_at_ns = CLOCK_NEVER;
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        drain->class_at_ns[i] = CLOCK_NEVER;
}

const char *drain_class_name(enum drain_class class)
{
    static const char *const names[DRAIN_CLASSES] = {
#define NAME(id, name) [DRAIN_##id] = (name),
        DRAIN_CLASS_LIST(NAME)
#undef NAME
    };
    REQUIRE(class < DRAIN_CLASSES);
    return names[class];
}

/* ---- deadlines ---- */

static uint64_t class_ns(const struct drain_config *config, size_t class)
{
    return class == DRAIN_OTHER || config->class_ns[class] == 0 ? config->deadline_ns
                                                                : config->class_ns[class];
}

uint64_t drain_longest_ns(const struct drain_config *config)
{
    uint64_t longest_ns = 0;
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        if (class_ns(config, i) > longest_ns)
            longest_ns = class_ns(config, i);
    return longest_ns;
}

void drain_limit(struct drain *drain, uint64_t longest_ns)
{
    drain->config.deadline_ns = longest_ns;
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        if (drain->config.class_ns[i] > longest_ns)
            drain->config.class_ns[i] = 0;
}

/* Nine tenths, so that idle connections are gone before the deadline and are not counted as cut. */
static uint64_t most_of(uint64_t deadline_ns)
{
    return deadline_ns - deadline_ns / 10;
}

static uint64_t earlier(uint64_t one_ns, uint64_t other_ns)
{
    return one_ns < other_ns ? one_ns : other_ns;
}

static void keep_limit(struct drain *drain, uint64_t now_ns)
{
    uint64_t left_ns = drain->limit_at_ns > now_ns ? drain->limit_at_ns - now_ns : 0;

    if (drain->limit_at_ns == CLOCK_NEVER)
        return;
    if (drain->limit_at_ns < drain->class_at_ns[DRAIN_TUNNEL])
        drain->has_asked = false; /* they are to leave sooner */
    drain->deadline_at_ns = earlier(drain->deadline_at_ns, drain->limit_at_ns);
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        drain->class_at_ns[i] = earlier(drain->class_at_ns[i], drain->limit_at_ns);
    drain->grace_at_ns = earlier(drain->grace_at_ns, now_ns + most_of(left_ns));
}

void drain_limit_at(struct drain *drain, uint64_t at_ns, uint64_t now_ns)
{
    drain->limit_at_ns = earlier(drain->limit_at_ns, at_ns);
    if (drain->phase == PHASE_CLOSING || drain->phase == PHASE_DRAINING)
        keep_limit(drain, now_ns);
}

void drain_limit_left(struct drain *drain, uint64_t now_ns)
{
    uint64_t left_ns = drain->limit_at_ns > now_ns ? drain->limit_at_ns - now_ns : 0;

    left_ns = (left_ns + NS_PER_MS / 2) / NS_PER_MS * NS_PER_MS; /* as it was ordered */
    if (left_ns < drain->config.deadline_ns)
        drain->config.deadline_ns = left_ns;
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        if (drain->config.class_ns[i] > left_ns)
            drain->config.class_ns[i] = 0;
}

uint64_t drain_lame_duck_until_ns(const struct drain *drain)
{
    uint64_t from_ns = drain->entered_ns[PHASE_LAME_DUCK];
    uint64_t until_ns = from_ns + drain->config.lame_duck_ns;

    if (drain->limit_at_ns == CLOCK_NEVER)
        return until_ns;
    return drain->limit_at_ns > from_ns
               ? earlier(until_ns, from_ns + (drain->limit_at_ns - from_ns) / 2)
               : from_ns;
}

uint64_t drain_spread_ns(const struct drain *drain, uint64_t now_ns)
{
    uint64_t deadline_ns = drain->config.deadline_ns;
    uint64_t begin_ns = drain->entered_ns[PHASE_CLOSING];

    if (drain->limit_at_ns != CLOCK_NEVER)
        deadline_ns =
            earlier(deadline_ns, drain->limit_at_ns > begin_ns ? drain->limit_at_ns - begin_ns : 0);
    uint64_t end_ns = begin_ns + most_of(deadline_ns);
    uint64_t room_ns = end_ns > now_ns ? end_ns - now_ns : 0;

    return drain->config.spread_ns < room_ns ? drain->config.spread_ns : room_ns;
}

/* ---- what has no end of its own ---- */

#define FAREWELL_NS NS_PER_S

uint64_t drain_farewell_ns(const struct drain *drain)
{
    uint64_t begin_ns = drain->entered_ns[PHASE_CLOSING];
    uint64_t end_ns = drain->class_at_ns[DRAIN_TUNNEL];

    return earlier(FAREWELL_NS, end_ns > begin_ns ? (end_ns - begin_ns) / 2 : 0);
}

uint64_t drain_farewell_left_ns(const struct drain *drain, uint64_t now_ns)
{
    uint64_t end_ns = drain->class_at_ns[DRAIN_TUNNEL];

    return earlier(drain_farewell_ns(drain), end_ns > now_ns ? end_ns - now_ns : 0);
}

/* The latest instant to be asked at. */
static uint64_t leave_at_ns(const struct drain *drain)
{
    return drain->class_at_ns[DRAIN_TUNNEL] - drain_farewell_ns(drain);
}

uint64_t drain_leave_spread_ns(const struct drain *drain, uint64_t now_ns)
{
    uint64_t end_ns = leave_at_ns(drain);

    return earlier(drain->config.spread_ns, end_ns > now_ns ? end_ns - now_ns : 0);
}

/* With a spread it begins when the listeners are closed; else all are asked at once. */
static bool asks_to_leave(const struct drain *drain, uint64_t now_ns)
{
    return !drain->has_asked && ((drain->config.spread_ns > 0 && drain->phase == PHASE_DRAINING) ||
                                 now_ns >= leave_at_ns(drain));
}

static unsigned due_classes(const struct drain *drain, uint64_t now_ns)
{
    unsigned due = 0;
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        if (now_ns >= drain->class_at_ns[i])
            due |= 1U << i;
    return due;
}

/* ---- requests ---- */

bool drain_request(struct drain *drain, uint64_t now_ns)
{
    if (drain->requested)
        return false;
    drain->requested = true;
    drain->requested_ns = now_ns;
    return true;
}

bool drain_can_undo(const struct drain *drain)
{
    return !drain->forced && (drain->phase == PHASE_RUNNING || drain->phase == PHASE_LAME_DUCK);
}

bool drain_undo(struct drain *drain)
{
    if (!drain_can_undo(drain))
        return false;
    drain->requested = false;
    drain->limit_at_ns = CLOCK_NEVER;
    /* Another request may come before the next look. Both would then be one drain, with the
     * beginning, the counts and the lame duck of the first. */
    drain->called_off = drain->phase == PHASE_LAME_DUCK;
    return true;
}

void drain_force(struct drain *drain)
{
    drain->requested = true;
    drain->forced = true;
}

/* ---- steps ---- */

static enum coord_phase cut_short(struct drain *drain, enum drain_cause cause)
{
    drain->cause = cause;
    return PHASE_ABORTING;
}

static enum coord_phase next_phase(struct drain *drain, uint64_t now_ns,
                                   const struct drain_view *view)
{
    switch (drain->phase) {
    case PHASE_RUNNING:
        if (!drain->requested)
            return PHASE_RUNNING;
        return drain->config.lame_duck_ns > 0 && !drain->forced ? PHASE_LAME_DUCK : PHASE_CLOSING;
    case PHASE_LAME_DUCK:
        if (drain->called_off)
            return PHASE_RUNNING;
        /* Even a forced drain goes through CLOSING: only that keeps new connections out. */
        if (drain->forced)
            return PHASE_CLOSING;
        if (now_ns >= drain_lame_duck_until_ns(drain))
            return PHASE_CLOSING;
        return PHASE_LAME_DUCK;
    case PHASE_CLOSING:
    case PHASE_DRAINING:
        /* Check for quiet first: if the last answer and the deadline come in the same look, the end
         * is clean. */
        if (drain->phase == PHASE_DRAINING && view->quiet && !view->jobs) {
            drain->cause = DRAIN_CAUSE_QUIET;
            return PHASE_DONE;
        }
        if (drain->forced)
            return cut_short(drain, DRAIN_CAUSE_FORCED);
        if (now_ns >= drain->deadline_at_ns)
            return cut_short(drain, DRAIN_CAUSE_DEADLINE);
        /* Requests of a class with a later deadline extend the drain; orphaned jobs do not. */
        if (drain->phase == PHASE_DRAINING && view->quiet &&
            now_ns >= drain->class_at_ns[DRAIN_OTHER])
            return cut_short(drain, DRAIN_CAUSE_DEADLINE);
        return view->listeners_closed ? PHASE_DRAINING : drain->phase;
    case PHASE_ABORTING:
        return view->archived ? PHASE_DONE : PHASE_ABORTING;
    case PHASE_DONE:
    case PHASE_COUNT:
        break;
    }
    return drain->phase;
}

struct drain_advice drain_look(struct drain *drain, uint64_t now_ns, const struct drain_view *view)
{
    struct drain_advice advice = {.next = next_phase(drain, now_ns, view)};

    if (advice.next != drain->phase ||
        (drain->phase != PHASE_CLOSING && drain->phase != PHASE_DRAINING))
        return advice;
    /* In CLOSING too: idle connections may use the descriptors that accept(2) needs. */
    if (!drain->idle_released && now_ns >= drain->grace_at_ns) {
        drain->idle_released = true;
        advice.release_idle = true;
    }
    if (asks_to_leave(drain, now_ns))
        drain->has_asked = advice.ask_to_leave = true;
    /* A deadline is a point in time. What enters a class after its deadline, as a response that
     * begins late, is given up at the next deadline. */
    unsigned due = due_classes(drain, now_ns);
    if (due != drain->given_up)
        advice.give_up = drain->given_up = due;
    return advice;
}

void drain_enter(struct drain *drain, enum coord_phase next, uint64_t now_ns)
{
    REQUIRE(phase_step_is_allowed(drain->phase, next));
    drain->phase = next;
    if (next == PHASE_RUNNING) { /* the drain was called off */
        memset(drain->entered_ns, 0, sizeof(drain->entered_ns));
        drain->called_off = false;
    }
    drain->entered_ns[next] = now_ns;
    if (next == PHASE_CLOSING) {
        uint64_t deadline_ns = drain->config.deadline_ns;
        uint64_t grace_ns = drain->config.idle_grace_ns;

        /* All deadlines are set before anything closes. The idle grace ends early enough for the
         * connections that it closes to be gone by the deadline. */
        if (grace_ns > most_of(deadline_ns))
            grace_ns = most_of(deadline_ns);
        drain->deadline_at_ns = now_ns + drain_longest_ns(&drain->config);
        for (size_t i = 0; i < DRAIN_CLASSES; i++)
            drain->class_at_ns[i] = now_ns + class_ns(&drain->config, i);
        drain->grace_at_ns = now_ns + grace_ns;
        keep_limit(drain, now_ns);
    }
}

static uint64_t next_point_ns(const struct drain *drain)
{
    uint64_t next_ns = drain->deadline_at_ns;

    if (!drain->idle_released && drain->grace_at_ns < next_ns)
        next_ns = drain->grace_at_ns;
    if (!drain->has_asked && leave_at_ns(drain) < next_ns)
        next_ns = leave_at_ns(drain);
    for (size_t i = 0; i < DRAIN_CLASSES; i++)
        if ((drain->given_up & 1U << i) == 0 && drain->class_at_ns[i] < next_ns)
            next_ns = drain->class_at_ns[i];
    return next_ns;
}

uint64_t drain_next_look_ns(const struct drain *drain)
{
    switch (drain->phase) {
    case PHASE_LAME_DUCK:
        return drain_lame_duck_until_ns(drain);
    case PHASE_CLOSING:
    case PHASE_DRAINING:
        return next_point_ns(drain);
    case PHASE_RUNNING:
    case PHASE_ABORTING:
    case PHASE_DONE:
    case PHASE_COUNT:
        break;
    }
    return CLOCK_NEVER;
}

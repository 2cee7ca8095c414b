#include "phase.h"

#include "require.h"

static const char *const names[PHASE_COUNT] = {
#define NAME(id, name) [PHASE_##id] = (name),
    COORD_PHASES(NAME)
#undef NAME
};

#define TO(id) (1U << PHASE_##id)

static const unsigned allowed[PHASE_COUNT] = {
    [PHASE_RUNNING] = TO(LAME_DUCK) | TO(CLOSING),
    [PHASE_LAME_DUCK] = TO(RUNNING) | TO(CLOSING),
    [PHASE_CLOSING] = TO(DRAINING) | TO(ABORTING),
    [PHASE_DRAINING] = TO(ABORTING) | TO(DONE),
    [PHASE_ABORTING] = TO(DONE),
    [PHASE_DONE] = 0,
};

const char *phase_name(enum coord_phase phase)
{
    REQUIRE(phase < PHASE_COUNT);
    return names[phase];
}

bool phase_step_is_allowed(enum coord_phase from, enum coord_phase to)
{
    REQUIRE(from < PHASE_COUNT && to < PHASE_COUNT);
    return (allowed[from] & (1U << to)) != 0;
}

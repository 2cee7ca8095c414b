#include "ticks.h"

#include "loop.h"

/* The time of a loop, and its timers. */

static bool tick_exists(const struct loop *loop, size_t tick)
{
    return loop->ticks[tick].timeout != 0;
}

void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry)
{
    static const uint64_t ms[TICK_COUNT] = {1, 10, 100};

    if (!tick_exists(loop, tick))
        h2o_timeout_init(loop->evloop, &loop->ticks[tick], ms[tick]);
    h2o_timeout_link(loop->evloop, &loop->ticks[tick], entry);
}

uint64_t loop_now_ns(struct loop *loop)
{
    return turn_time_ns(&loop->between_calls.time, loop->evloop);
}

uint64_t loop_patient_ns(struct loop *loop)
{
    return turn_patient_ns(&loop->between_calls.time, loop->evloop);
}

uint64_t loop_patient_ms(struct loop *loop)
{
    return loop_patient_ns(loop) / NS_PER_MS;
}

void loop_ticks_release(struct loop *loop)
{
    for (size_t i = 0; i < TICK_COUNT; i++)
        if (tick_exists(loop, i))
            h2o_timeout_dispose(loop->evloop, &loop->ticks[i]);
}

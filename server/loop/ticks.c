#include "ticks.h"

#include "clock.h"
#include "loop.h"

/* The time of a loop, and its timers. */

static bool tick_exists(const struct loop *loop, size_t tick)
{
    return loop->time.ticks[tick].timeout != 0;
}

void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry)
{
    static const uint64_t ms[TICK_COUNT] = {1, 10, 100};

    if (!tick_exists(loop, tick))
        h2o_timeout_init(loop->evloop, &loop->time.ticks[tick], ms[tick]);
    h2o_timeout_link(loop->evloop, &loop->time.ticks[tick], entry);
}

uint64_t loop_now_ns(struct loop *loop)
{
    /* The library reads its clock once a turn, in milliseconds: as long as that has not moved, our
     * last look at ours is recent enough. */
    if (loop->time.of_turn != h2o_now(loop->evloop)) {
        loop->time.of_turn = h2o_now(loop->evloop);
        loop->time.now_ns = clock_now_ns();
    }
    return loop->time.now_ns;
}

void loop_ticks_release(struct loop *loop)
{
    for (size_t i = 0; i < TICK_COUNT; i++)
        if (tick_exists(loop, i))
            h2o_timeout_dispose(loop->evloop, &loop->time.ticks[i]);
}

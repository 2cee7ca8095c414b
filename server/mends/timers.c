/* Time-outs on the time of day.
 *
 * Fault: libh2o measures all time-outs with gettimeofday(2). If somebody sets the clock forward,
 * every one that is pending ends at once: requests that arrive are cut off, and so are answers
 * under way. If somebody sets it back, none ends until the clock has caught up.
 *
 * Upstream: never changed.
 *
 * And they go on while the process stands still (turn_patient_ns()).
 *
 * Replaced: h2o_timeout_link() and h2o_timeout_run(), the only functions that write and read the
 * time of a timer, and h2o_timeout_get_wake_at(), from which the loop learns how long to wait. A
 * timer's `registered_at` is monotonic, so that a step of the clock does not change it. */

#include "between_calls.h"
#include "library.h"
#include "mends.h"

/* The library subtracts a time-out from the present time. Soon after the machine has started the
 * monotonic time is less than that, so it is moved away from zero. */
#define AWAY_MS (UINT64_C(1) << 40)

/* A longer wait has no end that matters, and in nanoseconds it might not fit. */
#define WAIT_MOST_MS (UINT64_C(1) << 40)

static uint64_t to_ms(uint64_t ns)
{
    return AWAY_MS + ns / NS_PER_MS;
}

uint64_t timers_now_ms(h2o_loop_t *evloop)
{
    return to_ms(turn_patient_ns(&between_calls()->time, evloop));
}

void timers_link(h2o_loop_t *evloop, h2o_timeout_t *timeout, h2o_timeout_entry_t *entry)
{
    library.h2o_timeout_link(evloop, timeout, entry);
    entry->registered_at = timers_now_ms(evloop);
}

void timers_run(h2o_loop_t *evloop, h2o_timeout_t *timeout)
{
    library.h2o_timeout_run(evloop, timeout, timers_now_ms(evloop));
}

/* The library is about to wait until this time of day. It reads the clock once more before it
 * does: if that is set just then, one wait is too short, or lasts until something else ends it. */
uint64_t timers_wake_at(h2o_linklist_t *timeouts)
{
    struct turn_time *time = &between_calls()->time;
    uint64_t wake_at = library.h2o_timeout_get_wake_at(timeouts), now_ns = clock_now_ns();

    /* First of all: since the last look the loop may have stood still in the middle of its turn. */
    turn_time_look(time, now_ns);
    turn_time_end(time);
    if (wake_at == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now = to_ms(now_ns - time->stood_ns), wait = wake_at > now ? wake_at - now : 0;
    if (wait < WAIT_MOST_MS)
        time->due_ns = now_ns + wait * NS_PER_MS;
    return wait == 0 ? 0 : clock_wall_ms() + wait;
}

#ifndef LASTCALL_TICKS_H
#define LASTCALL_TICKS_H

/* The time of a loop, and its timers. */

#include <stdint.h>

#include "clock.h"
#include "h2o_api.h"

struct loop;

/* The monotonic time of a loop's turn. libh2o reads its clock once a turn, and so do we: when
 * somebody first asks. libh2o's clock (h2o_now()) is the time of day, which may be set forward and
 * back, so that no wait is measured with it. */
struct turn_time {
    uint64_t now_ns;  /* 0: nobody has asked in this turn */
    uint64_t h2o_now; /* the library's time then */
};

/* Thread: the one that drives the loop. */
static inline uint64_t turn_time_ns(struct turn_time *time, h2o_loop_t *evloop)
{
    /* The library may read its clock again within a turn. */
    if (time->now_ns == 0 || time->h2o_now != h2o_now(evloop)) {
        time->now_ns = clock_now_ns();
        time->h2o_now = h2o_now(evloop);
    }
    return time->now_ns;
}

/* The loop is about to wait.     Thread: the one that drives it. */
static inline void turn_time_end(struct turn_time *time)
{
    time->now_ns = 0;
}

/* Timers, by how long they take. libh2o looks at every list that exists in every turn, so a list is
 * made when the first timer needs it. */
enum loop_tick { TICK_1_MS, TICK_10_MS, TICK_100_MS, TICK_COUNT };

/* Call `entry` back after a tick; it must not be linked.     Thread: owner loop only. */
void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry);

/* The monotonic time, as it was when somebody first asked in this turn.
 * Thread: owner loop only. */
uint64_t loop_now_ns(struct loop *loop);

/* The same in milliseconds: the clock of the timers.     Thread: owner loop only. */
uint64_t loop_now_ms(struct loop *loop);

/* Free the lists; every timer is unlinked.     Thread: owner loop only. */
void loop_ticks_release(struct loop *loop);

#endif

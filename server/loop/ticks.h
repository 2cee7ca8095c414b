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
    uint64_t now_ns;   /* 0: nobody has asked in this turn */
    uint64_t h2o_now;  /* the library's time then */
    uint64_t due_ns;   /* when the loop is to look at the clock again; 0: it never has */
    uint64_t stood_ns; /* how long the process has stood still in all, see turn_patient_ns() */
};

/* Thread: the one that drives the loop. */
static inline void turn_time_look(struct turn_time *time, uint64_t now_ns)
{
    if (time->due_ns != 0)
        time->stood_ns += clock_stood_ns(time->due_ns, now_ns);
    time->due_ns = now_ns; /* within a turn */
}

/* Thread: the one that drives the loop. */
static inline uint64_t turn_time_ns(struct turn_time *time, h2o_loop_t *evloop)
{
    /* The library may read its clock again within a turn. */
    if (time->now_ns == 0 || time->h2o_now != h2o_now(evloop)) {
        time->now_ns = clock_now_ns();
        time->h2o_now = h2o_now(evloop);
        turn_time_look(time, time->now_ns);
    }
    return time->now_ns;
}

/* The time by which others are judged: it stands still while the process does (SIGSTOP, a container
 * that is paused, a virtual machine that is moved). Otherwise every time-out would be over when it
 * goes on, before anybody could send another byte. It never goes back.
 * Thread: the one that drives the loop. */
static inline uint64_t turn_patient_ns(struct turn_time *time, h2o_loop_t *evloop)
{
    uint64_t now_ns = turn_time_ns(time, evloop);
    return now_ns - time->stood_ns;
}

/* The loop is about to wait: without a timer, until timers_wake_at() says that there is one.
 * Thread: the one that drives it. */
static inline void turn_time_end(struct turn_time *time)
{
    time->now_ns = 0;
    time->due_ns = CLOCK_NEVER;
}

/* Timers, by how long they take. libh2o looks at every list that exists in every turn, so a list is
 * made when the first timer needs it. */
enum loop_tick { TICK_1_MS, TICK_10_MS, TICK_100_MS, TICK_COUNT };

/* Call `entry` back after a tick; it must not be linked.     Thread: owner loop only. */
void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry);

/* The monotonic time, as it was when somebody first asked in this turn.
 * Thread: owner loop only. */
uint64_t loop_now_ns(struct loop *loop);

/* The same as turn_patient_ns() has it, which is the clock of the timers. Never subtract it from
 * the time above, or from that of another loop.     Thread: owner loop only. */
uint64_t loop_patient_ns(struct loop *loop);
uint64_t loop_patient_ms(struct loop *loop);

/* Free the lists; every timer is unlinked.     Thread: owner loop only. */
void loop_ticks_release(struct loop *loop);

#endif

#ifndef LASTCALL_TICKS_H
#define LASTCALL_TICKS_H

/* The time of a loop, and its timers. */

#include <stdint.h>

#include "h2o_api.h"

struct loop;

/* Timers, by how long they take. libh2o looks at every list that exists in every turn, so a list is
 * made when the first timer needs it. */
enum loop_tick { TICK_1_MS, TICK_10_MS, TICK_100_MS, TICK_COUNT };

/* Call `entry` back after a tick; it must not be linked.     Thread: owner loop only. */
void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry);

/* The monotonic time, at most a millisecond old.     Thread: owner loop only. */
uint64_t loop_now_ns(struct loop *loop);

/* Free the lists; every timer is unlinked.     Thread: owner loop only. */
void loop_ticks_release(struct loop *loop);

#endif

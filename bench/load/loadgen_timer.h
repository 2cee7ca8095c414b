#ifndef LASTCALL_LOADGEN_TIMER_H
#define LASTCALL_LOADGEN_TIMER_H

/* One timer for each slot, in a binary heap.     Thread: the run's. */

#include "loadgen_state.h"

/* Set the slot's timer, or move it. When it is due, the run calls load_conn_due(). */
void load_timer_set(struct load_conn *c, uint64_t due_ns);

/* No effect if it is not set. */
void load_timer_clear(struct load_conn *c);

#endif

#ifndef LASTCALL_LOADGEN_OPEN_H
#define LASTCALL_LOADGEN_OPEN_H

/* The open loop: requests arrive at a fixed rate. Without `rate` these functions do nothing.
 * Thread: the run's. */

#include "loadgen_state.h"

int load_open_create(struct load *l);
void load_open_destroy(struct load *l);

/* Queue the requests that are due by now. */
void load_open_take_arrivals(struct load *l);

/* Assign the oldest queued request to a slot with a free permit. Returns the slot, which the caller
 * settles; NULL: no request or no slot. */
struct load_conn *load_open_assign(struct load *l);

/* Stop the run if the last request has arrived and begun. */
void load_open_stop_if_done(struct load *l);

/* When the next request arrives; UINT64_MAX: none will. */
uint64_t load_open_due_ns(const struct load *l);

/* A permit of `c` has become free. */
void load_open_permit_free(struct load_conn *c);

/* `count` of the arrived requests have begun or failed. */
void load_open_settled(struct load *l, uint64_t count);

#endif

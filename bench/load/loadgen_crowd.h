#ifndef LASTCALL_LOADGEN_CROWD_H
#define LASTCALL_LOADGEN_CROWD_H

/* The crowd: connections beside the load. An idle one makes one GET, a silent one sends nothing;
 * then they wait for what the server does.     Thread: the run's. */

#include "loadgen_state.h"

extern const struct load_crowd_hooks load_crowd_hooks;

/* Connect the next ones; only so many are under way at once. */
void load_crowd_gather(struct load *l);

/* Is every one of them open, or over? */
bool load_crowd_is_gathered(const struct load *l);

/* The run is over: note whether the server has closed this connection, then close it. */
void load_crowd_wind_up(struct load_conn *c);

#endif

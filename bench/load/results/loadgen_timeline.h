#ifndef LASTCALL_LOADGEN_TIMELINE_H
#define LASTCALL_LOADGEN_TIMELINE_H

#include "loadgen_state.h"

/* Add one event at l->now_ns to options->timeline.     Thread: the run's. */
void load_timeline_count(struct load *l, enum load_kind kind);

#endif

#ifndef LASTCALL_REPLAY_RUN_H
#define LASTCALL_REPLAY_RUN_H

#include "replay_p.h"

struct replay_plan {
    const char *to; /* as it was given, for messages */
    struct replay_target target;
    unsigned concurrency;
    unsigned max_rate;     /* requests a second; 0: as fast as it goes */
    unsigned max_attempts; /* at one request, in this run */
    bool dry_run, quiet;
};

/* Send what `source` has; returns the status to leave with.     Thread: main only. */
int replay_run(const struct replay_plan *plan, struct replay_source *source);

#endif

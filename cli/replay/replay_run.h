#ifndef LASTCALL_REPLAY_RUN_H
#define LASTCALL_REPLAY_RUN_H

/* The run of a replay: take, send, judge, note the outcome, try again. */

#include <stdint.h>

#include "replay_send.h"
#include "replay_source.h"

struct replay_plan {
    const char *to; /* the value of --to, for messages */
    struct replay_target target;
    uint64_t concurrency;
    uint64_t max_rate;     /* requests per second; 0: no limit */
    uint64_t max_attempts; /* for one request, in this run */
    bool dry_run, quiet;
};

/* Send the requests of `source`; returns the exit status.
 * Thread: main only.     Blocks: for the whole run. */
int replay_run(const struct replay_plan *plan, struct replay_source *source);

#endif

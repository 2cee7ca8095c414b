#ifndef LASTCALL_BUDGET_H
#define LASTCALL_BUDGET_H

/* Will whoever stops this process wait as long as its drain may take? A service manager kills what
 * has not ended in its stop time-out, a pod's runtime what has not in its grace period; a drain
 * that is longer is cut short by SIGKILL, and loses what it was waiting for. Better said at the
 * start. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drain.h"

struct budget;

/* What comes behind the deadline. */
struct budget_tail {
    uint64_t linger_ns;    /* of the last connection */
    uint64_t app_grace_ns; /* of an application behind us; 0: there is none */
};

/* What a stop may take at most: lame-duck, the longest deadline, and what comes behind that.
 * Thread: any. */
uint64_t budget_needed_ns(const struct drain_config *drain, const struct budget_tail *tail);

/* Write the line about it; false: there is enough, and nothing is written. `limit` names what
 * gives the budget. Thread: any. */
bool budget_text(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t budget_ns, const char *limit, char *text, size_t size);

/* Look at `given_ns` (0: not known), and ask the service manager for TimeoutStopSec= of our unit,
 * where there is one: on a thread of its own, since a bus may take its time, and without a word if
 * it can not be had. At most a line for each.
 * Owner:  the caller; ends with budget_stop().     Thread: any.
 * Errors: 0, and *ret_budget, NULL if there was nobody to ask; a negative errno. */
int budget_start(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t given_ns, struct budget **ret_budget);

/* Join the thread. NULL is allowed.     Thread: any other.     Blocks: some seconds at most. */
void budget_stop(struct budget *budget);

#endif

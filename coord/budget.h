#ifndef LASTCALL_BUDGET_H
#define LASTCALL_BUDGET_H

/* Does the stop time-out of the service manager allow for the longest drain? A service manager
 * kills a service that has not ended within its stop time-out, and a container runtime a pod that
 * has not ended within its grace period. SIGKILL then cuts the drain short, and the requests that
 * it waited for are lost. So a warning at the start says when the time-out is too short. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drain.h"

struct budget;

/* What a stop does after the deadline. */
struct budget_tail {
    uint64_t linger_ns;    /* how long the last connection lingers */
    uint64_t app_grace_ns; /* of the application that this process runs; 0: none */
};

/* The longest time that a stop may take: lame duck, the longest deadline, and what follows.
 * Thread: any. */
uint64_t budget_needed_ns(const struct drain_config *drain, const struct budget_tail *tail);

/* Write the warning. Returns false, and writes nothing, if the budget is long enough. `limit` names
 * the setting that gives the budget.     Thread: any. */
bool budget_text(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t budget_ns, const char *limit, char *text, size_t size);

/* Compare with `given_ns` (0: not known), and with TimeoutStopSec= of our systemd unit, if there is
 * one. A thread asks systemd for it, because the bus may be slow; if it gets no answer, it logs
 * nothing. Logs at most one line for each of the two.
 * Owner:  the caller; ends with budget_stop().     Thread: any.
 * Errors: 0, and *ret_budget, which is NULL without a service manager; a negative errno. */
int budget_start(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t given_ns, struct budget **ret_budget);

/* Join the thread. NULL is allowed.     Thread: any other.     Blocks: some seconds at most. */
void budget_stop(struct budget *budget);

#endif

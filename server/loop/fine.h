#ifndef LASTCALL_FINE_H
#define LASTCALL_FINE_H

/* Timers of a loop in nanoseconds, on CLOCK_MONOTONIC. Those of libh2o (ticks.h) count whole
 * milliseconds: one of a millisecond takes up to two. A fine timer costs system calls, so it is for
 * waits that hold up newcomers or the end of the process. */

#include <stdbool.h>
#include <stdint.h>

#include "h2o_api.h"

struct loop;

/* Zeroed: not set. */
struct fine_timer {
    h2o_linklist_t link;
    uint64_t due_ns;
    void (*cb)(struct fine_timer *timer);
};

/* Thread: owner loop only, before it runs.     Errors: 0; a negative errno. */
int fine_open(struct loop *loop);

/* Call timer->cb back once, at `due_ns` or soon after; from a turn of the loop, never from here. A
 * timer that is set is set anew.
 * Owner: the caller, until it was called back or cleared.     Thread: owner loop only. */
void fine_set(struct loop *loop, struct fine_timer *timer, uint64_t due_ns);

/* May be one that is not set.     Thread: owner loop only. */
void fine_clear(struct fine_timer *timer);

/* Thread: owner loop only. */
static inline bool fine_is_set(const struct fine_timer *timer)
{
    return timer->link.next != NULL;
}

/* No timer is called back after this.     Thread: owner loop only. */
void fine_close(struct loop *loop);

#endif

#ifndef LASTCALL_WAKEUP_H
#define LASTCALL_WAKEUP_H

/* Waking a thread that sleeps in poll(2) or epoll(7): a descriptor that other threads make
 * readable, by eventfd(2). Rings that come before the sleeper drains it count as one.
 *
 * The sleeper drains first and looks at its news second. News that is published before the ring is
 * then seen, or the descriptor is readable again. */

/* Owner:  the caller, close(2).     Thread: any.
 * Errors: a descriptor, non-blocking and close-on-exec; a negative errno. */
int wakeup_open(void);

/* Make it readable.     Thread: any, async-signal-safe.     Blocks: never. */
void wakeup_ring(int fd);

/* Make it unreadable until the next ring.     Thread: any.     Blocks: never. */
void wakeup_drain(int fd);

#endif

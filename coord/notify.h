#ifndef LASTCALL_NOTIFY_H
#define LASTCALL_NOTIFY_H

/* What the service manager is told, over the socket in $NOTIFY_SOCKET (sd_notify(3)). Without that
 * socket all of it does nothing. */

#include <stdbool.h>
#include <stdint.h>

/* Does anybody listen?     Thread: any. */
bool notify_wanted(void);

/* Send one or more lines `NAME=value`. A manager that does not take them is waited for once, and
 * briefly: then it is its loss.     Thread: any.     Blocks: 100 ms at most. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How long the manager waits for WATCHDOG=1 before it takes us for dead; 0: it does not.
 * Thread: any. */
uint64_t notify_watchdog_ns(void);

/* From now on another process speaks for the service, and nothing is sent.     Thread: any. */
void notify_hand_over(void);

/* From now on `fd`, the channel to a master, gets all of it: the manager listens to that one only.
 * Thread: main only, before start. */
void notify_through(int fd);

#endif

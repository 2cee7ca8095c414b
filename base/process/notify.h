#ifndef LASTCALL_NOTIFY_H
#define LASTCALL_NOTIFY_H

/* Messages to the service manager, over the socket in $NOTIFY_SOCKET (sd_notify(3)). Without that
 * socket, and on a thread whose scope (scope.h) does not speak for the process, all functions do
 * nothing. */

#include <stdbool.h>
#include <stdint.h>

/* Is there a service manager that listens?     Thread: any. */
bool notify_wanted(void);

/* Send one or more lines `NAME=value`. If the manager does not take them, the call waits once and
 * briefly, and drops them.     Thread: any.     Blocks: 100 ms at most. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How long the manager waits for WATCHDOG=1 before it takes this process for dead; 0: it has no
 * watchdog.     Thread: any. */
uint64_t notify_watchdog_ns(void);

/* Send nothing from now on: another process speaks for the service.     Thread: any. */
void notify_hand_over(void);

/* Pass each text to `send` from now on: the manager listens to another process only, which forwards
 * it. `send` must not block.     Thread: main only, before start. */
void notify_through(void (*send)(void *arg, const char *text), void *arg);

#endif

#ifndef LASTCALL_NOTIFY_H
#define LASTCALL_NOTIFY_H

/* What the service manager is told, over the socket in $NOTIFY_SOCKET (sd_notify(3)). Without that
 * socket, or in a build without libsystemd, all of it does nothing. */

#include <stdbool.h>
#include <stdint.h>

/* Does anybody listen?     Thread: any. */
bool notify_wanted(void);

/* Send one or more lines `NAME=value`.     Thread: any.
 * Blocks: as long as the manager's queue is full; it is sent a few lines a second at most. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How long the manager waits for WATCHDOG=1 before it takes us for dead; 0: it does not.
 * Thread: any. */
uint64_t notify_watchdog_ns(void);

#endif

#ifndef LASTCALL_NOTIFY_H
#define LASTCALL_NOTIFY_H

/* What the service manager is told, over the socket in $NOTIFY_SOCKET (sd_notify(3)). Without that
 * socket, or in a build without libsystemd, all of it does nothing. */

#include <stdbool.h>

/* Does anybody listen?     Thread: any. */
bool notify_wanted(void);

/* Send one or more lines `NAME=value`.     Thread: main, the coordinator's.
 * Blocks: as long as the manager's queue is full; it is sent a line a second at most. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

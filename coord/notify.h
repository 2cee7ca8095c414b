#ifndef LASTCALL_NOTIFY_H
#define LASTCALL_NOTIFY_H

/* What the service manager is told, over the socket in $NOTIFY_SOCKET (sd_notify(3)). Without that
 * socket, or in a build without libsystemd, all of it does nothing. */

#include <stdbool.h>

/* Does anybody listen?     Thread: any. */
bool notify_wanted(void);

/* Send one or more lines `NAME=value`.     Thread: any.
 * Blocks: as long as the manager's queue is full; it is sent a line a second at most. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on another process speaks for the service, and nothing is sent.     Thread: any. */
void notify_hand_over(void);

/* From now on `fd`, the channel to a master, gets all of it: the manager listens to that one only.
 * Thread: main only, before start. */
void notify_through(int fd);

#endif

#ifndef LASTCALL_HEARTBEAT_H
#define LASTCALL_HEARTBEAT_H

/* Signs of life for those who watch this process: a file whose modification time is kept young, and
 * WATCHDOG=1 to the service manager, where it asked for it (WatchdogSec=, $WATCHDOG_USEC). One
 * thread, "heartbeat", gives both, and only while the process moves: it asks a callback, since what
 * moving means is the server's to know. A drain is no reason to stop; one that gets stuck is. */

#include <stdbool.h>
#include <stdint.h>

struct heartbeat;

struct heartbeat_config {
    const char *file;  /* touched every `every_ns`, made if it is missing; NULL: no file */
    uint64_t every_ns; /* at least 10 ms */
    /* Called on the heartbeat's thread; must not block. */
    bool (*is_moving)(void *arg);
    void *arg;
};

/* Is there a file to touch, or a manager that waits for us?     Thread: any. */
bool heartbeat_wanted(const struct heartbeat_config *config);

/* Start the thread; the first beat is at once. A file that can not be touched is said once, and
 * tried again. The manager hears from us twice in the time after which it would lose patience.
 * Owner:  the caller; ends with heartbeat_stop(). The path is borrowed until then.
 * Thread: any.     Errors: 0; a negative errno. */
int heartbeat_start(const struct heartbeat_config *config, struct heartbeat **ret_heartbeat);

/* Stop and join the thread. NULL is allowed.     Thread: any other.     Blocks: on the disk. */
void heartbeat_stop(struct heartbeat *heartbeat);

#endif

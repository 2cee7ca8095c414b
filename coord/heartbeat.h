#ifndef LASTCALL_HEARTBEAT_H
#define LASTCALL_HEARTBEAT_H

/* The heartbeat for supervisors: it touches a file, and sends WATCHDOG=1 to a service manager with
 * a watchdog (WatchdogSec=, $WATCHDOG_USEC). One thread, "heartbeat", does both, and only while the
 * process moves, which a callback to the server decides. The heartbeat goes on during a drain, and
 * stops if the drain gets stuck. */

#include <stdbool.h>
#include <stdint.h>

struct heartbeat;

struct heartbeat_config {
    const char *file;  /* touched every `every_ns`, created if missing; NULL: no file */
    uint64_t every_ns; /* at least 10 ms */
    /* Called on the heartbeat's thread; must not block. */
    bool (*is_moving)(void *arg);
    void *arg;
};

/* Is there a file to touch, or a service manager with a watchdog?     Thread: any. */
bool heartbeat_wanted(const struct heartbeat_config *config);

/* Start the thread; the first beat comes at once. A failure to touch the file is logged once, and
 * the thread tries again. The manager gets two messages per watchdog time-out.
 * Owner:  the caller; ends with heartbeat_stop(). The path is borrowed until then.
 * Thread: any.     Errors: 0; a negative errno. */
int heartbeat_start(const struct heartbeat_config *config, struct heartbeat **ret_heartbeat);

/* Stop and join the thread. NULL is allowed.     Thread: any other.     Blocks: on the disk. */
void heartbeat_stop(struct heartbeat *heartbeat);

#endif

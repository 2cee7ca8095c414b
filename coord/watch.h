#ifndef LASTCALL_WATCH_H
#define LASTCALL_WATCH_H

/* Triggers other than signals: a file that appears or is no longer touched, a descriptor that is
 * closed. A supervisor, a deployment or a parent process uses them to end the service. One thread
 * watches all of them and passes each event to the coordinator, as the signal thread does. */

#include <stdint.h>

#include "coord.h"

struct watch;

struct watch_config {
    const char *exists;      /* drain when this file or folder appears; NULL: no such trigger */
    const char *stale_file;  /* drain when this file is no longer touched; NULL: no such trigger */
    uint64_t stale_after_ns; /* time since its last change, at least 10 ms */
    int closed_fd;           /* drain when the other side of this pipe or socket closes; -1 */
    uint64_t poll_ns;        /* how often to look without events; 0: 1 s */
};

/* Is there anything to watch?     Thread: any. */
bool watch_wanted(const struct watch_config *config);

/* Start the thread; it reports each trigger once. A trigger that is true at the start counts, too:
 * a path that exists already requests the drain.
 *
 *     exists   inotify(7) reports changes in the nearest folder that exists. So neither the path
 * nor its folder need exist yet. Where there are no events (network file systems, mounted
 *              ConfigMaps), polling finds the path.
 *     stale    the modification time has to change, to whatever value: setting the clock makes no
 *              difference. The thread waits for a file that does not exist yet; a file that
 * vanishes is no longer touched. closed   data that arrives on the descriptor is read and
 * discarded.
 *
 * If a path cannot be examined, one line is logged, and the thread tries again.
 * Owner:  the caller; ends with watch_stop(). Texts are borrowed until then; so is the descriptor.
 * Thread: any.     Errors: 0; -EBADF, closed_fd is not open; another negative errno. */
int watch_start(const struct watch_config *config, struct coord *coord, struct watch **ret_watch);

/* Stop and join the thread. NULL is allowed.     Thread: any other.     Blocks: briefly. */
void watch_stop(struct watch *watch);

#endif

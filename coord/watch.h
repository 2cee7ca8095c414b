#ifndef LASTCALL_WATCH_H
#define LASTCALL_WATCH_H

/* Triggers that are no signals: what a supervisor, a deployment or a parent process leaves behind
 * when it wants the service to go. One thread looks at all of them and hands what it sees to the
 * coordinator, as the signal thread does. */

#include <stdint.h>

#include "coord.h"

struct watch;

struct watch_config {
    const char *exists;      /* drain when this file or directory appears; NULL: no such trigger */
    const char *stale_file;  /* drain when this file is no longer touched; NULL: likewise */
    uint64_t stale_after_ns; /* so long after it was last seen to be, at least 10 ms */
    int closed_fd;           /* drain when the other side of this pipe or socket closes; -1 */
    uint64_t poll_ns;        /* look this often even where nothing tells of changes; 0: 1 s */
};

/* Is there anything to watch?     Thread: any. */
bool watch_wanted(const struct watch_config *config);

/* Start the thread; it hands each trigger over once. What fires at once, fires: a path that exists
 * already asks for the drain too.
 *
 *     exists   inotify(7) tells of changes in the nearest folder that is there, so the path itself,
 *              and the folder it will be in, need not exist yet. Where nothing tells (network file
 *              systems, mounted ConfigMaps), polling finds it.
 *     stale    the modification time has to change, whatever it says: a clock that is set does
 *              neither harm nor good. A file that is not there yet is waited for; one that has been
 *              seen and vanishes is no longer touched.
 *     closed   what arrives on the descriptor is read and discarded.
 *
 * A path that can not be looked at is said once, and looked at again.
 * Owner:  the caller; ends with watch_stop(). Texts are borrowed until then; so is the descriptor.
 * Thread: any.     Errors: 0; -EBADF, closed_fd is not open; another negative errno. */
int watch_start(const struct watch_config *config, struct coord *coord, struct watch **ret_watch);

/* Stop and join the thread. NULL is allowed.     Thread: any other.     Blocks: briefly. */
void watch_stop(struct watch *watch);

#endif

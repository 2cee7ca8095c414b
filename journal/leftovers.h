#ifndef LASTCALL_LEFTOVERS_H
#define LASTCALL_LEFTOVERS_H

/* Requests that are still in the record of a process that was killed. The next server that starts
 * in the folder will move them to the archive; until then they are read from the record, which
 * stays unchanged. The record of a living process is skipped: its requests are in flight.
 *
 * A server may start meanwhile and move them. So a caller that reads both the record and the
 * archive reads these first, and drops those whose id is in the archive, too. Then it misses none.
 */

#include "unfinished.h"

struct leftover {
    char *place; /* the path of the record */
    uint64_t pid;
    struct unfinished request; /* its reason is "crashed", and archived_ms is the present time */
};

struct leftovers {
    struct leftover *items; /* sorted by the name of the record */
    size_t count;
    size_t records; /* that they are in */
};

/* Called for what cannot be read as a request: torn, damaged, or not a record (offset 0). */
typedef void leftovers_bad(void *arg, const char *place, uint64_t offset, const char *why);

/* Read the leftovers of a folder. `on_bad` may be NULL.
 * Owner:  the caller; ends with leftovers_release(), also after an error.     Thread: any.
 * Blocks: on the disk.     Errors: 0 and *ret_leftovers; a negative errno. */
int leftovers_read(const char *dir, leftovers_bad *on_bad, void *arg,
                   struct leftovers *ret_leftovers);

/* A zeroed struct is allowed.     Thread: the owner's. */
void leftovers_release(struct leftovers *leftovers);

#endif

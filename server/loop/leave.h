#ifndef LASTCALL_LEAVE_H
#define LASTCALL_LEAVE_H

/* What has no end of its own, such as a tunnel: a drain asks it to leave, each at its own instant
 * of a spread, and cuts it at the deadline of tunnels.
 *
 * Thread: owner loop only, for all of these.     Blocks: never. */

#include <stdbool.h>
#include <stdint.h>

#include "h2o_api.h"

struct conn;
struct leaver;
struct loop;

struct leaver_kind {
    /* Leave at the next place where nothing is torn. May end and free the leaver. */
    void (*ask)(struct leaver *leaver);
    /* End at once, and free it. NULL: it is a request, and is cut as one. */
    void (*cut)(struct leaver *leaver);
    /* Do both sides of the tunnel know that it ends? NULL: it is a request. */
    bool (*was_told)(const struct leaver *leaver);
};

struct leaver {
    const struct leaver_kind *kind;
    h2o_linklist_t link; /* loop->leave.waiting, and then .asked */
    struct loop *loop;
    uint32_t share; /* its instant in a spread, in 2^32nds of that */
    bool was_asked;
    bool is_counted; /* as told or cut */
};

/* Join the list; a drain may ask it in the next turn. `conn` has its share. */
void leaver_join(struct leaver *leaver, const struct leaver_kind *kind, struct conn *conn);
/* Leave the list; one that never joined may. */
void leaver_part(struct leaver *leaver);
/* Count a tunnel, once, as told or cut. */
void leaver_count(struct leaver *leaver);

/* Ask all, evenly over `spread_ns`, and those that join later. Each has `moment_ns` for its
 * farewell. A second call may only hurry: the spread ends no later than before. */
void leave_begin(struct loop *loop, uint64_t spread_ns, uint64_t moment_ns);
/* The loop will not answer any more: count what is cut, and ask no more. */
void leave_freeze(struct loop *loop);
void leave_stop(struct loop *loop);

#endif

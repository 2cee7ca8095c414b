#ifndef LASTCALL_HEALTH_CHECK_H
#define LASTCALL_HEALTH_CHECK_H

#include "upstream_group.h"

/* Ask every member of the group for `proxy.health`'s path, again and again, on the loop of this
 * view; does nothing if the group has no such path. Ends with the loop, and when it drains.
 * Thread: owner loop only, once for each group.     Blocks: never. */
void health_check_begin(struct upstream_view *view);

#endif

#ifndef LASTCALL_LIST_ITEM_H
#define LASTCALL_LIST_ITEM_H

#include "coord.h"

/* Append an item, zeroed; its texts are malloc(3)ed and belong to the list. NULL: the list is full,
 * or there is no memory; the request is counted as left out.     Thread: any. */
struct coord_request *coord_requests_append(struct coord_requests *list);

#endif

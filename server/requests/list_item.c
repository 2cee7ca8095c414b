#include "list_item.h"

#include <stdlib.h>
#include <string.h>

/* One more item of a list, which is bounded. */

#define LISTED_MAX 10000 /* requests in one list; the rest is counted */

struct coord_request *coord_requests_append(struct coord_requests *list)
{
    if (list->count == LISTED_MAX) {
        list->left_out++;
        return NULL;
    }
    if ((list->count & (list->count - 1)) == 0) { /* full at each power of two */
        size_t room = list->count == 0 ? 1 : list->count * 2;
        struct coord_request *grown = realloc(list->items, room * sizeof(*grown));
        if (grown == NULL) {
            list->left_out++;
            return NULL;
        }
        list->items = grown;
    }
    struct coord_request *item = &list->items[list->count++];
    memset(item, 0, sizeof(*item));
    return item;
}

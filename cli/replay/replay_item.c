#include "replay_item.h"

#include <stdlib.h>

void replay_item_end_attempt(struct replay_item *item)
{
    curl_easy_cleanup(item->easy);
    curl_slist_free_all(item->headers);
    free(item->method);
    free(item->path);
    item->easy = NULL;
    item->headers = NULL;
    item->method = item->path = NULL;
}

void replay_item_free(struct replay_item *item)
{
    if (item == NULL)
        return;
    replay_item_end_attempt(item);
    unfinished_release(&item->request);
    free(item);
}

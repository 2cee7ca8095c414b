#include "proxy_loop.h"

#include <stdlib.h>

#include "loop.h"

#define BUFFERS_KEPT 256 /* 2 MB a loop */

struct proxy_timers {
    struct proxy_timers *next;
    h2o_timeout_t list;
};

struct proxy_loop *proxy_loop(struct loop *loop)
{
    if (loop->proxy != NULL)
        return loop->proxy;
    struct proxy_loop *proxy = h2o_mem_alloc(sizeof(*proxy));
    *proxy = (struct proxy_loop){.loop = loop};
    h2o_linklist_init_anchor(&proxy->ends);
    loop->proxy = proxy;
    return proxy;
}

h2o_timeout_t *proxy_loop_timers(struct proxy_loop *proxy, uint64_t ms)
{
    for (struct proxy_timers *at = proxy->timers; at != NULL; at = at->next)
        if (at->list.timeout == ms)
            return &at->list;
    struct proxy_timers *timers = h2o_mem_alloc(sizeof(*timers));
    h2o_timeout_init(proxy->loop->evloop, &timers->list, ms);
    timers->next = proxy->timers;
    proxy->timers = timers;
    return &timers->list;
}

char *proxy_loop_take_buffer(struct proxy_loop *proxy)
{
    char *buffer = proxy->buffers;

    if (buffer == NULL)
        return h2o_mem_alloc(PROXY_SMALL_BUFFER);
    proxy->buffers = *(void **)proxy->buffers;
    proxy->buffer_count--;
    return buffer;
}

void proxy_loop_give_buffer(struct proxy_loop *proxy, char *buffer)
{
    if (proxy->buffer_count == BUFFERS_KEPT) {
        free(buffer);
        return;
    }
    *(void **)(void *)buffer = proxy->buffers;
    proxy->buffers = buffer;
    proxy->buffer_count++;
}

void proxy_loop_at_end(struct proxy_loop *proxy, struct proxy_loop_end *end)
{
    h2o_linklist_insert(&proxy->ends, &end->link); /* before the anchor: it is the last */
}

void proxy_loop_release(struct loop *loop)
{
    struct proxy_loop *proxy = loop->proxy;

    if (proxy == NULL)
        return;
    while (!h2o_linklist_is_empty(&proxy->ends)) {
        struct proxy_loop_end *end = container_of(proxy->ends.prev, struct proxy_loop_end, link);
        h2o_linklist_unlink(&end->link);
        end->cb(end);
    }
    while (proxy->timers != NULL) {
        struct proxy_timers *timers = proxy->timers;
        proxy->timers = timers->next;
        h2o_timeout_dispose(loop->evloop, &timers->list);
        free(timers);
    }
    while (proxy->buffer_count > 0)
        free(proxy_loop_take_buffer(proxy));
    free(proxy);
    loop->proxy = NULL;
}

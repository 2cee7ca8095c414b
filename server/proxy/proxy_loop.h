#ifndef LASTCALL_PROXY_LOOP_H
#define LASTCALL_PROXY_LOOP_H

/* What the proxy keeps for a loop: timers by their length, and memory for answers.
 * Thread: owner loop only, for all of these.     Blocks: never. */

#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"

struct loop;

#define PROXY_SMALL_BUFFER 8192 /* what an answer has at first */

/* Something that ends with the loop. */
struct proxy_loop_end {
    h2o_linklist_t link; /* proxy->ends */
    void (*cb)(struct proxy_loop_end *end);
};

struct proxy_loop {
    struct loop *loop;
    h2o_linklist_t ends; /* struct proxy_loop_end, link */
    struct proxy_timers *timers;
    void *buffers; /* small ones, each of which begins with a pointer to the next */
    unsigned buffer_count;
};

/* Of this loop; it is made at the first request. */
struct proxy_loop *proxy_loop(struct loop *loop);
/* The list of the timers that take `ms`. libh2o looks at every list in every turn, so there is one
 * for a length, and not one for a route. */
h2o_timeout_t *proxy_loop_timers(struct proxy_loop *proxy, uint64_t ms);
/* Memory of PROXY_SMALL_BUFFER bytes, and back. */
char *proxy_loop_take_buffer(struct proxy_loop *proxy);
void proxy_loop_give_buffer(struct proxy_loop *proxy, char *buffer);
/* Call end->cb() when the loop ends, the last one first; `end` is unlinked then. */
void proxy_loop_at_end(struct proxy_loop *proxy, struct proxy_loop_end *end);
/* The loop ends: close the connections that are kept, and free it. */
void proxy_loop_release(struct loop *loop);

#endif

#include "give_way.h"

#include <stdbool.h>
#include <time.h>

#include "clock.h"
#include "loop.h"
#include "pool.h"
#include "server_state.h"

/* A loop that has little to do should answer at once, even if others compute: it interrupts them.
 *
 * A loop that has much to do wakes up at each packet. If it interrupts the client, the proxy or the
 * application on its processor each time, it finds one request where it could have found ten, and
 * both spend their time on switches. So such a loop gives way, and so do the workers. They wait for
 * their turn among others then, some milliseconds if those compute. */

/* The part of a processor that it uses, from which on it is busy; and up to which it is not any
 * more. */
#define BUSY_PART 5
#define CALM_PART 10
#define LOOK_MS 100

static uint64_t used_ns(void)
{
    struct timespec used;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

void give_way_driven(struct loop *loop)
{
    loop->give_way.used_ns = used_ns(); /* what its last driver has used is not counted */
}

void give_way_look(struct loop *loop)
{
    uint64_t now_ms = loop_now_ns(loop) / NS_PER_MS, elapsed_ms = now_ms - loop->give_way.looked_ms;

    if (elapsed_ms < LOOK_MS)
        return;
    uint64_t now_used_ns = used_ns(), spent_ns = now_used_ns - loop->give_way.used_ns;
    uint64_t part = loop->give_way.gives ? CALM_PART : BUSY_PART;
    bool gives = spent_ns > elapsed_ms * NS_PER_MS / part;

    loop->give_way.looked_ms = now_ms;
    loop->give_way.used_ns = now_used_ns;
    if (gives == loop->give_way.gives)
        return;
    loop->give_way.gives = gives;
    pool_set_busy(loop->server->pool, loop->index, gives);
}

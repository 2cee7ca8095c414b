#include "loadgen_open.h"

#include <errno.h>
#include <stdlib.h>

/* Request i is due at start + i / rate. A request that is due goes through
 *
 *     the queue ---- a slot has a free permit ---> assigned ---- load_request_begin ---> open
 *
 * and `unbegun` counts the first two. The free slots are in a ring, so the requests use them in
 * turn. A slot that cannot begin now (its connection closes, or the server takes no more streams)
 * is skipped until its next event. */

#define QUEUE_MAX 65536U

int load_open_create(struct load *l)
{
    unsigned connections = l->options->connections;

    if (l->options->rate == 0)
        return 0;
    l->queue.items = calloc(QUEUE_MAX, sizeof(*l->queue.items));
    l->free.items = calloc(connections, sizeof(struct load_conn *));
    if (l->queue.items == NULL || l->free.items == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < connections; i++)
        load_open_permit_free(&l->conns[i]);
    return 0;
}

void load_open_destroy(struct load *l)
{
    free(l->queue.items);
    free(l->free.items);
}

void load_open_permit_free(struct load_conn *c)
{
    struct load_ring_conn *ring = &c->load->free;

    if (c->load->options->rate == 0 || c->in_free)
        return;
    c->in_free = true;
    ring->items[(ring->head + ring->len++) % c->load->options->connections] = c;
}

/* Remove a slot that can begin a request now from the ring; NULL: none. */
static struct load_conn *take_free(struct load *l)
{
    struct load_ring_conn *ring = &l->free;

    for (size_t tries = ring->len; tries > 0; tries--) {
        struct load_conn *c = ring->items[ring->head];
        ring->head = (ring->head + 1) % l->options->connections;
        ring->len--;
        c->in_free = false;
        if (c->phase != CONN_RETIRED && !c->closing && !c->blocked)
            return c;
        if (c->phase != CONN_RETIRED)
            load_open_permit_free(c);
    }
    return NULL;
}

static uint64_t arrival_ns(const struct load *l, uint64_t index)
{
    uint64_t rate = l->options->rate;

    return l->start_ns + index / rate * UINT64_C(1000000000) +
           index % rate * UINT64_C(1000000000) / rate;
}

static bool all_have_arrived(const struct load *l)
{
    return l->options->max_requests > 0 && l->arrived >= l->options->max_requests;
}

uint64_t load_open_due_ns(const struct load *l)
{
    if (l->options->rate == 0 || l->stopped || all_have_arrived(l))
        return UINT64_MAX;
    return arrival_ns(l, l->arrived);
}

void load_open_settled(struct load *l, uint64_t count)
{
    l->unbegun -= count;
}

/* A request that was due before the end belongs to the run, even if this client is late. */
void load_open_take_arrivals(struct load *l)
{
    uint64_t until_ns = l->now_ns < l->stop_ns ? l->now_ns : l->stop_ns - 1;
    uint64_t due_ns;

    while ((due_ns = load_open_due_ns(l)) <= until_ns) {
        l->arrived++;
        if (l->queue.len == QUEUE_MAX) {
            l->result->queue_overflow++;
            continue;
        }
        l->queue.items[(l->queue.head + l->queue.len++) % QUEUE_MAX] = due_ns;
        l->unbegun++;
    }
}

static void assign(struct load_conn *c, uint64_t due_ns)
{
    c->rest_due_ns[(c->rest_head + c->assigned++) % c->width] = due_ns;
    if (c->resting > c->assigned)
        load_open_permit_free(c);
}

struct load_conn *load_open_assign(struct load *l)
{
    struct load_conn *c = l->queue.len > 0 ? take_free(l) : NULL;

    if (c == NULL)
        return NULL;
    assign(c, l->queue.items[l->queue.head]);
    l->queue.head = (l->queue.head + 1) % QUEUE_MAX;
    l->queue.len--;
    return c;
}

void load_open_stop_if_done(struct load *l)
{
    if (l->options->rate > 0 && all_have_arrived(l) && l->unbegun == 0)
        l->stopped = true; /* the next tick sweeps */
}

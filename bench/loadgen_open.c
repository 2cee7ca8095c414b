#include "loadgen_p.h"

#include <errno.h>
#include <stdlib.h>

/* Open loop: request i is due at start + i / rate. What is due goes through
 *
 *     the queue ---- a slot has a free permit ---> assigned ---- load_request_begin ---> open
 *
 * and `unbegun` counts the first two. The free slots stand in a ring, so that the requests go round
 * all of them. A slot that can not begin now (it closes, or its server takes no more streams) is
 * passed over; it is looked at again after the next event. */

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

/* A slot that can begin a request now, out of the ring; NULL: none. */
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

/* What was due before the end belongs to the run, however late the client itself comes to it. */
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

void load_open_tick(struct load *l)
{
    struct load_conn *c;

    if (l->options->rate == 0 || l->stopped)
        return;
    load_open_take_arrivals(l);
    while (l->queue.len > 0 && load_may_begin(l) && l->error == 0 && (c = take_free(l)) != NULL) {
        assign(c, l->queue.items[l->queue.head]);
        l->queue.head = (l->queue.head + 1) % QUEUE_MAX;
        l->queue.len--;
        load_conn_settle(c);
    }
    if (all_have_arrived(l) && l->unbegun == 0)
        l->stopped = true; /* the next tick sweeps */
}

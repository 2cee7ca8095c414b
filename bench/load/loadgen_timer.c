#include "loadgen_timer.h"

/* The heap has the earliest due time at index 1. */

static void heap_place(struct load *l, size_t index, struct load_conn *c)
{
    l->heap[index] = c;
    c->heap_index = index;
}

static void heap_up(struct load *l, size_t index, struct load_conn *c)
{
    for (; index > 1 && l->heap[index / 2]->due_ns > c->due_ns; index /= 2)
        heap_place(l, index, l->heap[index / 2]);
    heap_place(l, index, c);
}

static void heap_down(struct load *l, size_t index, struct load_conn *c)
{
    for (size_t child = 2 * index; child <= l->heap_len; child = 2 * index) {
        if (child < l->heap_len && l->heap[child + 1]->due_ns < l->heap[child]->due_ns)
            child++;
        if (l->heap[child]->due_ns >= c->due_ns)
            break;
        heap_place(l, index, l->heap[child]);
        index = child;
    }
    heap_place(l, index, c);
}

void load_timer_clear(struct load_conn *c)
{
    struct load *l = c->load;
    size_t hole = c->heap_index;

    if (hole == 0)
        return;
    c->heap_index = 0;
    struct load_conn *last = l->heap[l->heap_len--];
    if (last == c)
        return;
    heap_up(l, hole, last);
    heap_down(l, last->heap_index, last);
}

void load_timer_set(struct load_conn *c, uint64_t due_ns)
{
    if (c->heap_index != 0 && c->due_ns == due_ns)
        return;
    load_timer_clear(c);
    c->due_ns = due_ns;
    heap_up(c->load, ++c->load->heap_len, c);
}

#include "leave.h"

#include "conn.h"

/* In a turn of the loop; the others come in the next one. */
#define ASKED_AT_ONCE 256

static void look_again(struct loop *loop)
{
    if (loop->leave.has_begun && !h2o_timeout_is_linked(&loop->leave.timer))
        loop_tick(loop, TICK_10_MS, &loop->leave.timer);
}

static bool is_due(const struct leaver *leaver, uint64_t age_ns)
{
    /* In steps of a 2^20th, which no product overflows, as in idle_close_turn.h. */
    return age_ns >= (leaver->loop->leave.spread_ns >> 20) * (leaver->share >> 12);
}

/* Move those whose instant has come. Returns whether others wait. */
static bool take_due(struct loop *loop, h2o_linklist_t *due)
{
    uint64_t age_ns = loop_now_ns(loop) - loop->leave.since_ns;
    h2o_linklist_t *all = &loop->leave.all;
    unsigned count = 0;
    bool any_waits = false;

    for (h2o_linklist_t *node = all->next, *next; node != all; node = next) {
        struct leaver *leaver = container_of(node, struct leaver, link);
        next = node->next;
        if (leaver->was_asked)
            continue;
        if (count == ASKED_AT_ONCE || !is_due(leaver, age_ns)) {
            any_waits = true;
            continue;
        }
        count++;
        h2o_linklist_unlink(node);
        h2o_linklist_insert(due, node);
    }
    return any_waits;
}

/* One that is asked may end, and others with it: they leave the list that they are on. */
static void look(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, leave.timer);
    h2o_linklist_t due;

    h2o_linklist_init_anchor(&due);
    bool any_waits = take_due(loop, &due);
    while (!h2o_linklist_is_empty(&due)) {
        struct leaver *leaver = container_of(due.next, struct leaver, link);
        h2o_linklist_unlink(&leaver->link);
        h2o_linklist_insert(&loop->leave.all, &leaver->link);
        leaver->was_asked = true;
        leaver->kind->ask(leaver);
    }
    if (any_waits)
        look_again(loop);
}

void leaver_join(struct leaver *leaver, const struct leaver_kind *kind, struct conn *conn)
{
    struct loop *loop = conn->loop;

    assert_owner(loop);
    *leaver = (struct leaver){.kind = kind, .loop = loop, .share = conn->share};
    h2o_linklist_insert(&loop->leave.all, &leaver->link);
    look_again(loop);
}

void leaver_part(struct leaver *leaver)
{
    if (h2o_linklist_is_linked(&leaver->link))
        h2o_linklist_unlink(&leaver->link);
}

void leaver_count(struct leaver *leaver)
{
    struct loop_counts *counts = &leaver->loop->counts;

    if (leaver->kind->cut == NULL || leaver->is_counted)
        return;
    leaver->is_counted = true;
    count_add(leaver->was_told ? &counts->tunnels_told : &counts->tunnels_cut, 1);
}

void leave_begin(struct loop *loop, uint64_t spread_ns, uint64_t moment_ns)
{
    if (loop->leave.has_begun || loop->frozen)
        return;
    loop->leave.has_begun = true;
    loop->leave.since_ns = loop_now_ns(loop);
    loop->leave.spread_ns = spread_ns;
    loop->leave.moment_ns = moment_ns;
    loop->leave.timer.cb = look;
    h2o_timeout_link(loop->evloop, &loop->ctx.zero_timeout, &loop->leave.timer);
}

void leave_freeze(struct loop *loop)
{
    h2o_linklist_t *all = &loop->leave.all;

    leave_stop(loop);
    for (h2o_linklist_t *node = all->next; node != all; node = node->next)
        leaver_count(container_of(node, struct leaver, link));
}

void leave_stop(struct loop *loop)
{
    loop->leave.has_begun = false;
    h2o_timeout_unlink(&loop->leave.timer);
}

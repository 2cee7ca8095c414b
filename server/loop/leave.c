#include "leave.h"

#include "conn.h"

/* In a turn of the loop; others that are due come a millisecond later. */
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

/* Move those whose instant has come, ASKED_AT_ONCE at most. Returns how many;
 * *ret_any_waits: there are others. */
static unsigned take_due(struct loop *loop, h2o_linklist_t *due, bool *ret_any_waits)
{
    uint64_t age_ns = loop_now_ns(loop) - loop->leave.since_ns;
    h2o_linklist_t *all = &loop->leave.waiting;
    unsigned count = 0;

    for (h2o_linklist_t *node = all->next, *next; node != all && count < ASKED_AT_ONCE;
         node = next) {
        next = node->next;
        if (!is_due(container_of(node, struct leaver, link), age_ns))
            continue;
        count++;
        h2o_linklist_unlink(node);
        h2o_linklist_insert(due, node);
    }
    *ret_any_waits = !h2o_linklist_is_empty(all);
    return count;
}

/* One that is asked may end, and others with it: they leave the list that they are on. */
static void look(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, leave.timer);
    h2o_linklist_t due;
    bool any_waits;

    h2o_linklist_init_anchor(&due);
    unsigned count = take_due(loop, &due, &any_waits);
    while (!h2o_linklist_is_empty(&due)) {
        struct leaver *leaver = container_of(due.next, struct leaver, link);
        h2o_linklist_unlink(&leaver->link);
        h2o_linklist_insert(&loop->leave.asked, &leaver->link);
        leaver->was_asked = true;
        leaver->kind->ask(leaver);
    }
    if (any_waits && count == ASKED_AT_ONCE) { /* more may be due */
        h2o_timeout_unlink(&loop->leave.timer);
        loop_tick(loop, TICK_1_MS, &loop->leave.timer);
    } else if (any_waits) {
        look_again(loop);
    }
}

void leaver_join(struct leaver *leaver, const struct leaver_kind *kind, struct conn *conn)
{
    struct loop *loop = conn->loop;

    assert_owner(loop);
    *leaver = (struct leaver){.kind = kind, .loop = loop, .share = conn->share};
    h2o_linklist_insert(&loop->leave.waiting, &leaver->link);
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
    count_add(leaver->kind->was_told(leaver) ? &counts->tunnels_told : &counts->tunnels_cut, 1);
}

void leave_begin(struct loop *loop, uint64_t spread_ns, uint64_t moment_ns)
{
    uint64_t now_ns = loop_now_ns(loop);

    if (loop->frozen)
        return;
    if (!loop->leave.has_begun) {
        loop->leave.has_begun = true;
        loop->leave.since_ns = now_ns;
        loop->leave.spread_ns = UINT64_MAX;
        loop->leave.timer.cb = look;
    }
    uint64_t whole_ns = now_ns - loop->leave.since_ns + spread_ns;
    if (loop->leave.spread_ns > whole_ns)
        loop->leave.spread_ns = whole_ns;
    loop->leave.moment_ns = moment_ns;
    h2o_timeout_unlink(&loop->leave.timer);
    h2o_timeout_link(loop->evloop, &loop->ctx.zero_timeout, &loop->leave.timer);
}

static void count_list(const h2o_linklist_t *list)
{
    for (h2o_linklist_t *node = list->next; node != list; node = node->next)
        leaver_count(container_of(node, struct leaver, link));
}

void leave_freeze(struct loop *loop)
{
    leave_stop(loop);
    count_list(&loop->leave.waiting);
    count_list(&loop->leave.asked);
}

void leave_stop(struct loop *loop)
{
    loop->leave.has_begun = false;
    h2o_timeout_unlink(&loop->leave.timer);
}

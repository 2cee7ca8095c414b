#include "upstream_group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loop.h"

#define RETRY_MOST_S 60

/* ---- life ---- */

struct upstream_group *upstream_group_create(size_t count)
{
    struct upstream_group *group =
        h2o_mem_alloc(sizeof(*group) + count * sizeof(group->members[0]));

    memset(group, 0, sizeof(*group) + count * sizeof(group->members[0]));
    group->count = count;
    return group;
}

/* A route may end before the server: one of file.custom-handler does when the extension is given to
 * another. */
static void leave(struct upstream_group *group)
{
    struct upstream_group **at = group->all;

    while (at != NULL && *at != group)
        at = &(*at)->next;
    if (at != NULL)
        *at = group->next;
}

void upstream_group_destroy(struct upstream_group *group)
{
    leave(group);
    health_destroy(group->health);
    free(group->views);
    free(group);
}

/* A single upstream that is not checked is used as long as it answers, and as long as it does not:
 * nothing is better. With a time to wait, it is worth knowing whether it does. */
static bool has_health(const struct upstream_group *group)
{
    return group->count > 1 || group->rules->check_path != NULL || group->rules->wait_ms > 0;
}

void upstream_group_finish(struct upstream_group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct group_member *member = &group->members[i];
        member->name = choice_hash(member->target.name, strlen(member->target.name));
    }
    if (!has_health(group))
        return;
    group->health = health_create(group->count, &group->rules->health);
    if (group->health == NULL)
        h2o_fatal("no memory");
}

/* A path may have several routes; the first one that is not passed over answers. */
static const char *name_route(const struct upstream_group *others, h2o_mem_pool_t *pool,
                              h2o_iovec_t host, h2o_iovec_t path)
{
    char *name = h2o_concat(pool, host, path).base, number[16];

    for (unsigned n = 2;; n++) {
        const struct upstream_group *at = others;
        while (at != NULL && strcmp(at->route, name) != 0)
            at = at->next;
        if (at == NULL)
            return name;
        int len = snprintf(number, sizeof(number), "#%u", n);
        name = h2o_concat(pool, host, path, h2o_iovec_init(number, (size_t)len)).base;
    }
}

void upstream_group_join(struct upstream_group *group, struct upstream_group **groups,
                         h2o_mem_pool_t *pool, h2o_iovec_t host, h2o_iovec_t path)
{
    struct upstream_group **last = groups;

    group->route = name_route(*groups, pool, host, path);
    for (; *last != NULL; last = &(*last)->next)
        group->number++;
    *last = group;
    group->all = groups;
}

/* The loop ends. The requests that wait are gone, or never will be. */
static void on_end(struct proxy_loop_end *end)
{
    struct upstream_view *view = container_of(end, struct upstream_view, end);
    struct upstream_group *group = view->group;

    h2o_timeout_unlink(&view->waiting.timer);
    for (size_t i = 0; i < group->count; i++)
        upstream_close_kept(&view->members[i].upstream);
    for (size_t i = 0; i < group->view_count; i++)
        if (group->views[i] == view)
            group->views[i] = group->views[--group->view_count];
    free(view->choices);
    free(view);
}

struct upstream_view *upstream_view_create(struct upstream_group *group, struct proxy_loop *proxy,
                                           const struct upstream_owner *owner)
{
    size_t size = group->count * sizeof(struct group_view_member);
    struct upstream_view *view = h2o_mem_alloc(sizeof(*view) + size);

    memset(view, 0, sizeof(*view) + size);
    view->group = group;
    view->proxy = proxy;
    view->end.cb = on_end;
    h2o_linklist_init_anchor(&view->waiting.errands);
    view->choices = h2o_mem_alloc(group->count * sizeof(view->choices[0]));
    memset(view->choices, 0, group->count * sizeof(view->choices[0]));
    for (size_t i = 0; i < group->count; i++) {
        struct group_view_member *member = &view->members[i];
        upstream_init(&member->upstream, proxy, &group->members[i].target, group->settings);
        member->upstream.is_lasting = true;
        if (group->health != NULL)
            member->upstream.owner = owner;
        member->view = view;
        member->index = i;
        view->choices[i].name = group->members[i].name;
    }
    proxy_loop_at_end(proxy, &view->end);
    group->views = h2o_mem_realloc(group->views, (group->view_count + 1) * sizeof(group->views[0]));
    group->views[group->view_count++] = view;
    return view;
}

/* ---- choice ---- */

uint64_t upstream_group_sum(const struct upstream_group *group, size_t member, size_t offset)
{
    uint64_t all = 0;

    for (size_t i = 0; i < group->view_count; i++) {
        struct upstream *upstream = &group->views[i]->members[member].upstream;
        all += count_get((_Atomic uint64_t *)(void *)((char *)&upstream->counts + offset));
    }
    return all;
}

static bool is_out(const struct group_wish *wish, size_t i)
{
    return (wish->not_these >> i & 1) != 0;
}

/* A member whose ejection is over gets one request. Such a request may be lost, so it should be one
 * that can be sent again by its client; if there is none for as long as the first ejection takes,
 * any other does. */
static bool is_due(const struct upstream_group *group, const struct group_wish *wish, size_t i,
                   uint64_t now_ns)
{
    uint64_t since_ns = health_ejected_until_ns(group->health, i);

    return now_ns >= since_ns + (wish->is_safe ? 0 : group->rules->health.eject_ns);
}

/* The members that may be chosen, primary ones or backups. With hashes the one that is to be tried
 * has its keys; else its turn comes first, see choose_trial(). */
static void weigh(struct upstream_view *view, const struct group_wish *wish, bool backups,
                  uint64_t now_ns)
{
    const struct upstream_group *group = view->group;
    const struct health *health = group->health;
    bool is_hash = group->rules->balance == BALANCE_HASH;

    for (size_t i = 0; i < group->count; i++) {
        const struct group_member *member = &group->members[i];
        struct choice_member *choice = &view->choices[i];
        enum health_state state = health_state(health, i);
        bool may = state == HEALTH_UP ||
                   (state == HEALTH_EJECTED && is_hash && is_due(group, wish, i, now_ns));
        choice->weight = 0;
        if (!may || is_out(wish, i) || member->is_backup != backups)
            continue;
        choice->weight = (uint64_t)member->weight * health_share(health, i, now_ns);
        if (group->rules->balance == BALANCE_LEAST)
            choice->active = upstream_group_sum(group, i, offsetof(struct upstream_counts, active));
    }
}

static size_t choose_trial(struct upstream_view *view, const struct group_wish *wish, bool backups,
                           uint64_t now_ns, health_trial *ret_trial)
{
    const struct upstream_group *group = view->group;

    for (size_t i = 0; i < group->count; i++) {
        if (is_out(wish, i) || group->members[i].is_backup != backups ||
            health_state(group->health, i) != HEALTH_EJECTED || !is_due(group, wish, i, now_ns))
            continue;
        *ret_trial = health_take_trial(group->health, i, now_ns, false);
        if (*ret_trial != HEALTH_NO_TRIAL)
            return i;
    }
    return CHOICE_NONE;
}

static size_t choose_from(struct upstream_view *view, const struct group_wish *wish, bool backups,
                          uint64_t now_ns, health_trial *ret_trial)
{
    const struct upstream_group *group = view->group;
    enum balance balance = group->rules->balance;
    size_t i = CHOICE_NONE;

    if (balance == BALANCE_HASH && !wish->has_key)
        balance = BALANCE_ROUND_ROBIN;
    if (group->rules->balance != BALANCE_HASH)
        i = choose_trial(view, wish, backups, now_ns, ret_trial);
    if (i != CHOICE_NONE)
        return i;
    weigh(view, wish, backups, now_ns);
    for (;;) {
        i = choice_make(balance, view->choices, group->count, wish->key);
        if (i == CHOICE_NONE || health_state(group->health, i) == HEALTH_UP)
            return i;
        *ret_trial = health_take_trial(group->health, i, now_ns, false);
        if (*ret_trial != HEALTH_NO_TRIAL)
            return i;
        view->choices[i].weight = 0; /* another request tries it */
    }
}

/* No member is up that the request has not tried: any that is ejected may be tried. Those that
 * checks have taken down wait for checks. */
static size_t choose_last_resort(struct upstream_view *view, const struct group_wish *wish,
                                 uint64_t now_ns, health_trial *ret_trial)
{
    const struct upstream_group *group = view->group;

    for (size_t i = 0; i < group->count; i++) {
        if (is_out(wish, i))
            continue;
        *ret_trial = health_take_trial(group->health, i, now_ns, true);
        if (*ret_trial != HEALTH_NO_TRIAL)
            return i;
    }
    return CHOICE_NONE;
}

/* But for those that the request has tried. */
static bool is_any_up(const struct upstream_group *group, const struct group_wish *wish)
{
    for (size_t i = 0; i < group->count; i++)
        if (!is_out(wish, i) && health_state(group->health, i) == HEALTH_UP)
            return true;
    return false;
}

struct upstream *upstream_view_choose(struct upstream_view *view, const struct group_wish *wish,
                                      uint64_t now_ns, health_trial *ret_trial)
{
    *ret_trial = HEALTH_NO_TRIAL;
    if (view->group->health == NULL)
        return &view->members[0].upstream;
    size_t i = choose_from(view, wish, false, now_ns, ret_trial);
    if (i == CHOICE_NONE)
        i = choose_from(view, wish, true, now_ns, ret_trial);
    if (i == CHOICE_NONE && !is_any_up(view->group, wish))
        i = choose_last_resort(view, wish, now_ns, ret_trial);
    return i != CHOICE_NONE ? &view->members[i].upstream : NULL;
}

/* Ejected members are tried every HEALTH_TRIALS_APART_NS while none is up. */
unsigned upstream_group_retry_after_s(const struct upstream_group *group)
{
    uint64_t seconds = (group->rules->check_every_ms + 999) / 1000;

    for (size_t i = 0; i < group->count; i++)
        if (health_state(group->health, i) != HEALTH_DOWN)
            return 1;
    return (unsigned)(seconds < RETRY_MOST_S ? seconds : RETRY_MOST_S);
}

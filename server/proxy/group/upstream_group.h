#ifndef LASTCALL_UPSTREAM_GROUP_H
#define LASTCALL_UPSTREAM_GROUP_H

/* The upstreams of a route.
 *
 *     upstream_group   what all loops share: the members, and their health (upstream_health.h)
 *     upstream_view    the group as one loop sees it: its connections and counts, one
 *                      struct upstream for each member
 *     errand           one request on its way through the group (errand.h)
 *
 * A route with a single upstream is a group of one. If nothing is checked and nothing waits there,
 * it has no health, and its only member is always chosen. */

#include "container_of.h"
#include "proxy_loop.h"
#include "upstream_choice.h"
#include "upstream_health.h"
#include "upstream_pool.h"

#define GROUP_MEMBERS_MAX 64
#define GROUP_WEIGHT_MAX 256
#define GROUP_HASH_NAME_MAX 127

enum hash_by { HASH_CLIENT, HASH_HEADER, HASH_COOKIE };

/* What the configuration says about the members; constant after start. */
struct group_rules {
    enum balance balance;
    enum hash_by hash_by;                    /* BALANCE_HASH */
    char hash_name[GROUP_HASH_NAME_MAX + 1]; /* of the header, in lower case, or the cookie */
    uint64_t wait_ms;                        /* for a member, when none is up; 0: not at all */
    struct health_rules health;
    const char *check_path; /* NULL: nothing is checked; borrowed */
    uint64_t check_every_ms, check_limit_ms;
};

struct group_member {
    struct proxy_target target;
    h2o_url_t url;
    unsigned weight;
    bool is_backup; /* it gets requests only if no other one is up */
    uint64_t name;  /* choice_hash() of the target's */
};

struct upstream_group {
    /* immutable after start */
    struct upstream_group *next; /* of the server */
    struct upstream_group **all; /* where that list begins; NULL: it is not on it */
    const char *route;           /* host and path, for people; no two of a server are the same */
    unsigned number;             /* of the groups of the server */
    const struct proxy_settings *settings;
    const struct group_rules *rules;
    struct health *health; /* NULL: see above */
    struct upstream_view **views;
    size_t view_count;
    size_t count;
    struct group_member members[];
};

struct upstream_view {
    struct upstream_group *group;
    struct proxy_loop *proxy;
    struct proxy_loop_end end;
    struct {
        h2o_linklist_t errands; /* struct errand, link: the oldest first */
        h2o_timeout_entry_t timer;
    } waiting;         /* errand.c */
    uint64_t said_ms;  /* that none is up; errand.c */
    uint64_t left_out; /* lines since then */
    struct choice_member *choices;
    struct group_view_member {
        struct upstream upstream;
        struct upstream_view *view;
        size_t index;
    } members[];
};

/* Room for a group of `count` members, which the caller fills; its health and views are made by the
 * two functions below.
 * Owner: the caller, upstream_group_destroy().     Thread: before start. */
struct upstream_group *upstream_group_create(size_t count);
void upstream_group_destroy(struct upstream_group *group);

/* The members and rules are filled in.     Thread: before start. */
void upstream_group_finish(struct upstream_group *group);

/* Append it to the groups of a server, as the route of a host and a path. Its name, in `pool`, is
 * that of no other. upstream_group_destroy() takes it off that list, so `groups` is to live until
 * then.     Thread: before start. */
void upstream_group_join(struct upstream_group *group, struct upstream_group **groups,
                         h2o_mem_pool_t *pool, h2o_iovec_t host, h2o_iovec_t path);

/* Make the view of a loop. One loop after the other is set up before any serves, so no other thread
 * reads group->views meanwhile.
 * Owner: the loop.     Thread: owner loop only. */
struct upstream_view *upstream_view_create(struct upstream_group *group, struct proxy_loop *proxy,
                                           const struct upstream_owner *owner);

/* What choice a request has. */
struct group_wish {
    uint64_t not_these; /* bits: members that it has tried */
    uint64_t key;       /* BALANCE_HASH */
    bool has_key;
    bool is_safe; /* it may be lost: let it try a member that is ejected */
};

/* Choose a member. NULL: none is up, or it has tried all of them. *ret_trial: the member is
 * ejected, and the caller owes its health an outcome. Thread: owner loop only.     Blocks: never.
 */
struct upstream *upstream_view_choose(struct upstream_view *view, const struct group_wish *wish,
                                      uint64_t now_ns, health_trial *ret_trial);

/* The member that an upstream of a view is. */
static inline struct group_view_member *group_view_member(struct upstream *upstream)
{
    return container_of(upstream, struct group_view_member, upstream);
}

/* The sum over the loops of the count at `offset` in struct upstream_counts.
 * Thread: any, after start, until the loops are released. */
uint64_t upstream_group_sum(const struct upstream_group *group, size_t member, size_t offset);

/* When a client should ask again: in whole seconds, 1 to 60. The group has health.
 * Thread: any. */
unsigned upstream_group_retry_after_s(const struct upstream_group *group);

#endif

#include "admin_p.h"

#include <jansson.h>

#include "clock.h"
#include "upstream_group.h"

/* `upstreams` of /status: each upstream of each route of the proxy. */

static json_t *count(const struct upstream_group *group, size_t i, size_t offset)
{
    return json_integer((json_int_t)upstream_group_sum(group, i, offset));
}

#define COUNT(group, i, field) count(group, i, offsetof(struct upstream_counts, field))

static json_t *failures_json(const struct upstream_group *group, size_t i)
{
    uint64_t all = 0;

    for (size_t k = 0; k < UPSTREAM_FAILURE_COUNT; k++)
        all += upstream_group_sum(group, i,
                                  offsetof(struct upstream_counts, failures) + k * sizeof(all));
    return json_integer((json_int_t)all);
}

static json_t *ejected_left_json(const struct upstream_group *group, size_t i)
{
    uint64_t now_ns = clock_now_ns(), until_ns = 0;

    if (group->health == NULL || health_state(group->health, i) != HEALTH_EJECTED)
        return json_null();
    until_ns = health_ejected_until_ns(group->health, i);
    return json_integer((json_int_t)(until_ns > now_ns ? (until_ns - now_ns) / NS_PER_MS : 0));
}

static json_t *member_json(const struct upstream_group *group, size_t i)
{
    const struct group_member *member = &group->members[i];
    const struct health *health = group->health;
    enum health_state state = health != NULL ? health_state(health, i) : HEALTH_UP;

    return json_pack("{s:o, s:o, s:s, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "route",
                     log_json_text(group->route), "url", log_json_text(member->target.name),
                     "state", health_state_name(state), "weight", (int)member->weight, "backup",
                     member->is_backup, "in_flight", COUNT(group, i, active), "connections",
                     COUNT(group, i, open), "idle", COUNT(group, i, idle), "requests",
                     COUNT(group, i, requests), "failures", failures_json(group, i), "ejections",
                     (json_int_t)(health != NULL ? health_ejections(health, i) : 0),
                     "ejected_left_ms", ejected_left_json(group, i));
}

json_t *admin_upstreams(const struct server *server)
{
    json_t *array = json_array();

    for (const struct upstream_group *group = server->upstream_groups; group != NULL;
         group = group->next)
        for (size_t i = 0; i < group->count; i++)
            (void)json_array_append_new(array, member_json(group, i));
    return array;
}

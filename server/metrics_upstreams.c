#include <stdlib.h>

#include "clock.h"
#include "metrics_p.h"
#include "server_state.h"
#include "upstream_group.h"

/* What the proxy counts: over all, and of each upstream of each route. */

/* ---- over all ---- */

static const char *const kinds[] = {
#define LABEL(id, label, phase) [UPSTREAM_##id] = (label),
    UPSTREAM_FAILURES(LABEL)
#undef LABEL
};

static void write_all(FILE *out, struct server *server)
{
    family(out, "lastcall_upstream_failures_total", "counter",
           "Requests that an upstream did not answer whole, by what happened.");
    for (size_t i = 0; i < UPSTREAM_FAILURE_COUNT; i++)
        (void)fprintf(out, "lastcall_upstream_failures_total{kind=\"%s\"} %llu\n", kinds[i],
                      (ull)SUM_AT(server, upstream_failures, i));
    one(out, "lastcall_upstream_repeats_total", "counter",
        "Requests that were sent once more, because a kept connection had lost them.",
        SUM(server, upstream_repeats));
    one(out, "lastcall_upstream_moves_total", "counter",
        "Requests that went on to another upstream, because no connection came about.",
        SUM(server, upstream_moves));
    one(out, "lastcall_upstream_none_total", "counter",
        "Requests that were answered with 503 because no upstream was up.",
        SUM(server, upstream_none));
    one(out, "lastcall_upstream_waiting", "gauge", "Requests that wait until an upstream is up.",
        SUM(server, upstream_waiting));
    one(out, "lastcall_upstream_connects_total", "counter", "Connections made to upstreams.",
        SUM(server, upstream_connects));
    one(out, "lastcall_upstream_connections", "gauge", "Open connections to upstreams.",
        SUM(server, upstream_open));
    one(out, "lastcall_upstream_connections_idle", "gauge",
        "Those that are kept for the next request.", SUM(server, upstream_idle));
}

/* ---- of each ---- */

/* The value of a label: three characters are escaped. */
static void put_value(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        if (*text == '\n')
            (void)fputs("\\n", out);
        else
            (void)fputc(*text, out);
    }
}

/* Which upstream of which route it is.     Owner: the caller, free(3); NULL without memory. */
static char *labels_of(const struct upstream_group *group, size_t i)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return NULL;
    (void)fputs("route=\"", out);
    put_value(out, group->route);
    (void)fputs("\",upstream=\"", out);
    put_value(out, group->members[i].target.name);
    (void)fputc('"', out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

#define COUNT(group, i, field) upstream_group_sum(group, i, offsetof(struct upstream_counts, field))
#define COUNT_AT(group, i, array, k)                                                               \
    upstream_group_sum(group, i, offsetof(struct upstream_counts, array) + (k) * sizeof(uint64_t))

/* One line for each upstream. */
static void each(FILE *out, const struct server *server, const char *name, const char *type,
                 const char *help, uint64_t (*value)(const struct upstream_group *group, size_t i))
{
    family(out, name, type, help);
    for (const struct upstream_group *group = server->upstream_groups; group != NULL;
         group = group->next)
        for (size_t i = 0; i < group->count; i++) {
            char *labels = labels_of(group, i);
            if (labels != NULL)
                (void)fprintf(out, "%s{%s} %llu\n", name, labels, (ull)value(group, i));
            free(labels);
        }
}

static uint64_t is_up(const struct upstream_group *group, size_t i)
{
    return group->health == NULL || health_state(group->health, i) == HEALTH_UP;
}

static uint64_t ejections(const struct upstream_group *group, size_t i)
{
    return group->health != NULL ? health_ejections(group->health, i) : 0;
}

static uint64_t requests(const struct upstream_group *group, size_t i)
{
    return COUNT(group, i, requests);
}

static uint64_t active(const struct upstream_group *group, size_t i)
{
    return COUNT(group, i, active);
}

static uint64_t open_ones(const struct upstream_group *group, size_t i)
{
    return COUNT(group, i, open);
}

static uint64_t idle(const struct upstream_group *group, size_t i)
{
    return COUNT(group, i, idle);
}

/* Kinds that have never been seen are left out. */
static void write_failures(FILE *out, const struct server *server)
{
    static const char name[] = "lastcall_upstream_request_failures_total";

    family(out, name, "counter",
           "Requests that this upstream did not answer whole, by what happened; kinds that did not "
           "happen are left out.");
    for (const struct upstream_group *group = server->upstream_groups; group != NULL;
         group = group->next)
        for (size_t i = 0; i < group->count; i++) {
            char *labels = labels_of(group, i);
            for (size_t k = 0; labels != NULL && k < UPSTREAM_FAILURE_COUNT; k++) {
                uint64_t count = COUNT_AT(group, i, failures, k);
                if (count > 0)
                    (void)fprintf(out, "%s{%s,kind=\"%s\"} %llu\n", name, labels, kinds[k],
                                  (ull)count);
            }
            free(labels);
        }
}

/* A histogram of each upstream; those without an entry are left out. */
static void write_times(FILE *out, const struct server *server, const char *name, const char *help,
                        size_t buckets_at, size_t sum_at)
{
    uint64_t buckets[METRICS_BUCKETS];

    family(out, name, "histogram", help);
    for (const struct upstream_group *group = server->upstream_groups; group != NULL;
         group = group->next)
        for (size_t i = 0; i < group->count; i++) {
            char *labels = labels_of(group, i);
            uint64_t all = 0;
            for (size_t k = 0; k < METRICS_BUCKETS; k++) {
                buckets[k] = upstream_group_sum(group, i, buckets_at + k * sizeof(uint64_t));
                all += buckets[k];
            }
            if (labels != NULL && all > 0)
                metrics_histogram(out, name, labels, buckets, upstream_group_sum(group, i, sum_at));
            free(labels);
        }
}

void metrics_upstreams(FILE *out, struct server *server)
{
    write_all(out, server);
    if (server->upstream_groups == NULL)
        return;
    each(out, server, "lastcall_upstream_up", "gauge",
         "1: the upstream gets requests; 0: it was ejected, or checks have found it down.", is_up);
    each(out, server, "lastcall_upstream_ejections_total", "counter",
         "Times that the upstream was ejected for failures in a row.", ejections);
    each(out, server, "lastcall_upstream_requests_total", "counter",
         "Requests that the upstream was chosen for.", requests);
    each(out, server, "lastcall_upstream_requests_in_flight", "gauge",
         "Requests that the upstream has.", active);
    each(out, server, "lastcall_upstream_open_connections", "gauge",
         "Open connections to the upstream.", open_ones);
    each(out, server, "lastcall_upstream_idle_connections", "gauge",
         "Those that are kept for the next request.", idle);
    write_failures(out, server);
    write_times(out, server, "lastcall_upstream_connect_seconds",
                "From the look-up of the name to the end of the TLS handshake.",
                offsetof(struct upstream_counts, connects),
                offsetof(struct upstream_counts, connects_ns));
    write_times(out, server, "lastcall_upstream_first_byte_seconds",
                "From the request, handed to the kernel, to the head of the answer.",
                offsetof(struct upstream_counts, heads),
                offsetof(struct upstream_counts, heads_ns));
}

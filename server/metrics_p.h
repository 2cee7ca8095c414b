#ifndef LASTCALL_METRICS_P_H
#define LASTCALL_METRICS_P_H

/* What the files of the metrics share.
 * Thread: any, between server_start() and server_destroy(), for all of these. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "loop_metrics.h"

struct server;

typedef unsigned long long ull;

static inline void family(FILE *out, const char *name, const char *type, const char *help)
{
    (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A metric without labels. */
static inline void one(FILE *out, const char *name, const char *type, const char *help,
                       uint64_t value)
{
    family(out, name, type, help);
    (void)fprintf(out, "%s %llu\n", name, (ull)value);
}

/* The lines of a histogram of METRICS_BUCKETS buckets; `labels` are `route="file"`, or "". */
void metrics_histogram(FILE *out, const char *name, const char *labels, const uint64_t *buckets,
                       uint64_t sum_ns);

/* The sum over the loops of the count at `offset` in struct loop_metrics. */
uint64_t metrics_sum(struct server *server, size_t offset);

#define SUM(server, field) metrics_sum(server, offsetof(struct loop_metrics, field))
#define SUM_AT(server, array, i)                                                                   \
    metrics_sum(server, offsetof(struct loop_metrics, array) + (i) * sizeof(uint64_t))

/* ---- metrics_upstreams.c ---- */

void metrics_upstreams(FILE *out, struct server *server);

#endif

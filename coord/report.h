#ifndef LASTCALL_REPORT_H
#define LASTCALL_REPORT_H

/* What there is to say about a drain: gathered by the coordinator, written as log lines while it
 * happens and as one JSON file at its end. */

#include "coord.h"
#include "journal.h"

struct report {
    struct coord_trigger triggers[COORD_TRIGGERS_MAX]; /* the first won, the others are noted */
    size_t trigger_count;
    size_t triggers_left_out;
    char forced_by[24]; /* the signal that cut it short */
    char began_wall[CLOCK_TEXT_SIZE + 8];
    struct coord_census begin; /* when the drain began */
    struct coord_census end;
    uint64_t pool_active_at_end;
    uint64_t connections_cut; /* open when it was cut short */
    struct coord_requests unfinished;
    struct journal_archived archived; /* of the unfinished, those on record */
    uint64_t ended_ns;
    int status;
};

/* Note who asked. Thread: whoever holds the report. */
void report_add_trigger(struct report *report, const char *name, const char *detail,
                        uint64_t now_ns);

/* `SIGTERM received: draining, 12 requests in flight on 40 connections, deadline 10s` */
void report_log_begin(const struct report *report, const struct drain_config *config);

/* The changing line of a terminal. */
void report_status(const struct drain *drain, const struct coord_census *census,
                   uint64_t pool_active, uint64_t now_ns);

/* The line for everyone else: what is waited for, the oldest requests by name. */
void report_log_progress(const struct drain *drain, const struct coord_census *census,
                         const struct coord_requests *oldest, uint64_t now_ns);

/* `drained in 1.98s: 12 answered, 28 idle connections released`, or what was left unfinished. */
void report_log_end(const struct report *report, const struct drain *drain);

/* Write the JSON report: whole or not at all (a temporary file beside it, then rename(2)).
 * Blocks: on the disk.     Errors: 0; a negative errno. */
int report_write(const struct report *report, const struct drain *drain, const char *path);

#endif

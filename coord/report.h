#ifndef LASTCALL_REPORT_H
#define LASTCALL_REPORT_H

/* What is reported about a drain: the coordinator collects it, writes log lines while the drain
 * lasts, and one JSON file at its end. */

#include "coord.h"

struct report {
    struct coord_trigger
        triggers[COORD_TRIGGERS_MAX]; /* the first one began the drain, the others are noted */
    size_t trigger_count;
    size_t triggers_left_out;
    char forced_by[24]; /* the signal that cut it short */
    char began_wall[CLOCK_TEXT_SIZE + 8];
    struct coord_census begin; /* when the drain began */
    struct coord_census end;
    uint64_t pool_active_at_end;
    uint64_t connections_cut; /* open when it was cut short */
    struct coord_requests unfinished;
    struct coord_archived archived; /* how many of the unfinished are on record */
    uint64_t ended_ns;
    int status;
};

/* Note what asked. Lock: the report's owner's. */
void report_add_trigger(struct report *report, const char *name, const char *detail,
                        uint64_t now_ns);

/* `SIGTERM received: draining, 12 requests in flight on 40 connections, deadline 10s` */
void report_log_begin(const struct report *report, const struct drain_config *config);

/* The changing line of a terminal. */
void report_status(const struct drain *drain, const struct coord_census *census,
                   uint64_t pool_active, uint64_t now_ns);

/* The line without a terminal: what the drain waits for, with the oldest requests by name. */
void report_log_progress(const struct drain *drain, const struct coord_census *census,
                         const struct coord_requests *oldest, uint64_t now_ns);

/* `drained in 1.98s: 12 answered, 28 idle connections released`, or what was left unfinished. */
void report_log_end(const struct report *report, const struct drain *drain);

/* Write the JSON report with mode 0640: whole or not at all, or directly to a FIFO or device; see
 * file.h.
 * Blocks: on the disk, or for FILE_WAIT_MS on a FIFO or device.
 * Errors: 0; a negative errno, see file_error_text(). */
int report_write(const struct report *report, const struct drain *drain, const char *path);

#endif

#ifndef LASTCALL_JOB_P_H
#define LASTCALL_JOB_P_H

/* What the files about jobs share: job.c (to the handler and back), job_run.c (on the worker),
 * job_memory.c, job_end.c (answers that are not wanted any more).
 *
 * A job's memory belongs to its loop, and is in one of three hands:
 *
 *     attached    inflight->job: the request is alive; freed when the request is disposed, if the
 *                 handler has finished by then
 *     abandoned   loop->jobs.abandoned: the request is gone, the handler is queued or running;
 *                 freed when the job comes back
 *     finished    came back through loop->doors.done and has been answered, or was called in place
 *
 * Gone note. A job that is listed as queued at the deadline must not run afterwards: a reader of
 * the list would send it again, and it would be done twice. The loop sets `gone` and then reads
 * `started`; the worker sets `started` (pool.c) and then reads `gone`. All four are sequentially
 * consistent, so at least one of the two sees the other: either the list says running, or the
 * handler is not called.
 *
 * The worker writes the exchange before it pushes the job (release, loop_push_done), the loop reads
 * it after it took the stack (acquire, loop_take_done). */

#include <stdatomic.h>

#include "doors.h"
#include "job.h"
#include "place.h"
#include "pool.h"

struct conn;

struct job {
    struct pool_job pool_job;
    struct exchange exchange;
    exchange_handler handler;
    struct done_link link_done; /* loop->doors.done */
    struct loop *loop;
    struct place *place;
    /* atomic: written by the loop, read by the worker: the answer is not wanted any more; see gone
     * note */
    _Atomic bool gone;
    /* owner loop */
    struct inflight *inflight; /* NULL: abandoned */
    struct journal_slot *left; /* abandoned, and running: still on record */
    h2o_linklist_t link;       /* loop->jobs.abandoned */
    bool finished;
    bool given_up; /* logged as unfinished already */
    bool dropped;  /* taken out of the queue; written before it is pushed onto doors.done */
    char *authority;
    uint64_t begun_ns;
    size_t body_bytes;
    size_t room_bytes; /* behind the struct */
    /* immutable once it is queued */
    struct journal_slot *slot; /* NULL: not on record */
    /* written in run(), read by the loop if it was placed and has ended */
    uint64_t took_ns;
};

/* ---- job_memory.c; Thread: owner loop only ---- */

/* NULL: no memory, or other requests' bodies fill what there is for them. */
struct job *job_create(struct inflight *inflight, exchange_handler handler, struct place *place);
void job_free(struct job *job);

/* ---- job_run.c ---- */

extern const struct pool_job job_calls; /* run, done and dropped */

/* ---- job.c; Thread: owner loop only ---- */

void job_unwatch_peer(struct conn *conn);

#endif

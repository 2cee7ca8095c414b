#ifndef LASTCALL_JOB_P_H
#define LASTCALL_JOB_P_H

/* What the files about jobs share: job.c (to the handler and back), job_run.c (on the worker),
 * job_memory.c, job_end.c (answers that are not wanted any more), and exchange/, what the handler
 * sees of it.
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
 * it after it took the stack (acquire, loop_take_done).
 *
 * News note. A job has one link for the loop's stack, and may have several news. Who has one sets
 * its bit in `news`, and pushes the link only if no bit was set: else the link is on the stack, or
 * another thread is about to push it. The loop takes the link off the stack first and the bits
 * second; so the link is free again when a bit can be set for the next time. The loop frees a job
 * only when no bit is set. So a thread may use a job until it has set its last bit, and if it was
 * the one to set the first, until it has pushed the link. */

#include <stdatomic.h>

#include "doors.h"
#include "job.h"
#include "place.h"
#include "pool.h"

struct cancel_hook;
struct chunk;
struct conn;
struct stream;

/* What a loop is told of a job; see news note. */
enum job_news {
    NEWS_RETURNED = 1 << 0, /* the handler has returned, or will never be called */
    NEWS_WROTE = 1 << 1,    /* bytes for the stream, and the loop idled */
    NEWS_LET_GO = 1 << 2,   /* kept, and a note was left while it was held */
    NEWS_FINISHED = 1 << 3, /* kept, and the answer is whole now */
};

/* Who has a request that is kept; see kept.h. */
enum job_hold { HOLD_HANDLER, HOLD_FREE, HOLD_TAKEN, HOLD_DONE };

/* Why a request is cancelled, beside the results EXCHANGE_GONE, _ABORTED and _TIMEOUT: the client
 * has sent the end of its input. It may have left, or may still wait for the answer; so this is
 * advice, and a later reason replaces it. */
#define WHY_END_OF_INPUT 1

struct job {
    struct pool_job pool_job;
    struct exchange exchange;
    const struct job_call *call;
    struct done_link link_done; /* loop->doors.done */
    struct loop *loop;
    /* atomic: see news note */
    _Atomic unsigned news;
    /* atomic: written by the loop, read by the worker: the answer is not wanted any more; see gone
     * note */
    _Atomic bool gone;
    /* atomic: see wait note, exchange_cancel.c */
    _Atomic int why;       /* 0, WHY_END_OF_INPUT, or a result; written by the loop */
    _Atomic uint32_t word; /* changes with the news that the holder may sleep for */
    _Atomic bool waits_for_drain;
    _Atomic bool has_hook;
    _Atomic int cancel_fd;    /* -1: none; written by the holder, once */
    _Atomic bool wants_room;  /* the holder got AGAIN, and wants to be told */
    struct cancel_hook *hook; /* mu of server->cancels */
    _Atomic uint64_t token;   /* 0: it is not kept; written by its handler, once; see kept.h */
    /* mu of server->kept */
    enum job_hold hold;
    unsigned notes; /* bits of enum kept_note */
    void (*told)(uint64_t token, int what, void *arg);
    void *told_arg;
    /* the holder's */
    struct chunk *chunks; /* of exchange_ops.alloc */
    size_t allocated;
    char *room_at, *room_end; /* not yet given out, of `room_bytes` */
    struct stream *stream;    /* NULL: the answer is whole; the loop reads it once it was told */
    /* mu of call->turns */
    struct job *next_turn;
    bool waits_turn;
    /* owner loop */
    struct inflight *inflight; /* NULL: abandoned */
    struct journal_slot *left; /* abandoned, and running: still on record */
    h2o_linklist_t link;       /* loop->jobs.abandoned */
    h2o_timeout_entry_t limit; /* on call->limit */
    bool returned;             /* the handler has, or will never be called */
    bool finished; /* so, and if it is kept, it was finished, too: no other thread has it */
    bool is_done;  /* kept, and finished */
    bool streams;  /* `stream` is set, as far as the loop knows */
    bool cut;      /* answered without its handler: its limit has passed */
    bool given_up; /* logged as unfinished already */
    /* taken out of the queue, and why, for the client; NULL: it was not; written before it is
     * pushed onto doors.done */
    const char *dropped;
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
struct job *job_create(struct inflight *inflight, const struct job_call *call);
void job_free(struct job *job);

/* ---- job_run.c ---- */

extern const struct pool_job job_calls; /* run, done and dropped */

/* Call the handler on the loop's own stack.     Thread: owner loop only. */
void job_run_here(struct job *job);

/* Have the loop look at it.     Thread: any; see news note. */
static inline void job_tell(struct job *job, unsigned news)
{
    if (atomic_fetch_or(&job->news, news) == 0)
        loop_push_done(job->loop, &job->link_done);
}

/* ---- job.c; Thread: owner loop only ---- */

void job_unwatch_peer(struct conn *conn);

/* ---- job_end.c; Thread: owner loop only ---- */

/* Its request has gone: has no thread a use for it any more? */
bool job_may_be_freed(struct job *job);

/* ---- exchange/exchange_copy.c; Thread: owner loop only ---- */

/* How much room the copies take. */
size_t exchange_copy_room(const h2o_req_t *req, bool is_user);
/* Fill in what the handler may read of the request, in the room behind the job. */
void exchange_copy(struct job *job, h2o_req_t *req, bool is_user);

/* ---- exchange/exchange_ops.c ---- */

extern const struct exchange_ops exchange_ops;

/* Free what alloc() has given out.     Thread: the job's owner. */
void exchange_free_chunks(struct job *job);

/* ---- exchange/exchange_cancel.c ---- */

/* The request is cancelled; a first reason stays, but for WHY_END_OF_INPUT.
 * Thread: owner loop only.     Blocks: never. */
void job_cancel(struct job *job, int why);
/* Wake the holder, who may sleep for the news that were published before.     Thread: any. */
void job_wake(struct job *job);
/* The handler has returned: no hook of it is called after this.     Thread: the holder.
 * Blocks: while the hook runs. */
void job_end_hook(struct job *job);
/* The job is freed and nobody holds it: a hook that waits will be called, one that is not needed
 * will not.     Thread: owner loop only.     Blocks: never. */
void job_forget_hook(struct job *job);
/* 0, or the result.     Thread: any. */
static inline int job_cancelled(const struct job *job)
{
    int why = atomic_load(&job->why);
    return why == WHY_END_OF_INPUT ? EXCHANGE_GONE : why;
}
/* Is there a token?     Thread: any. */
static inline bool job_is_kept(const struct job *job)
{
    return atomic_load(&job->token) != 0;
}

/* ---- exchange/exchange_answer.c; Thread: owner loop only ---- */

/* Send the answer, which is whole. */
void exchange_answer(struct job *job);

#endif

#ifndef LASTCALL_JOB_H
#define LASTCALL_JOB_H

/* A request on its way through the pool.
 *
 *     loop: job_submit() --> pool: handler(exchange) --> loop: answer
 *
 * The handler is called in place, by the thread that drives the loop, or by a worker: see place.h.
 *
 * The exchange belongs to the job, not to libh2o's request: it holds copies, so the worker never
 * touches memory of a loop. If the client goes away, the exchange is cancelled and the answer is
 * dropped; if it went before a worker was free, the handler is not called at all. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exchange.h"
#include "h2o_api.h"
#include "pool.h"

struct coord_requests;
struct inflight;
struct job;
struct journal_slot;
struct loop;
struct place;
struct turns;

/* Whom the requests of a route are for, on one loop; immutable, and lives as long as the loop. */
struct job_call {
    exchange_handler handler;
    void *user;
    struct place *place;  /* of this route and loop */
    bool is_user;         /* it gets the header, the peer and so on; see exchange_copy.c */
    bool on_loop;         /* it never blocks: it is called on the loop's stack */
    bool is_recorded;     /* on record, whatever the method */
    uint64_t max_body;    /* bytes; 0: limit-request-body */
    uint64_t limit_ns;    /* from the request's arrival to its answer; 0: none */
    h2o_timeout_t *limit; /* the loop's list for that time; NULL: none */
    struct turns *turns;  /* handlers at once; NULL: any number */
};

/* Have a request's handler called, in place or by a worker; for on_req of a handler. A full queue
 * is answered with 503 and Retry-After at once. Thread: owner loop only; on return another thread
 * may be that. Blocks: as pool_place().     Returns 0: taken care of. */
int job_submit(h2o_req_t *req, const struct job_call *call);

/* ---- for the files of server/; Thread: owner loop only ---- */

/* Take the jobs that are done, and answer them. */
void job_finish_all(struct loop *loop);
/* The request is gone. Its slot is the caller's again, unless the handler runs: then NULL. */
struct journal_slot *job_abandon(struct job *job, struct journal_slot *slot);
/* The answers are not wanted any more: handlers that have not been called will not be. After this,
 * what job_state() returns does not change. */
void job_disown_all(struct loop *loop);
/* Free what is kept for the next jobs. */
void job_memory_release(struct loop *loop);
/* Cancel the handlers that have been called, too. */
void job_cancel_all(struct loop *loop);
/* A drain has begun: wake the handlers that wait for it. */
void job_tell_of_drain(struct loop *loop);
/* After the sockets were cut: end the requests that wait for a job. */
void job_give_up_all(struct loop *loop);
/* The same for one request: its handler, if it has not been called, will not be. */
void job_disown(struct inflight *inflight);
void job_give_up(struct inflight *inflight);
/* After job_disown_all(): write into the slots of jobs whether their handler runs. */
void job_settle_states(struct loop *loop);
const char *job_state(const struct job *job);
/* Does its handler still write its answer? Then it waits for the client as long as it likes to. */
bool job_writes(const struct job *job);
void job_list_abandoned(struct loop *loop, struct coord_requests *list);

#endif

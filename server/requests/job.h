#ifndef LASTCALL_JOB_H
#define LASTCALL_JOB_H

/* A request on its way through the pool.
 *
 *     loop: job_submit() --> pool: handler(exchange) --> loop: answer
 *
 * The handler is called in place, by the thread that drives the loop, or by a worker: see place.h.
 *
 * The exchange belongs to the job, not to libh2o's request: it holds copies, so the worker never
 * touches memory of a loop. If the client goes away, the cancel flag is raised and the answer is
 * dropped; if it went before a worker was free, the handler is not called at all. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"
#include "pool.h"

struct coord_requests;
struct inflight;
struct job;
struct journal_slot;
struct loop;
struct place;

#define EXCHANGE_SCRATCH 256

/* What a pool handler is given, and what it fills in. */
struct exchange {
    /* of the request; not to be changed */
    const char *method;
    const char *path;  /* with the query */
    const char *query; /* after the `?`, or "" */
    const char *body;
    size_t body_bytes;
    /* of the response */
    int status;               /* 200 */
    const char *content_type; /* static text; "text/plain; charset=utf-8" */
    char *text;               /* malloc(3)ed, freed with the job, or `scratch`; NULL: no body */
    size_t text_bytes;
    char *scratch; /* EXCHANGE_SCRATCH bytes for a short text */
    /* for the calls below */
    struct pool_job *job;
};

/* Runs on a worker and may block. It should look at the cancel flag where it waits.
 * Thread: worker. */
typedef void (*exchange_handler)(struct exchange *exchange);

/* Sleep, or less if the client went away or the server gives up. Returns false if it was less.
 * Thread: the exchange's worker.     Blocks: yes. */
bool exchange_sleep(struct exchange *exchange, uint32_t ms);

/* printf the response's body.     Thread: the exchange's worker. */
void exchange_print(struct exchange *exchange, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Have a request's handler called, in place or by a worker; for on_req of a handler. A full queue
 * is answered with 503 and Retry-After at once. `place` is this route's and this loop's, and lives
 * as long as the loop. Thread: owner loop only; on return another thread may be that. Blocks: as
 * pool_place().     Returns 0: taken care of. */
int job_submit(h2o_req_t *req, exchange_handler handler, struct place *place);

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
/* Raise the cancel flags of handlers that have been called, too. */
void job_cancel_all(struct loop *loop);
/* After the sockets were cut: end the requests that wait for a job. */
void job_give_up_all(struct loop *loop);
/* The same for one request: its handler, if it has not been called, will not be. */
void job_disown(struct inflight *inflight);
void job_give_up(struct inflight *inflight);
/* After job_disown_all(): write into the slots of jobs whether their handler runs. */
void job_settle_states(struct loop *loop);
const char *job_state(const struct job *job);
void job_list_abandoned(struct loop *loop, struct coord_requests *list);

#endif

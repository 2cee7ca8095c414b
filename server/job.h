#ifndef LASTCALL_JOB_H
#define LASTCALL_JOB_H

/* A request on its way through the pool.
 *
 *     loop: job_submit() --> pool: handler(exchange) --> loop: answer
 *
 * The exchange belongs to the job, not to libh2o's request: it holds copies, so the worker never
 * touches memory of a loop. If the client goes away, the cancel flag is raised and the answer is
 * dropped; if it went before a worker was free, the handler is not called at all. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"
#include "pool.h"

/* What a pool handler is given, and what it fills in. */
struct exchange {
    /* of the request; not to be changed */
    const char *method;
    const char *path;  /* with the query */
    const char *query; /* behind the `?`, or "" */
    const char *body;
    size_t body_bytes;
    /* of the response */
    int status;               /* 200 */
    const char *content_type; /* static text; "text/plain; charset=utf-8" */
    char *text;               /* malloc(3)ed, freed with the job; NULL: no body */
    size_t text_bytes;
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

/* Hand a request to the pool; for on_req of a handler. A full queue is answered with 503 and
 * Retry-After at once.     Thread: owner loop only.     Blocks: never.     Returns 0: taken care
 * of. */
int job_submit(h2o_req_t *req, exchange_handler handler);

#endif

#ifndef LASTCALL_REQUEST_H
#define LASTCALL_REQUEST_H

/* A request from the gate to its end: what we keep of it.
 *
 * The record is a prefilter of the request (h2o_add_prefilter): one piece of the request's own
 * memory pool, found again from it in a step or two, and called when the response begins. */

#include <stdbool.h>
#include <stdint.h>

#include "claims.h"
#include "conn.h"
#include "h2o_api.h"

struct held;
struct journal_slot;

struct inflight {
    h2o_req_prefilter_t super;
    h2o_linklist_t link; /* loop->inflight, oldest first */
    h2o_req_t *req;
    struct loop *loop;
    struct conn *conn;
    struct job *job;           /* NULL: served inline */
    struct held *held;         /* NULL: it does not wait for the application */
    struct journal_slot *slot; /* NULL: it is not on record */
    bool given_up;             /* it is counted and logged as unfinished; its answer is dropped */
    bool is_endless;           /* an event stream: it ends as a tunnel does */
    bool is_half;              /* its answer is being written, and its end has not been sent */
    h2o_iovec_t id;            /* of `request-id`, see claims.h; base NULL: it has none */
    bool shows_id;             /* in its answer */
    bool tag_was_weak;         /* in its If-None-Match; it is compared without that mark */
    uint64_t begun_ns;
    struct progress_watch watch; /* progress_h2.c */
};

/* All of these: Thread: owner loop only. */

/* Make the record. */
struct inflight *inflight_create(h2o_req_t *req);
/* The record of a request; NULL if it has not passed the gate. */
struct inflight *inflight_of(const h2o_req_t *req);
/* The id of a request, for a log line; "": it has none, as without `request-id`. Returns `id`. */
#define REQUEST_ID_SIZE (CLAIMS_ID_MOST + 1)
const char *request_id_of(const h2o_req_t *req, char id[REQUEST_ID_SIZE]);
/* Its last byte was handed to the kernel, as far as the library tells. */
bool request_is_answered(const h2o_req_t *req);
/* The same, when the request ends: and nothing has cut its answer. */
bool inflight_is_answered(const struct inflight *inflight);
/* Does only the end of the connection end this answer? Once it has begun.     Thread: any. */
bool answer_ends_with_connection(const h2o_req_t *req);
/* Mark the connections whose half-sent answer only a reset can show to be half. */
void inflight_mark_resets(struct loop *loop);
/* A response begins that no record sees: an error before any handler. */
void request_respond_unrecorded(h2o_req_t *req);

#endif

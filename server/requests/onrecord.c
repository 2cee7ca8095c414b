#include "onrecord.h"

#include "journal.h"
#include "request.h"

/* Requests in the in-flight record (journal.h), as the loop sees them:
 *
 *     gate        onrecord_begin()           inflight->slot, "running"
 *     job.c       it is queued               "queued"; the worker itself says "running"
 *     prefilter   the response begins        "responding"
 *     gate        the last byte is handed on: onrecord_end(), the slot is free
 *     gate        the client has left: free as well, unless a handler runs: then the job keeps the
 *                 slot until the handler returns
 *     freeze      no slot is freed any more: a request in a slot was not answered, and goes to the
 *                 archive. A loop freezes between two turns, when the library has reported every
 *                 write that the kernel has taken whole, so a request is either answered or not
 *
 * An inline handler is called at once, and may hand the request on to another server, as a proxy
 * does: so a request that is not queued is "running" from the gate on. */

static void put(struct inflight *inflight)
{
    h2o_req_t *req = inflight->req;
    struct journal_part *part = inflight->loop->record.part;
    struct sockaddr_storage peer;

    const struct journal_request request = {
        .method = {req->input.method.base, req->input.method.len},
        .authority = {req->input.authority.base, req->input.authority.len},
        .path = {req->input.path.base, req->input.path.len},
        .is_https = req->input.scheme == &H2O_URL_SCHEME_HTTPS,
        .peer =
            req->conn->callbacks->get_peername(req->conn, (void *)&peer) > 0 ? (void *)&peer : NULL,
        .began_ns = inflight->begun_ns,
        .body_bytes = req->entity.len,
    };
    inflight->slot = journal_begin(part, &request);
    if (inflight->slot == NULL)
        return;
    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *header = &req->headers.entries[i];
        journal_add_header(part, header->name->base, header->name->len, header->value.base,
                           header->value.len);
    }
    journal_commit(part, req->entity.base);
}

void onrecord_begin(struct inflight *inflight)
{
    const h2o_req_t *req = inflight->req;

    if (journal_wants(inflight->loop->record.part, req->input.method.base, req->input.method.len,
                      req->input.path.base, req->input.path.len))
        put(inflight);
}

void onrecord_begin_anyway(struct inflight *inflight)
{
    if (inflight->loop->record.part != NULL && inflight->slot == NULL)
        put(inflight);
}

void onrecord_end(struct loop *loop, struct journal_slot *slot)
{
    if (!loop->record.closed)
        journal_free(loop->record.part, slot);
}

void onrecord_freeze(struct loop *loop)
{
    if (loop->record.part == NULL)
        return;
    journal_freeze(loop->record.part);
    loop->record.closed = true;
}

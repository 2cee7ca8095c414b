#include "server_p.h"

/* Requests in the in-flight record (journal.h), as the loop sees them:
 *
 *     gate        onrecord_begin()           inflight->slot, "running"
 *     job.c       it is queued               "queued"; the worker itself says "running"
 *     prefilter   the response begins        "responding"
 *     gate        the last byte is handed on: onrecord_end(), the slot is free
 *     gate        the client has left: free, too, unless a handler runs: then the job has the slot
 *                 until that returns
 *     freeze      nothing is freed any more: what is in a slot then was not answered, and the
 *                 archive has it. A loop freezes between two turns, where every write that the
 *                 kernel has taken whole has been reported, so a request is one or the other
 *
 * An inline handler is called at once, and may hand the request on to somebody else, as a proxy
 * does: so what no queue has is "running" from the gate on. */

void onrecord_begin(struct inflight *inflight)
{
    h2o_req_t *req = inflight->req;
    struct journal_part *part = inflight->loop->journal;
    struct sockaddr_storage peer;

    if (!journal_wants(part, req->input.method.base, req->input.method.len, req->input.path.base,
                       req->input.path.len))
        return;
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

void onrecord_end(struct loop *loop, struct journal_slot *slot)
{
    if (!loop->record_closed)
        journal_free(loop->journal, slot);
}

void onrecord_freeze(struct loop *loop)
{
    if (loop->journal == NULL)
        return;
    job_settle_states(loop);
    journal_freeze(loop->journal);
    loop->record_closed = true;
}

#include <stdio.h>
#include <string.h>

#include "forward_p.h"
#include "loop.h"

/* Reports about a forwarded request: in the access log, the error log and the counts. */

/* Of a request: eight lines of FastCGI and its failure, or some failures of upstreams. One that
 * waits for an upstream may try them again and again, for as long as `proxy.wait` says. */
#define NOTES_MOST 12

void forward_note(struct forward *forward, h2o_iovec_t text)
{
    h2o_req_t *req = forward->req;

    if (req->error_logs.size >= NOTES_MOST)
        return;
    h2o_vector_reserve(&req->pool, &req->error_logs, req->error_logs.size + 1);
    req->error_logs.entries[req->error_logs.size++] =
        (h2o_req_error_log_t){forward->protocol->name, h2o_strdup(&req->pool, text.base, text.len)};
}

void forward_note_failure(struct forward *forward, enum upstream_failure failure, const char *what)
{
    h2o_req_t *req = forward->req;
    uint64_t now_ms = loop_patient_ms(forward->upstream->proxy->loop);
    char text[256];

    (void)snprintf(text, sizeof(text), "%s (%s)", what, upstream_phase(failure));
    forward_note(forward, h2o_iovec_init(text, strlen(text)));
    upstream_note_failure(forward->upstream, req, failure);
    if (req->pathconf == NULL || req->pathconf->error_log.emit_request_errors)
        upstream_log(forward->upstream, failure, what, now_ms - forward->phase_ms, req);
}

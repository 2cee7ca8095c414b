#include "forward_p.h"

#include "loop.h"
#include "request.h"

/* Event streams have no end of their own. A drain ends them as it ends tunnels, at the same
 * instant, but between two events: the client gets a whole answer, and its next request goes
 * elsewhere. */

static h2o_iovec_t field_of(const h2o_req_t *req, const h2o_token_t *token)
{
    ssize_t at = h2o_find_header(&req->res.headers, token, -1);

    return at >= 0 ? req->res.headers.entries[at].value : h2o_iovec_init(NULL, 0);
}

static bool is_event_stream(const h2o_req_t *req)
{
    h2o_iovec_t type = field_of(req, H2O_TOKEN_CONTENT_TYPE);
    const size_t len = sizeof("text/event-stream") - 1;

    return type.len >= len && h2o_lcstris(type.base, len, H2O_STRLIT("text/event-stream")) &&
           (type.len == len || type.base[len] == ';' || type.base[len] == ' ');
}

/* A compressed one, or one that has a length, cannot end early and be whole: it is cut. */
void forward_note_events(struct forward *forward, const struct leaver_kind *kind)
{
    struct inflight *inflight = inflight_of(forward->req);

    if (!is_event_stream(forward->req) || inflight == NULL || forward->is_whole)
        return;
    inflight->is_endless = true;
    forward->has_events = forward->req->res.content_length == SIZE_MAX &&
                          field_of(forward->req, H2O_TOKEN_CONTENT_ENCODING).len == 0;
    leaver_join(&forward->leaver, kind, inflight->conn);
}

size_t forward_filter_events(struct forward *forward, const char *bytes, size_t size,
                             bool *ret_is_last)
{
    if (!forward->has_events || forward->is_whole) /* the upstream has ended it */
        return size;
    if (forward->leaver.was_asked)
        return event_stream_find(&forward->events, bytes, size, ret_is_last);
    event_stream_pass(&forward->events, bytes, size);
    return size;
}

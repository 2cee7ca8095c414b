#include "request.h"

#include <stdio.h>
#include <string.h>

#include "answer_head.h"
#include "journal.h"
#include "server_state.h"

/* A request from the gate to its end: its record, and the beginning of its response. */

/* The `Connection:` line is written after this, also for requests parsed before the drain began. */
static void see_to_last_line(struct loop *loop, h2o_req_t *req)
{
    if (req->version >= 0x200)
        return;
    struct conn *conn = conn_of(req);
    if (loop->say_close || (conn != NULL && conn->is_last_request))
        req->http1_is_persistent = 0;
    if (req->http1_is_persistent)
        return;
    if (conn != NULL) {
        conn->asked_to_close = !loop->say_close && conn->refusal == 0 &&
                               (req->version < 0x101 ||
                                h2o_find_header(&req->headers, H2O_TOKEN_CONNECTION, -1) != -1);
        conn_will_close(conn);
    }
}

/* Which process answered: so a restart can be seen from outside. */
static void show_generation(const struct loop *loop, h2o_req_t *req)
{
    char *text = h2o_mem_alloc_pool(&req->pool, 24);
    int n = snprintf(text, 24, "%llu", (unsigned long long)loop->server->config.generation);

    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("lastcall-generation"), 0,
                          "Lastcall-Generation", text, (size_t)n);
}

/* An application may have done so already. */
static void show_id(const struct inflight *inflight, h2o_req_t *req)
{
    if (h2o_find_header_by_str(&req->res.headers, H2O_STRLIT(CLAIMS_ID_FIELD), -1) == -1)
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT(CLAIMS_ID_FIELD), 0,
                              "X-Request-Id", inflight->id.base, inflight->id.len);
}

static void on_prefilter(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct inflight *inflight = container_of(self, struct inflight, super);

    if (inflight->loop->server->config.generation_header)
        show_generation(inflight->loop, req);
    if (inflight->shows_id)
        show_id(inflight, req);
    see_to_last_line(inflight->loop, req);
    if (inflight->slot != NULL)
        journal_set_responding(inflight->slot);
    h2o_setup_next_prefilter(self, req, slot);
}

struct inflight *inflight_of(const h2o_req_t *req)
{
    h2o_req_prefilter_t *at = req->prefilters;
    while (at != NULL && at->on_setup_ostream != on_prefilter)
        at = at->next;
    return at != NULL ? container_of(at, struct inflight, super) : NULL;
}

struct inflight *inflight_create(h2o_req_t *req)
{
    struct loop *loop = loop_of(req->conn);
    struct inflight *inflight =
        container_of(h2o_add_prefilter(req, sizeof(*inflight)), struct inflight, super);

    inflight->super.on_setup_ostream = on_prefilter;
    inflight->link = (h2o_linklist_t){NULL, NULL};
    inflight->req = req;
    inflight->loop = loop;
    inflight->conn = conn_of(req);
    inflight->job = NULL;
    inflight->given_up = false;
    inflight->is_endless = false;
    inflight->is_half = false;
    inflight->held = NULL;
    inflight->slot = NULL;
    inflight->begun_ns = loop_now_ns(loop);
    inflight->id = h2o_iovec_init(NULL, 0);
    inflight->shows_id = false;
    inflight->tag_was_weak = false;
    inflight->watch.since_ns = 0;
    return inflight;
}

const char *request_id_of(const h2o_req_t *req, char id[REQUEST_ID_SIZE])
{
    const struct inflight *inflight = inflight_of(req);
    size_t size = inflight != NULL ? inflight->id.len : 0;

    if (size > 0)
        memcpy(id, inflight->id.base, size);
    id[size] = '\0';
    return id;
}

void request_respond_unrecorded(h2o_req_t *req)
{
    struct loop *loop = loop_of(req->conn);

    if (loop->server->config.generation_header && inflight_of(req) == NULL)
        show_generation(loop, req);
    see_to_last_line(loop, req);
}

bool request_is_answered(const h2o_req_t *req)
{
    if (req->version < 0x200) /* HTTP/1 stamps the end when the last write is complete */
        return req->timestamps.response_end_at.tv_sec != 0;
    return req->timestamps.response_start_at.tv_sec != 0 &&
           (req->res.content_length == SIZE_MAX || req->bytes_sent >= req->res.content_length ||
            h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")));
}

bool inflight_is_answered(const struct inflight *inflight)
{
    return !inflight->loop->frozen && !inflight->given_up && !inflight->conn->given_up &&
           !inflight->is_half && request_is_answered(inflight->req);
}

/* RFC 9112 section 6.3. Without a length the library sends chunks, but to HTTP/1.1 only, and only
 * with status 200. */
bool answer_ends_with_connection(const h2o_req_t *req)
{
    return req->version < 0x200 && req->res.content_length == SIZE_MAX && answer_has_body(req) &&
           h2o_find_header(&req->res.headers, H2O_TOKEN_TRANSFER_ENCODING, -1) == -1;
}

void inflight_mark_resets(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        const h2o_req_t *req = inflight->req;
        if (req->timestamps.response_start_at.tv_sec != 0 && answer_ends_with_connection(req))
            inflight->conn->reset_when_cut = true;
    }
}

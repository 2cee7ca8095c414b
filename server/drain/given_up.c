#include "given_up.h"

#include "conn.h"
#include "job.h"
#include "log.h"
#include "request.h"
#include "reset.h"

/* What a limit or a deadline leaves unfinished. It is logged and counted once; from then on the
 * drain does not wait for it.
 *
 * The library may take its time to notice: it does not look at an HTTP/1 socket while it waits for
 * an upstream, and that must not hold the exit. So conn->given_up takes a connection and its
 * requests out of the counts once, and what ends afterwards leaves the counts alone. */

#define TEXT_LONGEST 1024

void given_up_name_request(struct loop *loop, const h2o_req_t *req, const char *limit)
{
    int method = (int)(req->input.method.len < 32 ? req->input.method.len : 32);
    int path = (int)(req->input.path.len < TEXT_LONGEST ? req->input.path.len : TEXT_LONGEST);
    char id[REQUEST_ID_SIZE];
    bool has_id = request_id_of(req, id)[0] != '\0';

    count_add(&loop->counts.given_up, 1);
    log_line(LOG_LEVEL_WARN, "unfinished", has_id ? json_pack("{s:s}", "request_id", id) : NULL,
             "unfinished: %.*s %.*s, cut by %s%s%s", method > 0 ? method : 1,
             method > 0 ? req->input.method.base : "?", path > 0 ? path : 1,
             path > 0 ? req->input.path.base : "?", limit, has_id ? ", request id " : "", id);
}

void given_up_forget_conn(struct conn *conn)
{
    struct loop *loop = conn->loop;

    if (conn->given_up)
        return;
    conn->given_up = true;
    count_add(&loop->counts.active, -(uint64_t)conn->active);
    count_add(&loop->counts.connections, (uint64_t)-1);
}

void given_up_conn(struct conn *conn, const char *limit)
{
    struct loop *loop = conn->loop;

    assert_owner(loop);
    if (conn->given_up)
        return;
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (inflight->conn != conn || inflight->given_up)
            continue;
        inflight->given_up = true;
        given_up_name_request(loop, inflight->req, limit);
    }
    given_up_forget_conn(conn);
    loop_note_change(loop);
}

void given_up_reset_stream(h2o_http2_stream_t *stream)
{
    struct inflight *inflight = inflight_of(&stream->req);

    if (inflight != NULL)
        job_give_up(inflight);
    reset_h2_stream(stream, H2O_HTTP2_ERROR_CANCEL);
}

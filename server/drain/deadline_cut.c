#include "deadline_cut.h"

#include <stdio.h>
#include <sys/ioctl.h>

#include "conn.h"
#include "idle.h"
#include "idle_close.h"
#include "job.h"
#include "leave.h"
#include "log.h"
#include "request.h"
#include "server_state.h"
#include "given_up.h"

/* What a drain gives up before its end: requests, streams and tunnels whose own deadline has
 * passed, while the drain still waits for others. (At the general deadline the loops freeze and do
 * not need this: see freeze.c.)
 *
 * An event stream of an upstream is of the class of tunnels.
 *
 * An HTTP/1 connection has one request, and is cut with it. A stream of HTTP/2 is reset, and its
 * connection goes on for the other streams. When the drain waits for none of them any more, and the
 * deadline of class OTHER has passed, the connection is cut too. */

#define RESET_AT_ONCE 64

/* A class without a deadline of its own has the general one. */
static const char *limit_of(const struct loop *loop, enum drain_class class, char *text,
                            size_t size)
{
    if (loop->server->config.class_ns[class] == 0)
        return "the deadline";
    (void)snprintf(text, size, "the deadline of %s", drain_class_name(class));
    return text;
}

struct look {
    struct loop *loop;
    unsigned classes;
    h2o_http2_stream_t *doomed[RESET_AT_ONCE];
    size_t count;
};

static bool is_due(const struct look *look, enum drain_class class)
{
    return (look->classes & 1U << class) != 0;
}

/* Returns whether the deadline of the request's class has passed. */
static bool judge(struct look *look, h2o_req_t *req, struct conn *conn, enum drain_class class)
{
    char text[64];

    if (req->version >= 0x200 &&
        ((h2o_http2_conn_t *)req->conn)->state == H2O_HTTP2_CONN_STATE_IS_CLOSING)
        return false; /* its last frames are being written */
    if (!is_due(look, class)) {
        conn->deadline.is_spared = true;
        return false;
    }
    if (req->version >= 0x200 && look->count == RESET_AT_ONCE)
        return false; /* there is another round */
    given_up_name_request(look->loop, req, limit_of(look->loop, class, text, sizeof(text)));
    if (req->version >= 0x200)
        look->doomed[look->count++] = container_of(req, h2o_http2_stream_t, req);
    else
        conn->deadline.is_due = true;
    return true;
}

static enum drain_class class_of(const struct inflight *inflight)
{
    if (inflight->is_endless)
        return DRAIN_TUNNEL;
    return inflight->req->timestamps.response_start_at.tv_sec != 0 ? DRAIN_STREAM : DRAIN_OTHER;
}

/* All jobs, before the first cancel flag is raised: a worker that gets free would begin another. */
static void disown_due(struct look *look)
{
    h2o_linklist_t *all = &look->loop->inflight;

    for (h2o_linklist_t *node = all->next; node != all; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (is_due(look, class_of(inflight)))
            job_disown(inflight);
    }
}

static void judge_inflight(struct look *look, bool of_h2)
{
    h2o_linklist_t *all = &look->loop->inflight;

    for (h2o_linklist_t *node = all->next; node != all; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        h2o_req_t *req = inflight->req;
        if ((req->version >= 0x200) != of_h2 || inflight->given_up ||
            inflight->conn->sock == NULL || inflight->conn->given_up)
            continue;
        inflight->given_up = judge(look, req, inflight->conn, class_of(inflight));
    }
}

/* Its header is whole and it has not passed the gate, so its body is arriving. A stream of HTTP/2
 * may also wait for other streams. */
static bool is_upload(h2o_req_t *req)
{
    if (req->version >= 0x200)
        return container_of(req, h2o_http2_stream_t, req)->state ==
               H2O_HTTP2_STREAM_STATE_RECV_BODY;
    return req->version != 0; /* a header that is not whole leaves it 0 */
}

/* A request that has not passed the gate. */
static int judge_receiving(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    if (conn == NULL || conn->given_up || req->timestamps.request_begin_at.tv_sec == 0 ||
        req->processed_at.at.tv_sec != 0 || (req->version < 0x200 && h1_is_idle(req)))
        return 0;
    (void)judge(data, req, conn, is_upload(req) ? DRAIN_UPLOAD : DRAIN_OTHER);
    return 0;
}

static void judge_tunnel(struct look *look, struct conn *conn)
{
    char text[64];

    if (!is_due(look, DRAIN_TUNNEL)) {
        conn->deadline.is_spared = true;
        return;
    }
    if (conn->tunnel == NULL)
        conn->deadline.is_due = true;
    /* Where both sides know that it ends, nothing is torn. Counted first: with the end of the last
     * connection the drain may be over. */
    if (conn->tunnel == NULL || !conn->tunnel->kind->was_told(conn->tunnel)) {
        count_add(&look->loop->counts.given_up, 1);
        log_line(LOG_LEVEL_WARN, "unfinished", NULL, "unfinished: a tunnel, cut by %s",
                 limit_of(look->loop, DRAIN_TUNNEL, text, sizeof(text)));
    }
    if (conn->tunnel != NULL)
        conn->tunnel->kind->cut(conn->tunnel);
}

/* ---- acting on it ---- */

static void clear_marks(struct loop *loop)
{
    h2o_linklist_t *h2s = &loop->ctx.http2._conns;

    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        conn->deadline.is_spared = conn->deadline.is_due = false;
    }
    for (h2o_linklist_t *node = h2s->next; node != h2s; node = node->next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        if (h2->sock != NULL) /* upgraded to HTTP/2, which is no tunnel */
            ((struct conn *)h2->sock->on_close.data)->is_tunnel = false;
    }
}

/* Round by round, since a stream that is reset may make room for one that waited. */
static void give_up_streams(struct look *look)
{
    struct loop *loop = look->loop;

    do {
        look->count = 0;
        clear_marks(loop);
        judge_inflight(look, true);
        (void)loop->ctx.globalconf->http2.callbacks.foreach_request(&loop->ctx, judge_receiving,
                                                                    look);
        /* A reset frees its own stream at most; the others end in turns of the loop. */
        for (size_t i = 0; i < look->count; i++)
            given_up_reset_stream(look->doomed[i]);
    } while (look->count > 0);
}

/* A request may have arrived in this turn: the loop reads it first, and the next deadline applies
 * to it. */
static bool has_unread(const struct conn *conn)
{
    int unread = 0;
    return ioctl(h2o_socket_get_fd(conn->sock), FIONREAD, &unread) == 0 && unread > 0;
}

static void cut_conns(struct look *look)
{
    for (h2o_linklist_t *node = look->loop->conns.next; node != &look->loop->conns;
         node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        /* A connection that lingers has been answered, and has its own limit. */
        if (conn->sock == NULL || conn->given_up || conn->deadline.is_spared ||
            !(conn->deadline.is_due || (is_due(look, DRAIN_OTHER) && !has_unread(conn))))
            continue;
        conn->deadline.is_due = true;
        given_up_forget_conn(conn);
        conn_cut(conn);
    }
}

/* Requests with a job: the library does not notice that their socket is cut. */
static void end_jobs(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next, *next; node != &loop->inflight; node = next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        next = node->next;
        if (inflight->given_up && inflight->conn->deadline.is_due)
            job_give_up(inflight);
    }
}

void deadline_cut_due(struct loop *loop, unsigned classes)
{
    struct look look = {.loop = loop, .classes = classes};

    assert_owner(loop);
    inflight_mark_resets(loop);
    disown_due(&look);
    give_up_streams(&look);
    judge_inflight(&look, false);
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, judge_receiving, &look);
    for (h2o_linklist_t *node = loop->conns.next, *next; node != &loop->conns; node = next) {
        struct conn *conn = container_of(node, struct conn, link);
        next = node->next; /* it may be freed */
        if (conn->is_tunnel && conn->sock != NULL && !conn->given_up)
            judge_tunnel(&look, conn);
    }
    cut_conns(&look);
    end_jobs(loop);
    idle_close_look_soon(loop);
    loop_note_change(loop);
}

#include "server_p.h"

#include <stdio.h>
#include <sys/ioctl.h>

#include "log.h"

/* What a drain gives up before its end: requests, streams and tunnels whose deadline has come,
 * while others are still waited for. (At the last deadline of all the loops freeze, which needs
 * none of this: see stay_frozen(), loop.c.)
 *
 * An HTTP/1 connection has one request, and is cut with it. A stream of HTTP/2 is reset, and its
 * connection goes on for the sake of the others; when nothing on it is waited for any more, and
 * the general deadline has come, it is cut, too.
 *
 * What is given up is not counted from that moment on. The library may take its time to notice: it
 * does not look at an HTTP/1 socket while it waits for an upstream, and that must not hold the
 * exit. So conn->given_up takes a connection and its requests out of the counts once, and whatever
 * ends afterwards leaves them alone. */

#define TEXT_LONGEST 1024
#define RESET_AT_ONCE 64

/* A class without a deadline of its own has the general one. */
static const char *limit_of(const struct loop *loop, enum drain_class class, char *text,
                            size_t size)
{
    const struct options *options = loop->server->options;
    const uint64_t own_ns[DRAIN_CLASSES] = {[DRAIN_TUNNEL] = options->tunnel_ns,
                                            [DRAIN_STREAM] = options->stream_ns,
                                            [DRAIN_UPLOAD] = options->upload_ns};

    if (own_ns[class] == 0)
        return "the deadline";
    (void)snprintf(text, size, "the deadline of %s", drain_class_name(class));
    return text;
}

static void name_request(struct loop *loop, const h2o_req_t *req, const char *limit)
{
    int method = (int)(req->input.method.len < 32 ? req->input.method.len : 32);
    int path = (int)(req->input.path.len < TEXT_LONGEST ? req->input.path.len : TEXT_LONGEST);

    count_add(&loop->counts.given_up, 1);
    log_line(LOG_LEVEL_WARN, "unfinished", NULL, "unfinished: %.*s %.*s, cut by %s",
             method > 0 ? method : 1, method > 0 ? req->input.method.base : "?",
             path > 0 ? path : 1, path > 0 ? req->input.path.base : "?", limit);
}

static void forget(struct conn *conn)
{
    struct loop *loop = conn->loop;

    if (conn->given_up)
        return;
    conn->given_up = true;
    count_add(&loop->counts.active, -(uint64_t)conn->active);
    count_add(&loop->counts.connections, (uint64_t)-1);
}

void giveup_conn(struct conn *conn, const char *limit)
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
        name_request(loop, inflight->req, limit);
    }
    forget(conn);
    loop_note_change(loop);
}

/* ---- whose deadline has come ---- */

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

/* Returns whether the request is of a class whose time has come. */
static bool judge(struct look *look, h2o_req_t *req, struct conn *conn, enum drain_class class)
{
    char text[64];

    if (req->version >= 0x200 &&
        ((h2o_http2_conn_t *)req->conn)->state == H2O_HTTP2_CONN_STATE_IS_CLOSING)
        return false; /* it is on its way */
    if (!is_due(look, class)) {
        conn->is_spared = true;
        return false;
    }
    if (req->version >= 0x200 && look->count == RESET_AT_ONCE)
        return false; /* there is another round */
    name_request(look->loop, req, limit_of(look->loop, class, text, sizeof(text)));
    if (req->version >= 0x200)
        look->doomed[look->count++] = container_of(req, h2o_http2_stream_t, req);
    else
        conn->is_due = true;
    return true;
}

static enum drain_class class_of(const struct inflight *inflight)
{
    return inflight->req->timestamps.response_start_at.tv_sec != 0 ? DRAIN_STREAM : DRAIN_OTHER;
}

/* All of them before the first handler is told to stop: its worker would take the next one. */
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

/* Its header is whole, and yet it is not at work: so its body is not. A stream may have to wait for
 * others besides. */
static bool is_upload(h2o_req_t *req)
{
    if (req->version >= 0x200)
        return container_of(req, h2o_http2_stream_t, req)->state ==
               H2O_HTTP2_STREAM_STATE_RECV_BODY;
    return req->version != 0; /* as much of the header as is there fills in the rest, too */
}

/* A request that has not passed the gate. */
static int judge_receiving(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    if (conn == NULL || conn->given_up || req->timestamps.request_begin_at.tv_sec == 0 ||
        req->processed_at.at.tv_sec != 0 || (req->version < 0x200 && letgo_is_idle(req)))
        return 0;
    (void)judge(data, req, conn, is_upload(req) ? DRAIN_UPLOAD : DRAIN_OTHER);
    return 0;
}

static void judge_tunnel(struct look *look, struct conn *conn)
{
    char text[64];

    if (!is_due(look, DRAIN_TUNNEL)) {
        conn->is_spared = true;
        return;
    }
    conn->is_due = true;
    count_add(&look->loop->counts.given_up, 1);
    log_line(LOG_LEVEL_WARN, "unfinished", NULL, "unfinished: a tunnel, cut by %s",
             limit_of(look->loop, DRAIN_TUNNEL, text, sizeof(text)));
}

/* ---- acting on it ---- */

static void clear_marks(struct loop *loop)
{
    h2o_linklist_t *h2s = &loop->ctx.http2._conns;

    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        conn->is_spared = conn->is_due = false;
    }
    for (h2o_linklist_t *node = h2s->next; node != h2s; node = node->next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        if (h2->sock != NULL) /* upgraded, but to what is ours */
            ((struct conn *)h2->sock->on_close.data)->is_tunnel = false;
    }
}

static void reset_stream(h2o_http2_stream_t *stream)
{
    h2o_http2_conn_t *h2 = (h2o_http2_conn_t *)stream->req.conn;
    struct inflight *inflight = inflight_of(&stream->req);

    if (inflight != NULL)
        job_give_up(inflight);
    h2o_http2_encode_rst_stream_frame(&h2->_write.buf, stream->stream_id, -H2O_HTTP2_ERROR_CANCEL);
    h2o_http2_stream_reset(h2, stream);
    h2o_http2_conn_request_write(h2);
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
            reset_stream(look->doomed[i]);
    } while (look->count > 0);
}

/* A request may have come in this very turn: it is read first, and the next deadline is its. */
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
        /* Who lingers has been answered, and has a limit of its own. */
        if (conn->sock == NULL || conn->given_up || conn->is_spared ||
            !(conn->is_due || (is_due(look, DRAIN_OTHER) && !has_unread(conn))))
            continue;
        conn->is_due = true;
        forget(conn);
        conn_cut(conn);
    }
}

/* Requests that wait for a worker: the library would not notice that their socket is cut. */
static void end_jobs(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next, *next; node != &loop->inflight; node = next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        next = node->next;
        if (inflight->given_up && inflight->conn->is_due)
            job_give_up(inflight);
    }
}

void giveup_due(struct loop *loop, unsigned classes)
{
    struct look look = {.loop = loop, .classes = classes};

    assert_owner(loop);
    inflight_mark_resets(loop);
    disown_due(&look);
    give_up_streams(&look);
    judge_inflight(&look, false);
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, judge_receiving, &look);
    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        if (conn->is_tunnel && conn->sock != NULL && !conn->given_up)
            judge_tunnel(&look, conn);
    }
    cut_conns(&look);
    end_jobs(loop);
    letgo_look_soon(loop);
    loop_note_change(loop);
}

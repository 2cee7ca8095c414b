#include "progress_h1.h"

#include <sys/ioctl.h>

#include "bodies.h"
#include "job.h"
#include "library.h"
#include "progress_watch.h"
#include "request.h"

/* Progress of HTTP/1; progress.c has the rules and the settings. */

/* The beginning of the library's struct st_h2o_http1_conn_t. */
struct http1_conn {
    h2o_conn_t super;
    h2o_socket_t *sock;
    h2o_linklist_t conns;
    h2o_timeout_t *timeout;
    h2o_timeout_entry_t timeout_entry;
};

static void look_at_answer(struct conn *conn, const h2o_req_t *req, uint64_t now_ns)
{
    struct progress_watch *watch = &conn->progress.answer;
    const struct inflight *inflight = inflight_of(req);
    uint64_t acked;

    if (conn->sock->_cb.write == NULL || (inflight != NULL && job_writes(inflight->job)) ||
        !progress_acked(conn, &acked)) {
        watch->since_ns = 0;
        return;
    }
    if (progress_is_late(conn->loop, watch, acked, now_ns))
        progress_cut(conn, CUT_ANSWER, acked - watch->from, now_ns - watch->since_ns,
                     req->timestamps.response_start_at.tv_sec != 0);
}

static bool is_body_arriving(const h2o_req_t *req)
{
    return req->timestamps.request_body_begin_at.tv_sec != 0 && req->processed_at.at.tv_sec == 0 &&
           req->timestamps.response_start_at.tv_sec == 0;
}

/* The connection, while http1-request-timeout runs; else NULL. The pointers show that the library's
 * structure is what we take it for. */
static struct http1_conn *find_waiting(const struct conn *conn, const h2o_req_t *req)
{
    struct http1_conn *http1 = (void *)req->conn;

    return mends_are_on() && http1->sock == conn->sock &&
                   http1->timeout == &conn->loop->ctx.http1.req_timeout &&
                   h2o_timeout_is_linked(&http1->timeout_entry)
               ? http1
               : NULL;
}

static void start_timeout(const struct conn *conn, struct http1_conn *http1)
{
    h2o_timeout_link(conn->loop->evloop, http1->timeout, &http1->timeout_entry);
}

static void push_back_timeout(const struct conn *conn, const h2o_req_t *req)
{
    struct http1_conn *http1 = find_waiting(conn, req);

    if (http1 == NULL)
        return;
    h2o_timeout_unlink(&http1->timeout_entry);
    start_timeout(conn, http1);
}

/* See the note on the end of the wait, progress.c. */
static void on_timeout(h2o_timeout_entry_t *entry)
{
    struct http1_conn *http1 = container_of(entry, struct http1_conn, timeout_entry);
    struct conn *conn = http1->sock->on_close.data;
    int unread = 0;

    if (http1->sock->input->size == 0 &&
        ioctl(h2o_socket_get_fd(http1->sock), FIONREAD, &unread) == 0 && unread > 0)
        start_timeout(conn, http1);
    else
        conn->progress.on_timeout(entry);
}

/* The library sets its own function again for each request. */
static void take_over_timeout(struct conn *conn, const h2o_req_t *req)
{
    struct http1_conn *http1 = find_waiting(conn, req);

    /* h2o_timeout_run() would call on_timeout() without end if it set a time of 0 again. */
    if (http1 == NULL || http1->timeout_entry.cb == on_timeout || http1->timeout->timeout == 0)
        return;
    conn->progress.on_timeout = http1->timeout_entry.cb;
    http1->timeout_entry.cb = on_timeout;
}

static void look_at_body(struct conn *conn, h2o_req_t *req, uint64_t now_ns)
{
    struct progress_watch *watch = &conn->progress.body;
    uint64_t size = conn->sock->input->size;

    if (!is_body_arriving(req)) {
        watch->since_ns = 0;
        return;
    }
    if (!progress_is_late(conn->loop, watch, size, now_ns)) {
        push_back_timeout(conn, req);
        return;
    }
    progress_note(conn, CUT_BODY, size - watch->from, now_ns - watch->since_ns);
    if (conn->sock->_cb.write != NULL) /* 100 Continue, unread */
        conn_cut(conn);
    else
        bodies_refuse(conn, req, 408, "Request Timeout",
                      "the body of the request came too slowly\n");
}

static int look_at(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);
    uint64_t now_ns = *(const uint64_t *)data;

    if (conn == NULL || conn->sock == NULL || conn->given_up || conn->progress.over)
        return 0;
    take_over_timeout(conn, req);
    look_at_answer(conn, req, now_ns);
    if (!conn->progress.over)
        look_at_body(conn, req, now_ns);
    return 0;
}

void progress_look_h1(struct loop *loop, uint64_t now_ns)
{
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, look_at, &now_ns);
}

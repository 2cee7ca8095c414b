#include "job_p.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "deferred_read.h"
#include "journal.h"
#include "list_item.h"
#include "onrecord.h"
#include "request.h"
#include "require.h"
#include "server_state.h"
#include "tls.h"

/* A request on its way to its handler, and the answer on its way back. See job_p.h. */

void job_unwatch_peer(struct conn *conn)
{
    if (conn == NULL || conn->watched == NULL)
        return;
    h2o_socket_read_stop(conn->sock);
    h2o_socket_dont_read(conn->sock, !conn->is_tls); /* see deferred_read.c */
    conn->watched = NULL;
}

/* libh2o does not look at an HTTP/1 socket while it serves a request, so it would not notice that a
 * client leaves. This looks without reading: a pipelined request must stay in the kernel. */
static void on_peer(h2o_socket_t *sock, const char *err)
{
    struct conn *conn = sock->on_close.data;
    char byte;

    (void)err;
    int fd = h2o_socket_get_fd(sock);
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && conn->is_tls && tls_peer_is_leaving(fd)) /* its alert comes before the end */
        n = 0;
    struct job *job = conn->watched;
    job_unwatch_peer(conn); /* the socket stays readable: stop looking */
    /* End of file may also come from a client that has shut down its sending side (shutdown(2)) and
     * waits for the answer. So the cancel flag is advice: the handler's answer is sent. */
    if (n <= 0 && !job->finished)
        pool_cancel(&job->pool_job);
}

static void watch_peer(struct job *job)
{
    h2o_req_t *req = job->inflight->req;
    if (req->version >= 0x200) /* HTTP/2 goes on reading, and resets the stream */
        return;
    struct conn *conn = job->inflight->conn;
    h2o_socket_dont_read(conn->sock, 1);
    deferred_read_watch(conn->sock, on_peer);
    conn->watched = job;
}

static int shed(h2o_req_t *req, h2o_iovec_t why)
{
    count_add(&loop_of(req->conn)->counts.shed, 1);
    req->res.status = 503;
    req->res.reason = "Service Unavailable";
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; charset=utf-8"));
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL,
                          H2O_STRLIT("1"));
    req->res.content_length = why.len;
    h2o_send_inline(req, why.base, why.len);
    return 0;
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    default:
        return status < 500 ? "Response" : "Internal Server Error";
    }
}

static void answer(struct job *job)
{
    static h2o_generator_t generator; /* nothing to stop, nothing to continue */
    h2o_req_t *req = job->inflight->req;
    h2o_iovec_t body = {job->exchange.text, job->exchange.text_bytes};
    bool head = h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));

    job_unwatch_peer(job->inflight->conn);
    req->res.status = job->exchange.status;
    req->res.reason = reason_of(job->exchange.status);
    req->res.content_length = body.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   job->exchange.content_type, strlen(job->exchange.content_type));
    h2o_start_response(req, &generator);
    /* No copy: the job is freed with the request. */
    h2o_send(req, &body, head || body.len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static void answer_dropped(struct job *job)
{
    job_unwatch_peer(job->inflight->conn);
    (void)shed(job->inflight->req,
               h2o_iovec_init(H2O_STRLIT("every worker is busy, and this connection has more "
                                         "than its part of the queue\n")));
}

static void finish(struct job *job)
{
    job->finished = true;
    if (job->inflight == NULL) {
        h2o_linklist_unlink(&job->link);
        if (job->left != NULL)
            onrecord_end(job->loop, job->left);
        count_add(&job->loop->counts.abandoned, (uint64_t)-1); /* after the record; see op_census */
        job_free(job);
    } else if (!job->loop->frozen && !job->inflight->given_up) {
        if (job->dropped)
            answer_dropped(job);
        else
            answer(job);
    }
}

/* ---- to the handler ---- */

/* HTTP/1 has one request at a time. */
static struct pool_share *share_of(struct conn *conn)
{
    if (conn->share_of_pool == NULL)
        conn->share_of_pool = pool_share_create(); /* NULL: each job of it counts for itself */
    return conn->share_of_pool;
}

static int queue(struct job *job)
{
    struct inflight *inflight = job->inflight;
    h2o_req_t *req = inflight->req;

    if (req->version >= 0x200)
        job->pool_job.share = share_of(inflight->conn);
    job->pool_job.brief = place_is_brief(job->place);
    if (job->slot != NULL)
        journal_set_queued(job->slot); /* before a worker can have it */
    if (pool_submit(job->loop->server->pool, &job->pool_job) != 0) {
        inflight->job = NULL;
        job_free(job);
        return shed(req,
                    h2o_iovec_init(H2O_STRLIT("every worker is busy and the queue is full, or this "
                                              "connection has its part of it\n")));
    }
    doors_stay_awake(job->loop);
    watch_peer(job);
    return 0;
}

/* The loop may have another owner now: see pool_place(). Not inlined, so that the compiler reuses
 * no address of a thread-local. */
static NOT_LOOKED_INTO void go_on(struct job *job, enum pool_placed placed)
{
    assert_owner(job->loop);
    ERR_clear_error(); /* the library takes what a handler left there for its connection's error */
    if (placed == POOL_ENDED) {
        job->loop->handlers.turn_ns += job->took_ns;
        job->finished = true;
        answer(job);
    } else {
        job->loop->handlers.turn_ns += clock_now_ns() - job->pool_job.placed_ns;
        place_was_left(job->place, placed == POOL_LEFT_BUSY);
        watch_peer(job);
    }
}

int job_submit(h2o_req_t *req, exchange_handler handler, struct place *place)
{
    struct loop *loop = loop_of(req->conn);
    struct inflight *inflight = inflight_of(req);

    assert_owner(loop);
    REQUIRE(inflight != NULL && inflight->job == NULL);
    struct job *job = job_create(inflight, handler, place);
    if (job == NULL)
        return shed(req,
                    h2o_iovec_init(H2O_STRLIT("the bodies of other requests fill the memory\n")));
    job->slot = inflight->slot;
    inflight->job = job;
    enum pool_placed placed = POOL_NOT_PLACED;
    if (place_is_here(place, loop))
        placed = pool_place(loop->server->pool, loop->index, &job->pool_job);
    if (placed == POOL_NOT_PLACED)
        return queue(job);
    go_on(job, placed);
    return 0;
}

void job_finish_all(struct loop *loop)
{
    for (struct done_link *done = loop_take_done(loop), *next; done != NULL; done = next) {
        next = done->next; /* finish() may free it */
        finish(container_of(done, struct job, link_done));
    }
}

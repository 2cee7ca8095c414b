#include "job_p.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "deferred_read.h"
#include "journal.h"
#include "kept.h"
#include "list_item.h"
#include "onrecord.h"
#include "request.h"
#include "require.h"
#include "server_state.h"
#include "stream.h"
#include "tls.h"
#include "turns.h"

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
     * waits for the answer. So this is advice: the handler's answer is sent. */
    if (n <= 0 && !job->finished)
        job_cancel(job, WHY_END_OF_INPUT);
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

static void answer(struct job *job)
{
    job_unwatch_peer(job->inflight->conn);
    if (job->exchange.broken) /* and nothing of it has begun */
        h2o_send_error_500(job->inflight->req, "Internal Server Error", "internal server error\n",
                           0);
    else
        exchange_answer(job);
}

static void answer_dropped(struct job *job)
{
    job_unwatch_peer(job->inflight->conn);
    (void)shed(job->inflight->req, h2o_iovec_init(job->dropped, strlen(job->dropped)));
}

/* The request has gone, and so has its handler now. */
static void end_abandoned(struct job *job)
{
    h2o_linklist_unlink(&job->link);
    if (job->left != NULL)
        onrecord_end(job->loop, job->left);
    count_add(&job->loop->counts.abandoned, (uint64_t)-1); /* after the record; see op_census */
    job_free(job);
}

/* What is new of a request that is still there. */
static void go_on_with(struct job *job)
{
    if (job->streams) {
        stream_go_on(job);
    } else if (job->finished && !job->loop->frozen && !job->inflight->given_up && !job->cut) {
        if (job->dropped != NULL)
            answer_dropped(job);
        else
            answer(job);
    }
}

static void on_news(struct job *job, unsigned news)
{
    if (news & NEWS_RETURNED)
        job->returned = true;
    if (job->returned && (!job_is_kept(job) || (news & NEWS_FINISHED) || job->is_done))
        job->finished = true;
    job->is_done |= (news & NEWS_FINISHED) != 0;
    /* Until it is finished, its holder may be about to make the stream. */
    if ((news & NEWS_WROTE) || job->finished)
        job->streams = job->stream != NULL;
    if (news & NEWS_LET_GO)
        kept_tell_left(job);
    if (job->inflight != NULL)
        go_on_with(job);
    else if (job_may_be_freed(job))
        end_abandoned(job);
}

/* Called in place, or on the loop. If the job is on the loop's stack, it is handled there: it must
 * not be freed before. See news note. */
static void on_returned_here(struct job *job)
{
    if (job->call->turns != NULL)
        turns_leave(job->call->turns);
    if (job_is_kept(job))
        watch_peer(job);
    if (atomic_load(&job->news) != 0)
        job_tell(job, NEWS_RETURNED);
    else
        on_news(job, NEWS_RETURNED);
}

void job_finish_all(struct loop *loop)
{
    for (struct done_link *done = loop_take_done(loop), *next; done != NULL; done = next) {
        struct job *job = container_of(done, struct job, link_done);
        next = done->next;                            /* it may be freed */
        on_news(job, atomic_exchange(&job->news, 0)); /* seq_cst, and second: see news note */
    }
}

/* ---- its limit ---- */

/* The time for this request is over. */
static void on_limit(h2o_timeout_entry_t *entry)
{
    struct job *job = container_of(entry, struct job, limit);

    if (job->inflight == NULL || job->finished || job->loop->frozen || job->inflight->given_up)
        return;
    job->cut = true;
    job_disown(job->inflight);
    job_cancel(job, EXCHANGE_TIMEOUT);
    if (job->streams) {
        stream_break(job);
        return;
    }
    job_unwatch_peer(job->inflight->conn);
    (void)shed(job->inflight->req, h2o_iovec_init(H2O_STRLIT("the request took too long\n")));
}

static void set_limit(struct job *job)
{
    if (job->call->limit == NULL)
        return;
    job->limit.cb = on_limit;
    h2o_timeout_link(job->loop->evloop, job->call->limit, &job->limit);
}

/* ---- to the handler ---- */

/* HTTP/1 has one request at a time. */
static struct pool_share *share_of(struct conn *conn)
{
    if (conn->share_of_pool == NULL)
        conn->share_of_pool = pool_share_create(); /* NULL: each job of it counts for itself */
    return conn->share_of_pool;
}

static int refuse(struct job *job, h2o_iovec_t why)
{
    h2o_req_t *req = job->inflight->req;

    job->inflight->job = NULL;
    job_free(job);
    return shed(req, why);
}

static int queue(struct job *job)
{
    const struct job_call *call = job->call;

    if (job->inflight->req->version >= 0x200)
        job->pool_job.share = share_of(job->inflight->conn);
    job->pool_job.brief = place_is_brief(call->place);
    if (job->slot != NULL)
        journal_set_queued(job->slot); /* before a worker can have it */
    if (pool_submit(job->loop->server->pool, &job->pool_job) != 0) {
        if (call->turns != NULL)
            turns_leave(call->turns);
        return refuse(job, h2o_iovec_init(H2O_STRLIT("every worker is busy and the queue is full, "
                                                     "or this connection has its part of it\n")));
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
        on_returned_here(job);
    } else {
        job->loop->handlers.turn_ns += clock_now_ns() - job->pool_job.placed_ns;
        place_was_left(job->call->place, placed == POOL_LEFT_BUSY);
        watch_peer(job);
    }
}

static int run_here(struct job *job)
{
    job_run_here(job);
    ERR_clear_error();
    on_returned_here(job);
    return 0;
}

static int refuse_body(h2o_req_t *req)
{
    h2o_send_error_generic(req, 413, "Content Too Large",
                           "the body is larger than this route takes\n", 0);
    return 0;
}

static struct job *make(struct inflight *inflight, const struct job_call *call)
{
    struct job *job = job_create(inflight, call);

    if (job == NULL)
        return NULL;
    if (call->is_recorded)
        onrecord_begin_anyway(inflight);
    job->slot = inflight->slot;
    inflight->job = job;
    set_limit(job);
    return job;
}

static int call_or_queue(struct job *job)
{
    struct loop *loop = job->loop;
    enum pool_placed placed = POOL_NOT_PLACED;

    if (job->call->on_loop)
        return run_here(job);
    if (place_is_here(job->call->place, loop))
        placed = pool_place(loop->server->pool, loop->index, &job->pool_job);
    if (placed == POOL_NOT_PLACED)
        return queue(job);
    go_on(job, placed);
    return 0;
}

/* It is appended with all that turns_leave() needs, which may submit it at once. */
static int call_in_turn(struct job *job)
{
    if (job->slot != NULL)
        journal_set_queued(job->slot);
    switch (turns_enter(job->call->turns, job)) {
    case TURN_NOW:
        return call_or_queue(job);
    case TURN_LATER:
        watch_peer(job);
        return 0;
    default:
        return refuse(job, h2o_iovec_init(H2O_STRLIT("too many requests wait for this route\n")));
    }
}

int job_submit(h2o_req_t *req, const struct job_call *call)
{
    struct inflight *inflight = inflight_of(req);

    assert_owner(loop_of(req->conn));
    REQUIRE(inflight != NULL && inflight->job == NULL);
    if (call->max_body > 0 && req->entity.len > call->max_body)
        return refuse_body(req);
    struct job *job = make(inflight, call);
    if (job == NULL)
        return shed(req,
                    h2o_iovec_init(H2O_STRLIT("the bodies of other requests fill the memory\n")));
    return call->turns == NULL ? call_or_queue(job) : call_in_turn(job);
}

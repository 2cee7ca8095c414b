#include "job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server_p.h"

/* A job's memory belongs to its loop, and is in one of three hands:
 *
 *     attached    inflight->job: the request is alive; freed when the request is disposed, if the
 *                 handler has finished by then
 *     abandoned   loop->abandoned: the request is gone, the handler is queued or running;
 *                 freed when the job comes back
 *     finished    came back through loop->done_jobs and has been answered
 *
 * Gone note. A job that is listed as queued when the server gives up must not run afterwards: it
 * would be done, and done again by whoever trusts the list. The loop sets `gone` and then reads
 * `started`; the worker sets `started` (pool.c) and then reads `gone`. All four are sequentially
 * consistent, so at least one of the two sees the other: either the list says running, or the
 * handler is not called.
 *
 * The worker writes the exchange before it pushes the job (release, loop_push_done), the loop reads
 * it after it took the stack (acquire, job_finish_all). */

struct job {
    struct pool_job pool_job;
    struct exchange exchange;
    exchange_handler handler;
    struct job *next_done; /* in loop->done_jobs */
    struct loop *loop;
    /* atomic: written by the loop, read by the worker: nobody wants the answer; see gone note */
    _Atomic bool gone;
    /* owner loop */
    struct inflight *inflight; /* NULL: abandoned */
    struct journal_slot *left; /* abandoned, and running: still on record */
    h2o_linklist_t link;       /* loop->abandoned */
    bool finished;
    bool given_up; /* named already */
    char *authority;
    uint64_t begun_ns;
    size_t body_bytes;
    /* immutable once it is queued */
    struct journal_slot *slot; /* NULL: not on record */
};

/* ---- on the worker ---- */

static void run(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);

    if (atomic_load(&job->gone)) /* see gone note */
        return;
    if (job->slot != NULL)
        journal_mark_running(job->loop->journal, job->slot);
    struct stall *stall = job->loop->server->stall;
    struct stall_slot *slot =
        stall != NULL ? stall_slot_of_worker(stall, pool_job_worker(pool_job)) : NULL;
    if (slot != NULL)
        stall_slot_begin(slot, job->exchange.method, strnlen(job->exchange.method, STALL_METHOD),
                         job->exchange.path, strnlen(job->exchange.path, STALL_PATH),
                         job->begun_ns);
    job->handler(&job->exchange);
    if (slot != NULL)
        stall_slot_end(slot);
}

static void done(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);
    loop_push_done(job->loop, job);
}

bool exchange_sleep(struct exchange *exchange, uint32_t ms)
{
    return !pool_job_wait(exchange->job, ms);
}

void exchange_print(struct exchange *exchange, const char *format, ...)
{
    va_list args;

    free(exchange->text);
    va_start(args, format);
    int n = vasprintf(&exchange->text, format, args);
    va_end(args);
    if (n < 0) {
        exchange->text = NULL;
        exchange->status = 500;
    }
    exchange->text_bytes = n < 0 ? 0 : (size_t)n;
}

/* ---- on the loop ---- */

static void job_free(struct job *job)
{
    (void)atomic_fetch_sub_explicit(&job->loop->server->job_body_bytes, job->body_bytes,
                                    memory_order_relaxed);
    free(job->exchange.text);
    free(job);
}

static char *place(char **at, h2o_iovec_t bytes)
{
    char *text = *at;
    if (bytes.len > 0)
        memcpy(text, bytes.base, bytes.len);
    text[bytes.len] = '\0';
    *at = text + bytes.len + 1;
    return text;
}

static struct job *job_create(struct inflight *inflight, exchange_handler handler)
{
    h2o_req_t *req = inflight->req;
    struct server *server = inflight->loop->server;
    _Atomic uint64_t *held = &server->job_body_bytes;
    size_t room = req->method.len + req->path.len + req->authority.len + req->entity.len + 4;
    if (atomic_fetch_add_explicit(held, req->entity.len, memory_order_relaxed) + req->entity.len >
        server->options->max_bodies) {
        (void)atomic_fetch_sub_explicit(held, req->entity.len, memory_order_relaxed);
        return NULL;
    }
    struct job *job = malloc(sizeof(*job) + room);
    if (job == NULL) {
        (void)atomic_fetch_sub_explicit(held, req->entity.len, memory_order_relaxed);
        return NULL;
    }
    memset(job, 0, sizeof(*job));

    char *at = (char *)(job + 1);
    job->exchange.method = place(&at, req->method);
    job->exchange.path = place(&at, req->path);
    job->exchange.query = req->query_at != SIZE_MAX ? job->exchange.path + req->query_at + 1 : "";
    job->authority = place(&at, req->authority);
    job->exchange.body = place(&at, req->entity);
    job->exchange.body_bytes = job->body_bytes = req->entity.len;
    job->exchange.status = 200;
    job->exchange.content_type = "text/plain; charset=utf-8";
    job->exchange.job = &job->pool_job;
    job->handler = handler;
    job->loop = inflight->loop;
    job->inflight = inflight;
    job->begun_ns = inflight->begun_ns;
    job->pool_job.run = run;
    job->pool_job.done = done;
    job->pool_job.came_ns = inflight->begun_ns;
    return job;
}

static void unwatch_peer(struct conn *conn)
{
    if (conn == NULL || conn->watched == NULL)
        return;
    h2o_socket_read_stop(conn->sock);
    h2o_socket_dont_read(conn->sock, conn->peeks);
    conn->watched = NULL;
}

/* libh2o does not look at an HTTP/1 socket while a request is being served, so a client that leaves
 * would go unnoticed. We look, without reading: what a client pipelines must stay in the kernel. */
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
    unwatch_peer(conn); /* readable for good, whatever it is: look no more */
    /* End of file may be no more than a client that has nothing to add (shutdown(2) of its sending
     * side) and waits for the answer: so it is advice to the handler, and whatever the handler then
     * answers is sent. */
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
    peek_watch(conn->sock, on_peer);
    conn->watched = job;
}

static int shed(h2o_req_t *req, h2o_iovec_t why)
{
    count_add(&container_of(req->conn->ctx, struct loop, ctx)->counts.shed, 1);
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

int job_submit(h2o_req_t *req, exchange_handler handler)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);
    struct inflight *inflight = inflight_of(req);

    assert_owner(loop);
    assert(inflight != NULL && inflight->job == NULL);
    struct job *job = job_create(inflight, handler);
    if (job == NULL)
        return shed(req, h2o_iovec_init(H2O_STRLIT(
                             "the bodies of the requests before this one fill the memory\n")));
    job->slot = inflight->slot;
    if (job->slot != NULL)
        journal_set_queued(job->slot); /* before a worker can have it */
    if (pool_submit(loop->server->pool, &job->pool_job) != 0) {
        job_free(job);
        return shed(req,
                    h2o_iovec_init(H2O_STRLIT("every worker is busy and the queue is full\n")));
    }
    inflight->job = job;
    watch_peer(job);
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

    unwatch_peer(job->inflight->conn);
    req->res.status = job->exchange.status;
    req->res.reason = reason_of(job->exchange.status);
    req->res.content_length = body.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   job->exchange.content_type, strlen(job->exchange.content_type));
    h2o_start_response(req, &generator);
    /* The body stays where it is: the job is freed with the request. */
    h2o_send(req, &body, head || body.len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static void finish(struct job *job)
{
    job->finished = true;
    if (job->inflight == NULL) {
        h2o_linklist_unlink(&job->link);
        if (job->left != NULL)
            onrecord_end(job->loop, job->left);
        job_free(job);
    } else if (!job->loop->frozen && !job->inflight->given_up) {
        answer(job);
    }
}

void job_finish_all(struct loop *loop)
{
    /* acquire: pairs with the release in loop_push_done */
    struct job *stack = atomic_exchange_explicit(&loop->done_jobs, NULL, memory_order_acquire);
    struct job *queue = NULL;

    while (stack != NULL) { /* first done, first answered */
        struct job *next = stack->next_done;
        stack->next_done = queue;
        queue = stack;
        stack = next;
    }
    while (queue != NULL) {
        struct job *next = queue->next_done;
        finish(queue);
        queue = next;
    }
}

void loop_push_done(struct loop *loop, struct job *job)
{
    struct job *head = atomic_load_explicit(&loop->done_jobs, memory_order_relaxed);

    do
        job->next_done = head;
    while (!atomic_compare_exchange_weak_explicit(&loop->done_jobs, &head, job,
                                                  memory_order_release, memory_order_relaxed));
    /* Who finds the stack empty wakes the loop; the others know that it will come. So a loop under
     * load is woken once for many jobs. See "doors note", loop.c. */
    if (head == NULL)
        loop_order(loop, 0);
}

struct journal_slot *job_abandon(struct job *job, struct journal_slot *slot)
{
    unwatch_peer(job->inflight->conn);
    if (job->finished) {
        job_free(job);
        return slot;
    }
    job->inflight = NULL;
    h2o_linklist_insert(&job->loop->abandoned, &job->link);
    atomic_store(&job->gone, true);
    pool_cancel(&job->pool_job);
    if (!atomic_load(
            &job->pool_job.started)) /* see gone note: then the worker keeps off the slot */
        return slot;
    job->left = slot;
    return NULL;
}

void job_give_up_all(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next, *next; node != &loop->inflight; node = next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        next = node->next;
        if (inflight->job == NULL || inflight->given_up ||
            inflight->req->timestamps.response_start_at.tv_sec != 0)
            continue;
        unwatch_peer(inflight->conn);
        /* The socket is cut already: the write fails, and the failure closes the connection. */
        h2o_send_error_503(inflight->req, "Service Unavailable", "gave up", 0);
    }
}

void job_disown(struct inflight *inflight)
{
    if (inflight->job != NULL)
        atomic_store(&inflight->job->gone, true); /* see gone note */
}

void job_give_up(struct inflight *inflight)
{
    struct job *job = inflight->job;

    if (job == NULL || inflight->req->timestamps.response_start_at.tv_sec != 0)
        return;
    job->given_up = true;
    job_disown(inflight);
    pool_cancel(&job->pool_job);
    if (inflight->req->version >= 0x200)
        return; /* the stream's reset ends the request */
    unwatch_peer(inflight->conn);
    h2o_send_error_503(inflight->req, "Service Unavailable", "gave up", 0);
}

void job_disown_all(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        job_disown(inflight);
    }
}

void job_cancel_all(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (inflight->job != NULL && !inflight->job->finished)
            pool_cancel(&inflight->job->pool_job);
    }
}

/* A worker that has set `started` says "running" in the slot next, but may not have got that far.
 */
void job_settle_states(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (inflight->job != NULL && inflight->slot != NULL &&
            inflight->req->timestamps.response_start_at.tv_sec == 0 &&
            atomic_load(&inflight->job->pool_job.started))
            journal_set_running(inflight->slot);
    }
    for (h2o_linklist_t *node = loop->abandoned.next; node != &loop->abandoned; node = node->next) {
        struct job *job = container_of(node, struct job, link);
        if (job->left != NULL)
            journal_set_running(job->left);
    }
}

const char *job_state(const struct job *job)
{
    return atomic_load(&job->pool_job.started) ? "running" : "queued"; /* see gone note */
}

void job_list_abandoned(struct loop *loop, struct coord_requests *list)
{
    uint64_t now_ns = clock_now_ns();

    for (h2o_linklist_t *node = loop->abandoned.next; node != &loop->abandoned; node = node->next) {
        struct job *job = container_of(node, struct job, link);
        if (job->given_up || !atomic_load(&job->pool_job.started)) /* see gone note */
            continue; /* it will never run: nothing was begun, nobody waits */
        struct coord_request *item = coord_requests_append(list);
        if (item == NULL)
            continue;
        item->method = strdup(job->exchange.method);
        item->path = strdup(job->exchange.path);
        item->authority = strdup(job->authority);
        item->peer = strdup("?");
        item->state = "abandoned";
        item->age_ns = now_ns - job->begun_ns;
        item->body_bytes = job->body_bytes;
    }
}

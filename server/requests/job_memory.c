#include "job_p.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "request.h"
#include "server_state.h"

/* The memory of jobs: the struct, room for the text of a short answer, and copies of what the
 * handler may read. Jobs of the usual size come home to their loop and are used again: malloc(3)
 * would take its lock when one thread frees what another has allocated.
 */

#define USUAL_ROOM 2048
#define KEPT_MOST 256

static struct job *take(struct loop *loop, size_t room)
{
    struct done_link *kept = loop->jobs.kept;
    struct job *job;

    if (room > USUAL_ROOM || kept == NULL) {
        job = malloc(sizeof(*job) + (room > USUAL_ROOM ? room : USUAL_ROOM));
    } else {
        job = container_of(kept, struct job, link_done);
        loop->jobs.kept = kept->next;
        loop->jobs.kept_count--;
    }
    if (job != NULL) {
        memset(job, 0, sizeof(*job));
        job->room_bytes = room > USUAL_ROOM ? room : USUAL_ROOM;
    }
    return job;
}

/* Bodies of all jobs are bounded; most requests have none. */
static bool hold_body(struct server *server, size_t bytes)
{
    if (bytes == 0)
        return true;
    if (atomic_fetch_add_explicit(&server->job_body_bytes, bytes, memory_order_relaxed) + bytes <=
        server->config.max_bodies)
        return true;
    (void)atomic_fetch_sub_explicit(&server->job_body_bytes, bytes, memory_order_relaxed);
    return false;
}

static void unhold_body(struct server *server, size_t bytes)
{
    if (bytes > 0)
        (void)atomic_fetch_sub_explicit(&server->job_body_bytes, bytes, memory_order_relaxed);
}

static void free_answer(struct exchange *exchange)
{
    if (exchange->file_fd >= 0)
        (void)close(exchange->file_fd);
    if (exchange->free_text != NULL)
        exchange->free_text(exchange->text_owner);
    else if (exchange->text != exchange->scratch)
        free(exchange->text);
}

void job_free(struct job *job)
{
    struct loop *loop = job->loop;

    h2o_timeout_unlink(&job->limit);
    unhold_body(loop->server, job->body_bytes);
    free_answer(&job->exchange);
    exchange_free_chunks(job);
    free(job->stream);
    job_forget_hook(job);
    /* relaxed: the holder that made it has come to its end */
    int cancel_fd = atomic_load_explicit(&job->cancel_fd, memory_order_relaxed);
    if (cancel_fd >= 0)
        (void)close(cancel_fd);
    if (job->room_bytes > USUAL_ROOM || loop->jobs.kept_count >= KEPT_MOST) {
        free(job);
        return;
    }
    job->link_done.next = loop->jobs.kept;
    loop->jobs.kept = &job->link_done;
    loop->jobs.kept_count++;
}

void job_memory_release(struct loop *loop)
{
    while (loop->jobs.kept != NULL)
        free(take(loop, 0));
}

struct job *job_create(struct inflight *inflight, const struct job_call *call)
{
    h2o_req_t *req = inflight->req;
    struct server *server = inflight->loop->server;

    if (!hold_body(server, req->entity.len))
        return NULL;
    struct job *job = take(inflight->loop, exchange_copy_room(req, call->is_user));
    if (job == NULL) {
        unhold_body(server, req->entity.len);
        return NULL;
    }
    job->inflight = inflight;
    exchange_copy(job, req, call->is_user);
    job->exchange.ops = &exchange_ops;
    job->exchange.status = 200;
    job->exchange.content_type = call->is_user ? NULL : "text/plain; charset=utf-8";
    job->exchange.length = -1;
    job->exchange.file_fd = -1;
    job->exchange.job = &job->pool_job;
    job->cancel_fd = -1;
    job->call = call;
    job->loop = inflight->loop;
    job->begun_ns = inflight->begun_ns;
    job->pool_job = job_calls;
    job->pool_job.came_ns = inflight->begun_ns;
    return job;
}

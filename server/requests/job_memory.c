#include "job_p.h"

#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "request.h"
#include "server_state.h"

/* The memory of jobs: the struct, room for the text of a short answer, and copies of what the
 * handler may read. Jobs of the usual size come home to their loop and are used again: malloc(3)
 * would take its lock when one thread frees what another has allocated.
 *
 * The handler reads copies, since the request's own memory goes when the client goes. To take that
 * memory along instead is not worth it: most of it is in the connection's input buffer, and a copy
 * of a usual head takes less than a tenth of a microsecond. */

#define USUAL_ROOM 1024
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

void job_free(struct job *job)
{
    struct loop *loop = job->loop;

    if (job->body_bytes > 0)
        (void)atomic_fetch_sub_explicit(&loop->server->job_body_bytes, job->body_bytes,
                                        memory_order_relaxed);
    if (job->exchange.text != job->exchange.scratch)
        free(job->exchange.text);
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

static char *copy(char **at, h2o_iovec_t bytes)
{
    char *text = *at;
    if (bytes.len > 0)
        memcpy(text, bytes.base, bytes.len);
    text[bytes.len] = '\0';
    *at = text + bytes.len + 1;
    return text;
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

static void copy_request(struct job *job, const h2o_req_t *req)
{
    struct exchange *exchange = &job->exchange;
    char *at = (char *)(job + 1);

    exchange->scratch = at;
    at += EXCHANGE_SCRATCH;
    exchange->method = copy(&at, req->method);
    exchange->path = copy(&at, req->path);
    exchange->query = req->query_at != SIZE_MAX ? exchange->path + req->query_at + 1 : "";
    job->authority = copy(&at, req->authority);
    exchange->body = copy(&at, req->entity);
    exchange->body_bytes = job->body_bytes = req->entity.len;
}

struct job *job_create(struct inflight *inflight, exchange_handler handler, struct place *place)
{
    h2o_req_t *req = inflight->req;
    struct server *server = inflight->loop->server;
    size_t room = EXCHANGE_SCRATCH + req->method.len + req->path.len + req->authority.len +
                  req->entity.len + 4;

    if (!hold_body(server, req->entity.len))
        return NULL;
    struct job *job = take(inflight->loop, room);
    if (job == NULL) {
        if (req->entity.len > 0)
            (void)atomic_fetch_sub_explicit(&server->job_body_bytes, req->entity.len,
                                            memory_order_relaxed);
        return NULL;
    }
    copy_request(job, req);
    job->exchange.status = 200;
    job->exchange.content_type = "text/plain; charset=utf-8";
    job->exchange.job = &job->pool_job;
    job->handler = handler;
    job->place = place;
    job->loop = inflight->loop;
    job->inflight = inflight;
    job->begun_ns = inflight->begun_ns;
    job->pool_job = job_calls;
    job->pool_job.came_ns = inflight->begun_ns;
    return job;
}

#include "job_p.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "journal.h"
#include "kept.h"
#include "list_item.h"
#include "loop.h"
#include "onrecord.h"
#include "request.h"
#include "stream.h"
#include "turns.h"

/* Jobs whose answers are not wanted any more: the client has gone, or the server gives up. */

/* A request that is kept and that nobody holds is taken out of its table. See news note for the
 * second condition. */
bool job_may_be_freed(struct job *job)
{
    if (!job->finished && job->returned && job_is_kept(job))
        job->finished = kept_reclaim(job);
    return job->finished && atomic_load(&job->news) == 0;
}

struct journal_slot *job_abandon(struct job *job, struct journal_slot *slot)
{
    job_unwatch_peer(job->inflight->conn);
    h2o_timeout_unlink(&job->limit);
    job->inflight = NULL;
    if (job->call->turns != NULL && turns_forget(job->call->turns, job))
        job->finished = true; /* it will not be called */
    if (!job->finished) {
        atomic_store(&job->gone, true);
        job_cancel(job, EXCHANGE_GONE); /* it may be finished by that */
    }
    if (job_may_be_freed(job)) {
        job_free(job);
        return slot;
    }
    h2o_linklist_insert(&job->loop->jobs.abandoned, &job->link);
    count_add(&job->loop->counts.abandoned, 1); /* before the request is counted off */
    if (job->finished || !atomic_load(&job->pool_job.started)) /* see gone note: then the worker
                                                                * keeps off the slot */
        return slot;
    job->left = slot;
    return NULL;
}

/* The socket is cut already: the write fails, and the failure closes the connection. */
static void end_cut(struct inflight *inflight)
{
    if (inflight->job->streams && inflight->job->stream->begun) {
        stream_end_cut(inflight->job);
    } else if (inflight->req->timestamps.response_start_at.tv_sec == 0) {
        job_unwatch_peer(inflight->conn);
        h2o_send_error_503(inflight->req, "Service Unavailable", "gave up", 0);
    }
}

void job_give_up_all(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next, *next; node != &loop->inflight; node = next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        next = node->next;
        if (inflight->job != NULL && !inflight->given_up)
            end_cut(inflight);
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

    if (job == NULL || (job->finished && inflight->req->timestamps.response_start_at.tv_sec != 0))
        return;
    job->given_up = true;
    job_disown(inflight);
    job_cancel(job, EXCHANGE_ABORTED);
    if (inflight->req->version < 0x200) /* else the stream's reset ends the request */
        end_cut(inflight);
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
            job_cancel(inflight->job, EXCHANGE_ABORTED);
    }
}

void job_tell_of_drain(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct job *job = container_of(node, struct inflight, link)->job;
        if (job == NULL)
            continue;
        if (atomic_load(&job->waits_for_drain))
            job_wake(job);
        if (job_is_kept(job))
            kept_tell(job, KEPT_NOTE_DRAINING);
    }
}

/* A worker that has set `started` writes "running" into the slot next, but may not have done so
 * yet. */
void job_settle_states(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (inflight->job != NULL && inflight->slot != NULL &&
            inflight->req->timestamps.response_start_at.tv_sec == 0 &&
            atomic_load(&inflight->job->pool_job.started))
            journal_set_running(inflight->slot);
    }
    for (h2o_linklist_t *node = loop->jobs.abandoned.next; node != &loop->jobs.abandoned;
         node = node->next) {
        struct job *job = container_of(node, struct job, link);
        if (job->left != NULL)
            journal_set_running(job->left);
    }
}

const char *job_state(const struct job *job)
{
    if (job->returned && job_is_kept(job))
        return "kept";
    return atomic_load(&job->pool_job.started) ? "running" : "queued"; /* see gone note */
}

bool job_writes(const struct job *job)
{
    return job != NULL && job->streams && !job->finished;
}

void job_list_abandoned(struct loop *loop, struct coord_requests *list)
{
    uint64_t now_ns = clock_now_ns();

    for (h2o_linklist_t *node = loop->jobs.abandoned.next; node != &loop->jobs.abandoned;
         node = node->next) {
        struct job *job = container_of(node, struct job, link);
        if (job->given_up || !atomic_load(&job->pool_job.started)) /* see gone note */
            continue; /* it will never run, and no client waits */
        struct coord_request *item = coord_requests_append(list);
        if (item == NULL)
            continue;
        item->method = strdup(job->exchange.method);
        item->path = strdup(job->exchange.path);
        item->authority = strdup(job->exchange.authority);
        item->peer = strdup("?");
        item->state = "abandoned";
        item->age_ns = now_ns - job->begun_ns;
        item->body_bytes = job->body_bytes;
    }
}

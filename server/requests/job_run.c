#include "job_p.h"

#include <string.h>

#include "journal.h"
#include "kept.h"
#include "loop.h"
#include "server_state.h"
#include "turns.h"

/* A job on the thread that calls its handler. */

/* The handler has returned. From here on another thread may hold a request that is kept. */
static void hand_back(struct job *job)
{
    if (job_is_kept(job))
        kept_release(job);
    else
        job_end_hook(job);
}

static void run(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);

    if (atomic_load(&job->gone)) /* see gone note */
        return;
    if (job->slot != NULL)
        journal_mark_running(job->loop->record.part, job->slot);
    struct watchdog *watchdog = job->loop->server->watchdog;
    struct watchdog_slot *slot =
        watchdog != NULL ? watchdog_slot_of_worker(watchdog, pool_job_worker(pool_job)) : NULL;
    if (slot != NULL)
        watchdog_slot_begin(slot, job->exchange.method,
                            strnlen(job->exchange.method, WATCHDOG_METHOD), job->exchange.path,
                            strnlen(job->exchange.path, WATCHDOG_PATH), job->begun_ns);
    struct place_watch watch;
    place_begin(&watch, job->call->place, pool_job->placed_ns);
    job->call->handler(&job->exchange, job->call->user);
    job->took_ns = place_end(&watch);
    if (slot != NULL)
        watchdog_slot_end(slot);
    hand_back(job);
}

void job_run_here(struct job *job)
{
    atomic_store_explicit(&job->pool_job.started, true, memory_order_relaxed);
    job->call->handler(&job->exchange, job->call->user);
    hand_back(job);
}

static void done(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);
    struct turns *turns = job->call->turns;

    job_tell(job, NEWS_RETURNED);
    if (turns != NULL)
        turns_leave(turns);
}

/* Called on the thread of any loop: a request of another connection needs the place in the queue.
 */
static void dropped(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);
    job->dropped =
        "every worker is busy, and this connection has more than its part of the queue\n";
    done(pool_job);
}

const struct pool_job job_calls = {.run = run, .done = done, .dropped = dropped};

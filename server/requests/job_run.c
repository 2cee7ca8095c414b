#include "job_p.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "loop.h"
#include "server_state.h"

/* A job on the thread that calls its handler. */

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
    place_begin(&watch, job->place, pool_job->placed_ns);
    job->handler(&job->exchange);
    job->took_ns = place_end(&watch);
    if (slot != NULL)
        watchdog_slot_end(slot);
}

static void done(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);
    loop_push_done(job->loop, &job->link_done);
}

/* Called on the thread of any loop: a request of another connection needs the place in the queue.
 */
static void dropped(struct pool_job *pool_job)
{
    struct job *job = container_of(pool_job, struct job, pool_job);
    job->dropped = true;
    loop_push_done(job->loop, &job->link_done);
}

const struct pool_job job_calls = {.run = run, .done = done, .dropped = dropped};

bool exchange_sleep(struct exchange *exchange, uint32_t ms)
{
    return !pool_job_wait(exchange->job, ms);
}

void exchange_print(struct exchange *exchange, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    /* Most answers are short: they take no memory that another thread frees. */
    va_start(args, format);
    int n = vsnprintf(exchange->scratch, EXCHANGE_SCRATCH, format, args);
    va_end(args);
    if (n >= EXCHANGE_SCRATCH) {
        va_start(args, format);
        n = vasprintf(&text, format, args);
        va_end(args);
    }
    if (exchange->text != exchange->scratch)
        free(exchange->text);
    exchange->text = n < 0 ? NULL : text != NULL ? text : exchange->scratch;
    exchange->text_bytes = n < 0 ? 0 : (size_t)n;
    if (n < 0)
        exchange->status = 500;
}

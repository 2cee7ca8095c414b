#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "coord.h"
#include "exchange_p.h"
#include "futex.h"
#include "loop.h"
#include "server_state.h"

/* The calls of a handler on the exchange of a real request: memory, waiting and time. */

/* ---- memory ---- */

#define CHUNK_LEAST 4096

struct chunk {
    struct chunk *next;
    max_align_t bytes[];
};

static char *aligned(char *at)
{
    const uintptr_t mask = _Alignof(max_align_t) - 1;
    return at + (-(uintptr_t)at & mask);
}

/* From the room behind the job, or from the newest chunk. What is left of the one before is lost,
 * so a chunk is not small. */
static void *alloc(struct exchange *exchange, size_t bytes)
{
    struct job *job = job_of_exchange(exchange);
    char *at = aligned(job->room_at);

    if (bytes > EXCHANGE_ALLOC_MOST)
        return NULL;
    bytes = (bytes + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (bytes > EXCHANGE_ALLOC_MOST - job->allocated)
        return NULL;
    if (at > job->room_end || bytes > (size_t)(job->room_end - at)) {
        size_t room = bytes > CHUNK_LEAST ? bytes : CHUNK_LEAST;
        struct chunk *chunk = malloc(sizeof(*chunk) + room);
        if (chunk == NULL)
            return NULL;
        chunk->next = job->chunks;
        job->chunks = chunk;
        at = (char *)chunk->bytes;
        job->room_end = at + room;
    }
    job->room_at = at + bytes;
    job->allocated += bytes;
    return at;
}

void exchange_free_chunks(struct job *job)
{
    for (struct chunk *chunk = job->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
}

/* ---- cancellation and time ---- */

static int cancelled(struct exchange *exchange)
{
    return job_cancelled(job_of_exchange(exchange));
}

static bool drains(const struct job *job)
{
    return atomic_load(&job->loop->server->lame_duck); /* see drain note, exchange_cancel.c */
}

/* See wait note, exchange_cancel.c. */
static int wait_for(struct exchange *exchange, int64_t ms, bool also_drain)
{
    struct job *job = job_of_exchange(exchange);
    uint64_t until_ns = ms < 0 ? CLOCK_NEVER : clock_now_ns() + (uint64_t)ms * NS_PER_MS;
    bool over = ms == 0 || job->call->on_loop; /* that thread has others to serve */

    atomic_store(&job->waits_for_drain, also_drain);
    for (;;) {
        uint32_t word = atomic_load(&job->word);
        int why = job_cancelled(job);
        if (why != 0)
            return why;
        if (also_drain && drains(job))
            return EXCHANGE_DRAINING;
        if (over)
            return 0;
        over = !futex_wait(&job->word, word, until_ns);
    }
}

/* When a drain that has begun cuts this request; CLOCK_NEVER: none has, or it has not got so far.
 */
static uint64_t drain_deadline_ns(const struct job *job)
{
    enum drain_class class = job->stream != NULL ? DRAIN_STREAM : DRAIN_OTHER;
    struct coord_status status;

    if (!drains(job))
        return CLOCK_NEVER;
    coord_get_status(job->loop->server->coord, &status);
    uint64_t closing_ns = status.entered_ns[PHASE_CLOSING], own_ns = status.drain.class_ns[class];
    if (closing_ns == 0 || own_ns == 0 || own_ns > status.deadline_at_ns - closing_ns)
        return status.deadline_at_ns;
    return closing_ns + own_ns;
}

static int64_t time_left(struct exchange *exchange)
{
    const struct job *job = job_of_exchange(exchange);
    uint64_t limit_ns = job->call->limit_ns, now_ns = clock_now_ns();
    uint64_t at_ns = limit_ns > 0 ? job->begun_ns + limit_ns : CLOCK_NEVER;
    uint64_t drain_ns = drain_deadline_ns(job);

    if (drain_ns < at_ns)
        at_ns = drain_ns;
    if (at_ns == CLOCK_NEVER)
        return -1;
    return at_ns > now_ns ? (int64_t)((at_ns - now_ns) / NS_PER_MS) : 0;
}

/* ---- for handlers of this house ---- */

bool exchange_sleep(struct exchange *exchange, uint32_t ms)
{
    return exchange->ops->wait(exchange, ms, false) == 0;
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

const struct exchange_ops exchange_ops = {
    .alloc = alloc,
    .write = exchange_write,
    .flush = exchange_flush,
    .cancelled = cancelled,
    .wait = wait_for,
    .time_left = time_left,
    .cancel_fd = exchange_cancel_fd,
    .on_cancel = exchange_on_cancel,
    .keep = exchange_keep,
};

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "exchange_p.h"
#include "futex.h"
#include "kept.h"
#include "loop.h"
#include "server_state.h"
#include "stream.h"

/* Writing an answer piece by piece: the holder's side. See stream.h. */

/* Only what ends the answer for certain: a client that has sent the end of its input may still
 * read. */
static int failed(const struct job *job)
{
    int why = atomic_load(&job->why);
    return why == WHY_END_OF_INPUT ? 0 : why;
}

static struct stream *stream_of(struct job *job)
{
    if (job->stream != NULL)
        return job->stream;
    size_t size = (size_t)job->loop->server->config.stream_bytes;
    size_t bytes = sizeof(struct stream) + size, line = _Alignof(struct stream);
    struct stream *stream = aligned_alloc(line, (bytes + line - 1) / line * line);
    if (stream == NULL)
        return NULL;
    memset(stream, 0, sizeof(*stream));
    stream->size = size;
    stream->job = job;
    atomic_init(&stream->idle, true);
    job->stream = stream;
    return stream;
}

/* What fits of it; see ring note and idle note. */
static size_t put(struct stream *stream, const char *bytes, size_t count)
{
    uint64_t written = atomic_load_explicit(&stream->written, memory_order_relaxed);
    size_t room = stream_room(stream), n = count < room ? count : room;
    size_t at = (size_t)(written % stream->size);
    size_t first = n < stream->size - at ? n : stream->size - at;

    memcpy(stream->ring + at, bytes, first);
    memcpy(stream->ring, bytes + first, n - first);
    atomic_store(&stream->written, written + n);
    if (n > 0 && atomic_load(&stream->idle) && atomic_exchange(&stream->idle, false))
        job_tell(stream->job, NEWS_WROTE);
    return n;
}

/* As futex_wait(). The time in which the process stood still is granted again: the client was not
 * heard meanwhile. The wait is in pieces, so that it is seen. */
static bool wait_until(_Atomic uint32_t *word, uint32_t value, uint64_t *until_ns)
{
    for (uint64_t now_ns = clock_now_ns();;) {
        uint64_t piece_ns = *until_ns < now_ns + NS_PER_S ? *until_ns : now_ns + NS_PER_S;
        bool is_news = futex_wait(word, value, piece_ns);
        now_ns = clock_now_ns();
        if (*until_ns != CLOCK_NEVER)
            *until_ns += clock_stood_ns(piece_ns, now_ns);
        if (is_news || now_ns >= *until_ns)
            return is_news;
    }
}

/* Wait until so much room is free. A client that takes anything within the time is waited for
 * again. See room note. */
static int wait_for_room(struct job *job, size_t wants, int64_t wait_ms)
{
    struct stream *stream = job->stream;
    uint64_t taken = atomic_load(&stream->taken), patience_ns = (uint64_t)wait_ms * NS_PER_MS;
    uint64_t until_ns = wait_ms < 0 ? CLOCK_NEVER : clock_now_ns() + patience_ns;
    int result = 0;

    atomic_store(&stream->wants, wants);
    for (bool over = false;;) {
        uint32_t word = atomic_load(&job->word);
        result = failed(job);
        if (result != 0 || stream_room(stream) >= wants)
            break;
        if (over && atomic_load(&stream->taken) == taken) {
            result = EXCHANGE_TIMEOUT;
            break;
        }
        if (over) {
            taken = atomic_load(&stream->taken);
            until_ns = clock_now_ns() + patience_ns;
        }
        over = !wait_until(&job->word, word, &until_ns);
    }
    atomic_store(&stream->wants, 0);
    return result;
}

static int write_waiting(struct job *job, const char *bytes, size_t count, int64_t wait_ms)
{
    for (;;) {
        int result = failed(job);
        if (result != 0)
            return result;
        size_t n = put(job->stream, bytes, count);
        bytes += n;
        count -= n;
        if (count == 0)
            return 0;
        size_t half = job->stream->size / 2, wants = count < half ? count : half;
        result = wait_for_room(job, wants, wait_ms);
        if (result != 0)
            return result;
    }
}

/* The loop looks at `wants_room` after it has added to `taken`. */
static bool has_room(struct job *job, size_t count)
{
    if (count <= stream_room(job->stream))
        return true;
    atomic_store(&job->wants_room, true); /* one that is kept later is told by the note */
    return count <= stream_room(job->stream);
}

/* All or nothing. */
static int write_now(struct job *job, const char *bytes, size_t count)
{
    int result = failed(job);

    if (result != 0)
        return result;
    if (count > job->stream->size)
        return -EMSGSIZE;
    if (!has_room(job, count))
        return EXCHANGE_AGAIN;
    (void)put(job->stream, bytes, count);
    return 0;
}

static bool may_wait(const struct job *job, int64_t wait_ms)
{
    return wait_ms != 0 && !job->call->on_loop && !job_is_kept(job);
}

/* A client cannot take more than what was announced for the rest of the answer. */
static bool is_too_much(const struct exchange *exchange, const struct stream *stream, size_t count)
{
    return exchange->length >= 0 &&
           count > (uint64_t)exchange->length -
                       atomic_load_explicit(&stream->written, memory_order_relaxed);
}

int exchange_write(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms)
{
    struct job *job = job_of_exchange(exchange);
    const struct stream *stream = stream_of(job);
    int result;

    if (stream == NULL)
        result = -ENOMEM;
    else if (is_too_much(exchange, stream, count))
        result = -EOVERFLOW;
    else
        result = may_wait(job, wait_ms) ? write_waiting(job, bytes, count, wait_ms)
                                        : write_now(job, bytes, count);
    if (result != 0 && result != EXCHANGE_AGAIN && result != -EMSGSIZE)
        exchange->broken = true;
    return result;
}

int exchange_flush(struct exchange *exchange, int64_t wait_ms)
{
    struct job *job = job_of_exchange(exchange);
    int result = failed(job);

    if (job->stream == NULL || result != 0)
        return result;
    if (stream_room(job->stream) == job->stream->size)
        return 0;
    if (may_wait(job, wait_ms))
        return wait_for_room(job, job->stream->size, wait_ms);
    return has_room(job, job->stream->size) ? 0 : EXCHANGE_AGAIN;
}

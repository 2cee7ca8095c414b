#include <string.h>

#include "answer_head.h"
#include "exchange_p.h"
#include "kept.h"
#include "loop.h"
#include "request.h"
#include "reset.h"
#include "stream.h"

/* Sending an answer that its handler writes piece by piece: the loop's side. See stream.h. */

static void on_proceed(h2o_generator_t *self, h2o_req_t *req);

/* ---- the head ---- */

/* If the handler has returned already, all of the answer is here, and its length is known. */
static size_t length_of(const struct job *job)
{
    if (job->exchange.length >= 0)
        return (size_t)job->exchange.length;
    return job->finished && !job->exchange.broken ? (size_t)atomic_load(&job->stream->written)
                                                  : SIZE_MAX;
}

/* The library sends chunks to HTTP/1.1 only, and only with status 200. Another answer without a
 * length ends with its connection. */
static bool ends_with_connection(const h2o_req_t *req)
{
    return req->res.content_length == SIZE_MAX &&
           (req->version < 0x101 || (req->version < 0x200 && req->res.status != 200));
}

static void begin(struct job *job)
{
    struct stream *stream = job->stream;
    h2o_req_t *req = job->inflight->req;

    stream->begun = true;
    stream->super.proceed = on_proceed;
    exchange_set_head(job);
    req->res.content_length = length_of(job);
    if (req->res.status == 204)
        req->res.content_length = SIZE_MAX;
    if (answer_has_body(req) && ends_with_connection(req))
        req->http1_is_persistent = 0;
    /* The library's compression keeps what it has until it has enough; a handler that goes on
     * writing wants it sent. */
    if (!job->finished)
        req->compress_hint = H2O_COMPRESS_HINT_DISABLE;
    job->inflight->is_half = true;
    h2o_start_response(req, &stream->super);
}

/* ---- the body ---- */

/* The next piece, in two parts where it goes over the ring's end. */
static size_t take_piece(struct stream *stream, uint64_t written, h2o_iovec_t bufs[2])
{
    size_t at = (size_t)(stream->handed % stream->size), n = (size_t)(written - stream->handed);

    if (n > stream->size / STREAM_PIECES)
        n = stream->size / STREAM_PIECES;
    size_t first = n < stream->size - at ? n : stream->size - at;
    bufs[0] = h2o_iovec_init(stream->ring + at, first);
    bufs[1] = h2o_iovec_init(stream->ring, n - first);
    stream->handed += n;
    return n == 0 ? 0 : n == first ? 1 : 2;
}

/* See idle note. */
static bool has_nothing(struct stream *stream)
{
    if (atomic_load(&stream->written) != stream->handed)
        return false;
    atomic_store(&stream->idle, true);
    return atomic_load(&stream->written) == stream->handed;
}

/* The job may be gone after this. */
static void send_end(struct job *job, h2o_iovec_t *bufs, size_t count)
{
    job->stream->over = true;
    job->inflight->is_half = false;
    job_unwatch_peer(job->inflight->conn);
    h2o_send(job->inflight->req, bufs, count, H2O_SEND_STATE_FINAL);
}

static void send_piece(struct job *job)
{
    struct stream *stream = job->stream;
    h2o_iovec_t bufs[2];

    if (!answer_has_body(job->inflight->req)) {
        send_end(job, NULL, 0);
        return;
    }
    if (!job->finished && has_nothing(stream))
        return;
    atomic_store(&stream->idle, false);
    uint64_t written = atomic_load(&stream->written);
    size_t count = take_piece(stream, written, bufs);
    if (job->finished && stream->handed == written) {
        send_end(job, bufs, count);
        return;
    }
    stream->sending = true;
    h2o_send(job->inflight->req, bufs, count, H2O_SEND_STATE_IN_PROGRESS);
}

/* Is the answer shorter than its handler, or its length, has promised? */
static bool is_broken(const struct job *job)
{
    const struct exchange *exchange = &job->exchange;

    return job->finished &&
           (exchange->broken || (exchange->length >= 0 && answer_has_body(job->inflight->req) &&
                                 atomic_load(&job->stream->written) != (uint64_t)exchange->length));
}

/* The loop has frozen, or has given the request up: nothing more is sent. */
static bool is_unwanted(const struct job *job)
{
    return job->loop->frozen || job->inflight->given_up || job->cut;
}

/* Nothing of it has been sent, so an error can still be. */
static void send_error(struct job *job)
{
    job->stream->over = true;
    job_unwatch_peer(job->inflight->conn);
    h2o_send_error_500(job->inflight->req, "Internal Server Error", "internal server error\n", 0);
}

void stream_go_on(struct job *job)
{
    struct stream *stream = job->stream;

    if (job->inflight == NULL || stream->over || is_unwanted(job))
        return;
    if (is_broken(job)) {
        if (stream->begun)
            stream_break(job);
        else
            send_error(job);
        return;
    }
    if (!stream->begun)
        begin(job);
    if (!stream->sending)
        send_piece(job);
}

/* See room note. */
static void tell_of_room(struct stream *stream)
{
    struct job *job = stream->job;
    uint64_t wants = atomic_load(&stream->wants);

    if (wants > 0 && stream_room(stream) >= wants)
        job_wake(job);
    if (atomic_load(&job->wants_room) && stream_room(stream) >= stream->size / 2) {
        atomic_store(&job->wants_room, false);
        kept_tell(job, KEPT_NOTE_ROOM);
    }
}

/* libh2o has let go of the piece. */
static void on_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct stream *stream = container_of(self, struct stream, super);

    (void)req;
    stream->sending = false;
    atomic_store(&stream->taken, stream->handed);
    tell_of_room(stream);
    if (is_unwanted(stream->job))
        stream_end_cut(stream->job);
    else
        stream_go_on(stream->job);
}

/* ---- an answer that is not whole ---- */

/* HTTP/1: a broken chunk, or fewer bytes than announced, shows that; where the end of the
 * connection ends the answer, only a reset does. A client that does not take its piece will not
 * take the end either. */
static void break_http1(struct job *job)
{
    struct conn *conn = job->inflight->conn;

    if (job->stream->sending || answer_ends_with_connection(job->inflight->req)) {
        conn->reset_when_cut = true;
        conn_cut(conn);
    }
    stream_end_cut(job);
}

void stream_break(struct job *job)
{
    h2o_req_t *req = job->inflight->req;

    if (job->stream->over)
        return;
    if (req->version >= 0x200)
        reset_h2_stream(container_of(req, h2o_http2_stream_t, req), H2O_HTTP2_ERROR_INTERNAL);
    else
        break_http1(job);
}

void stream_end_cut(struct job *job)
{
    struct stream *stream = job->stream;

    if (!stream->begun || stream->sending || stream->over || job->inflight->req->version >= 0x200)
        return;
    stream->over = true;
    job_unwatch_peer(job->inflight->conn);
    h2o_send(job->inflight->req, NULL, 0, H2O_SEND_STATE_ERROR);
}

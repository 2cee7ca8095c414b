#include "admin_p.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* /events: the status as server-sent events
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html).
 *
 * A stream has at most one event in flight. An event that becomes due meanwhile only marks it
 * `stale`; when the kernel has taken the event before, the stream gets the status of that moment:
 * so a slow reader, or one that does not read at all, costs the memory of one event, and misses
 * steps rather than lags.
 */

#define TICK_MS 250
#define TICKS_WHEN_CALM 4 /* while RUNNING: an event every this many ticks */
#define STUCK_NS (500 * NS_PER_MS)

struct admin_stream {
    h2o_generator_t super;
    h2o_linklist_t link; /* admin->streams */
    h2o_req_t *req;
    struct admin *admin;
    struct admin_conn *conn;
    char *text;       /* the event in flight */
    uint64_t sent_ns; /* when it was sent */
    bool writing;
    bool stale;
    bool ended;
};

/* The last event: the phase is done, and the exit status is in it. */
static bool is_last(const struct coord_status *status)
{
    return status->phase == PHASE_DONE && status->exit_status >= 0;
}

/* Its reader has stopped reading: do not wait for it. */
static bool is_stuck(const struct admin_stream *stream)
{
    return stream->writing && clock_now_ns() - stream->sent_ns > STUCK_NS;
}

static void note_last_sent(struct admin *admin)
{
    for (h2o_linklist_t *node = admin->streams.next; node != &admin->streams; node = node->next) {
        const struct admin_stream *stream = container_of(node, struct admin_stream, link);
        if (!stream->ended && !is_stuck(stream))
            return;
    }
    (void)pthread_mutex_lock(&admin->mu);
    admin->last_sent = true;
    (void)pthread_cond_signal(&admin->told);
    (void)pthread_mutex_unlock(&admin->mu);
}

static void send_event(struct admin_stream *stream, const char *text, bool last)
{
    h2o_iovec_t bytes;

    free(stream->text);
    stream->text = strdup(text);
    bytes = (h2o_iovec_t){stream->text, stream->text != NULL ? strlen(stream->text) : 0};
    stream->sent_ns = clock_now_ns();
    stream->stale = false;
    stream->writing = true;
    stream->ended = last;
    h2o_send(stream->req, &bytes, bytes.len > 0 ? 1 : 0,
             last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* Owner: the caller; NULL without memory. */
static char *event_text(struct admin *admin)
{
    char *status = admin_status_text(admin), *event = NULL;

    if (status == NULL || asprintf(&event, "event: status\ndata: %s\n\n", status) < 0)
        event = NULL;
    free(status);
    return event;
}

static void send_to_all(struct admin *admin, bool last)
{
    char *event = NULL;

    for (h2o_linklist_t *node = admin->streams.next, *next; node != &admin->streams; node = next) {
        struct admin_stream *stream = container_of(node, struct admin_stream, link);
        next = node->next;
        if (stream->ended)
            continue;
        if (stream->writing) {
            stream->stale = true;
            continue;
        }
        if (event == NULL && (event = event_text(admin)) == NULL)
            return;
        send_event(stream, event, last);
    }
    free(event);
}

void admin_events_step(struct admin *admin)
{
    struct coord_status status;

    coord_get_status(admin->coord, &status);
    send_to_all(admin, is_last(&status));
    if (is_last(&status))
        note_last_sent(admin);
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct admin_stream *stream = container_of(self, struct admin_stream, super);
    struct admin *admin = stream->admin;
    struct coord_status status;

    (void)req;
    stream->writing = false;
    admin_conn_touch(stream->conn);
    if (!stream->stale || stream->ended)
        return;
    coord_get_status(admin->coord, &status);
    char *event = event_text(admin);
    if (event != NULL)
        send_event(stream, event, is_last(&status));
    free(event);
    if (is_last(&status))
        note_last_sent(admin);
}

static void on_stop(h2o_generator_t *self, h2o_req_t *req)
{
    (void)req;
    container_of(self, struct admin_stream, super)->ended = true;
}

static void count_watchers(struct admin *admin)
{
    /* relaxed: see admin_p.h */
    atomic_store_explicit(&admin->watchers, admin->stream_count, memory_order_relaxed);
}

/* The request is disposed of, for any reason. */
static void on_dispose(void *data)
{
    struct admin_stream *stream = data;
    struct admin *admin = stream->admin;

    h2o_linklist_unlink(&stream->link);
    stream->conn->stream = NULL;
    free(stream->text);
    admin->stream_count--;
    count_watchers(admin);
    if (admin->stream_count == 0)
        h2o_timeout_unlink(&admin->stream_timer);
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct admin *admin = container_of(entry, struct admin, stream_timer);
    bool calm = coord_get_phase(admin->coord) == PHASE_RUNNING;

    h2o_timeout_link(admin->evloop, &admin->stream_ticks, entry);
    if (!calm || ++admin->stream_turn % TICKS_WHEN_CALM == 0)
        admin_events_step(admin);
}

static void start_ticking(struct admin *admin)
{
    if (admin->stream_ticks.timeout == 0) {
        h2o_timeout_init(admin->evloop, &admin->stream_ticks, TICK_MS);
        admin->stream_timer.cb = on_tick;
    }
    if (!h2o_timeout_is_linked(&admin->stream_timer))
        h2o_timeout_link(admin->evloop, &admin->stream_ticks, &admin->stream_timer);
}

void admin_events_begin(struct admin *admin, h2o_req_t *req)
{
    struct admin_stream *stream = h2o_mem_alloc_shared(&req->pool, sizeof(*stream), on_dispose);

    memset(stream, 0, sizeof(*stream));
    stream->super.proceed = on_proceed;
    stream->super.stop = on_stop;
    stream->req = req;
    stream->admin = admin;
    stream->conn = admin_conn_of(req);
    stream->conn->stream = stream;
    admin_conn_owes_nothing(stream->conn); /* it ends by itself, see note_last_sent() */
    h2o_linklist_insert(&admin->streams, &stream->link);
    admin->stream_count++;
    count_watchers(admin);
    start_ticking(admin);
    h2o_start_response(req, &stream->super);
    char *event = event_text(admin);
    send_event(stream, event != NULL ? event : ": no memory\n\n", false);
    free(event);
}

void admin_events_nudge(struct admin_stream *stream)
{
    if (!stream->writing && !stream->ended)
        send_event(stream, ":\n\n", false);
}

void admin_events_stop(struct admin *admin)
{
    h2o_timeout_unlink(&admin->stream_timer);
    if (admin->stream_ticks.timeout != 0)
        h2o_timeout_dispose(admin->evloop, &admin->stream_ticks);
}

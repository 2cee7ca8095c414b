#include "progress_h2.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "clock.h"
#include "goaway.h"
#include "idle.h"
#include "job.h"
#include "library.h"
#include "progress_watch.h"
#include "request.h"
#include "server_state.h"
#include "given_up.h"

/* Progress of HTTP/2; progress.c has the rules and the settings.
 *
 * Answers. A client may keep the windows of flow control closed while its kernel acknowledges
 * everything else that we write, such as answers to its PINGs. So the measure is DATA that the
 * client's kernel has: of the bytes acknowledged, no more than there was DATA; counted again from
 * each look that finds everything acknowledged. When a stream alone is held up by its own window,
 * and the client's kernel has all that we wrote, that stream is reset. Otherwise the connection is
 * judged as a whole: on a slow line its streams wait for each other.
 *
 * Bodies are judged by connection for the same reason. A part of a frame counts as arrived.
 *
 * The end. GOAWAY says which streams were processed; those that wait are reset. A client that does
 * not even read that is cut. */

#define AT_ONCE 64

struct streams {
    unsigned arriving; /* their bodies */
    unsigned stuck;    /* what they send waits for the client */
    unsigned written;  /* their handlers still write them, and have their own limits */
    uint64_t body_bytes;
    uint64_t sent_bytes;
};

static bool is_stuck(h2o_http2_stream_t *stream)
{
    return stream->state >= H2O_HTTP2_STREAM_STATE_SEND_HEADERS &&
           stream->state < H2O_HTTP2_STREAM_STATE_END_STREAM &&
           (h2o_http2_stream_has_pending_data(stream) ||
            stream->state == H2O_HTTP2_STREAM_STATE_SEND_BODY_IS_FINAL);
}

static bool is_written(h2o_http2_stream_t *stream)
{
    const struct inflight *inflight = inflight_of(&stream->req);
    return inflight != NULL && job_writes(inflight->job);
}

static void look_at_streams(h2o_http2_conn_t *h2, struct streams *ret_streams)
{
    h2o_http2_stream_t *stream;

    memset(ret_streams, 0, sizeof(*ret_streams));
    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        if (stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY) {
            ret_streams->arriving++;
            ret_streams->body_bytes += stream->_req_body->size;
        }
        bool written = is_written(stream);
        ret_streams->written += written;
        ret_streams->stuck += !written && is_stuck(stream);
        ret_streams->sent_bytes += stream->req.bytes_sent;
    }
}

static bool is_open(const h2o_http2_conn_t *h2)
{
    return h2->num_streams.pull.open + h2->num_streams.push.open > 0;
}

/* ---- ends ---- */

/* The next streams that wait for us, or for the client; those that have not begun come first, or
 * the library would begin them in the place of those that are reset. */
static size_t pick(h2o_http2_conn_t *h2, h2o_http2_stream_t **picked)
{
    h2o_http2_stream_t *stream;
    size_t n = 0;

    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        if (stream->state == H2O_HTTP2_STREAM_STATE_REQ_PENDING && n < AT_ONCE)
            picked[n++] = stream;
    }
    if (n > 0)
        return n;
    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        if (stream->state > H2O_HTTP2_STREAM_STATE_REQ_PENDING &&
            stream->state < H2O_HTTP2_STREAM_STATE_END_STREAM && n < AT_ONCE)
            picked[n++] = stream;
    }
    return n;
}

static void end(h2o_http2_conn_t *h2, struct conn *conn, int error)
{
    h2o_http2_stream_t *picked[AT_ONCE];
    size_t n;

    if (h2->state == H2O_HTTP2_CONN_STATE_IS_CLOSING || h2->sock->_cb.write != NULL) {
        conn->reset_when_cut = true;
        conn_cut(conn); /* it would not get there */
        return;
    }
    while ((n = pick(h2, picked)) > 0)
        for (size_t i = 0; i < n; i++)
            given_up_reset_stream(picked[i]);
    goaway_last(h2, conn, error);
}

static void end_late(h2o_http2_conn_t *h2, struct conn *conn, enum cut_reason reason,
                     uint64_t bytes, uint64_t age_ns)
{
    progress_note(conn, reason, bytes, age_ns);
    end(h2, conn, H2O_HTTP2_ERROR_ENHANCE_YOUR_CALM);
}

/* ---- answers ---- */

static bool has_unacked(const h2o_http2_conn_t *h2)
{
    int unacked = 0;
    return ioctl(h2o_socket_get_fd(h2->sock), SIOCOUTQ, &unacked) == 0 && unacked > 0;
}

/* DATA that the client's kernel has, of `sent` bytes; `acked` counts all kinds of frames. */
static uint64_t taken(struct progress *progress, uint64_t acked, uint64_t sent, bool all_acked)
{
    uint64_t more = acked - progress->acked_then, most = sent - progress->sent_then;
    uint64_t now = progress->taken + (more < most ? more : most);

    if (all_acked) {
        progress->taken = now;
        progress->acked_then = acked;
        progress->sent_then = sent;
    }
    return now;
}

/* Streams that the client holds up one by one. */
static void look_at_stuck_streams(h2o_http2_conn_t *h2, struct conn *conn, uint64_t now_ns)
{
    h2o_http2_stream_t *stream, *late = NULL;
    uint64_t bytes = 0, age_ns = 0;

    for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
        struct inflight *inflight = is_stuck(stream) ? inflight_of(&stream->req) : NULL;
        if (inflight == NULL || job_writes(inflight->job))
            continue;
        if (h2o_http2_window_get_window(&stream->output_window) > 0) {
            inflight->watch.since_ns = 0;
        } else if (progress_is_late(conn->loop, &inflight->watch, stream->req.bytes_sent, now_ns)) {
            late = stream; /* one a look: the reset may free others */
            bytes = stream->req.bytes_sent - inflight->watch.from;
            age_ns = now_ns - inflight->watch.since_ns;
        }
    }
    if (late == NULL)
        return;
    progress_note(conn, CUT_ANSWER, bytes, age_ns);
    conn->progress.over = false; /* the others go on */
    given_up_reset_stream(late);
}

static void look_at_answers(h2o_http2_conn_t *h2, struct conn *conn, const struct streams *streams,
                            uint64_t now_ns)
{
    struct progress *progress = &conn->progress;
    bool is_writing = h2->sock->_cb.write != NULL, of_data = streams->stuck > 0;
    uint64_t position;

    if ((!is_writing && !of_data) || (!of_data && streams->written > 0) ||
        !progress_acked(conn, &position)) {
        progress->answer.since_ns = 0;
        return;
    }
    bool all_acked = !is_writing && !has_unacked(h2);
    if (conn->is_tcp && of_data)
        position = taken(progress, position, progress->sent + streams->sent_bytes, all_acked);
    if (of_data != progress->answer_is_data) { /* another measure */
        progress->answer_is_data = of_data;
        progress->answer.since_ns = 0;
    }
    if (progress_is_late(conn->loop, &progress->answer, position, now_ns))
        end_late(h2, conn, CUT_ANSWER, position - progress->answer.from,
                 now_ns - progress->answer.since_ns);
    else if (all_acked && h2->state == H2O_HTTP2_CONN_STATE_OPEN)
        look_at_stuck_streams(h2, conn, now_ns);
}

/* ---- bodies ---- */

static void reset_uploads(h2o_http2_conn_t *h2)
{
    h2o_http2_stream_t *stream, *late;

    do {
        late = NULL;
        for (khiter_t at = 0; (stream = h2_next_stream(h2, &at)) != NULL;) {
            if (stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY)
                late = stream;
        }
        if (late != NULL)
            given_up_reset_stream(late);
    } while (late != NULL);
}

static void look_at_bodies(h2o_http2_conn_t *h2, struct conn *conn, const struct streams *streams,
                           uint64_t now_ns)
{
    struct progress_watch *watch = &conn->progress.body;
    uint64_t position = conn->progress.received + streams->body_bytes + h2->sock->input->size;

    if (streams->arriving == 0 || h2->state != H2O_HTTP2_CONN_STATE_OPEN) {
        watch->since_ns = 0;
        return;
    }
    if (!progress_is_late(conn->loop, watch, position, now_ns))
        return;
    uint64_t bytes = position - watch->from, age_ns = now_ns - watch->since_ns;
    if (h2->num_streams.pull.half_closed + h2->num_streams.push.half_closed == 0) {
        end_late(h2, conn, CUT_BODY, bytes, age_ns);
        return;
    }
    progress_note(conn, CUT_BODY, bytes, age_ns);
    conn->progress.over = false; /* other requests are in work */
    reset_uploads(h2);
}

/* ---- headers ---- */

/* Is the frame that arrives one that looks do not know? The same one has the same header, and does
 * not become shorter. */
static bool is_another(struct progress *progress, const h2o_http2_conn_t *h2)
{
    const h2o_buffer_t *input = h2->sock->input;
    size_t n = input->size < sizeof(progress->head) ? input->size : sizeof(progress->head);
    size_t known = progress->head_bytes < sizeof(progress->head) ? progress->head_bytes
                                                                 : sizeof(progress->head);
    bool another = progress->head_since_ns == 0 ||
                   progress->head_stream != h2->pull_stream_ids.max_open ||
                   (h2->_headers_unparsed == NULL &&
                    (input->size < progress->head_bytes ||
                     memcmp(progress->head, input->bytes, known < n ? known : n) != 0));

    progress->head_bytes = input->size;
    progress->head_stream = h2->pull_stream_ids.max_open;
    if (n > 0)
        memcpy(progress->head, input->bytes, n);
    return another;
}

static bool has_part_of_header(const h2o_http2_conn_t *h2)
{
    const h2o_buffer_t *input = h2->sock->input;

    if (h2->_headers_unparsed != NULL)
        return true;
    /* DATA of a body is judged as that. */
    return input->size > 0 && (input->size < H2O_HTTP2_FRAME_HEADER_SIZE ||
                               input->bytes[3] != H2O_HTTP2_FRAME_TYPE_DATA);
}

static void look_at_header(h2o_http2_conn_t *h2, struct conn *conn, uint64_t now_ns)
{
    struct progress *progress = &conn->progress;
    uint64_t most_ns = conn->loop->server->config.progress_head_ns;

    if (!h2_has_begun(h2)) {
        if (progress->preface_since_ns == 0)
            progress->preface_since_ns = now_ns;
        if (now_ns - progress->preface_since_ns >= most_ns)
            progress_cut(conn, CUT_HEAD, h2->sock->input->size, now_ns - progress->preface_since_ns,
                         false);
        return;
    }
    if (!has_part_of_header(h2)) {
        progress->head_since_ns = 0;
        return;
    }
    if (is_another(progress, h2)) {
        progress->head_since_ns = now_ns;
        return;
    }
    size_t block = h2->_headers_unparsed != NULL ? h2->_headers_unparsed->size : 0;
    if (now_ns - progress->head_since_ns >= most_ns)
        end_late(h2, conn, CUT_HEAD, block + h2->sock->input->size,
                 now_ns - progress->head_since_ns);
}

/* ---- connections without a stream ---- */

static void look_at_quiet(h2o_http2_conn_t *h2, struct conn *conn, uint64_t now_ns)
{
    struct progress *progress = &conn->progress;

    if (is_open(h2) || progress->quiet_stream != h2->pull_stream_ids.max_open) {
        progress->quiet_stream = h2->pull_stream_ids.max_open;
        progress->quiet_since_ns = is_open(h2) ? 0 : now_ns;
        return;
    }
    if (progress->quiet_since_ns == 0)
        progress->quiet_since_ns = now_ns;
    if (conn->loop->draining || h2->state != H2O_HTTP2_CONN_STATE_OPEN)
        return;
    if (progress->announced_ns != 0) {
        /* Long after the first GOAWAY was read, and no stream came or none is left. */
        if (now_ns - progress->announced_ns >= NS_PER_S && h2->sock->_cb.write == NULL)
            goaway_last(h2, conn, 0);
        return;
    }
    if (now_ns - progress->quiet_since_ns < conn->loop->server->config.progress_idle_ns)
        return;
    progress_note(conn, CUT_IDLE, 0, now_ns - progress->quiet_since_ns);
    progress->over = false;
    progress->announced_ns = now_ns;
    goaway_announce(h2, conn);
}

/* See the note on the end of the wait, progress.c. The client has the GOAWAY even if it sends just
 * then: see linger.c. */
static void on_idle_timeout(h2o_timeout_entry_t *entry)
{
    h2o_http2_conn_t *h2 = container_of(entry, h2o_http2_conn_t, _timeout_entry);
    struct conn *conn = h2->sock->on_close.data;
    int unread = 0;

    if (h2->state == H2O_HTTP2_CONN_STATE_OPEN && h2o_socket_is_reading(h2->sock) &&
        ioctl(h2o_socket_get_fd(h2->sock), FIONREAD, &unread) == 0 && unread > 0) {
        h2o_timeout_link(conn->loop->evloop, &conn->loop->ctx.http2.idle_timeout, entry);
        return;
    }
    conn_will_close(conn);
    conn->progress.on_timeout(entry);
}

/* The library sets its own function again after each stream. */
static void take_over_timeout(h2o_http2_conn_t *h2, struct conn *conn)
{
    h2o_timeout_entry_t *entry = &h2->_timeout_entry;

    /* h2o_timeout_run() would call on_idle_timeout() without end if it set a time of 0 again. */
    if (!mends_are_on() || !h2o_timeout_is_linked(entry) || entry->cb == on_idle_timeout ||
        conn->loop->ctx.http2.idle_timeout.timeout == 0)
        return;
    conn->progress.on_timeout = entry->cb;
    entry->cb = on_idle_timeout;
}

/* ---- the look ---- */

static void look_at(h2o_http2_conn_t *h2, struct conn *conn, uint64_t now_ns)
{
    struct streams streams = {0};

    take_over_timeout(h2, conn);
    if (h2->num_streams.priority.open + h2->num_streams.pull.open + h2->num_streams.push.open > 0)
        look_at_streams(h2, &streams);
    look_at_answers(h2, conn, &streams, now_ns);
    if (!conn->progress.over)
        look_at_bodies(h2, conn, &streams, now_ns);
    if (!conn->progress.over && h2->state != H2O_HTTP2_CONN_STATE_IS_CLOSING)
        look_at_header(h2, conn, now_ns);
    if (!conn->progress.over)
        look_at_quiet(h2, conn, now_ns);
}

void progress_look_h2(struct loop *loop, uint64_t now_ns)
{
    h2o_linklist_t *all = &loop->ctx.http2._conns;

    for (h2o_linklist_t *node = all->next, *next; node != all; node = next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        struct conn *conn = h2->sock != NULL ? conn_of_socket(h2->sock) : NULL;
        next = node->next;
        if (conn != NULL && conn->sock != NULL && !conn->given_up && !conn->progress.over)
            look_at(h2, conn, now_ns);
    }
}

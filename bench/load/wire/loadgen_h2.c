#include "loadgen_wires.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen_conn.h"
#include "loadgen_count.h"
#include "loadgen_pace.h"

/* HTTP/2 on one connection, over TLS or in cleartext with prior knowledge. nghttp2 does the
 * framing, this file counts.
 *
 * A request is whole when the kernel has taken its END_STREAM frame; nghttp2 only reports that a
 * frame was serialized. So the output is counted in bytes: `queued` were serialized, the kernel has
 * `taken` so many, and a stream stores the offset at which its END_STREAM frame ends.
 *
 * After a GOAWAY nghttp2 closes the streams above the last id with REFUSED_STREAM. This file only
 * begins no more streams, and closes the connection after the last open one. The first GOAWAY of a
 * graceful shutdown carries 2^31-1 and refuses nothing. */

#define OUT_BYTES_MAX 65536U /* serialize no further frame beyond this */
#define STREAM_WINDOW_BYTES (1 << 20)
#define CONNECTION_WINDOW_BYTES (1 << 24)

struct h2_stream {
    struct load_request request;
    uint64_t end_offset; /* of the output, after END_STREAM; 0: not serialized */
    size_t body_left;
    int32_t id;
    bool open;
    bool deferred;     /* slow sender: the body waits for send_due_ns */
    bool answer_whole; /* END_STREAM has arrived */
};

struct h2 {
    nghttp2_session *session;  /* NULL: not connected */
    struct h2_stream *streams; /* `width` of them */
    unsigned *unused;          /* stack of indexes into streams */
    unsigned unused_len;
    unsigned unwhole; /* open streams whose request is not whole */

    uint8_t *out;
    size_t out_room;
    size_t out_start;
    size_t out_end;
    uint64_t queued; /* bytes of this connection put into `out` so far */
    uint64_t taken;  /* bytes of this connection taken by the kernel so far */
};

struct h2_request {
    nghttp2_nv headers[6];
    size_t headers_len;
    nghttp2_nv idle[4]; /* for the idle crowd: a GET without a body */
    char content_length[24];
    char number[LOAD_NUMBER_DIGITS + 1]; /* of the request that is being submitted */
};

static struct h2 *h2_of(struct load_conn *c)
{
    return c->wire_state;
}

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return id > 0 ? nghttp2_session_get_stream_user_data(session, id) : NULL;
}

/* ---- the end of a stream ---- */

static void stream_end(struct load_conn *c, struct h2_stream *s, enum load_end how)
{
    struct h2 *h = h2_of(c);

    s->open = false;
    h->unwhole -= !s->request.whole;
    h->unused[h->unused_len++] = (unsigned)(s - h->streams);
    if (s->answer_whole)
        load_request_answered(c, &s->request);
    else
        load_request_end(c, &s->request, how);
}

static void end_all_streams(struct load_conn *c, enum load_end how)
{
    struct h2 *h = h2_of(c);

    for (unsigned i = 0; i < c->width && c->open_requests > 0; i++) {
        if (h->streams[i].open)
            stream_end(c, &h->streams[i], how);
    }
}

/* ---- callbacks of nghttp2 ---- */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *frame, void *arg)
{
    struct h2_stream *s = stream_of(session, frame->stream_id);

    (void)arg;
    if (s != NULL && (frame->type == NGHTTP2_HEADERS || frame->type == NGHTTP2_DATA))
        s->request.answer_begun = true;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct h2_stream *s = stream_of(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (s == NULL || name_len != 7 || memcmp(name, ":status", 7) != 0 || value_len != 3)
        return 0;
    s->request.status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t len, void *arg)
{
    struct h2_stream *s = stream_of(session, id);

    (void)flags;
    if (s != NULL)
        load_request_body(arg, &s->request, data, len);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct load_conn *c = arg;
    struct h2_stream *s = stream_of(session, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        c->load->result->goaways += c->role == LOAD_ROLE_CLIENT;
        c->closing = true;
    }
    bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (s != NULL && ends)
        s->answer_whole = true;
    return 0;
}

static int on_frame_serialized(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_stream *s = stream_of(session, frame->hd.stream_id);
    bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    if (s != NULL && ends)
        s->end_offset = h2_of(arg)->queued;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_stream *s = stream_of(session, id);

    if (s != NULL && s->open)
        stream_end(arg, s, code == NGHTTP2_REFUSED_STREAM ? LOAD_END_REFUSED : LOAD_END_RESET);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *s = source->ptr;
    size_t take = load_pace_send_room(arg, s->body_left < len ? s->body_left : len);

    (void)session;
    (void)id;
    if (take == 0) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    load_pace_sent(arg, take);
    memset(buf, 'x', take);
    s->body_left -= take;
    if (s->body_left == 0)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)take;
}

/* ---- the wire ---- */

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name, /* nghttp2 does not write to it */
                        .namelen = strlen(name),
                        .value = (uint8_t *)(uintptr_t)value,
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NONE};
}

static int h2_prepare(struct load *l)
{
    struct h2_request *request = calloc(1, sizeof(*request));

    if (request == NULL)
        return -ENOMEM;
    l->request = request;
    request->headers[0] = header(":method", l->method);
    request->headers[1] = header(":scheme", l->options->tls ? "https" : "http");
    request->headers[2] = header(":authority", l->authority);
    request->headers[3] = header(":path", l->path);
    request->headers_len = 4;
    memcpy(request->idle, request->headers, sizeof(request->idle));
    request->idle[0] = header(":method", "GET");
    if (l->options->body_bytes > 0) {
        (void)snprintf(request->content_length, sizeof(request->content_length), "%zu",
                       l->options->body_bytes); /* 20 digits fit */
        request->headers[request->headers_len++] =
            header("content-length", request->content_length);
    }
    if (l->options->number_header != NULL) {
        load_write_number(0, request->number);
        request->headers[request->headers_len++] =
            header(l->options->number_header, request->number);
    }
    return 0;
}

static void h2_forget(struct load *l)
{
    free(l->request);
}

static int h2_create(struct load_conn *c)
{
    struct h2 *h = calloc(1, sizeof(*h));

    if (h == NULL)
        return -ENOMEM;
    c->wire_state = h;
    h->streams = calloc(c->width, sizeof(*h->streams));
    h->unused = calloc(c->width, sizeof(*h->unused));
    if (h->streams == NULL || h->unused == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < c->width; i++)
        h->unused[h->unused_len++] = i;
    return 0;
}

static void h2_destroy(struct load_conn *c)
{
    struct h2 *h = h2_of(c);

    if (h == NULL)
        return;
    nghttp2_session_del(h->session);
    free(h->out);
    free(h->unused);
    free(h->streams);
    free(h);
}

static int create_session(struct load_conn *c, nghttp2_session **ret_session)
{
    nghttp2_session_callbacks *callbacks;

    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return -ENOMEM;
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_serialized);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    int r = nghttp2_session_client_new(ret_session, callbacks, c);
    nghttp2_session_callbacks_del(callbacks);
    return r == 0 ? 0 : -ENOMEM;
}

static int h2_open(struct load_conn *c)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
    };
    struct h2 *h = h2_of(c);

    h->out_start = h->out_end = 0;
    h->queued = h->taken = 0;
    int r = create_session(c, &h->session);
    if (r != 0)
        return r;
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                              CONNECTION_WINDOW_BYTES) != 0)
        return -ENOMEM;
    return 0;
}

static bool h2_begin(struct load_conn *c)
{
    struct h2 *h = h2_of(c);
    struct h2_request *request = c->load->request;

    if (c->open_requests >=
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
        return false;
    struct h2_stream *s = &h->streams[h->unused[--h->unused_len]];
    memset(s, 0, sizeof(*s));
    s->open = true;
    bool idles = c->role == LOAD_ROLE_IDLE;
    s->body_left = idles ? 0 : c->load->options->body_bytes;
    load_request_begin(c, &s->request);
    h->unwhole++;
    load_write_number(s->request.number, request->number); /* nghttp2 copies it */

    nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
    int32_t id = nghttp2_submit_request(h->session, NULL, idles ? request->idle : request->headers,
                                        idles ? 4 : request->headers_len,
                                        s->body_left > 0 ? &body : NULL, s);
    if (id < 0) { /* out of ids or memory: use a new connection */
        c->closing = true;
        stream_end(c, s, LOAD_END_RESET);
    }
    s->id = id;
    return id >= 0;
}

/* Fill the empty output; returns false if there is nothing to write. */
static bool serialize(struct load_conn *c, struct h2 *h)
{
    const uint8_t *data;
    ssize_t n = 0;

    h->out_start = h->out_end = 0;
    while (h->out_end < OUT_BYTES_MAX && (n = nghttp2_session_mem_send(h->session, &data)) > 0) {
        if (h->out_room - h->out_end < (size_t)n) {
            size_t room = h->out_end + (size_t)n + 1024;
            uint8_t *out = realloc(h->out, room);
            if (out == NULL) {
                n = NGHTTP2_ERR_NOMEM;
                break;
            }
            h->out = out;
            h->out_room = room;
        }
        memcpy(h->out + h->out_end, data, (size_t)n);
        h->out_end += (size_t)n;
        h->queued += (uint64_t)n;
    }
    if (n < 0)
        c->load->error = -ENOMEM; /* nghttp2's only error here */
    return h->out_end > 0;
}

static void note_whole(struct load_conn *c, struct h2 *h)
{
    for (unsigned i = 0, left = h->unwhole; i < c->width && left > 0; i++) {
        struct h2_stream *s = &h->streams[i];
        if (!s->open || s->request.whole)
            continue;
        left--;
        if (s->end_offset == 0 || s->end_offset > h->taken)
            continue;
        h->unwhole--;
        load_request_sent(c, &s->request);
    }
}

/* Returns false if the kernel takes no more now. */
static bool write_out(struct load_conn *c, struct h2 *h)
{
    if (h->out_start == h->out_end)
        return !c->write_failed;
    size_t n = load_conn_write(c, h->out + h->out_start, h->out_end - h->out_start);
    h->out_start += n;
    h->taken += n;
    note_whole(c, h);
    return h->out_start == h->out_end;
}

static void resume_bodies(struct load_conn *c, struct h2 *h)
{
    if (c->load->options->send_rate == 0)
        return;
    for (unsigned i = 0; i < c->width; i++) {
        struct h2_stream *s = &h->streams[i];
        if (!s->open || !s->deferred)
            continue;
        s->deferred = false;
        (void)nghttp2_session_resume_data(h->session, s->id); /* fails if the stream has ended */
    }
}

static void h2_flush(struct load_conn *c)
{
    struct h2 *h = h2_of(c);

    resume_bodies(c, h);
    bool taken = write_out(c, h);

    while (taken && serialize(c, h))
        taken = write_out(c, h);
    load_conn_want_write(c, !taken && !c->write_failed);
    if (nghttp2_session_want_read(h->session) || nghttp2_session_want_write(h->session))
        return;
    end_all_streams(c, LOAD_END_BROKEN); /* streams are open only if nghttp2 has failed */
    c->closing = true;
}

static void h2_input(struct load_conn *c, const uint8_t *data, size_t len)
{
    if (nghttp2_session_mem_recv(h2_of(c)->session, data, len) >= 0)
        return;
    end_all_streams(c, LOAD_END_BROKEN);
    c->closing = true;
}

static void h2_end(struct load_conn *c, enum load_end how)
{
    struct h2 *h = h2_of(c);

    end_all_streams(c, how);
    nghttp2_session_del(h->session);
    h->session = NULL;
}

const struct load_wire load_wire_h2 = {
    .prepare = h2_prepare,
    .forget = h2_forget,
    .create = h2_create,
    .destroy = h2_destroy,
    .open = h2_open,
    .begin = h2_begin,
    .input = h2_input,
    .flush = h2_flush,
    .end = h2_end,
};

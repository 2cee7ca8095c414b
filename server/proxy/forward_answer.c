#include "forward_p.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "answer_head.h"
#include "tunnel.h"
#include "upstream.h"

/* The answer: read from the upstream as fast as the client takes it. */

/* In one turn of the loop; other connections wait meanwhile. */
#define TURN_MOST ((size_t)256 * 1024)

/* ---- the buffer ---- */

void forward_give_back(struct forward *forward)
{
    if (forward->is_small)
        proxy_loop_give_buffer(forward->upstream->proxy, forward->buffer);
    else
        free(forward->buffer);
}

/* A larger one, or all that is unused of this one. Nothing is in flight. */
static void make_larger(struct forward *forward, size_t room)
{
    size_t size = forward->end - forward->begin;

    if (room > forward->room) {
        char *larger = h2o_mem_alloc(room);
        memcpy(larger, forward->buffer + forward->begin, size);
        forward_give_back(forward);
        forward->buffer = larger;
        forward->room = room;
        forward->is_small = false;
    } else {
        memmove(forward->buffer, forward->buffer + forward->begin, size);
    }
    forward->begin = 0;
    forward->end = size;
}

/* How many bytes may be read. */
static size_t make_room(struct forward *forward)
{
    bool in_body = forward->phase == FORWARD_ANSWERING;
    size_t most = forward->upstream->settings->buffer_bytes;

    if (forward->buffer == NULL) {
        forward->buffer = proxy_loop_take_buffer(forward->upstream->proxy);
        forward->room = PROXY_SMALL_BUFFER;
        forward->is_small = true;
    }
    if (in_body && forward->in_flight == 0 && forward->begin == forward->end)
        forward->begin = forward->end = 0; /* a head that fills the buffer leaves none of it */
    if (forward->in_flight == 0 && in_body && forward->was_full && forward->room < most)
        make_larger(forward, most);
    else if (!in_body && forward->end == forward->room)
        make_larger(forward, ANSWER_HEAD_MAX + 1);
    /* As much as there is, even if the answer wants less: more than that belongs to no answer, and
     * must be seen before the connection is used again. */
    return forward->room - forward->end;
}

/* ---- passing on ---- */

/* The whole answer has come: the connection is free. If the last read filled the buffer, the kernel
 * may have more. */
static void release_connection(struct forward *forward)
{
    struct upstream_conn *conn = forward->conn;

    forward->conn = NULL;
    leaver_part(&forward->leaver);
    if (conn == NULL)
        return;
    forward_leave(forward);
    upstream_note_whole(forward->upstream, forward->req);
    if (forward->protocol->may_keep(forward) && forward->is_sent && !forward->has_write_failed)
        upstream_keep(conn, forward->was_full);
    else
        upstream_conn_close(conn);
}

/* The filters of the answer may set how much they want at once: req->preferred_chunk_size. */
static void begin_answer(struct forward *forward)
{
    if (forward->has_begun)
        return;
    forward->has_begun = true;
    forward_unwatch_client(forward);
    h2o_start_response(forward->req, &forward->super);
}

void forward_pass_on(struct forward *forward)
{
    h2o_req_t *req = forward->req;
    size_t size = forward->end - forward->begin;
    bool is_over = forward->phase == FORWARD_OVER;
    h2o_send_state_t state = H2O_SEND_STATE_IN_PROGRESS;

    if (forward->in_flight > 0 || (size == 0 && !is_over))
        return;
    begin_answer(forward);
    if (size > req->preferred_chunk_size) /* the rest in the next turn */
        size = req->preferred_chunk_size;
    else if (is_over)
        state = forward->is_cut ? H2O_SEND_STATE_ERROR : H2O_SEND_STATE_FINAL;
    h2o_iovec_t body = h2o_iovec_init(forward->buffer + forward->begin, size);
    forward->in_flight = size;
    if (state == H2O_SEND_STATE_ERROR)
        answer_is_cut(req);
    h2o_send(req, &body, size > 0 ? 1 : 0, state); /* see the note on ends */
}

/* What the client has taken. */
void forward_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct forward *forward = container_of(generator, struct forward, super);

    (void)req;
    forward->begin += forward->in_flight;
    forward->in_flight = 0;
    if (forward->begin < forward->end || forward->phase == FORWARD_OVER) {
        forward_pass_on(forward);
        return;
    }
    forward->begin = forward->end = 0;
    bool may_be_more = forward->was_full || forward->conn->is_stopped;
    upstream_conn_resume(forward->conn);
    forward_set_timer(forward);
    /* The kernel need not be asked whether there is more. */
    if (may_be_more && (!forward->conn->is_plain || forward->turn_bytes < TURN_MOST))
        forward_read(forward);
}

/* ---- reading ---- */

static bool refuse(struct forward *forward)
{
    forward_fail(forward, forward->failure, forward->fault);
    return false;
}

/* The body, or what follows the head in the buffer, was read: `size` bytes at `end`. */
static bool take_body(struct forward *forward, size_t size)
{
    ssize_t decoded = forward->protocol->read_body(forward, forward->buffer + forward->end, size);

    if (decoded < 0)
        return refuse(forward);
    bool is_last = false;
    forward->end +=
        forward_filter_events(forward, forward->buffer + forward->end, (size_t)decoded, &is_last);
    if (is_last && !forward->is_whole) {
        forward_end_here(forward);
        return false;
    }
    if (!forward->is_whole) {
        forward_pass_on(forward);
        return true;
    }
    h2o_timeout_unlink(&forward->timer);
    release_connection(forward);
    forward_set_phase(forward, FORWARD_OVER);
    forward_pass_on(forward);
    return false;
}

/* Both sides have agreed on another protocol. */
static void begin_tunnel(struct forward *forward)
{
    bool was_closed = forward->conn->was_closed;
    h2o_socket_t *sock = upstream_conn_steal(forward->conn);

    forward->conn = NULL;
    forward->phase = FORWARD_OVER;
    upstream_note_whole(forward->upstream, forward->req);
    forward_let_go(forward);
    forward_unwatch_client(forward);
    tunnel_begin(forward->req, forward->upstream, sock, was_closed,
                 forward->buffer + forward->begin, forward->end - forward->begin);
}

static bool take_final_head(struct forward *forward, const struct answer_fields *fields,
                            size_t size)
{
    const char *bytes = forward->buffer + forward->begin;

    /* The library still writes; and the upstream answers a request that it does not have. */
    if (fields->status == 101 && (!forward->is_sent || forward->has_write_failed)) {
        forward_fail(forward, UPSTREAM_MALFORMED,
                     "the upstream switched protocols before it had the request");
        return false;
    }
    upstream_note_head(forward->upstream, forward->req,
                       loop_patient_ms(forward->upstream->proxy->loop) - forward->phase_ms);
    if (forward->protocol->follows_redirects && proxied_head_follow(forward->req, fields)) {
        forward_unwatch_client(forward);
        forward->phase = FORWARD_OVER;
        forward_let_go(forward);
        return false;
    }
    proxied_head_answer(forward->req, fields, bytes, size);
    forward->begin += size;
    if (fields->status == 101) {
        begin_tunnel(forward);
        return false;
    }
    size_t rest = forward->end - forward->begin;
    forward->end = forward->begin;
    forward_set_phase(forward, FORWARD_ANSWERING);
    forward_note_events(forward, &forward_leaver);
    return take_body(forward, rest);
}

/* Heads, as far as they have come. An interim one is passed on at once. That does not bind the
 * final one: the request may still get 502, or be sent on by `reproxy`. It does count as a byte of
 * an answer, so the request is not sent again to this upstream or another (may_send_again(),
 * forward_end.c): an application that says so much has begun to work. */
static bool take_heads(struct forward *forward)
{
    struct answer_fields fields;

    for (;;) {
        ssize_t size = forward->protocol->read_head(forward, forward->buffer + forward->begin,
                                                    forward->end - forward->begin, &fields);
        if (size == 0)
            return true;
        if (size < 0)
            return refuse(forward);
        if (!answer_is_interim(fields.status))
            return take_final_head(forward, &fields, (size_t)size);
        proxied_head_interim(forward->req, &fields, forward->buffer + forward->begin, (size_t)size);
        forward->begin += (size_t)size;
        if (forward->begin == forward->end)
            forward->begin = forward->end = 0;
    }
}

static bool take(struct forward *forward, size_t size)
{
    forward->has_bytes = true;
    forward->turn_bytes += size;
    size = forward->protocol->unframe(forward, forward->buffer + forward->end, size);
    if (forward->phase == FORWARD_ANSWERING)
        return take_body(forward, size);
    forward->end += size;
    return take_heads(forward);
}

/* Over TLS: the library's input is read to its end; what came then? An end without close_notify may
 * be the work of another (RFC 8446 section 6.1). */
static bool has_tls_ended(struct forward *forward)
{
    bool was_closed = forward->conn->was_closed;

    if (forward->read_error == NULL && !was_closed)
        return false;
    forward_ended(forward, was_closed);
    return true;
}

static void wait_for_more(struct forward *forward)
{
    if (forward->phase == FORWARD_ANSWERING)
        forward_set_timer(forward);
}

void forward_read(struct forward *forward)
{
    for (;;) {
        size_t room = make_room(forward);
        if (room == 0) {
            upstream_conn_pause(forward->conn);
            h2o_timeout_unlink(&forward->timer); /* it is the client that is slow */
            return;
        }
        ssize_t n = upstream_conn_read(forward->conn, forward->buffer + forward->end, room);
        forward->was_full = n == (ssize_t)room;
        if (n == -EAGAIN) {
            if (!has_tls_ended(forward))
                wait_for_more(forward);
            return;
        }
        if (n <= 0) {
            forward_ended(forward, n == 0);
            return;
        }
        bool is_plain = forward->conn->is_plain;
        if (!take(forward, (size_t)n))
            return;
        if (is_plain && (!forward->was_full || forward->turn_bytes >= TURN_MOST))
            break; /* the socket is polled, and tells if there is more */
    }
    wait_for_more(forward);
}

void forward_on_readable(void *user, const char *error)
{
    struct forward *forward = user;

    forward->turn_bytes = 0;
    if (error != NULL)
        forward->read_error = error;
    forward_read(forward);
}

#include "forward_p.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "loop.h"

/* An upstream that fails: is the request sent once more, is it answered 502 or 504, or is its
 * answer, which has begun, cut? */

/* ---- once more ---- */

/* RFC 9110 section 9.2.2. */
static bool is_idempotent(const h2o_req_t *req)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (h2o_memis(req->method.base, req->method.len, methods[i], strlen(methods[i])))
            return true;
    return false;
}

/* The connection ended in order, and the upstream's kernel has acknowledged no byte of the request:
 * its application has seen none. So it is when the upstream had closed before the request came. A
 * FIN acknowledges what came before it; a reset does not, and the kernel may have delayed the
 * acknowledgement of what the application has read (RFC 9293 section 3.8.6.3). One byte more than
 * those that were written is acknowledged on every connection, its SYN. */
static bool cannot_have_been_read(const struct forward *forward)
{
    const struct upstream_conn *conn = forward->conn;
    struct tcp_info info;
    socklen_t len = sizeof(info);

    if (!conn->is_plain || !conn->is_tcp)
        return false;
    if (getsockopt(h2o_socket_get_fd(conn->sock), IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked))
        return false;
    return info.tcpi_bytes_acked <= forward->written_before + 1;
}

/* RFC 9112 section 9.3.1: a connection may end at any time, and a kept one often ends just when it
 * is used again. */
static bool may_send_again(struct forward *forward, bool in_order)
{
    return forward->conn != NULL && forward->conn->requests > 0 && !forward->has_bytes &&
           !forward->was_sent_again &&
           (is_idempotent(forward->req) || (in_order && cannot_have_been_read(forward))) &&
           upstream_may_send_again(forward->upstream);
}

/* ---- failures ---- */

static bool is_time(enum upstream_failure failure)
{
    return failure == UPSTREAM_CONNECT_TIME || failure == UPSTREAM_SEND_TIME ||
           failure == UPSTREAM_FIRST_BYTE_TIME || failure == UPSTREAM_BETWEEN_BYTES_TIME;
}

static void answer_error(struct forward *forward, enum upstream_failure failure, const char *what)
{
    h2o_req_t *req = forward->req;

    forward->phase = FORWARD_OVER;
    forward_unwatch_client(forward);
    if (is_time(failure))
        h2o_send_error_generic(req, 504, "Gateway Timeout", what, 0);
    else if (failure == UPSTREAM_OVERLOADED)
        h2o_send_error_503(req, "Service Unavailable", what, 0);
    else
        h2o_send_error_502(req, "Gateway Error", what, 0);
}

/* No connection came about. */
static bool is_before_request(enum upstream_failure failure)
{
    return failure == UPSTREAM_LOOKUP || failure == UPSTREAM_CONNECT || failure == UPSTREAM_TLS ||
           failure == UPSTREAM_CONNECT_TIME;
}

/* The request goes to another upstream, with a forward of its own. */
static bool go_on(struct forward *forward)
{
    const struct upstream_owner *owner = forward->upstream->owner;

    if (owner == NULL)
        return false;
    forward->phase = FORWARD_OVER;
    forward_unwatch_client(forward);
    return owner->go_on(forward->upstream, forward->req, forward->was_sent_again);
}

void forward_fail(struct forward *forward, enum upstream_failure failure, const char *what)
{
    forward_note_failure(forward, failure, what);
    forward_let_go(forward);
    if (is_before_request(failure) && go_on(forward))
        return;
    upstream_set_error(forward->req, upstream_label(failure));
    if (!forward->has_begun) { /* even if there is a head: nothing of it was passed on */
        answer_error(forward, failure, what);
        return;
    }
    forward->is_cut = true;
    forward_set_phase(forward, FORWARD_OVER);
    forward_pass_on(forward);
}

/* TLS: closed without close_notify, as some do after each answer. */
static bool is_torn(const struct forward *forward)
{
    return forward->read_error == h2o_socket_error_closed;
}

/* After a failed write the kernel no longer tells a reset from an end. */
static void before_answer(struct forward *forward, bool in_order)
{
    in_order = in_order && !forward->has_write_failed;
    if (may_send_again(forward, in_order)) {
        upstream_conn_close(forward->conn);
        forward->conn = NULL;
        h2o_timeout_unlink(&forward->timer);
        forward->was_sent_again = true;
        forward_connect(forward, true);
        return;
    }
    forward_fail(forward, UPSTREAM_ENDED,
                 forward->has_bytes ? "the upstream ended the connection in the head of its answer"
                 : in_order || is_torn(forward)
                     ? "the upstream closed the connection without an answer"
                     : "the upstream reset the connection without an answer");
}

/* Its connection did not tell that the answer is whole, but it is. The last thing, too. */
static void end_whole(struct forward *forward)
{
    upstream_note_whole(forward->upstream, forward->req);
    forward_let_go(forward);
    forward_set_phase(forward, FORWARD_OVER);
    forward_pass_on(forward);
}

void forward_ended(struct forward *forward, bool in_order)
{
    if (forward->phase != FORWARD_ANSWERING) {
        before_answer(forward, in_order);
        return;
    }
    /* After a failed write the kernel no longer tells a reset from an end. */
    if (!forward->protocol->read_end(forward, in_order && !forward->has_write_failed)) {
        forward_fail(forward, UPSTREAM_CUT,
                     in_order ? "the upstream ended the connection in the middle of its answer"
                     : is_torn(forward)
                         ? "the upstream closed the connection without close_notify"
                         : "the upstream reset the connection in the middle of its answer");
        return;
    }
    end_whole(forward);
}

/* ---- a drain ---- */

void forward_end_here(struct forward *forward)
{
    forward->was_ended_here = true;
    end_whole(forward);
}

static void leave(struct leaver *leaver)
{
    struct forward *forward = container_of(leaver, struct forward, leaver);

    if (forward->phase == FORWARD_ANSWERING && forward->has_events &&
        event_stream_is_between(&forward->events))
        forward_end_here(forward);
}

const struct leaver_kind forward_leaver = {.ask = leave};

/* ---- time ---- */

int forward_unsent(const struct forward *forward)
{
    int unsent;

    return ioctl(h2o_socket_get_fd(forward->conn->sock), SIOCOUTQ, &unsent) == 0 ? unsent : -1;
}

bool forward_is_large(const struct forward *forward)
{
    return forward->head.len + forward->req->entity.len >= FORWARD_LARGE;
}

/* Has the upstream's kernel taken any of the request since the last look? What waits here is less
 * then, or it is more, because more was written. Of a small request only the most that may have
 * waited is known: that nothing waits any more says nothing about when it was taken. */
static bool is_being_sent(struct forward *forward)
{
    int unsent = forward_unsent(forward), before = forward->unsent;

    forward->unsent = unsent;
    return forward_is_large(forward) ? unsent >= 0 && unsent != before
                                     : unsent > 0 && unsent < before;
}

void forward_on_timer(h2o_timeout_entry_t *timer)
{
    struct forward *forward = container_of(timer, struct forward, timer);
    uint64_t now_ms = loop_patient_ms(forward->upstream->proxy->loop);

    /* The first byte of an answer is not to be expected before the upstream has taken all of the
     * request. It may answer early, and go on taking the request. */
    if (is_being_sent(forward))
        forward->progress_ms = now_ms;
    if (now_ms - forward->progress_ms < forward_time_ms(forward)) {
        forward_link_timer(forward);
        return;
    }
    switch (forward->phase) {
    case FORWARD_SENDING:
        forward_fail(forward, UPSTREAM_SEND_TIME, "the upstream did not take the request in time");
        break;
    case FORWARD_WAITING:
        forward_fail(forward, UPSTREAM_FIRST_BYTE_TIME, "the upstream did not answer in time");
        break;
    case FORWARD_ANSWERING:
        if (forward->protocol->read_end(forward, false))
            end_whole(forward);
        else
            forward_fail(forward, UPSTREAM_BETWEEN_BYTES_TIME,
                         "the upstream stopped in the middle of its answer");
        break;
    case FORWARD_CONNECTING: /* dial.c has the time */
    case FORWARD_OVER:
        break;
    }
}

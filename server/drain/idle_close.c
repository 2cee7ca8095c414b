#include "idle_close.h"

#include "clock.h"
#include "hand_off.h"
#include "idle_close_h1.h"
#include "idle_close_h2.h"
#include "loop.h"

/* How open connections end in a drain. look() visits all connections and does what is due. Each
 * event that may make something due asks for another look (idle_close_look_soon), and a timer
 * repeats it for changes that raise no event.
 *
 * HTTP/1. A response in flight says `Connection: close` (request.c). An idle connection is kept
 * until idle-grace is over: since the drain began, and since the client has acknowledged the last
 * response, because the client may be sending a request at this moment. Then shutdown(SHUT_RD): the
 * library reads what has arrived, or the end of file, and closes. A connection with unread bytes is
 * not idle. The drain waits for a connection that has sent part of a request; over TLS, part of a
 * record is part of a request. A client that has not begun its TLS handshake is idle; one in the
 * middle of it has the library's handshake time-out.
 *
 * HTTP/2 (RFC 9113 section 6.8). GOAWAY with the highest id tells the client to open no more
 * streams. One round trip after it was written, every stream that the client opened before it read
 * that GOAWAY has arrived. Then GOAWAY with the last id, and the close, but only when no stream is
 * open: after its last GOAWAY libh2o reads no HEADERS and no DATA. It would lose an upload, and a
 * frame of a stream that it ignores would be a protocol error, which ends every answer in flight.
 * So a client that opens streams in spite of the first GOAWAY is served until the deadline.
 * h2o_context_request_shutdown() is not used: it acts once, so it misses connections that become
 * HTTP/2 later; it waits a fixed second; and it does not wait for streams. */

static void look(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, idle_close.timer);
    uint64_t now_ns = clock_now_ns();

    bool soon = loop->handing && hand_off_idle(loop);
    if (loop->draining || loop->released)
        idle_close_h1_note(loop, now_ns);
    idle_close_h1(loop, now_ns);
    soon |= loop->draining && idle_close_h2(loop, now_ns);
    /* The slow look finds changes that raise no event: a stream that was reset while its body
     * arrived, a connection that has just become HTTP/2. */
    if (!h2o_timeout_is_linked(entry))
        loop_tick(loop, soon ? TICK_1_MS : TICK_10_MS, entry);
}

void idle_close_look_soon(struct loop *loop)
{
    assert_owner(loop);
    if (loop->frozen || !(loop->draining || loop->released || loop->handing))
        return;
    loop->idle_close.timer.cb = look;
    h2o_timeout_unlink(&loop->idle_close.timer);
    h2o_timeout_link(loop->evloop, &loop->ctx.zero_timeout, &loop->idle_close.timer);
}

void idle_close_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->idle_close.timer);
}

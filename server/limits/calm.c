#include "calm.h"

#include "clock.h"
#include "conn.h"
#include "goaway.h"

/* A client of HTTP/2 that only resets streams gets ENHANCE_YOUR_CALM (CVE-2023-44487).
 *
 * Two counts for each connection decide:
 *
 *     h2_resets    streams that were reset before they ended: by the client, by us because it broke
 *                  a rule (CVE-2025-8671), or refused because it opened too many
 *     h2_answers   requests that were answered whole
 *
 * At CALM_AFTER_RESETS resets, and more than twice as many resets as answers, the connection
 * gets GOAWAY with ENHANCE_YOUR_CALM. From then on the library opens no stream. Requests in flight
 * have CALM_CLOSES_NS to end; then the connection is cut, so a client that does not read its
 * answers cannot hold it.
 *
 * Resets are counted while the library handles a frame, and a GOAWAY in the middle of a header
 * block would make the library ignore the rest of that block. So the count only sets a mark, and
 * calm_look() acts before the next frame. */

#define CALM_AFTER_RESETS 100
#define CALM_CLOSES_NS (2000 * NS_PER_MS)

void calm_count_reset(h2o_http2_conn_t *h2, const h2o_http2_stream_t *stream)
{
    struct conn *conn = h2->sock != NULL ? conn_of_socket(h2->sock) : NULL;

    if (conn == NULL || stream->state == H2O_HTTP2_STREAM_STATE_END_STREAM ||
        h2o_http2_stream_is_push(stream->stream_id)) /* clients reset pushed streams by right */
        return;
    conn->calm.resets++;
    count_add(&conn->loop->metrics.h2_resets, 1);
    if (conn->calm.resets >= CALM_AFTER_RESETS && conn->calm.resets / 2 >= conn->calm.answers)
        conn->calm.wanted = true;
}

static void on_timer(h2o_timeout_entry_t *entry)
{
    struct conn *conn = container_of(entry, struct conn, calm.timer);

    if (conn->sock == NULL || conn->loop->frozen)
        return;
    if (clock_now_ns() - conn->calm.since_ns < CALM_CLOSES_NS)
        loop_tick(conn->loop, TICK_100_MS, entry);
    else
        conn_cut(conn);
}

void calm_close_soon(struct conn *conn)
{
    conn_will_close(conn); /* or the kernel's reset overtakes our GOAWAY; see linger.c */
    if (h2o_timeout_is_linked(&conn->calm.timer))
        return;
    conn->calm.since_ns = clock_now_ns();
    conn->calm.timer.cb = on_timer;
    loop_tick(conn->loop, TICK_100_MS, &conn->calm.timer);
}

void calm_look(h2o_http2_conn_t *h2, struct conn *conn)
{
    if (!conn->calm.wanted || h2->state != H2O_HTTP2_CONN_STATE_OPEN ||
        h2->_headers_unparsed != NULL)
        return;
    count_add(&conn->loop->metrics.h2_calmed, 1);
    goaway_last(h2, conn, H2O_HTTP2_ERROR_ENHANCE_YOUR_CALM);
    calm_close_soon(conn);
}

void calm_end(struct conn *conn)
{
    h2o_timeout_unlink(&conn->calm.timer);
}

/* How a client notices that an answer is incomplete.
 *
 *     HTTP/2            the library ends the stream with RST_STREAM
 *     chunked           the library sends an incomplete chunk, and closes
 *     Content-Length    the connection closes too early
 *     neither           the end of the connection ends the answer, and a clean end would make it
 *                       look complete: the connection is reset
 *
 * The last kind is HTTP/1.0, and HTTP/1.1 with a status other than 200, which the library does not
 * send in chunks. A Unix socket cannot be reset: there the end is clean. */

#include "upstream.h"

#include "conn.h"
#include "request.h"

void answer_is_cut(h2o_req_t *req)
{
    struct conn *conn = conn_of(req);
    struct inflight *inflight = inflight_of(req);

    if (inflight !=
        NULL) /* HTTP/2 does not tell it from an answer without a length that is whole */
        inflight->is_half = true;
    if (conn == NULL || !answer_ends_with_connection(req))
        return;
    conn->reset_when_cut = true;
    conn_cut(conn);
}

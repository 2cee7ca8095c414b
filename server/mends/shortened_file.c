/* A file that becomes shorter while it is sent: a log that is cut, a deployment that writes in
 * place.
 *
 * Fault: at the end of what is left, read(2) returns nothing. The library sends nothing, says that
 * more will come, and is asked for more at once: the loop is busy for ever, serves nobody else, and
 * no drain can end it. So it is where the handler of files writes (several ranges, or filters on
 * the path such as `compress`); elsewhere the library cuts the answer, as it must.
 *
 * Upstream: never changed.
 *
 * Replaced: h2o_send(). A piece of no bytes, with more to come, is the mark of this fault: whoever
 * else has nothing to send gives no piece. Then the answer is cut, so that the client sees that it
 * is not whole. */

#include "mends.h"

#include "container_of.h"
#include "library.h"
#include "log.h"
#include "log_limit.h"
#include "reset.h"

bool shortened_file_is_sent(const h2o_iovec_t *pieces, size_t count, h2o_send_state_t state)
{
    return count == 1 && pieces->len == 0 && state == H2O_SEND_STATE_IN_PROGRESS;
}

void shortened_file_cut(h2o_req_t *req)
{
    static struct log_limit limit;
    h2o_generator_t *file = req->_generator;

    log_limited(&limit, LOG_LEVEL_WARN, "file-shortened",
                "the answer to %.*s %.*s is cut: its file has become shorter while it was sent",
                (int)(req->input.method.len < 32 ? req->input.method.len : 32),
                req->input.method.base,
                (int)(req->input.path.len < 256 ? req->input.path.len : 256), req->input.path.base);
    if (req->version >= 0x200) {
        reset_h2_stream(container_of(req, h2o_http2_stream_t, req), H2O_HTTP2_ERROR_INTERNAL);
    } else {
        file->stop(file, req); /* closes the file, which h2o_send() does not after an error */
        library.h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR); /* may free the request, and `file` */
    }
}

#include "mends.h"

#include "library.h"

/* A window that opens after the last DATA frame: one HTTP/2 client aborts the process.
 *
 * Fault: a stream whose last DATA was passed to the socket is in the state END_STREAM, and stays
 * linked in the list of streams that wait for that write. When a WINDOW_UPDATE or a SETTINGS frame
 * then raises its window from 0 or below to above 0, the library schedules the stream to send,
 * although it has nothing left to send, and an assertion finds it linked. A stream that was reset
 * while it waited for a write is in the same state. A client with a slow line does this by chance,
 * when a body is as long as its window.
 *
 * Upstream fixed it in 00977f672: a stream in the state END_STREAM is not scheduled.
 *
 * The mend: after END_STREAM no DATA is sent, so the window no longer matters.
 *
 *     WINDOW_UPDATE  for such a stream is skipped; RFC 9113 section 5.1 lets it arrive late.
 *     SETTINGS       the library adds to the windows of all streams right after it called
 *                    h2o_http2_update_peer_settings(). So before that the windows of such
 *                    streams are set so low that no addition opens them. A window
 *                    is 64 bits wide here and each change 32, and each SETTINGS sets it anew.
 *
 * Windows of all other streams stay exact.
 *
 * A window of more than 2^31-1 bytes is an error of the connection (RFC 9113 section 6.9.2). The
 * library does not change such a window, and says nothing. */

#define CLOSED_FOR_GOOD (-(INT64_C(1) << 40))

bool h2_window_update_is_late(h2o_http2_conn_t *h2, const struct h2_frame *frame)
{
    if (frame->stream_id == 0 || frame->length != 4)
        return false;
    const h2o_http2_stream_t *stream = h2o_http2_conn_get_stream(h2, frame->stream_id);
    return stream != NULL && stream->state == H2O_HTTP2_STREAM_STATE_END_STREAM;
}

int h2_window_settings(h2o_http2_settings_t *settings, uint32_t size_before, const char **err_desc)
{
    int64_t change = (int64_t)settings->initial_window_size - size_before;
    h2o_http2_conn_t *h2 =
        (h2o_http2_conn_t *)(void *)((char *)settings - offsetof(h2o_http2_conn_t, peer_settings));

    for (khiter_t at = 0; at != kh_end(h2->streams); at++) {
        if (!kh_exist(h2->streams, at))
            continue;
        h2o_http2_stream_t *stream = kh_val(h2->streams, at);
        if (stream->state == H2O_HTTP2_STREAM_STATE_END_STREAM)
            stream->output_window._avail = CLOSED_FOR_GOOD;
        if (stream->output_window._avail + change > INT32_MAX) {
            *err_desc = "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large";
            return H2O_HTTP2_ERROR_FLOW_CONTROL;
        }
    }
    return 0;
}

#ifndef LASTCALL_RESET_H
#define LASTCALL_RESET_H

#include "h2o_api.h"

/* Reset a stream of HTTP/2 that is no fault of the client's, with an error of the library's, such
 * as H2O_HTTP2_ERROR_CANCEL. Frees the stream at once, or later.     Thread: owner loop only. */
void reset_h2_stream(h2o_http2_stream_t *stream, int error);

#endif

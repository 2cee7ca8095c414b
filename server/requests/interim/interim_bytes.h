#ifndef LASTCALL_INTERIM_BYTES_H
#define LASTCALL_INTERIM_BYTES_H

/* How an interim answer (1xx) is written for HTTP/2. */

#include "h2o_api.h"

/* One HEADERS frame, which is the whole block and does not end the stream (RFC 9113 section 8.1).
 * All fields are literals without indexing (RFC 7541 section 6.2.2), so the frame is right whatever
 * the dynamic table holds, and does not change it. Fields that HTTP/2 does not allow are left out;
 * names are in lower case. The payload may be larger than the client's SETTINGS_MAX_FRAME_SIZE: the
 * caller looks.
 * Owner: the bytes are memory of `pool`.     Thread: any.     Blocks: never. */
h2o_iovec_t interim_to_http2(h2o_mem_pool_t *pool, uint32_t stream_id, int status,
                             const h2o_headers_t *fields);

#endif

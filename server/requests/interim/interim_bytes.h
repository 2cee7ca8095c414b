#ifndef LASTCALL_INTERIM_BYTES_H
#define LASTCALL_INTERIM_BYTES_H

/* How an interim answer (1xx) is written. The caller has chosen the fields; names are in lower
 * case, and HTTP/1.1 gets them as `orig_name` has them, if there is one. Owner: the bytes are
 * memory of `pool`.     Thread: any.     Blocks: never. */

#include "h2o_api.h"

/* For HTTP/1.1 (RFC 9112 section 4): the status line, the fields and the empty line. */
h2o_iovec_t interim_to_http1(h2o_mem_pool_t *pool, int status, h2o_iovec_t reason,
                             const h2o_headers_t *fields);

/* For HTTP/2: one HEADERS frame, which is the whole block and does not end the stream (RFC 9113
 * section 8.1). All fields are literals without indexing (RFC 7541 section 6.2.2), so the frame is
 * right whatever the dynamic table holds, and does not change it. Fields that HTTP/2 does not allow
 * are left out. The payload may be larger than the client's SETTINGS_MAX_FRAME_SIZE: the caller
 * looks. */
h2o_iovec_t interim_to_http2(h2o_mem_pool_t *pool, uint32_t stream_id, int status,
                             const h2o_headers_t *fields);

#endif

#ifndef LASTCALL_GIVEN_UP_H
#define LASTCALL_GIVEN_UP_H

/* What a limit or a deadline leaves unfinished. Thread: owner loop only. */

#include "h2o_api.h"

struct conn;
struct loop;

/* Name in the log, and count, what is unfinished on a connection that `limit` cuts; from now on
 * nothing waits for it. The caller cuts it. */
void given_up_conn(struct conn *conn, const char *limit);

/* Reset a stream of HTTP/2, and raise its handler's cancel flag. Frees the stream at once, or
 * later.
 */
void given_up_reset_stream(h2o_http2_stream_t *stream);

/* ---- the steps of given_up_conn(), for deadline_cut.c ---- */

void given_up_name_request(struct loop *loop, const h2o_req_t *req, const char *limit);

/* Take the connection and its requests out of the counts. */
void given_up_forget_conn(struct conn *conn);

#endif

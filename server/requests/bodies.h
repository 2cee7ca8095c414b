#ifndef LASTCALL_BODIES_H
#define LASTCALL_BODIES_H

/* Request bodies that arrive: how much memory they take. Thread: owner loop only. */

#include "h2o_api.h"

struct conn;
struct loop;

/* Something was read: count it, and refuse what is too much. The library may close `conn`'s socket
 * soon after, not in this call. */
void bodies_after_read(struct conn *conn);

/* Count anew; streams may have ended meanwhile. */
void bodies_look(struct loop *loop);

/* The library closes the connection. */
void bodies_end(struct conn *conn);

/* Answer an HTTP/1 request whose body is still arriving, stop reading, and close. */
void bodies_refuse(struct conn *conn, h2o_req_t *req, int status, const char *reason,
                   const char *text);

#endif

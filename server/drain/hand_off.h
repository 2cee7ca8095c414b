#ifndef LASTCALL_HAND_OFF_H
#define LASTCALL_HAND_OFF_H

/* Idle connections go on in the successor. Thread: owner loop only. */

#include <stdbool.h>

#include "h2o_api.h"

struct conn;
struct loop;

/* Hand idle connections to the successor. True: there are more, come again soon. */
bool hand_off_idle(struct loop *loop);

/* Will this one be handed over, now or soon? */
bool hand_off_wants(const struct conn *conn, h2o_req_t *req);

#endif

#ifndef LASTCALL_CLOSE_LISTENERS_H
#define LASTCALL_CLOSE_LISTENERS_H

/* The loops close the listeners, in three orders. Thread: owner loop only. */

struct loop;

/* ORDER_CLOSING. */
void close_listeners_begin(struct loop *loop);

/* ORDER_LEAVE_LISTENERS: accept no more; the closing loop goes on. */
void close_listeners_leave(struct loop *loop);

/* ORDER_CLOSE_LISTENERS: the others have left. Accept dry and close, unless the settle time goes
 * on; the closing loop only. */
void close_listeners_now(struct loop *loop);

/* Its timer will not run any more. */
void close_listeners_stop(struct loop *loop);

#endif

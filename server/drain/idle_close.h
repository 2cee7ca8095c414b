#ifndef LASTCALL_IDLE_CLOSE_H
#define LASTCALL_IDLE_CLOSE_H

/* How open connections end in a drain. Thread: owner loop only. */

struct loop;

/* Something on this loop ended or began while draining, or the drain itself did: look soon. */
void idle_close_look_soon(struct loop *loop);

/* Its timer will not run any more. */
void idle_close_stop(struct loop *loop);

#endif

#ifndef LASTCALL_MAKE_ROOM_H
#define LASTCALL_MAKE_ROOM_H

/* The connections that idle longest are closed for new ones. Thread: owner loop only. */

struct loop;

/* No connection can be accepted: close those that idle longest.
 * Blocks: for the server's mu. */
void make_room_ask(struct loop *loop);

/* ORDER_SHOW_IDLE, ORDER_MAKE_ROOM.     Blocks: for the server's mu. */
void make_room_show(struct loop *loop);
void make_room_do(struct loop *loop);

/* Its timer will not run any more. */
void make_room_stop(struct loop *loop);

#endif

#ifndef LASTCALL_GIVE_WAY_H
#define LASTCALL_GIVE_WAY_H

/* Is a loop so busy that it and the workers give way (pool_set_busy())? See give_way.c.
 * Thread: owner loop only. */

struct loop;

/* Another thread drives the loop now. */
void give_way_driven(struct loop *loop);

/* Look from time to time how busy the loop is. Once a turn. */
void give_way_look(struct loop *loop);

#endif

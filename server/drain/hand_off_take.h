#ifndef LASTCALL_HAND_OFF_TAKE_H
#define LASTCALL_HAND_OFF_TAKE_H

/* Taking the idle connections of the predecessor. Thread: owner loop only. */

#include <stdbool.h>

struct loop;

/* Take them, from now on.     Errors: 0; a negative errno. */
int hand_off_take_begin(struct loop *loop);

/* Stop taking. `dry`: let the predecessor send no more, and take those that it has sent. */
void hand_off_take_end(struct loop *loop, bool dry);

#endif

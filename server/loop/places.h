#ifndef LASTCALL_PLACES_H
#define LASTCALL_PLACES_H

/* How many connections are open, over all loops, and whether one more may be.
 * Thread: owner loop only, unless a line says otherwise. */

#include <stdbool.h>

struct loop;
struct server;

/* Take the place of a connection that is about to be accepted. False: there is none; the loop stops
 * accepting, and is ordered to resume when there is. */
bool places_take(struct loop *loop);

/* Take one for a connection that was open before this process had it: no limit turns it away. */
void places_take_anyway(struct loop *loop);

/* The connection has gone, or was not accepted. */
void places_give_back(struct loop *loop);

/* There is no place, and no listener closes. */
bool places_are_full(const struct loop *loop);

/* Are there `n` places?     Thread: any. */
bool places_has_room(const struct server *server, unsigned n);

#endif

#ifndef LASTCALL_RTT_H
#define LASTCALL_RTT_H

/* The longest round trip of a loop's peers. Thread: owner loop only. */

#include <stdbool.h>

struct loop;

/* Is it time to look at another peer? */
bool rtt_wants_sample(struct loop *loop);

/* Take the round trip of a connection into account. */
void rtt_note(struct loop *loop, int fd);

#endif

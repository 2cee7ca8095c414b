#ifndef LASTCALL_ACCEPT_H
#define LASTCALL_ACCEPT_H

/* Accepting connections. Thread: owner loop only. */

#include <stddef.h>

struct loop;
struct loop_listener;

enum accept_end { ACCEPT_MORE, ACCEPT_DRY, ACCEPT_STUCK };

/* Make the loop's socket for a listener; it accepts from accept_resume() on.
 * Errors: 0; a negative errno. */
int accept_open(struct loop *loop, size_t i);

/* Accept on all listeners, or again. */
void accept_resume(struct loop *loop);

/* A turn of the loop is over. */
void accept_end_turn(struct loop *loop);

/* Accept one connection. ACCEPT_STUCK: no place or no descriptor is left; what comes waits. */
enum accept_end accept_one(struct loop_listener *ll);

/* Close the loop's socket of a listener; the listener goes on. */
void accept_leave(struct loop_listener *ll);
void accept_leave_all(struct loop *loop);

/* Its timer will not run any more. */
void accept_stop(struct loop *loop);

#endif

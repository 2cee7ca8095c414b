#ifndef LASTCALL_LOOP_THREAD_H
#define LASTCALL_LOOP_THREAD_H

/* The life of a loop. Thread: main only. */

#include "loop.h"

/* Prepare a loop; it does not run yet.     Errors: 0; a negative errno. */
int loop_init(struct loop *loop, struct server *server, unsigned index);

/* Have its team in the pool drive it, and wait until it has made what it needs; the result of that
 * is in loop->start.error.     Errors: 0, it runs; a negative errno. */
int loop_start(struct loop *loop);

/* Free what it made. It has left its thread, and its jobs have ended, but the threads of its team
 * still exist: the library's buffers refer to their thread-local memory. First this for all loops,
 * then the configuration, whose proxies have timers on them, then loop_destroy() for all. */
void loop_release(struct loop *loop);
void loop_destroy(struct loop *loop);

#endif

#ifndef LASTCALL_TURNS_H
#define LASTCALL_TURNS_H

/* A route with a limit on the handlers that run at once. The requests beyond wait in the order in
 * which they came, and do not take a place in the pool's queue; so a route whose handlers are slow
 * leaves workers to the others. The limit is for all loops together. */

#include <stdbool.h>
#include <stdint.h>

struct job;
struct turns;

/* `most` handlers at once, `waiting_most` requests that wait. NULL: no memory.     Thread: any. */
struct turns *turns_create(unsigned most, uint64_t waiting_most);
/* NULL is allowed.     Thread: when no job is left. */
void turns_destroy(struct turns *turns);

enum turn { TURN_NOW, TURN_LATER, TURN_NEVER };

/* May the job be called? LATER: it will be submitted to the pool when it is its turn.
 * Thread: the job's loop.     Blocks: never. */
enum turn turns_enter(struct turns *turns, struct job *job);

/* The job waits no more. False: it does not wait.     Thread: the job's loop. */
bool turns_forget(struct turns *turns, struct job *job);

/* A job that could be called has come to its end: the next one's turn. That one is queued whether
 * or not the pool's queue is full. After pool_close() all that wait are told that they will not be
 * called.     Thread: any.     Blocks: as pool_submit(). */
void turns_leave(struct turns *turns);

#endif

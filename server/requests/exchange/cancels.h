#ifndef LASTCALL_CANCELS_H
#define LASTCALL_CANCELS_H

/* The functions that handlers have asked to be called when their request is cancelled
 * (exchange_ops.on_cancel). They may block, as PQcancel(3) does, so a thread of its own calls them,
 * one after the other; it starts with the first request that asks for it. */

struct cancels;
struct job;

/* NULL: no memory.     Thread: any. */
struct cancels *cancels_create(void);

/* NULL is allowed.     Thread: main only, when no job is left.     Blocks: while a function runs.
 */
void cancels_destroy(struct cancels *cancels);

/* Have the job's function called, if it has one.     Thread: owner loop only. */
void cancels_call(struct cancels *cancels, struct job *job);

#endif

#ifndef LASTCALL_KEPT_H
#define LASTCALL_KEPT_H

/* Requests whose handlers have returned without an answer (exchange_ops.keep). Each has a slot in a
 * table, and a token that names slot and generation: a slot that is used again has another
 * generation, so an old token finds nothing.
 *
 *     HANDLER --its handler returns--> FREE --exchange_hold()--> TAKEN --exchange_finish()--> done
 *                                       ^                          |
 *                                       +----- exchange_let_go() --+
 *
 * Kept note. One mutex guards slots and states. What a loop has to say to a request that is FREE it
 * says at once, by the function of exchange_on_kept(), after it has left the mutex; to others it
 * leaves a note, and who lets go of it has the loop look again. So nothing is missed, and a
 * function that is called may hold the request. When the request itself is gone, the loop takes a
 * FREE one out of the table, in one step under the mutex: who holds it is never surprised. */

#include <stdbool.h>
#include <stdint.h>

struct job;
struct kept;

/* NULL: no memory.     Thread: any. */
struct kept *kept_create(void);
/* No request is held. NULL is allowed.     Thread: main only, after kept_close(). */
void kept_destroy(struct kept *kept);

/* From now on no token is valid; wait until nobody holds a request, or until CLOCK_MONOTONIC reads
 * `deadline_ns`.     Thread: main only.     Errors: 0; -EBUSY: a thread still holds one. */
int kept_close(struct kept *kept, uint64_t deadline_ns);

/* ---- for the files about jobs ---- */

enum kept_note {
    KEPT_NOTE_CANCELLED = 1 << 0,
    KEPT_NOTE_DRAINING = 1 << 1,
    KEPT_NOTE_ROOM = 1 << 2, /* in its stream, after AGAIN */
    KEPT_NOTE_GONE = 1 << 3, /* the loop would like to free it */
};

/* Its handler has returned.     Thread: the handler's; the last use of the job but for done(). */
void kept_release(struct job *job);
/* Tell who is responsible, or leave the notes.     Thread: owner loop only. */
void kept_tell(struct job *job, unsigned notes);
/* The same with the notes that were left.     Thread: owner loop only. */
void kept_tell_left(struct job *job);
/* Take a FREE one out of the table. False: a thread has it, and the loop is told when it lets go.
 * Thread: owner loop only. */
bool kept_reclaim(struct job *job);

#endif

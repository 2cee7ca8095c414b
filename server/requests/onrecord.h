#ifndef LASTCALL_ONRECORD_H
#define LASTCALL_ONRECORD_H

/* Requests in the in-flight record (journal.h). Thread: owner loop only. */

struct inflight;
struct journal_slot;
struct loop;

/* A request has passed the gate: put it on record, if its route is recorded. */
void onrecord_begin(struct inflight *inflight);

/* The same for a route whose requests are all recorded, if there is a record at all. */
void onrecord_begin_anyway(struct inflight *inflight);

/* It is over: answered, or its client has left and no handler runs for it. */
void onrecord_end(struct loop *loop, struct journal_slot *slot);

/* The loop is frozen, and answers no more; the slots are the archive's from now on. Their states
 * are settled, see job_settle_states(). */
void onrecord_freeze(struct loop *loop);

#endif

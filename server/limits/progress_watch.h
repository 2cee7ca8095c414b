#ifndef LASTCALL_PROGRESS_WATCH_H
#define LASTCALL_PROGRESS_WATCH_H

/* Progress: what both protocols need; see progress.c. Thread: owner loop only. */

#include <stdbool.h>
#include <stdint.h>

#include "conn.h"
#include "loop_metrics.h"

/* Note that `position` bytes have been moved so far. True: in a whole window there were less than
 * the least. */
bool progress_is_late(const struct loop *loop, struct progress_watch *watch, uint64_t position,
                      uint64_t now_ns);

/* How much of what was written the peer's kernel has. False: that is not known. */
bool progress_acked(struct conn *conn, uint64_t *ret_bytes);

/* Count and log that a client is cut. The caller cuts it. */
void progress_note(struct conn *conn, enum cut_reason reason, uint64_t bytes, uint64_t age_ns);

/* The same, and close its socket; with a reset if half an answer was sent. */
void progress_cut(struct conn *conn, enum cut_reason reason, uint64_t bytes, uint64_t age_ns,
                  bool half_sent);

#endif

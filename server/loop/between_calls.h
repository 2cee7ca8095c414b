#ifndef LASTCALL_BETWEEN_CALLS_H
#define LASTCALL_BETWEEN_CALLS_H

/* What one call of libh2o's leaves for the next, where the library has no argument for it. See the
 * files of mends/ that are named.
 *
 * It belongs to the loop, and not to a thread: in between, a handler may be called, and after that
 * the loop may be driven by another thread. */

#include "h2o_api.h"
#include "ticks.h"

struct conn;

struct opened_file {
    uint64_t bytes;
    time_t modified;
    bool is_unpacked;
    bool is_new;                  /* no field was looked for since */
    const h2o_headers_t *headers; /* of the request for it; compared, never followed */
    char missing[64];             /* the last path that could not be opened: its end */
    size_t missing_bytes;         /* all of it */
};

struct between_calls {
    struct conn *parsing;             /* strict_requests.c: whose input the library parses */
    struct turn_time time;            /* timers.c; loop_now_ns() */
    struct opened_file opened;        /* ranges.c: the last one */
    h2o_compress_context_t *unpacker; /* gunzip.c: that of the next h2o_send(); NULL: none */
};

/* Of the loop that this thread drives; a thread without a loop (the admin thread) has its own.
 * Thread: any. */
struct between_calls *between_calls(void);

/* From now on this thread drives the loop that `state` belongs to; NULL: none.
 * Thread: any; it sets its own. */
void between_calls_use(struct between_calls *state);

#endif

#ifndef LASTCALL_REPLAY_RULES_H
#define LASTCALL_REPLAY_RULES_H

/* Which requests a replay sends, what an answer means, and how long to wait after a failure. No
 * I/O.     Thread: any, for all of these. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dispositions.h"
#include "unfinished.h"

#define REPLAY_ONLY_MAX 32

struct replay_filter {
    const char *only[REPLAY_ONLY_MAX]; /* METHOD, a glob for the path, reason:X, class:X */
    size_t only_count;
    bool include_may_have_run;
    bool include_parked; /* requests that were parked before */
    bool include_queued; /* requests that are in a stream already */
    uint64_t max_age_ms; /* 0: any */
};

/* Why a request is skipped. */
#define REPLAY_VERDICTS(X)                                                                         \
    X(SEND, NULL)                                                                                  \
    X(SETTLED, "already settled")                                                                  \
    X(PARKED, "parked before (--include-parked sends them again)")                                 \
    X(QUEUED, "queued in a Redis stream (replay that stream, or --include-queued)")                \
    X(NOT_ASKED_FOR, "excluded by --only")                                                         \
    X(MAY_HAVE_RUN, "may have run (--include-may-have-run sends them)")                            \
    X(TOO_OLD, "older than --max-age")                                                             \
    X(TWICE, "duplicate in the archive")

#define X(id, text) REPLAY_##id,
enum replay_verdict { REPLAY_VERDICTS(X) REPLAY_VERDICT_COUNT };
#undef X

/* NULL for REPLAY_SEND. */
const char *replay_verdict_text(enum replay_verdict verdict);

/* Is `text` a valid value of --only? Returns NULL, or the expected form. */
const char *replay_check_only(const char *text);

/* `disposition` NULL: the request has no outcome yet. */
enum replay_verdict replay_judge_request(const struct replay_filter *filter,
                                         const struct unfinished *request,
                                         const struct disposition *disposition, uint64_t now_ms);

/* Why the request cannot be sent as it was received; NULL: it can. */
const char *replay_cannot_send(const struct unfinished *request);

/* The outcome of a request whose answer has this status; 0: no answer. */
enum disposition_outcome replay_judge_answer(int status);

/* How long to wait after failure number `tries` (from 1); `chance` in [0, 1) spreads the waits. */
uint64_t replay_backoff_ns(unsigned tries, double chance);

/* Is the header left out: hop-by-hop, redacted, or written by the replay itself? */
bool replay_drops_header(const struct unfinished *request, const struct unfinished_header *header);

#endif

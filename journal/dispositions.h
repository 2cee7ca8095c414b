#ifndef LASTCALL_DISPOSITIONS_H
#define LASTCALL_DISPOSITIONS_H

/* The decisions about the requests of one archive file: FILE.done, one JSON object per decision, to
 * which lines are only appended. docs/archive.md describes the lines.
 *
 * A writer holds FILE.lock meanwhile. So if two processes want to send or queue the same requests,
 * the second one learns which process is the first. The kernel releases the lock when the writer
 * exits. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unfinished.h"

#define DISPOSITION_OUTCOMES(X)                                                                    \
    X(NONE, "open")                                                                                \
    X(SETTLED, "settled")                                                                          \
    X(PARKED, "parked")                                                                            \
    X(FAILED, "failed")                                                                            \
    X(QUEUED, "queued")

#define X(id, name) DISPOSITION_##id,
enum disposition_outcome { DISPOSITION_OUTCOMES(X) DISPOSITION_OUTCOME_COUNT };
#undef X

/* Thread: any. */
const char *disposition_outcome_name(enum disposition_outcome outcome);

#define DISPOSITION_ANSWER_SIZE 1025 /* the size of the kept beginning of an answer */

struct disposition {
    char id[UNFINISHED_ID_SIZE];
    enum disposition_outcome outcome;
    int status;             /* the answer's status; 0: no answer */
    unsigned attempt;       /* 1 is the first; 0: it was not sent */
    uint64_t at_ms;         /* wall clock, since 1970 */
    uint64_t not_before_ms; /* failed: do not retry before; 0: not given */
    const char *answer; /* the answer's beginning, or the error; queued: the stream. May be NULL. */
};

struct dispositions;

#define DISPOSITIONS_ERROR_SIZE 320

/* Read the dispositions of the archive file `path`; to write, also take its lock. On failure
 * `error` holds one line that names the file and the remedy.
 * Owner:  the caller; ends with dispositions_close().     Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_dispositions; -EBUSY another process writes; another negative errno. */
int dispositions_open(const char *path, bool to_write, struct dispositions **ret_marks,
                      char error[DISPOSITIONS_ERROR_SIZE]);

/* The latest decision about this request; NULL: none.
 * Owner:  the dispositions'; valid until the next dispositions_add().
 * Thread: the dispositions' owner. */
const struct disposition *dispositions_find(const struct dispositions *dispositions,
                                            const char *id);

/* Add a decision; dispositions_flush() makes it count. Texts are copied.
 * Thread: the dispositions' owner.     Errors: 0; -ENOMEM. */
int dispositions_add(struct dispositions *dispositions, const struct disposition *disposition);

/* Flush all that was added to the disk (fdatasync(2)). If that fails, the lines are removed from
 * the file again, and the next call writes them.
 * Thread: the dispositions' owner.     Blocks: on the disk.     Errors: 0; a negative errno. */
int dispositions_flush(struct dispositions *dispositions);

/* How many lines of the file are not decisions, and where the first one is.
 * Thread: the dispositions' owner. */
size_t dispositions_garbage(const struct dispositions *dispositions, uint64_t *ret_first_offset);

/* NULL is allowed. What was not flushed is lost.     Thread: the dispositions' owner. */
void dispositions_close(struct dispositions *dispositions);

#endif

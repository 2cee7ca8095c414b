#ifndef LASTCALL_MARKS_H
#define LASTCALL_MARKS_H

/* What became of the requests of one archive file: FILE.done, one JSON object a decision, which is
 * only ever appended to. docs/archive.md has the lines.
 *
 * Whoever writes holds FILE.lock for as long: so of two who would send the same requests again, or
 * queue them, the second learns who the first is. A writer that is killed holds nothing. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unfinished.h"

#define MARK_OUTCOMES(X)                                                                           \
    X(NONE, "open")                                                                                \
    X(SETTLED, "settled")                                                                          \
    X(PARKED, "parked")                                                                            \
    X(FAILED, "failed")                                                                            \
    X(QUEUED, "queued")

#define X(id, name) MARK_##id,
enum mark_outcome { MARK_OUTCOMES(X) MARK_OUTCOME_COUNT };
#undef X

/* Thread: any. */
const char *mark_outcome_name(enum mark_outcome outcome);

#define MARK_ANSWER_SIZE 1025 /* of the beginning of an answer that is kept */

struct mark {
    char id[UNFINISHED_ID_SIZE];
    enum mark_outcome outcome;
    int status;             /* of the answer; 0: there was none */
    unsigned attempt;       /* 1 is the first; 0: it was not sent */
    uint64_t at_ms;         /* wall clock, since 1970 */
    uint64_t not_before_ms; /* failed: the next attempt should wait until then; 0: not said */
    const char *answer; /* its beginning, or what went wrong; queued: the stream. May be NULL. */
};

struct marks;

#define MARKS_ERROR_SIZE 320

/* The marks of the archive file `path`; to write, hold its lock, too. On failure `error` holds one
 * line that names the file and the way out.
 * Owner:  the caller; ends with marks_close().     Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_marks; -EBUSY another process writes; another negative errno. */
int marks_open(const char *path, bool to_write, struct marks **ret_marks,
               char error[MARKS_ERROR_SIZE]);

/* What holds for this request now; NULL: nothing was decided.
 * Owner:  the marks'; valid until the next marks_add().     Thread: the marks' owner. */
const struct mark *marks_find(const struct marks *marks, const char *id);

/* Note a decision, which counts from marks_flush() on. Texts are copied.
 * Thread: the marks' owner.     Errors: 0; -ENOMEM. */
int marks_add(struct marks *marks, const struct mark *mark);

/* Have all that was added on the disk (fdatasync(2)). What could not be written is taken back from
 * the file, and stays to be written by the next call.
 * Thread: the marks' owner.     Blocks: on the disk.     Errors: 0; a negative errno. */
int marks_flush(struct marks *marks);

/* How many lines of the file were no decisions, and where the first one is.
 * Thread: the marks' owner. */
size_t marks_garbage(const struct marks *marks, uint64_t *ret_first_offset);

/* NULL is allowed. What was not flushed is gone.     Thread: the marks' owner. */
void marks_close(struct marks *marks);

/* The wall clock in milliseconds since 1970.     Thread: any. */
uint64_t marks_now_ms(void);

#endif

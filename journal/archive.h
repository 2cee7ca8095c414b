#ifndef LASTCALL_ARCHIVE_H
#define LASTCALL_ARCHIVE_H

/* Moves requests from an in-flight record to `DIR/unfinished-YYYYMMDD.ndjson`. docs/archive.md
 * describes the line, archive_reader.h reads it.
 *
 * Move note. The order is: append the lines, flush them to the disk, then free the slots. Wherever
 * a move is cut short, each request is in the record, or in the archive, or in both:
 *
 *     while appending     the file may end in a part of a line: the next move removes that part
 *     before the flush    the lines may be in the file or not
 *     before the freeing  the lines are in the file, and the slots are in the record
 *
 * So the next move of the same record (`may_be_there`) first looks for the ids of its requests in
 * the day files, and writes no line twice. Every write in the folder happens under its lock, which
 * the kernel releases when its holder exits.
 *
 * Why not a new file and rename(2): a day's file may be large when the deadline is 500 ms away, and
 * two servers may share it. */

#include "record.h"

struct archive_move {
    const char *dir;
    void *bytes; /* the record: a shared mapping; the slots are freed in place */
    size_t size;
    const bool *skip; /* partitions to skip, by index; NULL: none */
    enum unfinished_reason reason;
    uint64_t until_ns; /* CLOCK_MONOTONIC; CLOCK_NEVER: no limit */
    bool may_be_there; /* an earlier move may have been cut short */
    void (*on_bad)(
        void *arg,
        const struct record_item *item); /* called for each torn or damaged slot; may be NULL */
    void *arg;
};

struct archive_moved {
    uint64_t count;   /* lines written */
    uint64_t doubles; /* requests that the archive had already */
    uint64_t left;    /* requests still in the record, for lack of time or room */
    uint64_t torn, damaged;
    uint64_t from, to; /* the offsets of the lines in the file */
    char path[4096];   /* the file; "": nothing to write */
};

/* The caller holds the folder's lock.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0; -ETIMEDOUT, not all in time; -EBADMSG, not a record; another negative errno: the disk.
 *         After any of them, what is not in the archive is still in the record. */
int archive_move(const struct archive_move *move, struct archive_moved *ret_moved);

/* Take the folder's lock, `DIR/archive.lock`.
 * Owner:  the caller; ends with close(2) of *ret_fd, or with the process.     Thread: any.
 * Blocks: until CLOCK_MONOTONIC reads `until_ns`.     Errors: 0; -ETIMEDOUT; another. */
int archive_lock(const char *dir, uint64_t until_ns, int *ret_fd);

/* Lock the whole file for its open file description. The kernel releases the lock when the holder
 * exits.     Thread: any.     Errors: 0; -EAGAIN, another process has it; another negative errno.
 */
int archive_try_lock(int fd);

#endif

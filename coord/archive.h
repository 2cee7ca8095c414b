#ifndef LASTCALL_ARCHIVE_H
#define LASTCALL_ARCHIVE_H

/* Moves requests from an in-flight record to `DIR/unfinished-YYYYMMDD.ndjson`. docs/archive.md has
 * the line, archive_reader.h reads it.
 *
 * Move note. The order is: append the lines, flush them to the disk, then free the slots. Wherever
 * a move is cut short, each request is in the record, or in the archive, or in both:
 *
 *     while appending     the file may end in a part of a line: the next move takes that away
 *     before the flush    lines may be there or not
 *     before the freeing  lines are there, slots are, too
 *
 * so the next move of the same record (`may_be_there`) looks for the ids of its requests in the day
 * files first, and writes no line twice. All that is written in the folder is written under its
 * lock, which ends with its holder.
 *
 * Why not a new file and rename(2): a day's file may be large when the deadline is 500 ms away, and
 * two servers may share it. */

#include "record.h"

struct archive_move {
    const char *dir;
    void *bytes; /* of the record: a shared mapping, its slots are freed in place */
    size_t size;
    const bool *skip; /* partitions to leave alone, by index; NULL: none */
    enum unfinished_reason reason;
    uint64_t until_ns; /* CLOCK_MONOTONIC; CLOCK_NEVER: however long it takes */
    bool may_be_there; /* an earlier move may have been cut short */
    void (*on_bad)(void *arg,
                   const struct record_item *item); /* torn or damaged; NULL: nobody asks */
    void *arg;
};

struct archive_moved {
    uint64_t count;   /* lines written */
    uint64_t doubles; /* were there already */
    uint64_t left;    /* still in the record: no time, no room */
    uint64_t torn, damaged;
    uint64_t from, to; /* where the lines are in the file */
    char path[4096];   /* of the file; "": there was nothing to write */
};

/* The caller holds the folder's lock.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0; -ETIMEDOUT, not all in time; -EBADMSG, it is no record; another negative errno: the
 *         disk. In all of them what is not in the archive is still in the record. */
int archive_move(const struct archive_move *move, struct archive_moved *ret_moved);

/* Take the folder's lock, `DIR/archive.lock`.
 * Owner:  the caller; ends with close(2) of *ret_fd, or with the process.     Thread: any.
 * Blocks: until CLOCK_MONOTONIC reads `until_ns`.     Errors: 0; -ETIMEDOUT; another. */
int archive_lock(const char *dir, uint64_t until_ns, int *ret_fd);

/* An open file description's lock on the whole file: as good as its holder's life.
 * Thread: any.     Errors: 0; -EAGAIN, somebody else has it; another negative errno. */
int archive_try_lock(int fd);

#endif

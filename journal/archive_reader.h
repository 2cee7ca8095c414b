#ifndef LASTCALL_ARCHIVE_READER_H
#define LASTCALL_ARCHIVE_READER_H

/* Reads the archive line by line: one file, or all `unfinished-YYYYMMDD.ndjson` of a folder, oldest
 * day first. The reader also returns lines that are not requests, with their place, so that the
 * caller can report them and go on.
 *
 * A server may be writing to the last file: a last line without its newline is returned only if it
 * is whole. */

#include "unfinished.h"

struct archive_reader;

struct archive_item {
    const char *path; /* the file; borrowed until the next call */
    uint64_t offset;  /* the offset of the line in it */
    const char
        *line; /* unchanged, with a NUL instead of the newline; borrowed until the next call */
    size_t len;
    struct unfinished
        request; /* owned by the reader; valid until the next call; zeroed if garbage */
    char why[UNFINISHED_WHY_SIZE]; /* "": a request; else why it is not */
};

/* `path` is a file or a folder.
 * Owner:  the caller; ends with archive_reader_close().     Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_reader; a negative errno. A folder without such files has no items. */
int archive_reader_open(const char *path, struct archive_reader **ret_reader);

/* The next line.
 * Thread: the reader's owner.     Blocks: on the disk.
 * Errors: 1 and *ret_item, also for garbage: see item->why; 0 at the end; a negative errno. */
int archive_reader_next(struct archive_reader *reader, struct archive_item *ret_item);

/* NULL is allowed.     Thread: the reader's owner. */
void archive_reader_close(struct archive_reader *reader);

/* Is `name`, without a folder, one of `unfinished-YYYYMMDD.ndjson`?     Thread: any. */
bool archive_is_day_file(const char *name);

#endif

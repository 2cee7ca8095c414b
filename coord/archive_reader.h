#ifndef LASTCALL_ARCHIVE_READER_H
#define LASTCALL_ARCHIVE_READER_H

/* Reads what the archive holds, line by line: one file, or all `unfinished-YYYYMMDD.ndjson` of a
 * folder, oldest day first. What is no request is handed out too, by its place, so that whoever
 * reads can name it and go on; nothing is skipped in silence.
 *
 * A server may be writing to the last file: a last line without its newline is not handed out,
 * unless it is whole all the same. */

#include "unfinished.h"

struct archive_reader;

struct archive_item {
    const char *path; /* of the file; borrowed until the next call */
    uint64_t offset;  /* where the line begins in it */
    const char
        *line; /* as it stands, a NUL in place of the newline; borrowed until the next call */
    size_t len;
    struct unfinished request;     /* the reader's; valid until the next call; zeroed if garbage */
    char why[UNFINISHED_WHY_SIZE]; /* "": it is a request; else why it is none */
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

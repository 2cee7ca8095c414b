#ifndef LASTCALL_RECORD_H
#define LASTCALL_RECORD_H

/* Reads an in-flight record, whole or not: what is good in it is handed out, what is not is named
 * with its offset. It trusts nothing in the bytes. */

#include "journal_format.h"
#include "unfinished.h"

struct record {
    const uint8_t *bytes; /* aligned to 8, as mmap(2) and malloc(3) do */
    size_t size;
    struct journal_header header;
    uint32_t units; /* of all partitions, as far as the bytes go */
};

enum record_kind {
    RECORD_REQUEST,
    RECORD_TORN,    /* its writer was killed while it wrote */
    RECORD_DAMAGED, /* fails its checksum, or what is in it can not be */
};

struct record_item {
    enum record_kind kind;
    uint64_t offset;           /* of the head, in the file */
    uint32_t unit;             /* its index */
    struct unfinished request; /* the caller's, see unfinished_release(); zeroed if there is none */
    char why[UNFINISHED_WHY_SIZE];
};

/* Look at the header.
 * Owner:  the bytes are borrowed for as long as the record.     Thread: any.
 * Errors: 0 and *ret_record; -EBADMSG it is no record, or not one of ours: `why` says so, in room
 *         for UNFINISHED_WHY_SIZE bytes. */
int record_open(const void *bytes, size_t size, struct record *ret_record, char *why);

/* The next head from unit *index on, which begins at 0 and is moved behind it. Of the request, what
 * the record does not know is left zeroed: reason, class, archived_ms, age_ms.
 * Thread: any that may read the bytes.
 * Errors: 1 and *ret_item; 0 at the end; -ENOMEM. */
int record_next(const struct record *record, uint32_t *index, struct record_item *ret_item);

#endif

#ifndef LASTCALL_RECORD_H
#define LASTCALL_RECORD_H

/* Reads an in-flight record, even a damaged one: it returns the good requests, and the offsets of
 * bad slots. It trusts no byte. */

#include "journal_format.h"
#include "unfinished.h"

struct record {
    const uint8_t *bytes; /* aligned to 8, as by mmap(2) and malloc(3) */
    size_t size;
    struct journal_header header;
    uint32_t units; /* of all partitions, as far as the file has them */
};

enum record_kind {
    RECORD_REQUEST,
    RECORD_TORN,    /* its writer was killed while writing it */
    RECORD_DAMAGED, /* it fails its checksum, or has invalid content */
};

struct record_item {
    enum record_kind kind;
    uint64_t offset; /* of the head, in the file */
    uint32_t unit;   /* its index */
    struct unfinished
        request; /* owned by the caller, see unfinished_release(); zeroed if there is no request */
    char why[UNFINISHED_WHY_SIZE];
};

/* Check the header.
 * Owner:  the bytes are borrowed for as long as the record.     Thread: any.
 * Errors: 0 and *ret_record; -EBADMSG not a record of this program, and `why` says so, with room
 *         for
 *         UNFINISHED_WHY_SIZE bytes. */
int record_open(const void *bytes, size_t size, struct record *ret_record, char *why);

/* Find the next head from unit *index on. *index is 0 at first, and is moved past the head. Fields
 * that the record does not have are zero: reason, class, archived_ms, age_ms.
 * Thread: any that may read the bytes.
 * Errors: 1 and *ret_item; 0 at the end; -ENOMEM. */
int record_next(const struct record *record, uint32_t *index, struct record_item *ret_item);

/* Is `name`, without a folder, `inflight.PID` or `inflight.PID.N`? With a `.new` at the end the
 * record was never finished.     Thread: any. */
bool record_is_name(const char *name, bool *ret_is_new);

#endif

#ifndef LASTCALL_JOURNAL_FORMAT_H
#define LASTCALL_JOURNAL_FORMAT_H

/* The in-flight record on the disk, `DIR/inflight.PID`. journal.c writes it, record.c reads it;
 * docs/journal.md describes it for users.
 *
 *     page 0            struct journal_header, written once
 *     partition 0       `units` units of 4 KiB, written by loop 0 only
 *     partition 1       ...
 *
 * A request takes one unit, its head, and as many continuations as its bytes need:
 *
 *     head --next--> continuation --next--> continuation --next--> JOURNAL_NO_UNIT
 *
 * The payloads, one after the other, are a struct journal_entry and what it counts: method,
 * authority, path; each header as a struct journal_field, its name and its value; the body.
 *
 * Numbers are in the byte order of the machine; a file with another byte order is refused.
 *
 * Commit note. `commit` of a head is the only word that decides what the unit is:
 *
 *     JOURNAL_FREE      free; the rest of the unit is left over from an earlier request
 *     JOURNAL_WRITING   a request is being written: if the process ends here, the slot is torn
 *     anything else     the checksum of the head; each continuation has its own, in `check`
 *
 * The writer stores JOURNAL_WRITING, then the data, then the checksum. A signal that kills a thread
 * stops it between two instructions: all stores before that point are done, none after it, and a
 * MAP_SHARED page is in the page cache, which survives the process. So reordering by the processor
 * does not matter here, and release stores and signal fences keep the compiler from reordering.
 * (After a loss of power it does matter: pages reach the disk in any order, and the checksums find
 * that out.)
 *
 * Freeing is one store of JOURNAL_FREE to the head. A continuation has JOURNAL_FREE as its own
 * `commit`, so that only a head's chain leads to it. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_MAGIC "LCRECORD"
#define JOURNAL_VERSION 1
#define JOURNAL_BYTE_ORDER UINT32_C(0x01020304)
#define JOURNAL_HEADER_BYTES 4096
#define JOURNAL_UNIT_BYTES 4096
#define JOURNAL_PARTITIONS_MAX 256
#define JOURNAL_UNITS_MAX (UINT32_C(1) << 24) /* of all partitions: 64 GiB */

#define JOURNAL_NO_UNIT UINT32_MAX
#define JOURNAL_FREE UINT64_C(0)
#define JOURNAL_WRITING UINT64_C(1)

struct journal_header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint32_t header_bytes;
    uint32_t unit_bytes;
    uint32_t partitions;
    uint32_t units; /* in each partition */
    uint64_t file_bytes;
    uint64_t pid;
    uint64_t started_ms; /* wall clock, since 1970 */
    char boot_id[40];
    char server[48];
    char key_id[24];   /* the id of the key of the redacted values */
    uint64_t checksum; /* XXH3 of all fields above */
};

/* The state of a request. The values differ in many bits, so a flipped bit does not make another
 * one. One aligned store writes it, outside of the checksum; a reader treats an unknown value as
 * RUNNING. */
#define JOURNAL_QUEUED UINT32_C(0x75657551)
#define JOURNAL_RUNNING UINT32_C(0x4e4e5552)
#define JOURNAL_RESPONDING UINT32_C(0x9a8ab1ac)

struct journal_unit {
    _Atomic uint64_t commit; /* see commit note */
    _Atomic uint32_t state;  /* the request's state; of a head */
    uint32_t unused;
    uint64_t check; /* its checksum; of a continuation */
    /* the checksum begins here, and ends with the last byte of the payload */
    uint64_t serial; /* of the request, the same in all its units */
    uint32_t self;   /* the index of this unit in the file */
    uint32_t next;   /* the index of the next one in the file, or JOURNAL_NO_UNIT */
    uint32_t part;   /* 0: the head, 1, ... */
    uint32_t bytes;  /* of the payload */
    uint8_t payload[JOURNAL_UNIT_BYTES - 48];
};
#define JOURNAL_PAYLOAD_BYTES (JOURNAL_UNIT_BYTES - 48)
#define JOURNAL_SUMMED_FROM offsetof(struct journal_unit, serial)
#define JOURNAL_SUMMED_BYTES(payload_bytes)                                                        \
    (offsetof(struct journal_unit, payload) - JOURNAL_SUMMED_FROM + (payload_bytes))

_Static_assert(sizeof(struct journal_unit) == JOURNAL_UNIT_BYTES, "a unit is a page");
_Static_assert(sizeof(struct journal_header) <= JOURNAL_HEADER_BYTES, "the header fits its page");

enum journal_peer { JOURNAL_PEER_UNKNOWN, JOURNAL_PEER_UNIX, JOURNAL_PEER_IN, JOURNAL_PEER_IN6 };

struct journal_entry {
    uint8_t id[16];
    uint64_t began_ms; /* wall clock, since 1970 */
    uint64_t body_bytes;
    uint8_t sha256[32]; /* of a body that was not recorded; else zeros */
    uint32_t gap;       /* enum unfinished_gap; not 0: no body was recorded */
    uint32_t method_bytes;
    uint32_t authority_bytes;
    uint32_t path_bytes;
    uint32_t header_count;
    uint8_t is_https;
    uint8_t peer_family; /* enum journal_peer */
    uint16_t peer_port;
    uint8_t peer_address[16]; /* 4 bytes of IPv4, or 16 of IPv6 */
};

#define JOURNAL_FIELD_REDACTED UINT32_C(0x80000000)

struct journal_field {
    uint32_t name_bytes;
    uint32_t value_bytes; /* | JOURNAL_FIELD_REDACTED */
};

#endif

#ifndef LASTCALL_JOURNAL_P_H
#define LASTCALL_JOURNAL_P_H

/* What journal.c (a request's slot) and journal_dir.c (the folder and the file) share. */

#include <stdatomic.h>

#include <openssl/evp.h>

#include "journal.h"
#include "journal_format.h"

#define JOURNAL_WORDS_MAX 64 /* in each of the lists */

/* A list of texts with commas, taken apart. */
struct journal_words {
    char *memory;
    struct unfinished_text items[JOURNAL_WORDS_MAX];
    size_t count;
};

struct journal_part {
    /* immutable after journal_open */
    struct journal *journal;
    struct journal_unit *units;
    uint32_t first; /* index in the file of units[0] */
    uint32_t unit_count;
    uint32_t reserve; /* the last free units are for heads without a body */
    uint8_t index;

    /* owner loop */
    uint32_t *free; /* a stack: what was used last is in the cache, and is used next */
    uint32_t free_count;
    uint64_t serial;
    EVP_MAC_CTX *mac; /* keyed; NULL: nothing is redacted */
    /* the slot that is being written */
    struct journal_request request;
    struct journal_entry entry;
    struct journal_unit *head, *tail;
    size_t header_bytes;
    enum unfinished_gap gap;

    /* atomic: written by the owner, read by any, relaxed */
    _Atomic uint64_t units_used, slots_used, recorded, incomplete, unrecorded;
    /* atomic: release by the owner in journal_freeze, acquire in journal_archive: whoever sees it
     * sees all that the loop wrote */
    _Atomic bool frozen;
} __attribute__((aligned(64)));

struct journal {
    /* immutable after journal_open */
    struct journal_words methods, paths, redact;
    bool every_method, every_path, has_patterns;
    uint64_t max_body;
    enum journal_sync sync;
    int64_t wall_minus_mono_ms;
    uint8_t id_salt[4];
    char *dir;
    char *path; /* of our file */
    int fd;     /* holds the lock */
    uint8_t *map;
    size_t map_bytes;
    size_t page_bytes; /* of memory */
    struct journal_part *parts;
    unsigned part_count;
    /* atomic: written by the main thread, read by any, relaxed */
    _Atomic uint64_t archived, torn, damaged;
};

#endif

#ifndef LASTCALL_JOURNAL_P_H
#define LASTCALL_JOURNAL_P_H

/* What the files of the journal share: journal.c (a request's slot), journal_dir.c (the folder, the
 * life of a journal), journal_lists.c, journal_key.c, journal_make.c (the file), journal_archive.c
 * (the move at the deadline) and journal_recover.c (what dead owners left). */

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/evp.h>

#include "journal.h"
#include "journal_format.h"

#define JOURNAL_WORDS_MAX 64 /* in each of the lists */

/* A list of texts with commas between them, split. */
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
    pthread_t owner; /* the thread of the first journal_begin() */
    bool has_owner;
    uint32_t *free; /* a stack: the unit that was used last is in the cache, and is used next */
    uint32_t free_count;
    uint64_t serial;
    EVP_MAC_CTX *mac; /* with its key; NULL: nothing is redacted */
    /* the slot that is being written */
    struct journal_request request;
    struct journal_entry entry;
    struct journal_unit *head, *tail; /* NULL: none */
    size_t header_bytes;
    enum unfinished_gap gap;

    /* atomic: written by the owner, read by any thread, relaxed. No unit from `top` on was ever
     * taken: to read those too would load their pages, at the deadline. */
    _Atomic uint32_t top;
    _Atomic uint64_t units_used, slots_used, recorded, incomplete, unrecorded;
    /* atomic: release by the owner in journal_freeze, acquire in journal_archive: a thread that
     * sees it sees all that the loop wrote */
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
    char *path; /* of the record */
    int fd;     /* holds the lock */
    uint8_t *map;
    size_t map_bytes;
    size_t page_bytes; /* the size of a page of memory */
    struct journal_part *parts;
    unsigned part_count;
    /* atomic: written by the main thread, read by any, relaxed */
    _Atomic uint64_t archived, torn, damaged;
    /* atomic: the owner, and each move that is left to its thread (journal_archive.c); whoever
     * takes the last one away frees it. acq_rel: that one comes after all that the others did. */
    _Atomic unsigned users;
};

/* ---- journal_common.c; Thread: main only ---- */

/* Write one line into `error`. Returns `status`. */
int journal_fail(char *error, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Owner: the caller, free(3). NULL without memory. */
char *journal_path_in(const char *dir, const char *name);
void journal_count(_Atomic uint64_t *count, uint64_t n);

/* ---- journal_dir.c; Thread: main only ---- */

/* How many slots are not free. */
uint64_t journal_count_left(const struct journal *journal);

/* ---- journal_dir.c; Thread: any ---- */

/* One user less.     Owner: frees the journal if it was the last one. */
void journal_drop(struct journal *journal);

/* ---- journal_lists.c; Thread: main only ---- */

/* Errors: 0; an exit status, and `error` is written. */
int journal_read_lists(struct journal *journal, const struct journal_config *config, char *error);

/* ---- journal_key.c; Thread: main only ---- */

#define JOURNAL_KEY_BYTES 32

/* Read the folder's key, or make it.     Errors: 0; an exit status, and `error` is written. */
int journal_take_key(const char *dir, uint8_t key[JOURNAL_KEY_BYTES], char *error);

/* Owner: the caller. NULL without memory. */
EVP_MAC_CTX *journal_keyed_mac(const uint8_t key[JOURNAL_KEY_BYTES]);

/* ---- journal_make.c; Thread: main only ---- */

/* Make and map the in-flight file; `key` NULL: nothing is redacted.
 * Errors: 0; an exit status, and `error` is written. */
int journal_make_record(struct journal *journal, const struct journal_config *config,
                        const uint8_t key[JOURNAL_KEY_BYTES], char *error);

/* ---- journal_recover.c ---- */

/* The caller holds the folder's lock.     Thread: main only.     Blocks: on the disk. */
void journal_recover_all(struct journal *journal);

#endif

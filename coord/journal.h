#ifndef LASTCALL_JOURNAL_H
#define LASTCALL_JOURNAL_H

/* The record of what is in flight: a request of a recorded route has a slot in a memory-mapped file
 * from the gate to its last byte, so that it is on record however the process ends.
 *
 *     loop i ---> partition i:  begin, add headers, commit ...... answered: free (one store)
 *     worker --------------------------------------- running (one store)
 *     coordinator, at the deadline ---------------------------------- archive.h moves what is left
 *
 * Each loop has a partition of its own, with a free list in its own memory: no lock, no system call
 * and no cache line of another thread on the way of a request. The file has its full size on the
 * disk from the start, so a disk that fills up later can not hurt. journal_format.h has the layout,
 * and why a kill at any instant leaves a slot that is whole, torn and known to be, or free.
 *
 * What does not fit is recorded without its body, with the body's size and digest; what finds no
 * unit at all is counted and logged. Nothing is left out in silence. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "unfinished.h"

struct journal;
struct journal_part; /* a loop's partition */
struct journal_slot; /* a request's place in it */

enum journal_sync {
    JOURNAL_SYNC_NONE,  /* outlives the process */
    JOURNAL_SYNC_MSYNC, /* and, once a handler runs, a loss of power */
};

struct journal_config {
    const char *dir;
    const char *methods; /* a list with commas; "*" is every method */
    const char *paths;   /* the same: beginnings of paths, or patterns if they have one of * ? [ */
    const char *redact;  /* the same: names of headers; "" is none */
    uint64_t max_body;
    uint64_t max_inflight_bytes; /* the size of the file, but for its first page */
    unsigned partitions;
    enum journal_sync sync;
};

/* Counts since the start. */
struct journal_stats {
    uint64_t units;      /* of 4 KiB; in all */
    uint64_t units_used; /* now */
    uint64_t slots_used; /* requests on record now */
    uint64_t recorded;   /* requests that have had a slot, incomplete ones included */
    uint64_t incomplete; /* of them: without the body or the headers */
    uint64_t unrecorded; /* found no slot: not on record at all */
    uint64_t archived;   /* moved to the archive, those of dead owners included */
    uint64_t torn;       /* slots of dead owners that were being written */
    uint64_t damaged;    /* slots that fail their checksum */
};

/* What the loop knows of a request at its gate. Texts are borrowed until journal_commit(). */
struct journal_request {
    struct unfinished_text method, authority, path;
    bool is_https;
    const struct sockaddr *peer; /* NULL: unknown */
    uint64_t began_ns;           /* CLOCK_MONOTONIC */
    size_t body_bytes;
};

/* Take the folder: move what dead owners have left there to the archive, and make a record of our
 * own. What is wrong is one line in `error`, room for JOURNAL_ERROR_SIZE bytes.
 * Owner:  the caller; ends with journal_destroy().     Thread: main only, before the loops run.
 * Blocks: on the disk, and for up to 10 s on another process that is at the same folder.
 * Errors: 0 and *ret_journal; COORD_EXIT_CONFIG, COORD_EXIT_UNAVAILABLE (no room, a busy folder).
 */
#define JOURNAL_ERROR_SIZE 512
int journal_open(const struct journal_config *config, struct journal **ret_journal, char *error);

/* Look whether journal_open() could, and leave nothing behind.     Thread: main only. */
int journal_check(const struct journal_config *config, char *error);

/* Remove the file if no request is left in it; what is left is moved to the archive by the next
 * start. NULL is allowed.     Thread: main only, when no request is in flight or all are archived.
 */
void journal_leave(struct journal *journal);

/* Unmap it. NULL is allowed.     Thread: main only, when loops and workers are gone. */
void journal_destroy(struct journal *journal);

/* Thread: any, after journal_open(). */
struct journal_part *journal_part(struct journal *journal, unsigned index);

/* Thread: any.     Blocks: never. */
void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats);

/* ---- a request; Thread: owner loop only.     Blocks: never. ---- */

/* Is a request of this method and path to be recorded? */
bool journal_wants(const struct journal_part *part, const char *method, size_t method_len,
                   const char *path, size_t path_len);

/* Begin its slot. NULL: there was none, which was counted. Its state is "running", unless
 * journal_set_queued() says otherwise: whoever is not sure must assume that it may have run. */
struct journal_slot *journal_begin(struct journal_part *part,
                                   const struct journal_request *request);
/* Between begin and commit. */
void journal_add_header(struct journal_part *part, const char *name, size_t name_len,
                        const char *value, size_t value_len);
/* From here on it is on record. */
void journal_commit(struct journal_part *part, const char *body);

/* Before it is handed to a queue. */
void journal_set_queued(struct journal_slot *slot);
void journal_set_running(struct journal_slot *slot);
void journal_set_responding(struct journal_slot *slot);
/* Answered, or nobody wants it any more. */
void journal_free(struct journal_part *part, struct journal_slot *slot);
/* The loop writes no more: from here on the partition is the archive's. */
void journal_freeze(struct journal_part *part);

/* ---- a worker ---- */

/* The handler is called next. One store, which the compiler may not move behind the call; with
 * JOURNAL_SYNC_MSYNC the slot is on the disk when this returns.
 * Thread: the worker that runs it.     Blocks: with JOURNAL_SYNC_MSYNC, on the disk. */
void journal_mark_running(struct journal_part *part, struct journal_slot *slot);

/* ---- the coordinator ---- */

struct journal_archived {
    uint64_t count;  /* moved */
    uint64_t left;   /* still in the record, for the next start */
    char path[4096]; /* of the file; "": nothing was moved */
};

/* Move every request of the frozen partitions to the archive, or of all if the loops are quiet: no
 * connection, no request. What can not be moved is logged. Whatever is not done when
 * CLOCK_MONOTONIC reads `until_ns` stays in the record, and the next start moves it. Thread: main
 * only.     Blocks: until then. */
void journal_archive(struct journal *journal, enum unfinished_reason reason, bool loops_are_quiet,
                     uint64_t until_ns, struct journal_archived *ret_archived);

#endif

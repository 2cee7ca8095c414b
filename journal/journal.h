#ifndef LASTCALL_JOURNAL_H
#define LASTCALL_JOURNAL_H

/* The in-flight record: a request of a recorded route has a slot in a memory-mapped file from the
 * gate to its last byte. So it is on record however the process ends.
 *
 *     loop i ---> partition i:  begin, add headers, commit ...... answered: free (one store)
 *     worker --------------------------------------- running (one store)
 *     coordinator, at the deadline ---------------------------------- archive.h moves what is left
 *
 * Each loop has a partition, with a free list in its own memory: recording takes no lock, no system
 * call and no cache line of another thread. The file has its full size on the disk from the start,
 * so a disk that fills up later cannot fail a write. journal_format.h has the layout, and shows why
 * SIGKILL at any instant leaves a slot that is whole, or free, or recognisably torn.
 *
 * A request that is too large is recorded without its body, with the body's size and digest. A
 * request that finds no unit at all is counted and logged. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "unfinished.h"

struct journal;
struct journal_part; /* a loop's partition */
struct journal_slot; /* a request's place in it */

enum journal_sync {
    JOURNAL_SYNC_NONE,  /* the record survives the process */
    JOURNAL_SYNC_MSYNC, /* and, once a handler runs, also a loss of power */
};

struct journal_config {
    const char *dir;
    const char *methods; /* a list with commas; "*" is every method */
    const char *paths;   /* the same: prefixes of paths, or patterns if they contain * ? [ */
    const char *redact;  /* the same: names of headers; "": none */
    uint64_t max_body;
    uint64_t max_inflight_bytes; /* the size of the file without its first page */
    unsigned partitions;
    enum journal_sync sync;
    bool is_made; /* for journal_check(): the folder need not exist, the start creates it */
};

/* Counts since the start. */
struct journal_stats {
    uint64_t units;      /* of 4 KiB; in all */
    uint64_t units_used; /* now */
    uint64_t slots_used; /* requests on record now */
    uint64_t recorded;   /* requests that got a slot, incomplete ones included */
    uint64_t incomplete; /* among those: without body or headers */
    uint64_t unrecorded; /* requests that found no slot */
    uint64_t archived;   /* moved to the archive, those of dead owners included */
    uint64_t torn;       /* slots of dead owners that were being written */
    uint64_t damaged;    /* slots that fail their checksum */
};

/* A request at its gate. Texts are borrowed until journal_commit(). */
struct journal_request {
    struct unfinished_text method, authority, path;
    bool is_https;
    const struct sockaddr *peer; /* NULL: unknown */
    uint64_t began_ns;           /* CLOCK_MONOTONIC */
    size_t body_bytes;
};

/* Take the folder: move what dead processes have left there to the archive, and create a record for
 * this one. An error is one line in `error`, with room for JOURNAL_ERROR_SIZE bytes.
 * Owner:  the caller; ends with journal_destroy().     Thread: main only, before the loops run.
 * Blocks: on the disk, and for up to 10 s on another process that uses the folder.
 * Errors: 0 and *ret_journal; EXIT_STATUS_CONFIG; EXIT_STATUS_UNAVAILABLE (no room, a busy folder).
 */
#define JOURNAL_ERROR_SIZE 512
int journal_open(const struct journal_config *config, struct journal **ret_journal, char *error);

/* Check whether journal_open() could succeed; changes nothing.     Thread: main only. */
int journal_check(const struct journal_config *config, char *error);

/* Move what dead processes have left in the folder to the archive, as journal_open() does; the log
 * reports each record.     Thread: main only.     Blocks: on the disk, and for up to 10 s on
 * another process that uses the folder.     Errors: 0 and *ret_archived; a negative errno. */
int journal_recover(const char *dir, uint64_t *ret_archived);

/* Remove the file if it holds no request; otherwise the next start moves them to the archive. NULL
 * is allowed.     Thread: main only, when no request is in flight or all are archived. */
void journal_leave(struct journal *journal);

/* Give the lock back and unmap it; a move that journal_archive() did not wait for unmaps it later.
 * NULL is allowed.     Thread: main only, when loops and workers are gone. */
void journal_destroy(struct journal *journal);

/* The path of the record.     Thread: any, after journal_open(). */
const char *journal_path(const struct journal *journal);

/* Thread: any, after journal_open(). */
struct journal_part *journal_part(struct journal *journal, unsigned index);

/* Thread: any.     Blocks: never. */
void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats);

/* ---- a request; Thread: owner loop only.     Blocks: never. ---- */

/* Should a request with this method and path be recorded? */
bool journal_wants(const struct journal_part *part, const char *method, size_t method_len,
                   const char *path, size_t path_len);

/* Begin the request's slot. NULL: no slot was free, which is counted. Its state is "running" until
 * journal_set_queued(), because a reader that cannot know must assume that the handler has run. */
struct journal_slot *journal_begin(struct journal_part *part,
                                   const struct journal_request *request);
/* Between begin and commit. */
void journal_add_header(struct journal_part *part, const char *name, size_t name_len,
                        const char *value, size_t value_len);
/* The request is on record after this call. */
void journal_commit(struct journal_part *part, const char *body);

/* Call it before the request is queued. */
void journal_set_queued(struct journal_slot *slot);
void journal_set_running(struct journal_slot *slot);
void journal_set_responding(struct journal_slot *slot);
/* The request was answered, or is not wanted any more. */
void journal_free(struct journal_part *part, struct journal_slot *slot);
/* The loop writes no more; the partition belongs to the archive after this call. */
void journal_freeze(struct journal_part *part);

/* ---- a worker ---- */

/* Call it just before the handler. It is one store, which the compiler may not move after the
 * handler's call; with JOURNAL_SYNC_MSYNC the slot is on the disk when this returns.
 * Thread: the worker that runs it.     Blocks: with JOURNAL_SYNC_MSYNC, on the disk. */
void journal_mark_running(struct journal_part *part, struct journal_slot *slot);

/* ---- the coordinator ---- */

struct journal_archived {
    uint64_t count;  /* moved */
    uint64_t left;   /* still in the record, for the next start */
    char path[4096]; /* the archive's file; "": nothing was moved */
};

/* Move every request of the frozen partitions to the archive, or of all partitions if the loops are
 * quiet, with no connection and no request. What cannot be moved is logged, and stays in the record
 * for the next start.
 * Thread: main only.     Blocks: until CLOCK_MONOTONIC reads `until_ns`. */
void journal_archive(struct journal *journal, enum unfinished_reason reason, bool loops_are_quiet,
                     uint64_t until_ns, struct journal_archived *ret_archived);

#endif

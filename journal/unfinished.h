#ifndef LASTCALL_UNFINISHED_H
#define LASTCALL_UNFINISHED_H

/* A request that was accepted and not answered, as the archive keeps it. The same struct is written
 * (record -> line) and read back (line -> replay). docs/archive.md describes the line. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One list each makes the enum and the names in files. */
#define UNFINISHED_REASONS(X)                                                                      \
    X(DEADLINE, "deadline")                                                                        \
    X(FORCED, "forced")                                                                            \
    X(CRASHED, "crashed")
#define UNFINISHED_CLASSES(X)                                                                      \
    X(NEVER_STARTED, "never-started")                                                              \
    X(IDEMPOTENT, "idempotent")                                                                    \
    X(MAY_HAVE_RUN, "may-have-run")
#define UNFINISHED_STATES(X)                                                                       \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(RESPONDING, "responding")
#define UNFINISHED_GAPS(X)                                                                         \
    X(NONE, NULL)                                                                                  \
    X(BODY_TOO_LARGE, "body-too-large")                                                            \
    X(HEADERS_TOO_LARGE, "headers-too-large")                                                      \
    X(NO_ROOM, "no-room")

#define UNFINISHED_ENUM(prefix, id) UNFINISHED_##prefix##_##id
#define X(id, name) UNFINISHED_ENUM(REASON, id),
enum unfinished_reason { UNFINISHED_REASONS(X) UNFINISHED_REASON_COUNT };
#undef X
#define X(id, name) UNFINISHED_ENUM(CLASS, id),
enum unfinished_class { UNFINISHED_CLASSES(X) UNFINISHED_CLASS_COUNT };
#undef X
#define X(id, name) UNFINISHED_ENUM(STATE, id),
enum unfinished_state { UNFINISHED_STATES(X) UNFINISHED_STATE_COUNT };
#undef X
#define X(id, name) UNFINISHED_ENUM(GAP, id),
enum unfinished_gap { UNFINISHED_GAPS(X) UNFINISHED_GAP_COUNT };
#undef X

/* Thread: any. */
const char *unfinished_reason_name(enum unfinished_reason reason);
const char *unfinished_class_name(enum unfinished_class class);
const char *unfinished_state_name(enum unfinished_state state);
const char *unfinished_gap_name(enum unfinished_gap gap); /* NULL: no gap */

/* Bytes as the client sent them; a NUL follows, which is not counted. */
struct unfinished_text {
    char *base;
    size_t len;
};

struct unfinished_header {
    struct unfinished_text name, value;
    bool redacted; /* the value is `hmac-sha256:` and the digest of the original value */
};

#define UNFINISHED_ID_SIZE 33 /* 32 hex digits */
#define UNFINISHED_SHA256_SIZE 65

struct unfinished {
    char id[UNFINISHED_ID_SIZE];
    enum unfinished_reason reason;
    enum unfinished_class class;
    enum unfinished_state state;
    char server[48];
    uint64_t began_ms, archived_ms; /* wall clock, since 1970 */
    double age_ms;                  /* when it was archived */
    char client[80];
    char scheme[16];
    struct unfinished_text method, authority, path;
    struct unfinished_header *headers;
    size_t header_count;
    uint64_t body_bytes;         /* as the client sent it */
    struct unfinished_text body; /* base NULL: not recorded; see gap */
    enum unfinished_gap gap;
    char sha256[UNFINISHED_SHA256_SIZE]; /* of a body that was not recorded; else "" */
};

/* What sending a request in `state` again may cause.     Thread: any. */
enum unfinished_class unfinished_classify(enum unfinished_state state,
                                          const struct unfinished_text *method);

/* Free its texts, and zero it. A zeroed struct is allowed.     Thread: the owner's. */
void unfinished_release(struct unfinished *unfinished);

/* One line, without the newline.
 * Owner:  the caller, free(3).     Thread: any.     Errors: NULL without memory. */
char *unfinished_line(const struct unfinished *unfinished);

/* Parse a line.
 * Owner:  the caller; ends with unfinished_release().     Thread: any.
 * Errors: 0 and *ret_unfinished; -EBADMSG not a request, and `why` says what is wrong, with room
 *         for
 *         UNFINISHED_WHY_SIZE bytes; -ENOMEM. */
#define UNFINISHED_WHY_SIZE 160
int unfinished_parse(const char *line, size_t len, struct unfinished *ret_unfinished, char *why);

/* `2026-11-25T22:00:00.000Z`, in room for UNFINISHED_TIME_SIZE bytes.     Thread: any. */
#define UNFINISHED_TIME_SIZE 32
char *unfinished_format_time(uint64_t ms, char *buf);

#endif

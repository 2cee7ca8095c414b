#ifndef LASTCALL_UNFINISHED_H
#define LASTCALL_UNFINISHED_H

/* A request that was taken and not answered, as the archive keeps it: the same struct on its way
 * out (record -> line) and back in (line -> replay). docs/archive.md has the line. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names in files and in the enum come from one list each. */
#define UNFINISHED_REASONS(X)                                                                      \
    X(DEADLINE, "deadline")                                                                        \
    X(FORCED, "forced")                                                                            \
    X(CRASHED, "crashed")                                                                          \
    X(SHED, "shed")
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
const char *unfinished_gap_name(enum unfinished_gap gap); /* NULL: there is none */

/* Bytes as the client sent them; a NUL follows that is not counted. */
struct unfinished_text {
    char *base;
    size_t len;
};

struct unfinished_header {
    struct unfinished_text name, value;
    bool redacted; /* the value is `hmac-sha256:` and the digest of what it was */
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
    struct unfinished_text body; /* base NULL: it was not kept; see gap */
    enum unfinished_gap gap;
    char sha256[UNFINISHED_SHA256_SIZE]; /* of the body that was not kept; else "" */
};

/* Is it idempotent by its method (RFC 9110 section 9.2.2)?     Thread: any. */
bool unfinished_method_is_idempotent(const char *method, size_t len);

/* What a request in `state` is to whoever sends it again.     Thread: any. */
enum unfinished_class unfinished_classify(enum unfinished_state state,
                                          const struct unfinished_text *method);

/* Free what it holds, and clear it. A zeroed one is allowed.     Thread: whoever owns it. */
void unfinished_release(struct unfinished *unfinished);

/* One line, without the newline.
 * Owner:  the caller, free(3).     Thread: any.     Errors: NULL without memory. */
char *unfinished_line(const struct unfinished *unfinished);

/* Read a line back.
 * Owner:  the caller; ends with unfinished_release().     Thread: any.
 * Errors: 0 and *ret_unfinished; -EBADMSG it is none, and `why` says what is wrong, in room for
 *         UNFINISHED_WHY_SIZE bytes; -ENOMEM. */
#define UNFINISHED_WHY_SIZE 160
int unfinished_parse(const char *line, size_t len, struct unfinished *ret_unfinished, char *why);

/* `2026-11-25T22:00:00.000Z`, in room for UNFINISHED_TIME_SIZE bytes.     Thread: any. */
#define UNFINISHED_TIME_SIZE 32
char *unfinished_format_time(uint64_t ms, char *buf);

#endif

#ifndef LASTCALL_REPLAY_STREAM_H
#define LASTCALL_REPLAY_STREAM_H

/* A stream in Redis and its consumer group, as one of its replayers asks for them. A Redis that is
 * away for a moment is waited for in every call. Thread: main only, for all of these. */

#include "redis.h"
#include "replay_p.h"

#define REPLAY_GROUP "lastcall"
#define REPLAY_ENTRY_SIZE 48

struct replay_stream {
    const struct redis_url *url;
    char *error;         /* what the last failure was; room for REPLAY_ERROR_SIZE bytes */
    struct redis *redis; /* NULL: not connected */
    char attempts[512], parked[512]; /* keys beside it */
    char consumer[128];
};

/* Both are borrowed. End with redis_close() of .redis. */
void replay_stream_init(struct replay_stream *r, const struct redis_url *url, char *error);

/* Note in r->error why something is wrong with it; returns -EIO. */
int replay_stream_fail(struct replay_stream *r, const char *why);

/* 0 and *ret_reply, the caller's; a negative errno and r->error. */
int replay_stream_ask(struct replay_stream *r, size_t argc, const char *const *argv,
                      const size_t *lengths, struct redis_reply **ret_reply);

#define ASK(r, ret_reply, ...)                                                                     \
    replay_stream_ask(r, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),             \
                      (const char *const[]){__VA_ARGS__}, NULL, ret_reply)

/* 1; 0: the entry is not ours, or not pending any more; a negative errno. `begin` returns the
 * number of the attempt in place of 1. */
int replay_stream_begin(struct replay_stream *r, const char *entry);
int replay_stream_settle(struct replay_stream *r, const char *entry);
int replay_stream_park(struct replay_stream *r, const char *entry, const char *id,
                       const char *request, size_t request_bytes, int status, const char *answer);
/* It goes back: anyone may claim it at once. */
int replay_stream_release(struct replay_stream *r, const char *entry);

/* The newest entry; "": the stream is not there, or empty. */
int replay_stream_find_last(struct replay_stream *r, char last[REPLAY_ENTRY_SIZE]);
int replay_stream_make_group(struct replay_stream *r);
/* How many entries are with others. */
size_t replay_stream_elsewhere(struct replay_stream *r);
/* Forget replayers of the past that have nothing left, and this one. */
void replay_stream_tidy(struct replay_stream *r);

#endif

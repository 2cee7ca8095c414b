#ifndef LASTCALL_REPLAY_STREAM_H
#define LASTCALL_REPLAY_STREAM_H

/* The commands that one replayer sends to Redis, for a stream and its consumer group. Each call
 * waits up to ten seconds for a Redis that cannot be reached. Thread: main only, for all of these.
 * Errors: a negative errno, and r->error has the message. */

#include "redis.h"
#include "replay_source.h"

#define REPLAY_GROUP "lastcall"
#define REPLAY_ENTRY_SIZE 48

struct replay_stream {
    const struct redis_url *url;
    char *error;                     /* of the last failure; REPLAY_ERROR_SIZE bytes */
    struct redis *redis;             /* NULL: not connected */
    bool lost_reply;                 /* by the last call: Redis may have run it twice */
    char attempts[512], parked[512]; /* the keys that belong to the stream */
    char consumer[128];
};

/* Both pointers are borrowed. End with redis_close() of r->redis. */
void replay_stream_init(struct replay_stream *r, const struct redis_url *url, char *error);

/* Write `why` to r->error, with the name of the stream; returns -EIO. */
int replay_stream_fail(struct replay_stream *r, const char *why);

/* Send a command. 0 and *ret_reply, the caller's. */
int replay_stream_ask(struct replay_stream *r, size_t argc, const char *const *argv,
                      const size_t *lengths, struct redis_reply **ret_reply);

#define REPLAY_ASK(r, ret_reply, ...)                                                              \
    replay_stream_ask(r, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),             \
                      (const char *const[]){__VA_ARGS__}, NULL, ret_reply)

/* 0: the entry belongs to another replayer, or is no longer pending. Success is 1, but for
 * replay_stream_begin() the number of the attempt; a lost reply may count as one more.
 * replay_stream_settle() and replay_stream_park() return 1 also where a lost reply leaves open
 * which of two replayers has decided. */
int replay_stream_begin(struct replay_stream *r, const char *entry);
int replay_stream_settle(struct replay_stream *r, const char *entry);
int replay_stream_park(struct replay_stream *r, const char *entry, const char *id,
                       const char *request, size_t request_bytes, int status, const char *answer);

/* Return the entry: any replayer may claim it at once. */
int replay_stream_release(struct replay_stream *r, const char *entry);

/* The id of the newest entry; "": there is none. */
int replay_stream_find_last(struct replay_stream *r, char last[REPLAY_ENTRY_SIZE]);

/* Create the consumer group if it does not exist. */
int replay_stream_make_group(struct replay_stream *r);

/* How many entries other replayers hold. */
size_t replay_stream_elsewhere(struct replay_stream *r);

/* Delete the consumers of former replayers, and this one's, if they hold no entry. */
void replay_stream_tidy(struct replay_stream *r);

#endif

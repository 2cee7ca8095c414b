#ifndef LASTCALL_QUEUE_PUSH_H
#define LASTCALL_QUEUE_PUSH_H

/* One pass of queue.h over the archive. */

#include "redis.h"

struct queue_push {
    /* the settings */
    const char *dir;
    const struct redis_url *url;
    const char *stream;
    uint64_t maxlen;
    int cancel_fd; /* readable: stop */
    /* the connection, kept from pass to pass; NULL: none */
    struct redis *redis;
    /* the result of the pass */
    uint64_t pushed;
    char error[320]; /* the first failure; "": none */
};

/* Push every line without a disposition, and add one.
 * Thread: one at a time.     Blocks: on the disk, and on Redis for some seconds.
 * Errors: 0; -EBUSY, a replay uses a file; another negative errno; push->error says more. */
int queue_push(struct queue_push *push);

/* A number that changes when a file of the archive changes.     Thread: any.     Blocks: on the
 * disk. */
uint64_t queue_fingerprint(const char *dir);

#endif

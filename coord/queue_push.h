#ifndef LASTCALL_QUEUE_PUSH_H
#define LASTCALL_QUEUE_PUSH_H

/* One pass of queue.h over the archive, without its thread. */

#include "redis.h"

struct queue_push {
    /* what and where */
    const char *dir;
    const struct redis_url *url;
    const char *stream;
    uint64_t maxlen;
    int cancel_fd; /* readable: give up */
    /* the connection, kept from pass to pass; NULL: none */
    struct redis *redis;
    /* what came of the pass */
    uint64_t pushed;
    char error[320]; /* of the first failure; "" without */
};

/* Push and mark every line without a mark.
 * Thread: one at a time.     Blocks: on the disk, and on Redis for some seconds.
 * Errors: 0; -EBUSY, a replayer works on a file; another negative errno; push->error says more. */
int queue_push(struct queue_push *push);

/* A number that changes when a file of the archive does.     Thread: any.     Blocks: on the disk.
 */
uint64_t queue_fingerprint(const char *dir);

#endif

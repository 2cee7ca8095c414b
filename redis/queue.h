#ifndef LASTCALL_QUEUE_H
#define LASTCALL_QUEUE_H

/* The retry queue: the requests of the archive also go to a stream in Redis, so that many machines
 * share one queue and any of them can replay.
 *
 *     archive ---> DIR/unfinished-YYYYMMDD.ndjson ---> this thread ---> XADD STREAM * id request
 *                                                          |
 *                                                          +--> .done: {"outcome": "queued"}
 *
 * The files are the source. The thread pushes each line without a disposition, and adds one when
 * Redis has answered. So an unreachable, slow or full Redis only delays the requests. Requests that
 * an earlier process left, or that were archived in the last moment of this one, are found the same
 * way: at the start, after a step of the phase, on queue_kick(), and once a minute.
 *
 * Each push is one script, which remembers the id for a day (STREAM:seen:ID). If an answer is lost,
 * or the process crashes before it adds the disposition, the request is not pushed twice within
 * that day. Later it may be, and readers recognise it by the field `id`. */

#include <stdint.h>

#include "coord.h"

struct queue;

struct queue_config {
    const char *dir;           /* of the archive */
    const char *url;           /* see redis_url.h; NULL: no queue */
    const char *password_file; /* its first line is the password; NULL: the url's */
    const char *stream;
    uint64_t maxlen; /* approximate number of entries to keep, the oldest go first; 0: all */
};

#define QUEUE_ERROR_SIZE 384

/* Read the password and check the settings; this neither connects nor starts a thread. On failure
 * `error` holds one line that names the setting, without the password.
 * Owner:  the caller; ends with queue_destroy(). The config's texts are not kept.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_queue; -EINVAL; -ENOTSUP: built without hiredis; -ENOMEM. */
int queue_create(const struct queue_config *config, struct queue **ret_queue,
                 char error[QUEUE_ERROR_SIZE]);

/* Start the thread. With a coord it also looks at the archive after each step; NULL is allowed.
 * Thread: main only, once, before coord_run().     Errors: 0; a negative errno. */
int queue_start(struct queue *queue, struct coord *coord);

/* A request was archived, and is on the disk. NULL is allowed.     Thread: any.     Blocks: never.
 */
void queue_kick(struct queue *queue);

/* Wait until all requests that were archived before are queued. NULL is allowed.
 * Thread: any but its own.     Blocks: until CLOCK_MONOTONIC reads `until_ns`.
 * Errors: 0; -ETIMEDOUT; -EAGAIN, a push failed and will be repeated. */
int queue_wait(struct queue *queue, uint64_t until_ns);

/* The process ends: wait briefly for requests that were archived just now. NULL is allowed.
 * Thread: any but its own.     Blocks: up to 250 ms if there is something to queue. */
void queue_leave(struct queue *queue);

/* Stop and join the thread. NULL is allowed.     Thread: any but its own, after coord_run().
 * Blocks: briefly, or as long as the resolver. */
void queue_stop(struct queue *queue);

/* NULL is allowed.     Thread: any, after queue_stop() or if it was never started. */
void queue_destroy(struct queue *queue);

#endif

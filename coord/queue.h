#ifndef LASTCALL_QUEUE_H
#define LASTCALL_QUEUE_H

/* The retry queue: what the archive holds goes to a stream in Redis, too, so that many machines
 * share one queue and any of them can replay.
 *
 *     archive ---> DIR/unfinished-YYYYMMDD.ndjson ---> this thread ---> XADD STREAM * id request
 *                                                          |
 *                                                          +--> .done: {"outcome": "queued"}
 *
 * The files are the truth. The thread pushes each line that has no mark, and marks it once Redis
 * has answered; so a Redis that is away, slow or full delays and loses nothing, and what was left
 * by an earlier process, or archived in the last moment of this one, is found the same way: at the
 * start, behind a step of the phase, on queue_kick(), and once a minute.
 *
 * Each push is one script that remembers the id for a day (STREAM:seen:ID): a push whose answer got
 * lost, or whose mark was not written before a crash, is not made twice within that time. Later on
 * it may be, and the field `id` tells. */

#include <stdint.h>

#include "coord.h"

struct queue;

struct queue_config {
    const char *dir;           /* of the archive */
    const char *url;           /* see redis_url.h; NULL: no queue */
    const char *password_file; /* its first line is the password; NULL: the url's */
    const char *stream;
    uint64_t maxlen; /* about so many entries are kept, the oldest go; 0: all */
};

#define QUEUE_ERROR_SIZE 384

/* Read the password and look at the settings; nothing is connected to, or started. On failure
 * `error` holds one line that names the setting, and no password.
 * Owner:  the caller; ends with queue_destroy(). The config's texts are not kept.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_queue; -EINVAL; -ENOTSUP: built without hiredis; -ENOMEM. */
int queue_create(const struct queue_config *config, struct queue **ret_queue,
                 char error[QUEUE_ERROR_SIZE]);

/* Start the thread. With a coord it looks at the archive behind each step, too: NULL is allowed.
 * Thread: main only, once, before coord_run().     Errors: 0; a negative errno. */
int queue_start(struct queue *queue, struct coord *coord);

/* Something was archived, and is on the disk. NULL is allowed.     Thread: any.     Blocks: never.
 */
void queue_kick(struct queue *queue);

/* Wait until all that was archived before is queued. NULL is allowed.
 * Thread: any but its own.     Blocks: until CLOCK_MONOTONIC reads `until_ns`.
 * Errors: 0; -ETIMEDOUT; -EAGAIN, it could not be queued and is tried again later. */
int queue_wait(struct queue *queue, uint64_t until_ns);

/* The process ends: give what was archived just now a moment. NULL is allowed.
 * Thread: any but its own.     Blocks: up to 250 ms if there is something to queue, else not. */
void queue_leave(struct queue *queue);

/* Stop and join the thread. NULL is allowed.     Thread: any but its own, after coord_run().
 * Blocks: briefly, or as long as the resolver. */
void queue_stop(struct queue *queue);

/* NULL is allowed.     Thread: any, after queue_stop() or if it was never started. */
void queue_destroy(struct queue *queue);

#endif

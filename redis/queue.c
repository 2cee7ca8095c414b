#include "queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "queue_push.h"
#include "redis_thread.h"

#define LOOK_NS (60 * NS_PER_S) /* to find what other processes archive in the same folder */
#define LEAVE_NS (250 * NS_PER_MS)

static const struct redis_backoff backoff = {.first_ns = 500 * NS_PER_MS, .most_ns = 30 * NS_PER_S};

struct queue {
    /* immutable after queue_create */
    char *dir, *stream;
    struct redis_url url;
    struct redis_thread thread;
    /* the thread's own */
    struct queue_push push;
    uint64_t due_ns; /* when to look again */
    bool said;       /* this outage was logged */
    /* thread.mu */
    uint64_t asked, done; /* numbers of kicks: the newest, and the newest that a pass has seen */
    uint64_t seen;        /* the fingerprint before that pass */
    int result;           /* of that pass */
    bool busy;            /* a pass is under way */
};

/* ---- making ---- */

static int set_up(struct queue *queue, const struct queue_config *config, char *error)
{
    int err = redis_url_read(&queue->url, config->url, config->password_file, "journal.redis",
                             error, QUEUE_ERROR_SIZE);

    if (err != 0)
        return err;
    if (queue->url.stream != NULL) {
        (void)snprintf(error, QUEUE_ERROR_SIZE,
                       "journal.redis.url: name the stream in journal.redis.stream");
        return -EINVAL;
    }
    if (config->dir == NULL) {
        (void)snprintf(error, QUEUE_ERROR_SIZE,
                       "journal.redis: there is nothing to queue without "
                       "journal.dir");
        return -EINVAL;
    }
    if (!redis_is_built()) {
        (void)snprintf(error, QUEUE_ERROR_SIZE,
                       "journal.redis: this lastcall was built without hiredis "
                       "(apt-get install libhiredis-dev, and build again)");
        return -ENOTSUP;
    }
    queue->dir = strdup(config->dir);
    queue->stream = strdup(config->stream);
    queue->push = (struct queue_push){.dir = queue->dir,
                                      .url = &queue->url,
                                      .stream = queue->stream,
                                      .maxlen = config->maxlen,
                                      .cancel_fd = queue->thread.cancel_fd};
    return queue->dir != NULL && queue->stream != NULL ? 0 : -ENOMEM;
}

int queue_create(const struct queue_config *config, struct queue **ret_queue,
                 char error[QUEUE_ERROR_SIZE])
{
    struct queue *queue = calloc(1, sizeof(*queue));

    (void)snprintf(error, QUEUE_ERROR_SIZE, "journal.redis: no memory");
    if (queue == NULL)
        return -ENOMEM;
    queue->asked = 1; /* for requests from earlier processes */
    int err = redis_thread_init(&queue->thread, backoff);
    if (err == 0)
        err = set_up(queue, config, error);
    if (err != 0) {
        queue_destroy(queue);
        return err;
    }
    *ret_queue = queue;
    return 0;
}

void queue_destroy(struct queue *queue)
{
    if (queue == NULL)
        return;
    redis_thread_release(&queue->thread);
    redis_close(queue->push.redis);
    redis_url_release(&queue->url);
    free(queue->dir);
    free(queue->stream);
    free(queue);
}

/* ---- the thread ---- */

static void say(struct queue *queue, int result)
{
    const struct queue_push *push = &queue->push;
    char place[REDIS_URL_SIZE];

    (void)redis_url_text(&queue->url, place);
    if (push->pushed > 0)
        log_line(LOG_LEVEL_INFO, "queued",
                 json_pack("{s:I, s:s, s:s}", "requests", (json_int_t)push->pushed, "stream",
                           queue->stream, "redis", place),
                 "queued %llu unfinished request%s in stream %s of %s",
                 (unsigned long long)push->pushed, push->pushed == 1 ? "" : "s", queue->stream,
                 place);
    if (result != 0 && result != -EBUSY && !queue->said)
        log_line(LOG_LEVEL_WARN, "queue-away",
                 json_pack("{s:s, s:s, s:s}", "stream", queue->stream, "redis", place, "error",
                           push->error),
                 "cannot queue unfinished requests in stream %s of %s: %s (they are safe in %s; it "
                 "will be tried again; logged once)",
                 queue->stream, place, push->error, queue->dir);
    queue->said = result != 0 && (queue->said || result != -EBUSY);
}

/* Called with the lock, which it releases while it works. Returns when to look again. */
static uint64_t pass_locked(struct queue *queue)
{
    uint64_t asked = queue->asked;

    queue->busy = true;
    redis_thread_unlock(&queue->thread);
    uint64_t fingerprint = queue_fingerprint(queue->dir);
    int result = queue_push(&queue->push);
    redis_thread_lock(&queue->thread);
    queue->busy = false;
    if (queue->thread.stops)
        return CLOCK_NEVER;
    say(queue, result);
    queue->done = asked;
    queue->seen = fingerprint;
    queue->result = result;
    redis_thread_wake_locked(&queue->thread);
    if (result == 0)
        redis_thread_recover_locked(&queue->thread);
    return clock_now_ns() + (result == 0 ? LOOK_NS : redis_thread_back_off_locked(&queue->thread));
}

static bool has_changed(struct queue *queue)
{
    return queue->result != 0 || queue_fingerprint(queue->dir) != queue->seen;
}

/* Returns when the next one is due. */
static uint64_t turn_locked(void *arg)
{
    struct queue *queue = arg;

    if (queue->asked != queue->done || (clock_now_ns() >= queue->due_ns && has_changed(queue)))
        queue->due_ns = pass_locked(queue);
    else if (clock_now_ns() >= queue->due_ns)
        queue->due_ns = clock_now_ns() + LOOK_NS;
    return queue->asked != queue->done ? 0 : queue->due_ns;
}

static void on_step(void *arg, enum coord_phase phase)
{
    if (phase == PHASE_ABORTING) /* ABORTING has written the archive */
        queue_kick(arg);
}

int queue_start(struct queue *queue, struct coord *coord)
{
    int err = redis_thread_start(&queue->thread, "queue", turn_locked, queue);

    if (err == 0 && coord != NULL)
        coord_on_step(coord, on_step, queue);
    return err;
}

void queue_kick(struct queue *queue)
{
    if (queue == NULL)
        return;
    redis_thread_lock(&queue->thread);
    queue->asked++;
    redis_thread_wake_locked(&queue->thread);
    redis_thread_unlock(&queue->thread);
}

int queue_wait(struct queue *queue, uint64_t until_ns)
{
    if (queue == NULL)
        return 0;
    redis_thread_lock(&queue->thread);
    uint64_t mine = ++queue->asked;
    redis_thread_wake_locked(&queue->thread);
    while (queue->done < mine && redis_thread_wait_locked(&queue->thread, until_ns))
        ;
    int result = queue->done < mine ? -ETIMEDOUT : queue->result != 0 ? -EAGAIN : 0;
    redis_thread_unlock(&queue->thread);
    return result;
}

void queue_leave(struct queue *queue)
{
    if (queue == NULL || !queue->thread.started)
        return;
    redis_thread_lock(&queue->thread);
    /* The next start repeats what has failed before. */
    bool is_new =
        queue->busy || queue->asked != queue->done || queue_fingerprint(queue->dir) != queue->seen;
    redis_thread_unlock(&queue->thread);
    if (is_new && queue_wait(queue, clock_now_ns() + LEAVE_NS) != 0)
        log_line(LOG_LEVEL_WARN, "not-queued", json_pack("{s:s}", "stream", queue->stream),
                 "unfinished requests are in %s and not all in stream %s: the next start queues "
                 "them",
                 queue->dir, queue->stream);
}

void queue_stop(struct queue *queue)
{
    if (queue != NULL)
        redis_thread_stop(&queue->thread);
}

#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"
#include "queue_push.h"

#define LOOK_NS (60 * NS_PER_S) /* what others archive in the same folder is found, too */
#define RETRY_FIRST_NS (500 * NS_PER_MS)
#define RETRY_MOST_NS (30 * NS_PER_S)
#define LEAVE_NS (250 * NS_PER_MS)

struct queue {
    /* immutable after queue_create */
    char *dir, *stream;
    struct redis_url url;
    int cancel_fd; /* eventfd: readable once it is over */
    /* main thread */
    bool started;
    pthread_t thread;
    /* the thread's own */
    struct queue_push push;
    uint64_t retry_ns;
    bool said; /* this outage */
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    uint64_t asked, done; /* numbers of kicks: the newest, and the newest that a pass has seen */
    uint64_t seen;        /* the fingerprint before that pass */
    int result;           /* of it */
    bool busy;            /* a pass is under way */
    bool over;
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
                                      .cancel_fd = queue->cancel_fd};
    return queue->dir != NULL && queue->stream != NULL ? 0 : -ENOMEM;
}

static void init_lock(struct queue *queue)
{
    (void)pthread_mutex_init(&queue->mu, NULL);
    clock_cond_init(&queue->changed);
}

int queue_create(const struct queue_config *config, struct queue **ret_queue,
                 char error[QUEUE_ERROR_SIZE])
{
    struct queue *queue = calloc(1, sizeof(*queue));

    (void)snprintf(error, QUEUE_ERROR_SIZE, "journal.redis: no memory");
    if (queue == NULL)
        return -ENOMEM;
    init_lock(queue);
    queue->retry_ns = RETRY_FIRST_NS;
    queue->asked = 1; /* what is there from before */
    queue->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = queue->cancel_fd < 0 ? -errno : set_up(queue, config, error);
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
    if (queue->cancel_fd >= 0)
        (void)close(queue->cancel_fd);
    (void)pthread_cond_destroy(&queue->changed);
    (void)pthread_mutex_destroy(&queue->mu);
    redis_close(queue->push.redis);
    redis_url_release(&queue->url);
    free(queue->dir);
    free(queue->stream);
    free(queue);
}

/* ---- the thread ---- */

static void lock(struct queue *queue)
{
    int err = pthread_mutex_lock(&queue->mu);
    assert(err == 0);
    (void)err;
}

static void unlock(struct queue *queue)
{
    int err = pthread_mutex_unlock(&queue->mu);
    assert(err == 0);
    (void)err;
}

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
                 "is tried again; said once)",
                 queue->stream, place, push->error, queue->dir);
    queue->said = result != 0 && (queue->said || result != -EBUSY);
}

/* Holds the lock, but not while it works. Returns when to look again. */
static uint64_t pass_locked(struct queue *queue)
{
    uint64_t asked = queue->asked;

    queue->busy = true;
    unlock(queue);
    uint64_t fingerprint = queue_fingerprint(queue->dir);
    int result = queue_push(&queue->push);
    lock(queue);
    queue->busy = false;
    if (queue->over)
        return CLOCK_NEVER;
    say(queue, result);
    queue->done = asked;
    queue->seen = fingerprint;
    queue->result = result;
    (void)pthread_cond_broadcast(&queue->changed);
    uint64_t wait_ns = LOOK_NS;
    if (result != 0) {
        wait_ns = queue->retry_ns;
        queue->retry_ns = 2 * wait_ns < RETRY_MOST_NS ? 2 * wait_ns : RETRY_MOST_NS;
    } else {
        queue->retry_ns = RETRY_FIRST_NS;
    }
    return clock_now_ns() + wait_ns;
}

static bool has_changed(struct queue *queue)
{
    return queue->result != 0 || queue_fingerprint(queue->dir) != queue->seen;
}

static void *queue_thread(void *arg)
{
    struct queue *queue = arg;
    uint64_t due_ns = 0;

    (void)pthread_setname_np(pthread_self(), "queue");
    lock(queue);
    while (!queue->over) {
        if (queue->asked != queue->done || (clock_now_ns() >= due_ns && has_changed(queue))) {
            due_ns = pass_locked(queue);
        } else {
            if (clock_now_ns() >= due_ns)
                due_ns = clock_now_ns() + LOOK_NS;
            struct timespec until = clock_timespec(due_ns);
            (void)pthread_cond_timedwait(&queue->changed, &queue->mu, &until);
        }
    }
    unlock(queue);
    return NULL;
}

static void on_step(void *arg, enum coord_phase phase)
{
    if (phase == PHASE_ABORTING) /* the archive was written when it began */
        queue_kick(arg);
}

int queue_start(struct queue *queue, struct coord *coord)
{
    sigset_t all, before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = pthread_create(&queue->thread, NULL, queue_thread, queue);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        return -err;
    queue->started = true;
    if (coord != NULL)
        coord_on_step(coord, on_step, queue);
    return 0;
}

void queue_kick(struct queue *queue)
{
    if (queue == NULL)
        return;
    lock(queue);
    queue->asked++;
    (void)pthread_cond_broadcast(&queue->changed);
    unlock(queue);
}

int queue_wait(struct queue *queue, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    if (queue == NULL)
        return 0;
    lock(queue);
    uint64_t mine = ++queue->asked;
    (void)pthread_cond_broadcast(&queue->changed);
    while (queue->done < mine && err == 0)
        err = pthread_cond_timedwait(&queue->changed, &queue->mu, &until);
    int result = queue->done < mine ? -ETIMEDOUT : queue->result != 0 ? -EAGAIN : 0;
    unlock(queue);
    return result;
}

void queue_leave(struct queue *queue)
{
    if (queue == NULL || !queue->started)
        return;
    lock(queue);
    /* What was tried and failed before is for the next start. */
    bool is_new =
        queue->busy || queue->asked != queue->done || queue_fingerprint(queue->dir) != queue->seen;
    unlock(queue);
    if (is_new && queue_wait(queue, clock_now_ns() + LEAVE_NS) != 0)
        log_line(LOG_LEVEL_WARN, "not-queued", json_pack("{s:s}", "stream", queue->stream),
                 "unfinished requests are in %s and not all in stream %s: the next start queues "
                 "them",
                 queue->dir, queue->stream);
}

void queue_stop(struct queue *queue)
{
    const uint64_t one = 1;

    if (queue == NULL || !queue->started)
        return;
    lock(queue);
    queue->over = true;
    (void)pthread_cond_broadcast(&queue->changed);
    unlock(queue);
    (void)!write(queue->cancel_fd, &one, sizeof(one));
    (void)pthread_join(queue->thread, NULL);
    queue->started = false;
}

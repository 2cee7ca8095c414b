#include "redis_thread.h"

#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "require.h"
#include "thread.h"
#include "wakeup.h"

int redis_thread_init(struct redis_thread *thread, struct redis_backoff backoff)
{
    *thread = (struct redis_thread){.backoff = backoff, .retry_ns = backoff.first_ns};
    (void)pthread_mutex_init(&thread->mu, NULL);
    clock_cond_init(&thread->changed);
    thread->cancel_fd = wakeup_open();
    return thread->cancel_fd < 0 ? thread->cancel_fd : 0;
}

void redis_thread_release(struct redis_thread *thread)
{
    if (thread->cancel_fd >= 0)
        (void)close(thread->cancel_fd);
    (void)pthread_cond_destroy(&thread->changed);
    (void)pthread_mutex_destroy(&thread->mu);
}

void redis_thread_lock(struct redis_thread *thread)
{
    int err = pthread_mutex_lock(&thread->mu);
    REQUIRE(err == 0);
}

void redis_thread_unlock(struct redis_thread *thread)
{
    int err = pthread_mutex_unlock(&thread->mu);
    REQUIRE(err == 0);
}

void redis_thread_wake_locked(struct redis_thread *thread)
{
    (void)pthread_cond_broadcast(&thread->changed);
}

bool redis_thread_wait_locked(struct redis_thread *thread, uint64_t until_ns)
{
    const struct timespec until = clock_timespec(until_ns);
    return pthread_cond_timedwait(&thread->changed, &thread->mu, &until) != ETIMEDOUT;
}

uint64_t redis_thread_back_off_locked(struct redis_thread *thread)
{
    uint64_t wait_ns = thread->retry_ns;

    thread->retry_ns =
        2 * wait_ns < thread->backoff.most_ns ? 2 * wait_ns : thread->backoff.most_ns;
    return wait_ns;
}

void redis_thread_recover_locked(struct redis_thread *thread)
{
    thread->retry_ns = thread->backoff.first_ns;
}

static void *take_turns(void *arg)
{
    struct redis_thread *thread = arg;

    redis_thread_lock(thread);
    while (!thread->stops) {
        uint64_t due_ns = thread->turn_locked(thread->arg);
        if (!thread->stops && clock_now_ns() < due_ns)
            (void)redis_thread_wait_locked(thread, due_ns);
    }
    redis_thread_unlock(thread);
    return NULL;
}

int redis_thread_start(struct redis_thread *thread, const char *name,
                       uint64_t (*turn_locked)(void *arg), void *arg)
{
    thread->turn_locked = turn_locked;
    thread->arg = arg;
    int err = thread_start(&thread->thread, name, take_turns, thread);
    thread->started = err == 0;
    return err;
}

void redis_thread_stop(struct redis_thread *thread)
{
    if (!thread->started)
        return;
    redis_thread_lock(thread);
    thread->stops = true;
    redis_thread_wake_locked(thread);
    redis_thread_unlock(thread);
    wakeup_ring(thread->cancel_fd);
    (void)pthread_join(thread->thread, NULL);
    thread->started = false;
}

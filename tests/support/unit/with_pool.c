#include "with_pool.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "thread.h"

#define HANG_S 60 /* a test under a sanitizer on a busy machine needs less */

sem_t entered, gate, left, idle;
atomic_uint idle_calls;
struct pool *pool;

static unsigned threads_before;
static bool left_behind; /* a pool, or a thread: then no further test runs */

/* ---- clock, threads ---- */

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t in_ms(uint64_t ms)
{
    return now_ns() + ms * NS_PER_MS;
}

unsigned count_threads(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* pthread_join() returns when the kernel clears the thread's id, a moment before the thread leaves
 * /proc. Nothing reports that second event, so poll for it. */
bool threads_come_down_to(unsigned n)
{
    uint64_t deadline_ns = in_ms(10000);
    while (count_threads() > n && now_ns() < deadline_ns)
        sched_yield();
    return count_threads() == n;
}

void dawdle(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

/* ---- a job that records what happens to it, and blocks where the test wants it to ---- */

static void step_run(struct pool_job *job)
{
    struct step *s = (struct step *)job;
    s->started = atomic_load(&job->started);
    s->worker = pool_job_worker(job);
    s->thread[0] = thread_self_id();
    if (s->entered != NULL)
        sem_post(s->entered);
    if (s->gate != NULL)
        sem_wait(s->gate);
    if (s->wait_ms > 0)
        s->cancelled = pool_job_wait(job, s->wait_ms);
    else
        s->cancelled = pool_job_is_cancelled(job);
    atomic_fetch_add_explicit(&s->runs, 1, memory_order_relaxed);
}

static void step_done(struct pool_job *job)
{
    struct step *s = (struct step *)job;
    s->active = pool_active(job->owner);
    s->thread[1] = thread_self_id();
    if (s->done_gate != NULL)
        sem_wait(s->done_gate);
    atomic_fetch_add_explicit(&s->dones, 1, memory_order_relaxed);
    if (s->left != NULL)
        sem_post(s->left);
}

const struct pool_job step_job = {.run = step_run, .done = step_done};

/* ---- fixture ---- */

void with_pool_on_idle(void *arg)
{
    (void)pool_active(*(struct pool **)arg); /* would hang if a lock were held */
    atomic_fetch_add_explicit(&idle_calls, 1, memory_order_relaxed);
    sem_post(&idle);
}

struct pool *make(unsigned workers, unsigned queue)
{
    const struct pool_config config = {
        .workers = workers, .queue = queue, .on_idle = with_pool_on_idle, .on_idle_arg = &pool};
    assert_int_equal(pool_create(&config, &pool), 0);
    return pool;
}

void unmake(void)
{
    assert_int_equal(pool_destroy(pool, FOREVER), 0);
    pool = NULL;
}

void make_busy(struct step *s, unsigned queue)
{
    *s = (struct step){.job = step_job, .entered = &entered, .gate = &gate};
    make(1, queue);
    assert_int_equal(pool_submit(pool, &s->job), 0);
    sem_wait(&entered);
}

int with_pool_set_up(void **state)
{
    (void)state;
    if (left_behind) {
        print_error("stopped: workers of a failed test still use its stack\n");
        (void)fflush(NULL);
        _exit(1);
    }
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&left, 0, 0);
    sem_init(&idle, 0, 0);
    atomic_store(&idle_calls, 0);
    pool = NULL;
    alarm(HANG_S);
    return 0;
}

int with_pool_clean_up(void **state)
{
    (void)state;
    alarm(0);
    if (pool != NULL || !threads_come_down_to(threads_before)) {
        print_error("a pool or a thread was left behind\n");
        left_behind = true;
        return -1;
    }
    sem_destroy(&entered);
    sem_destroy(&gate);
    sem_destroy(&left);
    sem_destroy(&idle);
    return 0;
}

static void *nothing(void *arg)
{
    return arg;
}

/* A sanitizer may start its own thread together with the first thread: include it in the count. */
int with_pool_begin(void **state)
{
    (void)state;
    pthread_t thread;
    unsigned alone = count_threads();
    if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return -1;
    uint64_t deadline_ns = in_ms(200);
    while (count_threads() > alone && now_ns() < deadline_ns)
        sched_yield();
    threads_before = count_threads();
    return 0;
}

/* The specification of pool.h, one claim a test.
 *
 * No test sleeps to let something happen: threads meet at semaphores and barriers, and races are
 * played many times with the two sides set apart a little more each round. A deadline is used only
 * where the claim is about that deadline. Whatever hangs is ended by alarm(2). Teardown proves that
 * a test left no thread behind. Only the test's own thread asserts: cmocka leaves a failed test by
 * longjmp, which a worker can not do for it. */

#include "pool.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)
#define FOREVER UINT64_MAX /* as a deadline; alarm(2) is the real one */
#define HANG_S 60          /* a test under a sanitizer on a busy machine needs less */

static unsigned threads_before;

/* ---- clock, threads ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t in_ms(uint64_t ms)
{
    return now_ns() + ms * NS_PER_MS;
}

static unsigned count_threads(void)
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
 * /proc. Nobody reports that second event, so look again until it is so. */
static bool threads_come_down_to(unsigned n)
{
    uint64_t deadline_ns = in_ms(10000);
    while (count_threads() > n && now_ns() < deadline_ns)
        sched_yield();
    return count_threads() == n;
}

/* Lets the other side of a race get a little further: some nanoseconds a turn. */
static void dawdle(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

/* ---- a job that tells what happens to it, and stays where it is told to ---- */

struct step {
    struct pool_job job; /* first: a pool_job is cast back to its step */
    sem_t *entered;      /* run() posts it */
    sem_t *gate;         /* then run() waits for it */
    sem_t *left;         /* done() posts it, last of all */
    sem_t *done_gate;    /* done() waits for it, before `left` */
    uint32_t wait_ms;    /* then run() waits this long, or until cancelled */
    bool started;        /* as run() saw it */
    bool cancelled;      /* as run() saw it */
    size_t active;       /* as done() saw it */
    unsigned worker;     /* as run() saw it */
    atomic_uint runs;    /* relaxed: whoever reads it learned by a semaphore or pool_wait_idle */
    atomic_uint dones;
};

static void step_run(struct pool_job *job)
{
    struct step *s = (struct step *)job;
    s->started = atomic_load(&job->started);
    s->worker = pool_job_worker(job);
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
    if (s->done_gate != NULL)
        sem_wait(s->done_gate);
    atomic_fetch_add_explicit(&s->dones, 1, memory_order_relaxed);
    if (s->left != NULL)
        sem_post(s->left);
}

static const struct pool_job step_job = {.run = step_run, .done = step_done};

/* ---- fixture ---- */

static sem_t entered, gate, left, idle;
static atomic_uint idle_calls;
static struct pool *pool; /* a test that uses it sets it; teardown insists that it was destroyed */
static bool left_behind;  /* and if not, no further test runs */

static void on_idle(void *arg)
{
    (void)pool_active(*(struct pool **)arg); /* would hang if a lock were held */
    atomic_fetch_add_explicit(&idle_calls, 1, memory_order_relaxed);
    sem_post(&idle);
}

static struct pool *make(unsigned workers, unsigned queue)
{
    const struct pool_config config = {
        .workers = workers, .queue = queue, .on_idle = on_idle, .on_idle_arg = &pool};
    assert_int_equal(pool_create(&config, &pool), 0);
    return pool;
}

static void unmake(void)
{
    assert_int_equal(pool_destroy(pool, FOREVER), 0);
    pool = NULL;
}

/* One worker, and `s` sits in its run() until `gate` is posted. */
static void make_busy(struct step *s, unsigned queue)
{
    *s = (struct step){.job = step_job, .entered = &entered, .gate = &gate};
    make(1, queue);
    assert_int_equal(pool_submit(pool, &s->job), 0);
    sem_wait(&entered);
}

static int setup(void **state)
{
    (void)state;
    if (left_behind) {
        print_error("stopped: workers of a failed test still use its stack\n");
        fflush(NULL);
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

static int teardown(void **state)
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

/* A sanitizer may start a thread of its own together with the first one: count it in. */
static int group_setup(void **state)
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

/* ---- create ---- */

static void assert_rejected(struct pool_config config)
{
    struct pool *const untouched = (struct pool *)&config;
    struct pool *p = untouched;
    assert_int_equal(pool_create(&config, &p), -EINVAL);
    assert_ptr_equal(p, untouched);
}

static void test_create_rejects_zero_workers(void **state)
{
    (void)state;
    assert_rejected((struct pool_config){.workers = 0, .queue = 1});
}

static void test_create_rejects_too_many_workers(void **state)
{
    (void)state;
    assert_rejected((struct pool_config){.workers = 4097, .queue = 1});
}

static void test_create_rejects_a_queue_out_of_range(void **state)
{
    (void)state;
    assert_rejected((struct pool_config){.workers = 1, .queue = 0});
    assert_rejected((struct pool_config){.workers = 1, .queue = 1048577});
}

static void test_create_rejects_a_name_the_kernel_would_cut(void **state)
{
    (void)state;
    assert_rejected((struct pool_config){.workers = 1, .queue = 1, .name = "elevenchars"});
}

/* In a child without privilege, under a limit of processes that 64 workers must hit. */
static int create_under_a_limit(void)
{
    const struct rlimit few = {.rlim_cur = 8, .rlim_max = 8};
    const struct pool_config config = {.workers = 64, .queue = 1};
    struct pool *p = NULL;

    threads_before = count_threads();
    if (geteuid() == 0 && setuid(65534) != 0)
        return 77;
    if (setrlimit(RLIMIT_NPROC, &few) != 0)
        return 77;
    int err = pool_create(&config, &p);
    if (err == 0)
        return 77; /* the limit does not bind here: nothing to see */
    if (err != -EAGAIN || p != NULL)
        return 1;
    return threads_come_down_to(threads_before) ? 0 : 2;
}

static void test_create_leaves_no_thread_when_one_can_not_start(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(create_under_a_limit());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

struct look {
    struct pool_job job;
    sigset_t mask;
    char name[16];
};

static void look_run(struct pool_job *job)
{
    struct look *l = (struct look *)job;
    pthread_sigmask(SIG_BLOCK, NULL, &l->mask);
    pthread_getname_np(pthread_self(), l->name, sizeof(l->name));
}

static void look_done(struct pool_job *job)
{
    (void)job;
}

/* What a worker of a pool with that name sees of itself. */
static struct look look_inside(const char *name)
{
    const struct pool_config config = {.workers = 1, .queue = 1, .name = name};
    struct look l = {.job = {.run = look_run, .done = look_done}};
    assert_int_equal(pool_create(&config, &pool), 0);
    assert_int_equal(pool_submit(pool, &l.job), 0);
    unmake();
    return l;
}

/* Four at a time, four times: each round has each worker once. */
static void test_jobs_that_run_at_once_have_workers_of_their_own(void **state)
{
    (void)state;
    struct step steps[4];
    make(4, 4);
    for (unsigned round = 0; round < 4; round++) {
        unsigned seen = 0;
        for (unsigned i = 0; i < 4; i++) {
            steps[i] =
                (struct step){.job = step_job, .entered = &entered, .gate = &gate, .left = &left};
            assert_int_equal(pool_submit(pool, &steps[i].job), 0);
        }
        for (unsigned i = 0; i < 4; i++)
            sem_wait(&entered);
        for (unsigned i = 0; i < 4; i++)
            sem_post(&gate);
        for (unsigned i = 0; i < 4; i++)
            sem_wait(&left);
        for (unsigned i = 0; i < 4; i++)
            seen |= 1U << steps[i].worker;
        assert_int_equal(seen, 0xf);
    }
    unmake();
}

static void test_workers_block_every_signal(void **state)
{
    (void)state;
    sigset_t every;
    struct look l = look_inside(NULL);

    sigfillset(&every); /* leaves out the two that glibc keeps for itself */
    for (int sig = 1; sig < SIGRTMAX; sig++)
        if (sig != SIGKILL && sig != SIGSTOP && sigismember(&every, sig) == 1)
            assert_int_equal(sigismember(&l.mask, sig), 1);
}

static void test_create_leaves_the_callers_mask_alone(void **state)
{
    (void)state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    make(2, 1);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int sig = 1; sig < SIGRTMAX; sig++)
        assert_int_equal(sigismember(&after, sig), sigismember(&before, sig));
    unmake();
}

static void test_workers_carry_their_name(void **state)
{
    (void)state;
    assert_string_equal(look_inside(NULL).name, "worker-0");
    assert_string_equal(look_inside("tencharact").name, "tencharact-0");
}

/* ---- waits ---- */

static uint64_t clock_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t waits_from(const struct pool_waits *waits, size_t bucket)
{
    uint64_t n = 0;
    for (size_t k = bucket; k < POOL_WAIT_BUCKETS; k++)
        n += waits->buckets[k];
    return n;
}

static void test_a_wait_is_counted_from_when_the_job_came(void **state)
{
    (void)state;
    const uint64_t s = UINT64_C(1000000000);
    struct step unknown = {.job = step_job}, ahead = {.job = step_job}, late = {.job = step_job},
                lost = {.job = step_job};
    struct pool_waits waits;

    make(1, 8);
    late.job.came_ns = clock_ns() - 3 * s;  /* 2048 ms are too few, 4096 enough */
    lost.job.came_ns = clock_ns() - 99 * s; /* beyond the last bound, 65.536 s */
    ahead.job.came_ns = clock_ns() + 3600 * s;
    assert_int_equal(pool_submit(pool, &unknown.job), 0);
    assert_int_equal(pool_submit(pool, &ahead.job), 0);
    assert_int_equal(pool_submit(pool, &late.job), 0);
    assert_int_equal(pool_submit(pool, &lost.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    pool_get_waits(pool, &waits);
    assert_int_equal(waits_from(&waits, 0), 3);
    assert_int_equal(waits.buckets[0], 1);
    assert_int_equal(waits_from(&waits, 12), 2);
    assert_int_equal(waits.buckets[POOL_WAIT_BUCKETS - 1], 1);
    assert_true(waits.sum_ns >= 102 * s);
    unmake();
}

/* ---- submit ---- */

static void test_submit_after_close_is_refused(void **state)
{
    (void)state;
    struct step s = {.job = step_job};
    struct pool_stats stats;

    make(1, 1);
    pool_close(pool);
    assert_int_equal(pool_submit(pool, &s.job), -ESHUTDOWN);
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.taken, 0);
    unmake();
    assert_int_equal(s.runs, 0);
    assert_int_equal(s.dones, 0);
}

static void test_full_queue_is_a_result_the_caller_sees(void **state)
{
    (void)state;
    struct step busy, a = {.job = step_job}, b = {.job = step_job}, c = {.job = step_job};
    struct pool_stats stats;

    make_busy(&busy, 2);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    assert_int_equal(pool_submit(pool, &c.job), -EAGAIN);
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.taken, 3);
    assert_int_equal(stats.refused, 1);
    sem_post(&gate);
    unmake();
    assert_int_equal(b.dones, 1);
    assert_int_equal(c.dones, 0);
}

static void test_a_full_queue_takes_jobs_again_once_it_has_room(void **state)
{
    (void)state;
    struct step busy, a = {.job = step_job}, b = {.job = step_job};

    make_busy(&busy, 1);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), -EAGAIN);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    unmake();
    assert_int_equal(b.dones, 1);
}

/* Whether the workers have just started, sleep, or were woken: it is always workers + queue. */
static void test_a_burst_fills_every_worker_and_then_the_queue(void **state)
{
    (void)state;
    struct step s[10];

    make(8, 1);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 10; i++) {
            s[i] = (struct step){.job = step_job, .gate = &gate};
            assert_int_equal(pool_submit(pool, &s[i].job), i < 9 ? 0 : -EAGAIN);
        }
        for (unsigned i = 0; i < 9; i++)
            sem_post(&gate);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        dawdle(round * 10);
    }
    unmake();
}

struct order {
    struct pool_job job;
    unsigned number;
    unsigned *next;
    bool in_order;
};

static void order_run(struct pool_job *job)
{
    struct order *o = (struct order *)job;
    o->in_order = o->number == (*o->next)++;
}

static void test_jobs_run_in_order_with_one_worker(void **state)
{
    (void)state;
    static struct order o[1000];
    unsigned next = 0;

    make(1, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        o[i] = (struct order){
            .job = {.run = order_run, .done = look_done}, .number = i, .next = &next};
        assert_int_equal(pool_submit(pool, &o[i].job), 0);
    }
    unmake();
    assert_int_equal(next, 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(o[i].in_order);
}

struct meeting {
    struct pool_job job;
    pthread_barrier_t *barrier;
};

static void meeting_run(struct pool_job *job)
{
    pthread_barrier_wait(((struct meeting *)job)->barrier);
}

/* Hangs if one submit leaves its job to a worker that sleeps or that is busy. */
static void test_as_many_jobs_as_workers_run_at_once(void **state)
{
    (void)state;
    struct meeting m[4];
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, 5);
    make(4, 4);
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < 4; i++) {
            m[i] = (struct meeting){.job = {.run = meeting_run, .done = look_done},
                                    .barrier = &barrier};
            assert_int_equal(pool_submit(pool, &m[i].job), 0);
        }
        pthread_barrier_wait(&barrier);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    }
    unmake();
    pthread_barrier_destroy(&barrier);
}

static void test_started_tells_queued_from_running(void **state)
{
    (void)state;
    struct step busy, queued = {.job = step_job};

    make_busy(&busy, 1);
    assert_int_equal(pool_submit(pool, &queued.job), 0);
    assert_true(busy.started);
    assert_true(atomic_load(&busy.job.started));
    assert_false(atomic_load(&queued.job.started));
    sem_post(&gate);
    unmake();
    assert_true(queued.started);
}

struct heap_job {
    struct pool_job job;
    atomic_uint *freed;
};

static void heap_run(struct pool_job *job)
{
    (void)job;
}

static void heap_done(struct pool_job *job)
{
    atomic_uint *freed = ((struct heap_job *)job)->freed;
    memset(job, 0xff, sizeof(struct heap_job)); /* without a sanitizer, a late look crashes too */
    free(job);
    atomic_fetch_add(freed, 1);
}

static void test_done_may_free_its_job(void **state)
{
    (void)state;
    atomic_uint freed = 0;

    make(4, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        struct heap_job *h = calloc(1, sizeof(*h));
        assert_non_null(h);
        *h = (struct heap_job){.job = {.run = heap_run, .done = heap_done}, .freed = &freed};
        assert_int_equal(pool_submit(pool, &h->job), 0);
    }
    unmake();
    assert_int_equal(freed, 1000);
}

struct chain {
    struct pool_job job;
    unsigned runs_left;
    int error;
};

static void chain_run(struct pool_job *job)
{
    ((struct chain *)job)->runs_left--;
}

static void chain_done(struct pool_job *job)
{
    struct chain *c = (struct chain *)job;
    if (c->runs_left == 0)
        return;
    int err = pool_submit(job->owner, job);
    if (err != 0)
        c->error = err; /* refused, so it is still ours */
}

static void test_done_may_submit_its_job_again(void **state)
{
    (void)state;
    struct chain c = {.job = {.run = chain_run, .done = chain_done}, .runs_left = 1000};

    make(4, 1);
    pool_watch_idle(pool, true);
    assert_int_equal(pool_submit(pool, &c.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    unmake();
    assert_int_equal(c.error, 0);
    assert_int_equal(c.runs_left, 0);
    assert_int_equal(idle_calls, 1); /* the chain was active without a gap */
}

#define SUBMITTERS 4
#define JOBS_EACH 10000

struct submitter {
    pthread_t thread;
    pthread_barrier_t *start;
    struct step *steps;
    unsigned errors;
};

static void *submit_all(void *arg)
{
    struct submitter *s = arg;
    pthread_barrier_wait(s->start);
    for (unsigned i = 0; i < JOBS_EACH; i++) {
        int err;
        while ((err = pool_submit(pool, &s->steps[i].job)) == -EAGAIN)
            sched_yield(); /* full: the pool reports no room, so ask again */
        s->errors += err != 0;
    }
    return NULL;
}

static void start_submitters(struct submitter *s, pthread_barrier_t *start)
{
    pthread_barrier_init(start, NULL, SUBMITTERS);
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        s[i] = (struct submitter){.start = start};
        s[i].steps = calloc(JOBS_EACH, sizeof(*s[i].steps));
        assert_non_null(s[i].steps);
        for (unsigned j = 0; j < JOBS_EACH; j++)
            s[i].steps[j].job = step_job;
        assert_int_equal(pthread_create(&s[i].thread, NULL, submit_all, &s[i]), 0);
    }
}

static void test_many_submitters_lose_no_job(void **state)
{
    (void)state;
    struct submitter s[SUBMITTERS];
    struct pool_stats stats;
    pthread_barrier_t start;

    make(4, 256);
    start_submitters(s, &start);
    for (unsigned i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_join(s[i].thread, NULL), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.taken, SUBMITTERS * JOBS_EACH);
    unmake();
    for (unsigned i = 0; i < SUBMITTERS; i++) {
        assert_int_equal(s[i].errors, 0);
        for (unsigned j = 0; j < JOBS_EACH; j++)
            if (s[i].steps[j].runs != 1 || s[i].steps[j].dones != 1)
                fail_msg("job %u of submitter %u did not run once", j, i);
        free(s[i].steps);
    }
    pthread_barrier_destroy(&start);
}

/* ---- cancel ---- */

/* Even rounds find the job about to sleep or asleep, odd rounds anywhere from queued to asleep.
 * Hangs if a cancel is lost. */
static void test_cancel_wakes_a_waiting_job(void **state)
{
    (void)state;
    make(1, 1);
    for (unsigned round = 0; round < 4000; round++) {
        struct step s = {.job = step_job, .entered = &entered, .wait_ms = 3600 * 1000};
        assert_int_equal(pool_submit(pool, &s.job), 0);
        if (round % 2 == 0)
            sem_wait(&entered);
        dawdle(round * 4);
        pool_cancel(&s.job);
        if (round % 2 == 1)
            sem_wait(&entered);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        assert_true(s.cancelled);
    }
    unmake();
}

static void test_cancel_wakes_no_other_job(void **state)
{
    (void)state;
    struct step a = {.job = step_job, .entered = &entered, .left = &left, .wait_ms = 3600 * 1000};
    struct step b = a;

    make(2, 2);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    sem_wait(&entered);
    sem_wait(&entered);
    pool_cancel(&a.job);
    sem_wait(&left);
    assert_true(a.cancelled);
    assert_false(pool_job_is_cancelled(&b.job));
    assert_int_equal(b.dones, 0);
    pool_cancel(&b.job);
    unmake();
    assert_true(b.cancelled);
}

static void test_cancel_of_a_queued_job_is_seen_when_it_runs(void **state)
{
    (void)state;
    struct step busy, looks = {.job = step_job}, waits = {.job = step_job, .wait_ms = 3600 * 1000};

    make_busy(&busy, 2);
    assert_int_equal(pool_submit(pool, &looks.job), 0);
    assert_int_equal(pool_submit(pool, &waits.job), 0);
    pool_cancel(&looks.job);
    pool_cancel(&waits.job);
    assert_int_equal(pool_active(pool), 3);
    sem_post(&gate);
    unmake();
    assert_false(busy.cancelled);
    assert_true(looks.cancelled);
    assert_true(waits.cancelled);
    assert_int_equal(looks.dones, 1);
    assert_int_equal(waits.dones, 1);
}

/* What a server's loop does: it owns the job again only when it hears of done(), and may cancel
 * until then. By that time the worker may wait in another job, which must not notice. */
static void test_cancel_after_done_was_entered_is_harmless(void **state)
{
    (void)state;
    struct step old = {.job = step_job, .left = &left};
    struct step next = {.job = step_job, .left = &left, .wait_ms = 20};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &old.job), 0);
    sem_wait(&left);
    uint64_t begin_ns = now_ns();
    assert_int_equal(pool_submit(pool, &next.job), 0);
    while (sem_trywait(&left) != 0) {
        pool_cancel(&old.job);
        sched_yield(); /* the more cancels, the better; but let `next` have the lock */
    }
    assert_true(now_ns() - begin_ns >= 20 * NS_PER_MS);
    unmake();
    assert_false(old.cancelled);
    assert_false(next.cancelled);
}

static void test_a_job_can_be_submitted_again_without_its_old_cancel(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .entered = &entered, .gate = &gate};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    sem_wait(&entered);
    pool_cancel(&s.job);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_true(s.cancelled);
    sem_post(&gate);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake();
    assert_false(s.cancelled);
    assert_int_equal(s.dones, 2);
}

static void test_a_wait_that_nobody_cancels_lasts_its_time(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .wait_ms = 20};
    uint64_t begin_ns = now_ns();

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake();
    assert_false(s.cancelled);
    assert_true(now_ns() - begin_ns >= 20 * NS_PER_MS);
}

/* ---- the active count ---- */

static void test_active_counts_queued_and_running(void **state)
{
    (void)state;
    struct step busy, a = {.job = step_job}, b = {.job = step_job};
    struct pool_stats stats;

    make_busy(&busy, 2);
    assert_int_equal(pool_active(pool), 1);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    assert_int_equal(pool_active(pool), 3);
    pool_get_stats(pool, &stats);
    assert_int_equal(stats.workers, 1);
    assert_int_equal(stats.queued, 2);
    assert_int_equal(stats.running, 1);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(pool_active(pool), 0);
    unmake();
}

static void test_a_job_is_active_until_done_has_returned(void **state)
{
    (void)state;
    struct step s = {.job = step_job, .entered = &entered, .done_gate = &gate};

    make(1, 1);
    pool_watch_idle(pool, true);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    sem_wait(&entered);
    assert_int_equal(pool_active(pool), 1);
    assert_int_equal(pool_wait_idle(pool, in_ms(5)), -ETIMEDOUT);
    assert_int_equal(idle_calls, 0);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    assert_int_equal(s.active, 1);
    assert_int_equal(s.dones, 1);
    unmake();
}

static void test_wait_idle_times_out_with_a_stuck_worker(void **state)
{
    (void)state;
    struct step busy;

    make_busy(&busy, 1);
    assert_int_equal(pool_wait_idle(pool, 0), -ETIMEDOUT);
    uint64_t deadline_ns = in_ms(5);
    assert_int_equal(pool_wait_idle(pool, deadline_ns), -ETIMEDOUT);
    assert_true(now_ns() >= deadline_ns);
    sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    unmake();
}

static void test_wait_idle_of_an_idle_pool_returns_past_any_deadline(void **state)
{
    (void)state;
    make(1, 1);
    assert_int_equal(pool_wait_idle(pool, 0), 0);
    unmake();
}

static void test_wait_idle_never_misses_the_last_job(void **state)
{
    (void)state;
    make(2, 2);
    for (unsigned round = 0; round < 5000; round++) {
        struct step a = {.job = step_job}, b = {.job = step_job};
        assert_int_equal(pool_submit(pool, &a.job), 0);
        assert_int_equal(pool_submit(pool, &b.job), 0);
        dawdle(round * 2);
        assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
        assert_int_equal(a.dones + b.dones, 2);
    }
    unmake();
}

static void test_on_idle_is_called_only_while_watched(void **state)
{
    (void)state;
    struct step s = {.job = step_job};

    make(1, 1);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);

    assert_int_equal(pool_watch_idle(pool, true), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pool_submit(pool, &s.job), 0);
        sem_wait(&idle);
    }
    assert_int_equal(pool_watch_idle(pool, false), 0);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    unmake(); /* joins, so no call is still to come */
    assert_int_equal(idle_calls, 3);
}

static void test_on_idle_waits_for_the_last_of_several_jobs(void **state)
{
    (void)state;
    struct step a = {.job = step_job, .gate = &gate}, b = a;

    make(2, 2);
    assert_int_equal(pool_submit(pool, &a.job), 0);
    assert_int_equal(pool_submit(pool, &b.job), 0);
    assert_int_equal(pool_watch_idle(pool, true), 2);
    sem_post(&gate);
    sem_post(&gate);
    sem_wait(&idle);
    assert_int_equal(pool_active(pool), 0);
    unmake();
    assert_int_equal(idle_calls, 1);
}

/* The delay follows the answer, so it settles where the two sides meet. */
static void test_watch_idle_returns_the_count_or_the_call_comes(void **state)
{
    (void)state;
    unsigned promised = 0, was_idle = 0, delay = 0;

    make(1, 1);
    for (unsigned round = 0; round < 10000; round++) {
        struct step s = {.job = step_job};
        assert_int_equal(pool_submit(pool, &s.job), 0);
        dawdle(delay);
        if (pool_watch_idle(pool, true) > 0) {
            promised++;
            delay += 100;
            sem_wait(&idle);
        } else {
            was_idle++;
            delay -= delay / 16;
        }
        assert_int_equal(pool_watch_idle(pool, false), 0);
        assert_int_equal(s.dones, 1);
    }
    unmake();
    assert_int_equal(idle_calls, promised);
    assert_true(promised > 0); /* or the race was not played */
    assert_true(was_idle > 0);
}

static void test_a_pool_without_on_idle_can_be_watched(void **state)
{
    (void)state;
    const struct pool_config config = {.workers = 1, .queue = 1};
    struct step s = {.job = step_job};

    assert_int_equal(pool_create(&config, &pool), 0);
    assert_int_equal(pool_watch_idle(pool, true), 0);
    assert_int_equal(pool_submit(pool, &s.job), 0);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
    unmake();
}

/* ---- stopping ---- */

static void test_destroy_of_no_pool_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(pool_destroy(NULL, 0), 0);
}

static void test_destroy_runs_what_is_queued(void **state)
{
    (void)state;
    struct step busy, queued[50];

    make_busy(&busy, 50);
    for (unsigned i = 0; i < 50; i++) {
        queued[i] = (struct step){.job = step_job};
        assert_int_equal(pool_submit(pool, &queued[i].job), 0);
    }
    sem_post(&gate);
    unmake();
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(queued[i].dones, 1);
}

static void test_destroy_reports_a_stuck_worker_and_succeeds_when_it_ends(void **state)
{
    (void)state;
    struct step busy, queued = {.job = step_job}, late = {.job = step_job};

    make_busy(&busy, 1);
    assert_int_equal(pool_submit(pool, &queued.job), 0);
    assert_int_equal(pool_destroy(pool, in_ms(5)), -EBUSY);
    assert_int_equal(pool_destroy(pool, 0), -EBUSY);
    assert_int_equal(pool_submit(pool, &late.job), -ESHUTDOWN);
    assert_int_equal(pool_active(pool), 2);
    sem_post(&gate);
    unmake();
    assert_int_equal(busy.dones, 1);
    assert_int_equal(queued.dones, 1);
}

static void test_destroy_ends_every_sleeping_worker(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        make(16, 1);
        dawdle(round * 100);
        unmake();
    }
}

/* The last thing anybody hears of a job is its done(); the worker then still has to count it out
 * and to call on_idle(). */
static void test_destroy_may_follow_the_last_done_at_once(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct step s = {.job = step_job, .left = &left};
        make(1, 1);
        pool_watch_idle(pool, true);
        assert_int_equal(pool_submit(pool, &s.job), 0);
        sem_wait(&left);
        dawdle(round * 10);
        unmake();
    }
    assert_int_equal(idle_calls, 300);
}

#define claim(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_create_rejects_zero_workers),
        claim(test_create_rejects_too_many_workers),
        claim(test_create_rejects_a_queue_out_of_range),
        claim(test_create_rejects_a_name_the_kernel_would_cut),
        claim(test_create_leaves_no_thread_when_one_can_not_start),
        claim(test_create_leaves_the_callers_mask_alone),
        claim(test_jobs_that_run_at_once_have_workers_of_their_own),
        claim(test_workers_block_every_signal),
        claim(test_workers_carry_their_name),
        claim(test_a_wait_is_counted_from_when_the_job_came),
        claim(test_submit_after_close_is_refused),
        claim(test_full_queue_is_a_result_the_caller_sees),
        claim(test_a_full_queue_takes_jobs_again_once_it_has_room),
        claim(test_a_burst_fills_every_worker_and_then_the_queue),
        claim(test_jobs_run_in_order_with_one_worker),
        claim(test_as_many_jobs_as_workers_run_at_once),
        claim(test_started_tells_queued_from_running),
        claim(test_done_may_free_its_job),
        claim(test_done_may_submit_its_job_again),
        claim(test_many_submitters_lose_no_job),
        claim(test_cancel_wakes_a_waiting_job),
        claim(test_cancel_wakes_no_other_job),
        claim(test_cancel_of_a_queued_job_is_seen_when_it_runs),
        claim(test_cancel_after_done_was_entered_is_harmless),
        claim(test_a_job_can_be_submitted_again_without_its_old_cancel),
        claim(test_a_wait_that_nobody_cancels_lasts_its_time),
        claim(test_active_counts_queued_and_running),
        claim(test_a_job_is_active_until_done_has_returned),
        claim(test_wait_idle_times_out_with_a_stuck_worker),
        claim(test_wait_idle_of_an_idle_pool_returns_past_any_deadline),
        claim(test_wait_idle_never_misses_the_last_job),
        claim(test_on_idle_is_called_only_while_watched),
        claim(test_on_idle_waits_for_the_last_of_several_jobs),
        claim(test_watch_idle_returns_the_count_or_the_call_comes),
        claim(test_a_pool_without_on_idle_can_be_watched),
        claim(test_destroy_of_no_pool_is_allowed),
        claim(test_destroy_runs_what_is_queued),
        claim(test_destroy_reports_a_stuck_worker_and_succeeds_when_it_ends),
        claim(test_destroy_ends_every_sleeping_worker),
        claim(test_destroy_may_follow_the_last_done_at_once),
    };
    return cmocka_run_group_tests_name("pool", tests, group_setup, NULL);
}

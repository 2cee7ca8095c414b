/* The specification of pool.h, one claim a test: pools that are made, and jobs that are taken, run
 * and done. How one ends is in test_pool_stop.c. */

#include "with_pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "skip.h"

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
    const struct pool_config config = {.workers = 64, .queue = 1, .loops = 32};
    const unsigned threads_before = count_threads();
    struct pool *p = NULL;

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

static void test_create_leaves_no_thread_when_one_cannot_start(void **state)
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
        skip_test("RLIMIT_NPROC does not bind here");
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
    late.job.came_ns = now_ns() - 3 * s;  /* 2048 ms are too few, 4096 enough */
    lost.job.came_ns = now_ns() - 99 * s; /* beyond the last bound, 65.536 s */
    ahead.job.came_ns = now_ns() + 3600 * s;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_create_rejects_zero_workers),
        claim(test_create_rejects_too_many_workers),
        claim(test_create_rejects_a_queue_out_of_range),
        claim(test_create_rejects_a_name_the_kernel_would_cut),
        claim(test_create_leaves_no_thread_when_one_cannot_start),
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
    };
    return cmocka_run_group_tests_name("pool", tests, with_pool_begin, NULL);
}

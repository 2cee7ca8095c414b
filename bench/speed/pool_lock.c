#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "clock.h"
#include "pool.h"

/* How long is the pool's mutex held for a request, and how long does a cache line take from one
 * core to another?
 *
 *     submitters                pool                       workers
 *     pool_submit() ---> [ queue, one mutex ] ---> run() returns at once
 *         ^                                            |
 *         +---- stack of finished jobs, eventfd <------+ done()
 *
 * Submitters stand for loops: each keeps --inflight jobs in the pool, and submits a job again when
 * it comes back, through a stack and an eventfd like those of a loop (server/loop/doors.c).
 *
 * The pool is the product's own. The linker redirects its calls of pthread_mutex_lock(3) and
 * pthread_mutex_unlock(3) to the functions below (--wrap), which read the clock when the lock was
 * taken and when it was given back: not before, as the stores of the hold may be on their way until
 * then. If others wait, this includes waking one. The time that reading the clock adds is measured,
 * and subtracted.
 *
 * A hold includes the transfers of the cache lines that it touches and another core has. On one
 * core (taskset -c 0) there are none. With --apart submitters and workers have a core each; with
 * one job at a time, too, each hold finds its lines in the other core's cache, as it would with
 * many cores. --transfer measures one transfer. With --teams the pool has so many event loops,
 * which are never started: a submit that finds no worker to wake looks at each team. Jobs that
 * sleep
 * (--sleep-us) keep all workers busy. docs/bench/pool.md has the arithmetic. */

#define SAMPLES_MAX (1U << 17) /* a thread */
#define THREADS_MAX 256
#define INFLIGHT_MAX 4096

enum role { SUBMITTER, WORKER, ROLES };

struct holds {
    uint64_t count, contended;
    uint32_t *ticks; /* of the first SAMPLES_MAX holds */
    struct holds *next;
};

struct submitter;

struct job {
    struct pool_job super;
    struct submitter *from;
    struct job *next;
};

struct submitter {
    struct pool *pool;
    struct job *jobs;
    unsigned inflight;
    int fd;
    uint64_t done; /* jobs that came back */
    pthread_t thread;
    _Alignas(64) _Atomic(struct job *) finished; /* pushed by workers, taken by the submitter */
};

static unsigned submitter_core = UINT_MAX, worker_core = UINT_MAX; /* UINT_MAX: any */
static unsigned sleep_us; /* of a job; set before the threads start */
static _Atomic bool stopping;
static pthread_mutex_t all_mu = PTHREAD_MUTEX_INITIALIZER;
static struct holds *all_holds[ROLES]; /* all_mu; a list of those of each thread */

static _Thread_local struct holds *own; /* NULL: this thread is not measured */
static _Thread_local uint64_t held_since;
static _Thread_local bool is_contended;

/* ---- the clock ---- */

static inline uint64_t ticks(void)
{
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    return clock_now_ns();
#endif
}

static double ns_a_tick = 1;

static void calibrate(void)
{
    uint64_t from_ns = clock_now_ns(), from = ticks();
    while (clock_now_ns() - from_ns < 50 * NS_PER_MS)
        ;
    ns_a_tick = (double)(clock_now_ns() - from_ns) / (double)(ticks() - from);
}

/* What two readings of the clock are apart when nothing happens between them. */
static double clock_cost_ns(void)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t from = ticks(), gone = ticks() - from;
        least = gone < least ? gone : least;
    }
    return (double)least * ns_a_tick;
}

/* ---- the pool's lock, measured ---- */

int __real_pthread_mutex_lock(pthread_mutex_t *mu);
int __real_pthread_mutex_unlock(pthread_mutex_t *mu);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mu);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mu);

static void end_hold(void)
{
    if (own == NULL || held_since == 0)
        return;
    uint64_t gone = ticks() - held_since;
    if (own->count < SAMPLES_MAX)
        own->ticks[own->count] = gone < UINT32_MAX ? (uint32_t)gone : UINT32_MAX;
    own->count++;
    own->contended += is_contended;
    held_since = 0;
}

static void begin_hold(bool contended)
{
    is_contended = contended;
    held_since = ticks();
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mu)
{
    bool contended = own != NULL && pthread_mutex_trylock(mu) != 0;
    int err = own == NULL || contended ? __real_pthread_mutex_lock(mu) : 0;
    begin_hold(contended);
    return err;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mu)
{
    int err = __real_pthread_mutex_unlock(mu);
    end_hold();
    return err;
}

/* Of this thread, for the rest of the run. */
static struct holds *holds_create(enum role role)
{
    struct holds *holds = calloc(1, sizeof(*holds));
    if (holds == NULL || (holds->ticks = malloc(SAMPLES_MAX * sizeof(holds->ticks[0]))) == NULL)
        abort();
    (void)__real_pthread_mutex_lock(&all_mu);
    holds->next = all_holds[role];
    all_holds[role] = holds;
    (void)__real_pthread_mutex_unlock(&all_mu);
    return holds;
}

/* ---- cores ---- */

/* The core with this number among those that the process may use; UINT_MAX: it has fewer. */
static unsigned core_at(unsigned index)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        for (unsigned core = 0; core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, &set) && index-- == 0)
                return core;
    return UINT_MAX;
}

static void stay_on(unsigned core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
        (void)fprintf(stderr, "lastcall-pool-lock: cannot use core %u alone\n", core);
}

/* ---- jobs ---- */

/* A worker is measured from its first job on. */
static void run(struct pool_job *pool_job)
{
    (void)pool_job;
    if (sleep_us > 0)
        (void)usleep(sleep_us);
    if (own != NULL)
        return;
    if (worker_core != UINT_MAX)
        stay_on(worker_core);
    own = holds_create(WORKER);
}

static void ring(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void done(struct pool_job *pool_job)
{
    struct job *job = (struct job *)pool_job; /* the first member */
    struct submitter *from = job->from;
    struct job *head = atomic_load_explicit(&from->finished, memory_order_relaxed);

    do
        job->next = head;
    while (!atomic_compare_exchange_weak_explicit(&from->finished, &head, job, memory_order_release,
                                                  memory_order_relaxed));
    if (head == NULL)
        ring(from->fd);
}

static void submit(struct submitter *from, struct job *job)
{
    if (pool_submit(from->pool, &job->super) != 0)
        abort(); /* the queue has room for all */
}

static void *submitter_main(void *arg)
{
    struct submitter *self = arg;
    unsigned out = self->inflight;

    if (submitter_core != UINT_MAX)
        stay_on(submitter_core);
    own = holds_create(SUBMITTER);
    for (unsigned i = 0; i < self->inflight; i++)
        submit(self, &self->jobs[i]);
    while (out > 0) {
        uint64_t rings;
        while (read(self->fd, &rings, sizeof(rings)) < 0 && errno == EINTR)
            ;
        struct job *job = atomic_exchange_explicit(&self->finished, NULL, memory_order_acquire);
        bool last = atomic_load_explicit(&stopping, memory_order_relaxed);
        for (struct job *next; job != NULL; job = next) {
            next = job->next;
            self->done++;
            if (last)
                out--;
            else
                submit(self, job);
        }
    }
    return NULL;
}

static void start_submitter(struct submitter *self, struct pool *pool, unsigned inflight)
{
    *self = (struct submitter){.pool = pool,
                               .inflight = inflight,
                               .jobs = calloc(inflight, sizeof(struct job)),
                               .fd = eventfd(0, EFD_CLOEXEC)};
    if (self->jobs == NULL || self->fd < 0)
        abort();
    for (unsigned i = 0; i < inflight; i++)
        self->jobs[i] = (struct job){.super = {.run = run, .done = done}, .from = self};
    if (pthread_create(&self->thread, NULL, submitter_main, self) != 0)
        abort();
}

/* ---- results ---- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The holds of all threads of a role as one. Their number may be larger than that of the kept ones,
 * which is *ret_kept. */
static struct holds sum_holds(enum role role, size_t *ret_kept)
{
    struct holds sum = {0};
    size_t kept = 0;

    for (const struct holds *at = all_holds[role]; at != NULL; at = at->next) {
        size_t n = at->count < SAMPLES_MAX ? at->count : SAMPLES_MAX;
        sum.count += at->count;
        sum.contended += at->contended;
        sum.ticks = realloc(sum.ticks, (kept + n + 1) * sizeof(sum.ticks[0]));
        if (sum.ticks == NULL)
            abort();
        memcpy(sum.ticks + kept, at->ticks, n * sizeof(sum.ticks[0]));
        kept += n;
    }
    *ret_kept = kept;
    return sum;
}

/* Returns how long the lock is held for a job, in nanoseconds: the mean without the largest
 * thousandth, where the thread lost its processor while it held the lock. */
static double print_holds(const char *name, enum role role, uint64_t jobs)
{
    size_t n;
    struct holds holds = sum_holds(role, &n);
    double cost_ns = clock_cost_ns(), sum = 0;

    if (n == 0) {
        free(holds.ticks);
        return 0;
    }
    qsort(holds.ticks, n, sizeof(holds.ticks[0]), by_value);
    for (size_t i = 0; i < n - n / 1000; i++)
        sum += holds.ticks[i];
    double mean = sum / (double)(n - n / 1000) * ns_a_tick - cost_ns;
    (void)printf(
        "%-10s %.2f holds a job, %.0f ns each (median %.0f, p99 %.0f), %.1f %% had to wait\n", name,
        (double)holds.count / (double)jobs, mean, holds.ticks[n / 2] * ns_a_tick - cost_ns,
        holds.ticks[n - 1 - n / 100] * ns_a_tick - cost_ns,
        100.0 * (double)holds.contended / (double)holds.count);
    free(holds.ticks);
    return mean * (double)holds.count / (double)jobs;
}

static void measure_holds(unsigned submitters, unsigned workers, unsigned teams, unsigned inflight,
                          unsigned seconds)
{
    static struct submitter all[THREADS_MAX];
    const struct pool_config config = {
        .workers = workers, .queue = submitters * inflight, .loops = teams};
    struct pool *pool;
    uint64_t jobs = 0;

    if (pool_create(&config, &pool) != 0)
        abort();
    uint64_t from_ns = clock_now_ns();
    for (unsigned i = 0; i < submitters; i++)
        start_submitter(&all[i], pool, inflight);
    (void)sleep(seconds);
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < submitters; i++) {
        (void)pthread_join(all[i].thread, NULL);
        jobs += all[i].done;
        free(all[i].jobs);
        (void)close(all[i].fd);
    }
    double seconds_gone = (double)(clock_now_ns() - from_ns) / 1e9;
    (void)pool_destroy(pool, CLOCK_NEVER);
    (void)printf("%u submitters, %u workers, %u jobs in the pool: %.0f k jobs/s\n", submitters,
                 workers, submitters * inflight, (double)jobs / seconds_gone / 1e3);
    double of_submit = print_holds("submitter", SUBMITTER, jobs);
    double of_worker = print_holds("worker", WORKER, jobs);
    (void)printf(
        "%-10s %.0f ns a job: the lock alone allows %.0f k jobs/s; here it is held %.0f %% of "
        "the time\n",
        "together", of_submit + of_worker, 1e6 / (of_submit + of_worker),
        100 * (of_submit + of_worker) * (double)jobs / (seconds_gone * 1e9));
}

/* ---- one transfer ---- */

#define TURNS 1000000U
#define BURST 1000U /* turns that are timed together: shorter than a time slice */

static _Alignas(64) _Atomic unsigned turn;
static uint32_t bursts[TURNS / BURST]; /* nanoseconds; written by the player with parity 0 */

static void play(unsigned core, unsigned parity)
{
    stay_on(core);
    uint64_t from_ns = clock_now_ns();
    for (unsigned i = parity; i < TURNS; i += 2) {
        if (i % BURST == 0) {
            uint64_t now_ns = clock_now_ns();
            bursts[i / BURST] = (uint32_t)(now_ns - from_ns);
            from_ns = now_ns;
        }
        while (atomic_load_explicit(&turn, memory_order_acquire) != i)
            ;
        atomic_store_explicit(&turn, i + 1, memory_order_release);
    }
}

static void *other_player(void *core)
{
    play(*(unsigned *)core, 1);
    return NULL;
}

/* In a turn a player reads the line, which the other one has written, and writes it. Where others
 * use the cores as well, most bursts are disturbed: hence the tenth of all that was fastest. */
static int measure_transfer(void)
{
    unsigned first = core_at(0), second = core_at(1);
    pthread_t other;

    if (second == UINT_MAX) {
        (void)fprintf(stderr, "lastcall-pool-lock: a transfer needs two cores\n");
        return EX_UNAVAILABLE;
    }
    if (pthread_create(&other, NULL, other_player, &second) != 0)
        abort();
    play(first, 0);
    (void)pthread_join(other, NULL);
    size_t n = sizeof(bursts) / sizeof(bursts[0]);
    qsort(bursts, n, sizeof(bursts[0]), by_value);
    (void)printf("cores %u and %u: a line is read and written by the other core in %.0f ns "
                 "(median %.0f)\n",
                 first, second, (double)bursts[n / 10] / BURST, (double)bursts[n / 2] / BURST);
    return 0;
}

/* ---- main ---- */

static bool parse(const char *text, unsigned most, unsigned *ret_number)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < 1 || number > most)
        return false;
    *ret_number = (unsigned)number;
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"submitters", required_argument, NULL, 's'},
                                            {"workers", required_argument, NULL, 'w'},
                                            {"teams", required_argument, NULL, 'T'},
                                            {"inflight", required_argument, NULL, 'i'},
                                            {"sleep-us", required_argument, NULL, 'u'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"transfer", no_argument, NULL, 'x'},
                                            {"apart", no_argument, NULL, 'a'},
                                            {NULL, 0, NULL, 0}};
    unsigned submitters = 2, workers = 8, teams = 0, inflight = 32, seconds = 3;
    bool ok = true, transfer = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 's':
            ok &= parse(optarg, THREADS_MAX, &submitters);
            break;
        case 'w':
            ok &= parse(optarg, THREADS_MAX, &workers);
            break;
        case 'T':
            ok &= parse(optarg, THREADS_MAX, &teams);
            break;
        case 'u':
            ok &= parse(optarg, 1000000, &sleep_us);
            break;
        case 'i':
            ok &= parse(optarg, INFLIGHT_MAX, &inflight);
            break;
        case 't':
            ok &= parse(optarg, 3600, &seconds);
            break;
        case 'a':
            submitter_core = core_at(0);
            worker_core = core_at(1);
            break;
        case 'x':
            transfer = true;
            break;
        default:
            ok = false;
        }
    if (!ok || optind != argc) {
        (void)fprintf(stderr,
                      "usage: lastcall-pool-lock [--submitters N] [--workers N] [--teams N] "
                      "[--inflight N a submitter] [--sleep-us N] [--seconds N] [--apart] | "
                      "--transfer\n");
        return EX_USAGE;
    }
    if (transfer)
        return measure_transfer();
    calibrate();
    measure_holds(submitters, workers, teams, inflight, seconds);
    return 0;
}

/* The monitor: a thread that sees a placed job keep its loop waiting, and has another thread of the
 * team take the loop over. See place note and monitor note, pool_p.h.
 *
 * A job that is older than CANDIDATE_NS is a candidate. If its thread sleeps in the kernel, the
 * loop is taken away at once. If it computes, or waits for a processor, it will most likely be back
 * before another thread could be: it has a millisecond. Which of the two it is, /proc tells; that
 * takes some microseconds, so it is asked for candidates only.
 *
 * A look costs two or ten microseconds, as the machine's timers and switches cost, and displaces
 * what runs on that processor. So the monitor measures its own processor time, and looks as often
 * as a fiftieth of a processor allows. */

#include "pool_p.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "thread.h"

#define CANDIDATE_NS (100 * NS_PER_US)
#define COMPUTES_MOST_NS NS_PER_MS
#define PAUSE_LEAST_NS (100 * NS_PER_US)
#define PAUSE_MOST_NS (700 * NS_PER_US)
#define LOOKS_COST_MOST 50 /* a look and its share of the pause: one in so many */
#define LOOKS_A_MEASURE 64
/* So long without a change until it sleeps. Waking it costs the driver a system call. */
#define LINGER_NS (3 * NS_PER_MS)

/* ---- candidates ---- */

/* It may be another job's driver by now, a later one's: then the swap fails. */
static bool driver_sleeps(struct pool_team *team)
{
    const struct pool_worker *driver = atomic_load_explicit(&team->driver, memory_order_relaxed);
    return thread_state_of(atomic_load_explicit(&driver->tid, memory_order_relaxed)) ==
           THREAD_SLEEPS;
}

/* The swap, the count and the call are one step for whoever takes mu. */
static void hand_off(struct pool_team *team, uint64_t token, bool busy)
{
    struct pool *pool = team->pool;
    struct pool_worker *next = NULL;

    pool_lock(pool);
    /* seq_cst: acquires what the driver wrote before the job */
    if (atomic_compare_exchange_strong(&team->token, &token, token_with(token, TOKEN_FREE))) {
        pool->running++;
        team->left_busy = busy;
        (void)atomic_fetch_add_explicit(&team->handed_off, 1, memory_order_relaxed);
        /* One, not all: each that wakes for nothing keeps a processor from the others. */
        next = pool_unpark_locked(team);
    }
    pool_unlock(pool);
    pool_wake(next);
}

/* Returns true if the team's loop has begun a job since the last look, or is in one. */
static bool look(struct pool_team *team, uint64_t *seen, uint64_t now_ns)
{
    uint64_t token = atomic_load(&team->token);
    bool moves = token != *seen;

    *seen = token;
    if (token_state(token) != TOKEN_HANDLER)
        return moves;
    /* The driver wrote this before the token: it is this job's, or a later one's. */
    uint64_t begun_ns = atomic_load_explicit(&team->begun_ns, memory_order_relaxed);
    uint64_t age_ns = now_ns > begun_ns ? now_ns - begun_ns : 0;
    bool asleep = age_ns >= CANDIDATE_NS && driver_sleeps(team);
    if (asleep || age_ns >= COMPUTES_MOST_NS)
        hand_off(team, token, !asleep);
    return true;
}

static bool look_at_all(struct pool *pool, uint64_t *seen)
{
    uint64_t now_ns = clock_now_ns();
    bool moves = false;

    for (unsigned i = 0; i < pool->teams; i++)
        moves |= look(&pool->team[i], &seen[i], now_ns);
    return moves;
}

/* ---- its life ---- */

/* How often it looks. */
struct pace {
    uint64_t pause_ns;
    uint64_t used_ns; /* processor time at the last measure */
    unsigned looks;   /* since then */
};

static void measure(struct pace *pace)
{
    struct timespec used;

    if (++pace->looks < LOOKS_A_MEASURE)
        return;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    uint64_t used_ns = (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
    uint64_t pause_ns = (used_ns - pace->used_ns) / pace->looks * LOOKS_COST_MOST;
    pace->pause_ns = pause_ns < PAUSE_LEAST_NS  ? PAUSE_LEAST_NS
                     : pause_ns > PAUSE_MOST_NS ? PAUSE_MOST_NS
                                                : pause_ns;
    pace->used_ns = used_ns;
    pace->looks = 0;
}

/* seq_cst, all: see monitor note. */
static void sleep_until_a_job(struct pool *pool, uint64_t *seen)
{
    struct pool_monitor *monitor = &pool->monitor;

    atomic_store(&monitor->asleep, 1);
    if (look_at_all(pool, seen) || atomic_load(&monitor->stopping))
        atomic_store(&monitor->asleep, 0);
    while (atomic_load(&monitor->asleep) != 0)
        (void)futex_wait(&monitor->asleep, 1, UINT64_MAX);
}

static void *monitor_main(void *arg)
{
    struct pool *pool = arg;
    uint64_t *seen = calloc(pool->teams, sizeof(*seen));
    struct pace pace = {.pause_ns = PAUSE_LEAST_NS};
    uint64_t idle_ns = 0;

    REQUIRE(seen != NULL); /* a few bytes, at the start */
    /* By default the kernel may be 50 us late, to wake several threads at once. See prctl(2). */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    while (!atomic_load(&pool->monitor.stopping)) {
        thread_give_way(pool_is_busy(pool));
        const struct timespec pause = clock_timespec(pace.pause_ns);
        idle_ns = look_at_all(pool, seen) ? 0 : idle_ns + pace.pause_ns;
        if (idle_ns >= LINGER_NS) {
            thread_give_way(false);
            sleep_until_a_job(pool, seen);
            idle_ns = 0;
        }
        measure(&pace);
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    free(seen);
    return NULL;
}

int pool_monitor_start(struct pool *pool)
{
    int err = thread_start(&pool->monitor.thread, "monitor", monitor_main, pool);

    pool->monitor.started = err == 0;
    return err;
}

void pool_monitor_stop(struct pool *pool)
{
    if (!pool->monitor.started)
        return;
    atomic_store(&pool->monitor.stopping, true);
    pool_monitor_note(pool);
    pool_must(pthread_join(pool->monitor.thread, NULL));
    pool->monitor.started = false;
}

#include "watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "clock.h"
#include "loop.h"
#include "server_state.h"
#include "thread.h"

#define LOOKS_A_LIMIT 8
#define PERIOD_LEAST_NS (10 * NS_PER_MS)
#define PERIOD_MOST_NS (1 * NS_PER_S)

struct watchdog {
    /* immutable after watchdog_create */
    struct server *server;
    uint64_t limit_ns;
    uint64_t period_ns;
    unsigned loops, workers;
    struct watchdog_slot *slots; /* of the workers */
    /* main only */
    pthread_t thread;
    bool started;
    /* the watchdog's own */
    struct watchdog_track *tracks; /* loops, workers, the pool */
    enum watchdog_change *changes; /* of the loops, as of this look */
    uint64_t looked_ns;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t wake; /* stopping, or ended */
    bool stopping;
    bool ended; /* the thread has nothing left to do */
    /* atomic: written by the watchdog, read by any, relaxed: each stands for itself */
    _Atomic bool moving;
    _Atomic uint64_t count;
    _Atomic uint64_t looked_at_ns;
};

/* ---- slots, the rule ---- */

bool watchdog_slot_read(struct watchdog_slot *slot, struct watchdog_seen *ret_seen)
{
    const size_t words = WATCHDOG_PATH / sizeof(uint64_t);
    uint64_t method, path[WATCHDOG_PATH / sizeof(uint64_t)];

    /* acquire, all but the last: see slot note */
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
    uint64_t begun_ns = atomic_load_explicit(&slot->begun_ns, memory_order_acquire);
    uint64_t lengths = atomic_load_explicit(&slot->lengths, memory_order_acquire);
    method = atomic_load_explicit(&slot->method, memory_order_acquire);
    for (size_t i = 0; i < words; i++)
        path[i] = atomic_load_explicit(&slot->path[i], memory_order_acquire);
    if (turn % 2 != 0 || atomic_load_explicit(&slot->turn, memory_order_relaxed) != turn)
        return false;
    size_t m = lengths & 0xff, p = lengths >> 8;
    ret_seen->turn = turn;
    ret_seen->begun_ns = begun_ns;
    memcpy(ret_seen->text, &method, m);
    ret_seen->text[m] = ' ';
    memcpy(ret_seen->text + m + 1, path, p);
    ret_seen->text[m + 1 + p] = '\0';
    return true;
}

enum watchdog_change watchdog_track(struct watchdog_track *track, bool busy, uint64_t mark,
                                    uint64_t elapsed_ns, uint64_t limit_ns)
{
    if (!busy || !track->seen || mark != track->mark) {
        bool was_said = track->said;
        *track = (struct watchdog_track){.mark = mark, .seen = busy};
        return was_said ? WATCHDOG_OVER : WATCHDOG_NONE;
    }
    track->still_ns += elapsed_ns;
    if (track->said || track->still_ns < limit_ns)
        return WATCHDOG_NONE;
    track->said = true;
    return WATCHDOG_BEGAN;
}

struct watchdog_slot *watchdog_slot_of_worker(struct watchdog *watchdog, unsigned worker)
{
    return &watchdog->slots[worker];
}

/* ---- the log ---- */

static void count(struct watchdog *watchdog)
{
    (void)atomic_fetch_add_explicit(&watchdog->count, 1, memory_order_relaxed);
}

/* Returns false where nothing is mapped, or the kernel does not permit it. */
static bool copy_own(void *to, const void *from, size_t n)
{
    const struct iovec local = {.iov_base = to, .iov_len = n};
    const struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = n};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)n;
}

/* `METHOD path` of the last request that a loop began. See last note, watchdog.h. */
static bool read_last(struct watchdog_last *last, char text[WATCHDOG_TEXT])
{
    h2o_req_t copy; /* its pointers are for the kernel only */

    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_acquire);
    const h2o_req_t *req = atomic_load_explicit(&last->request, memory_order_acquire);
    if (req == NULL || !copy_own(&copy.input, &req->input, sizeof(copy.input)))
        return false;
    size_t m = copy.input.method.len < WATCHDOG_METHOD ? copy.input.method.len : WATCHDOG_METHOD;
    size_t p = copy.input.path.len < WATCHDOG_PATH ? copy.input.path.len : WATCHDOG_PATH;
    if (!copy_own(text, copy.input.method.base, m) ||
        !copy_own(text + m + 1, copy.input.path.base, p))
        return false;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&last->turn, memory_order_relaxed) != turn)
        return false;
    text[m] = ' ';
    text[m + 1 + p] = '\0';
    return true;
}

/* Other threads may not look at what a loop is doing. The last request that it began is known, and
 * is most often the cause. */
static void say_loop(struct watchdog *watchdog, unsigned i, enum watchdog_change change,
                     uint64_t still_ns)
{
    char text[CLOCK_TEXT_SIZE], last[WATCHDOG_TEXT];

    if (change == WATCHDOG_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over", json_pack("{s:s, s:i}", "what", "loop", "index", i),
                 "loop %u turns again", i);
        return;
    }
    count(watchdog);
    bool named = read_last(&watchdog->server->loops[i].watched.last, last);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:i, s:I, s:o*}", "what", "loop", "index", i, "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "last_request",
                       named ? log_json_text(last) : NULL),
             "loop %u has not turned for %s; the last request it began: %s", i,
             clock_format_duration(still_ns, text), named ? last : "none");
}

static void say_worker(struct watchdog *watchdog, unsigned i, enum watchdog_change change,
                       uint64_t still_ns, const struct watchdog_seen *seen)
{
    char text[CLOCK_TEXT_SIZE], age[CLOCK_TEXT_SIZE];

    if (change == WATCHDOG_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over",
                 json_pack("{s:s, s:i}", "what", "worker", "index", i),
                 "worker %u has finished that request", i);
        return;
    }
    uint64_t now_ns = clock_now_ns();
    uint64_t age_ns = now_ns > seen->begun_ns ? now_ns - seen->begun_ns : 0;
    count(watchdog);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:i, s:I, s:o, s:I}", "what", "worker", "index", i, "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "request", log_json_text(seen->text),
                       "age_ms", (json_int_t)(age_ns / NS_PER_MS)),
             "worker %u has been at %s for %s (the request's age is %s)", i, seen->text,
             clock_format_duration(still_ns, text), clock_format_duration(age_ns, age));
}

static void say_pool(struct watchdog *watchdog, enum watchdog_change change, uint64_t still_ns,
                     const struct pool_stats *stats)
{
    char text[CLOCK_TEXT_SIZE];

    if (change == WATCHDOG_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over", json_pack("{s:s}", "what", "pool"),
                 "the pool moves again");
        return;
    }
    count(watchdog);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:I, s:I}", "what", "pool", "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "queued", (json_int_t)stats->queued),
             "no job of the pool has finished for %s, and %zu wait for a worker",
             clock_format_duration(still_ns, text), stats->queued);
}

/* ---- the look ---- */

/* Returns whether it moves. The log lines are written after `moving`: writing them may block. */
static bool look_at_loop(struct watchdog *watchdog, unsigned i, uint64_t elapsed_ns)
{
    struct loop *loop = &watchdog->server->loops[i];
    struct watchdog_track *track = &watchdog->tracks[i];
    /* relaxed: only whether it has changed is of interest */
    uint64_t pongs = atomic_load_explicit(&loop->watched.pongs, memory_order_relaxed);
    bool asked_and_silent = track->seen && pongs == track->mark;

    watchdog->changes[i] = watchdog_track(track, true, pongs, elapsed_ns, watchdog->limit_ns);
    if (!asked_and_silent)
        loop_order(loop, ORDER_PING);
    return !track->said;
}

static void look_at_worker(struct watchdog *watchdog, unsigned i, uint64_t elapsed_ns)
{
    struct watchdog_track *track = &watchdog->tracks[watchdog->loops + i];
    struct watchdog_seen seen = {0};
    bool runs =
        watchdog_slot_read(watchdog_slot_of_worker(watchdog, i), &seen) && seen.begun_ns != 0;

    enum watchdog_change change =
        watchdog_track(track, runs, seen.turn, elapsed_ns, watchdog->limit_ns);
    if (change != WATCHDOG_NONE)
        say_worker(watchdog, i, change, track->still_ns, &seen);
}

static void look(struct watchdog *watchdog, uint64_t elapsed_ns)
{
    struct watchdog_track *pool_track = &watchdog->tracks[watchdog->loops + watchdog->workers];
    struct pool_stats stats;
    bool moving = true;

    for (unsigned i = 0; i < watchdog->loops; i++)
        moving &= look_at_loop(watchdog, i, elapsed_ns);
    pool_get_stats(watchdog->server->pool, &stats);
    enum watchdog_change pool =
        watchdog_track(pool_track, stats.queued > 0, stats.taken - stats.queued - stats.running,
                       elapsed_ns, watchdog->limit_ns);
    moving &= !pool_track->said;
    atomic_store_explicit(&watchdog->moving, moving, memory_order_relaxed);

    for (unsigned i = 0; i < watchdog->loops; i++)
        if (watchdog->changes[i] != WATCHDOG_NONE)
            say_loop(watchdog, i, watchdog->changes[i], watchdog->tracks[i].still_ns);
    if (pool != WATCHDOG_NONE)
        say_pool(watchdog, pool, pool_track->still_ns, &stats);
    for (unsigned i = 0; i < watchdog->workers; i++)
        look_at_worker(watchdog, i, elapsed_ns);
    atomic_store_explicit(&watchdog->looked_at_ns, clock_now_ns(), memory_order_relaxed);
}

/* Returns false when it is time to end. */
static bool sleep_a_period(struct watchdog *watchdog)
{
    struct timespec until = clock_timespec(clock_now_ns() + watchdog->period_ns);
    int err = 0;

    (void)pthread_mutex_lock(&watchdog->mu);
    while (!watchdog->stopping && err == 0)
        err = pthread_cond_timedwait(&watchdog->wake, &watchdog->mu, &until);
    bool goes_on = !watchdog->stopping;
    (void)pthread_mutex_unlock(&watchdog->mu);
    return goes_on;
}

static void *watchdog_thread(void *arg)
{
    struct watchdog *watchdog = arg;

    watchdog->looked_ns = clock_now_ns();
    do {
        uint64_t now_ns = clock_now_ns(), elapsed_ns = now_ns - watchdog->looked_ns;
        /* Longer, and this thread did not run; the others may not have run either. */
        if (elapsed_ns > 2 * watchdog->period_ns)
            elapsed_ns = 2 * watchdog->period_ns;
        watchdog->looked_ns = now_ns;
        look(watchdog, elapsed_ns);
    } while (sleep_a_period(watchdog));
    (void)pthread_mutex_lock(&watchdog->mu);
    watchdog->ended = true;
    (void)pthread_cond_signal(&watchdog->wake);
    (void)pthread_mutex_unlock(&watchdog->mu);
    return NULL;
}

/* ---- life ---- */

int watchdog_create(struct server *server, uint64_t limit_ns, struct watchdog **ret_watchdog)
{
    struct watchdog *watchdog = calloc(1, sizeof(*watchdog));
    if (watchdog == NULL)
        return -ENOMEM;
    watchdog->server = server;
    watchdog->limit_ns = limit_ns;
    watchdog->period_ns = limit_ns / LOOKS_A_LIMIT;
    if (watchdog->period_ns < PERIOD_LEAST_NS)
        watchdog->period_ns = PERIOD_LEAST_NS;
    if (watchdog->period_ns > PERIOD_MOST_NS)
        watchdog->period_ns = PERIOD_MOST_NS;
    watchdog->loops = (unsigned)server->config.threads;
    watchdog->workers = (unsigned)(server->config.workers + server->config.threads);
    watchdog->slots = aligned_alloc(64, watchdog->workers * sizeof(*watchdog->slots));
    watchdog->tracks = calloc(watchdog->loops + watchdog->workers + 1, sizeof(*watchdog->tracks));
    watchdog->changes = calloc(watchdog->loops, sizeof(*watchdog->changes));
    (void)pthread_mutex_init(&watchdog->mu, NULL);
    clock_cond_init(&watchdog->wake);
    if (watchdog->slots == NULL || watchdog->tracks == NULL || watchdog->changes == NULL) {
        watchdog_destroy(watchdog);
        return -ENOMEM;
    }
    memset(watchdog->slots, 0, watchdog->workers * sizeof(*watchdog->slots));
    atomic_init(&watchdog->moving, true);
    atomic_init(&watchdog->looked_at_ns, clock_now_ns());
    *ret_watchdog = watchdog;
    return 0;
}

int watchdog_start(struct watchdog *watchdog)
{
    int err = thread_start(&watchdog->thread, "watchdog", watchdog_thread, watchdog);

    watchdog->started = err == 0;
    return err;
}

int watchdog_stop(struct watchdog *watchdog, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    if (watchdog == NULL || !watchdog->started)
        return 0;
    (void)pthread_mutex_lock(&watchdog->mu);
    watchdog->stopping = true;
    (void)pthread_cond_signal(&watchdog->wake);
    while (!watchdog->ended && err == 0)
        err = pthread_cond_timedwait(&watchdog->wake, &watchdog->mu, &until);
    bool ended = watchdog->ended;
    (void)pthread_mutex_unlock(&watchdog->mu);
    if (!ended)
        return -EBUSY;
    (void)pthread_join(watchdog->thread, NULL);
    watchdog->started = false;
    return 0;
}

void watchdog_destroy(struct watchdog *watchdog)
{
    if (watchdog == NULL)
        return;
    (void)pthread_cond_destroy(&watchdog->wake);
    (void)pthread_mutex_destroy(&watchdog->mu);
    free(watchdog->changes);
    free(watchdog->tracks);
    free(watchdog->slots);
    free(watchdog);
}

/* ---- what others ask ---- */

bool watchdog_is_moving(struct watchdog *watchdog)
{
    uint64_t looked_at_ns = atomic_load_explicit(&watchdog->looked_at_ns, memory_order_relaxed);
    uint64_t now_ns = clock_now_ns();

    /* The watchdog itself has not run: most likely a log line blocks it, and may block the others.
     */
    if (now_ns > looked_at_ns &&
        now_ns - looked_at_ns > watchdog->limit_ns + 2 * watchdog->period_ns)
        return false;
    return atomic_load_explicit(&watchdog->moving, memory_order_relaxed);
}

uint64_t watchdog_count(struct watchdog *watchdog)
{
    return atomic_load_explicit(&watchdog->count, memory_order_relaxed);
}

#include "stall.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "server_p.h"

#define LOOKS_A_LIMIT 8
#define PERIOD_LEAST_NS (10 * NS_PER_MS)
#define PERIOD_MOST_NS (1 * NS_PER_S)

struct stall {
    /* immutable after stall_create */
    struct server *server;
    uint64_t limit_ns;
    uint64_t period_ns;
    unsigned loops, workers;
    struct stall_slot *slots; /* of the workers */
    /* main only */
    pthread_t thread;
    bool started;
    /* the watchdog's own */
    struct stall_track *tracks; /* loops, workers, the pool */
    enum stall_change *changes; /* of the loops, as of this look */
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

bool stall_slot_read(struct stall_slot *slot, struct stall_seen *ret_seen)
{
    const size_t words = STALL_PATH / sizeof(uint64_t);
    uint64_t method, path[STALL_PATH / sizeof(uint64_t)];

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

enum stall_change stall_track(struct stall_track *track, bool busy, uint64_t mark,
                              uint64_t elapsed_ns, uint64_t limit_ns)
{
    if (!busy || !track->seen || mark != track->mark) {
        bool was_said = track->said;
        *track = (struct stall_track){.mark = mark, .seen = busy};
        return was_said ? STALL_OVER : STALL_NONE;
    }
    track->still_ns += elapsed_ns;
    if (track->said || track->still_ns < limit_ns)
        return STALL_NONE;
    track->said = true;
    return STALL_BEGAN;
}

struct stall_slot *stall_slot_of_worker(struct stall *stall, unsigned worker)
{
    return &stall->slots[worker];
}

/* ---- what is said ---- */

static void count(struct stall *stall)
{
    (void)atomic_fetch_add_explicit(&stall->count, 1, memory_order_relaxed);
}

/* Returns false where there is nothing to be read, or the kernel does not let us. */
static bool copy_own(void *to, const void *from, size_t n)
{
    const struct iovec local = {.iov_base = to, .iov_len = n};
    const struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = n};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)n;
}

/* `METHOD path` of the last request that a loop began. See last note, stall.h. */
static bool read_last(struct stall_last *last, char text[STALL_TEXT])
{
    h2o_req_t copy; /* never to be followed but by the kernel */

    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_acquire);
    const h2o_req_t *req = atomic_load_explicit(&last->request, memory_order_acquire);
    if (req == NULL || !copy_own(&copy.input, &req->input, sizeof(copy.input)))
        return false;
    size_t m = copy.input.method.len < STALL_METHOD ? copy.input.method.len : STALL_METHOD;
    size_t p = copy.input.path.len < STALL_PATH ? copy.input.path.len : STALL_PATH;
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

/* What a loop is in the middle of nobody else may look at; the last request that it began is known,
 * and most often to blame. */
static void say_loop(struct stall *stall, unsigned i, enum stall_change change, uint64_t still_ns)
{
    char text[CLOCK_TEXT_SIZE], last[STALL_TEXT];

    if (change == STALL_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over", json_pack("{s:s, s:i}", "what", "loop", "index", i),
                 "loop %u turns again", i);
        return;
    }
    count(stall);
    bool named = read_last(&stall->server->loops[i].last, last);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:i, s:I, s:o*}", "what", "loop", "index", i, "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "last_request",
                       named ? log_json_text(last) : NULL),
             "loop %u has not turned for %s; the last request it began: %s", i,
             clock_format_duration(still_ns, text), named ? last : "none");
}

static void say_worker(struct stall *stall, unsigned i, enum stall_change change, uint64_t still_ns,
                       const struct stall_seen *seen)
{
    char text[CLOCK_TEXT_SIZE], age[CLOCK_TEXT_SIZE];

    if (change == STALL_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over",
                 json_pack("{s:s, s:i}", "what", "worker", "index", i), "worker %u is done with it",
                 i);
        return;
    }
    uint64_t now_ns = clock_now_ns();
    uint64_t age_ns = now_ns > seen->begun_ns ? now_ns - seen->begun_ns : 0;
    count(stall);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:i, s:I, s:o, s:I}", "what", "worker", "index", i, "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "request", log_json_text(seen->text),
                       "age_ms", (json_int_t)(age_ns / NS_PER_MS)),
             "worker %u has been at %s for %s (the request's age is %s)", i, seen->text,
             clock_format_duration(still_ns, text), clock_format_duration(age_ns, age));
}

static void say_pool(struct stall *stall, enum stall_change change, uint64_t still_ns,
                     const struct pool_stats *stats)
{
    char text[CLOCK_TEXT_SIZE];

    if (change == STALL_OVER) {
        log_line(LOG_LEVEL_WARN, "stall-over", json_pack("{s:s}", "what", "pool"),
                 "the pool moves again");
        return;
    }
    count(stall);
    log_line(LOG_LEVEL_WARN, "stalled",
             json_pack("{s:s, s:I, s:I}", "what", "pool", "for_ms",
                       (json_int_t)(still_ns / NS_PER_MS), "queued", (json_int_t)stats->queued),
             "no job of the pool has finished for %s, and %zu wait for a worker",
             clock_format_duration(still_ns, text), stats->queued);
}

/* ---- the look ---- */

/* What is found is said behind the look, when `moving` tells it already: a log may hold us up. */
static bool look_at_loop(struct stall *stall, unsigned i, uint64_t elapsed_ns)
{
    struct loop *loop = &stall->server->loops[i];
    struct stall_track *track = &stall->tracks[i];
    /* relaxed: only whether it has changed is of interest */
    uint64_t pongs = atomic_load_explicit(&loop->pongs, memory_order_relaxed);
    bool asked_and_silent = track->seen && pongs == track->mark;

    stall->changes[i] = stall_track(track, true, pongs, elapsed_ns, stall->limit_ns);
    if (!asked_and_silent)
        loop_order(loop, ORDER_PING);
    return !track->said;
}

static void look_at_worker(struct stall *stall, unsigned i, uint64_t elapsed_ns)
{
    struct stall_track *track = &stall->tracks[stall->loops + i];
    struct stall_seen seen = {0};
    bool runs = stall_slot_read(stall_slot_of_worker(stall, i), &seen) && seen.begun_ns != 0;

    enum stall_change change = stall_track(track, runs, seen.turn, elapsed_ns, stall->limit_ns);
    if (change != STALL_NONE)
        say_worker(stall, i, change, track->still_ns, &seen);
}

static void look(struct stall *stall, uint64_t elapsed_ns)
{
    struct stall_track *pool_track = &stall->tracks[stall->loops + stall->workers];
    struct pool_stats stats;
    bool moving = true;

    for (unsigned i = 0; i < stall->loops; i++)
        moving &= look_at_loop(stall, i, elapsed_ns);
    pool_get_stats(stall->server->pool, &stats);
    enum stall_change pool =
        stall_track(pool_track, stats.queued > 0, stats.taken - stats.queued - stats.running,
                    elapsed_ns, stall->limit_ns);
    moving &= !pool_track->said;
    atomic_store_explicit(&stall->moving, moving, memory_order_relaxed);

    for (unsigned i = 0; i < stall->loops; i++)
        if (stall->changes[i] != STALL_NONE)
            say_loop(stall, i, stall->changes[i], stall->tracks[i].still_ns);
    if (pool != STALL_NONE)
        say_pool(stall, pool, pool_track->still_ns, &stats);
    for (unsigned i = 0; i < stall->workers; i++)
        look_at_worker(stall, i, elapsed_ns);
    atomic_store_explicit(&stall->looked_at_ns, clock_now_ns(), memory_order_relaxed);
}

/* Returns false when it is time to end. */
static bool sleep_a_period(struct stall *stall)
{
    struct timespec until = clock_timespec(clock_now_ns() + stall->period_ns);
    int err = 0;

    (void)pthread_mutex_lock(&stall->mu);
    while (!stall->stopping && err == 0)
        err = pthread_cond_timedwait(&stall->wake, &stall->mu, &until);
    bool goes_on = !stall->stopping;
    (void)pthread_mutex_unlock(&stall->mu);
    return goes_on;
}

static void *watchdog_thread(void *arg)
{
    struct stall *stall = arg;

    (void)pthread_setname_np(pthread_self(), "watchdog");
    stall->looked_ns = clock_now_ns();
    do {
        uint64_t now_ns = clock_now_ns(), elapsed_ns = now_ns - stall->looked_ns;
        /* Longer, and we did not run: nor may have the others. */
        if (elapsed_ns > 2 * stall->period_ns)
            elapsed_ns = 2 * stall->period_ns;
        stall->looked_ns = now_ns;
        look(stall, elapsed_ns);
    } while (sleep_a_period(stall));
    (void)pthread_mutex_lock(&stall->mu);
    stall->ended = true;
    (void)pthread_cond_signal(&stall->wake);
    (void)pthread_mutex_unlock(&stall->mu);
    return NULL;
}

/* ---- life ---- */

int stall_create(struct server *server, uint64_t limit_ns, struct stall **ret_stall)
{
    struct stall *stall = calloc(1, sizeof(*stall));
    if (stall == NULL)
        return -ENOMEM;
    stall->server = server;
    stall->limit_ns = limit_ns;
    stall->period_ns = limit_ns / LOOKS_A_LIMIT;
    if (stall->period_ns < PERIOD_LEAST_NS)
        stall->period_ns = PERIOD_LEAST_NS;
    if (stall->period_ns > PERIOD_MOST_NS)
        stall->period_ns = PERIOD_MOST_NS;
    stall->loops = (unsigned)server->options->threads;
    stall->workers = (unsigned)server->options->workers;
    stall->slots = aligned_alloc(64, stall->workers * sizeof(*stall->slots));
    stall->tracks = calloc(stall->loops + stall->workers + 1, sizeof(*stall->tracks));
    stall->changes = calloc(stall->loops, sizeof(*stall->changes));
    (void)pthread_mutex_init(&stall->mu, NULL);
    clock_cond_init(&stall->wake);
    if (stall->slots == NULL || stall->tracks == NULL || stall->changes == NULL) {
        stall_destroy(stall);
        return -ENOMEM;
    }
    memset(stall->slots, 0, stall->workers * sizeof(*stall->slots));
    atomic_init(&stall->moving, true);
    atomic_init(&stall->looked_at_ns, clock_now_ns());
    *ret_stall = stall;
    return 0;
}

int stall_start(struct stall *stall)
{
    sigset_t all, before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = pthread_create(&stall->thread, NULL, watchdog_thread, stall);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    stall->started = err == 0;
    return -err;
}

int stall_stop(struct stall *stall, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    if (stall == NULL || !stall->started)
        return 0;
    (void)pthread_mutex_lock(&stall->mu);
    stall->stopping = true;
    (void)pthread_cond_signal(&stall->wake);
    while (!stall->ended && err == 0)
        err = pthread_cond_timedwait(&stall->wake, &stall->mu, &until);
    bool ended = stall->ended;
    (void)pthread_mutex_unlock(&stall->mu);
    if (!ended)
        return -EBUSY;
    (void)pthread_join(stall->thread, NULL);
    stall->started = false;
    return 0;
}

void stall_destroy(struct stall *stall)
{
    if (stall == NULL)
        return;
    (void)pthread_cond_destroy(&stall->wake);
    (void)pthread_mutex_destroy(&stall->mu);
    free(stall->changes);
    free(stall->tracks);
    free(stall->slots);
    free(stall);
}

/* ---- what others ask ---- */

bool stall_is_moving(struct stall *stall)
{
    uint64_t looked_at_ns = atomic_load_explicit(&stall->looked_at_ns, memory_order_relaxed);
    uint64_t now_ns = clock_now_ns();

    /* Who looks is held up as well: most likely by a log that nobody reads, as may be the others.
     */
    if (now_ns > looked_at_ns && now_ns - looked_at_ns > stall->limit_ns + 2 * stall->period_ns)
        return false;
    return atomic_load_explicit(&stall->moving, memory_order_relaxed);
}

uint64_t stall_count(struct stall *stall)
{
    return atomic_load_explicit(&stall->count, memory_order_relaxed);
}

/* Driving a loop, and the jobs that its driver runs. See place note, pool_p.h. */

#include "pool_p.h"

#include <stdio.h>

#include "fiber.h"
#include "thread.h"

/* As much as a thread has: libh2o puts whole paths on its stack. */
#define STACK_BYTES (8U << 20)

/* ---- the driver, on its native stack ---- */

static void name_thread(const char *prefix, unsigned number)
{
    char name[THREAD_NAME_SIZE + 16];

    (void)snprintf(name, sizeof(name), "%s-%u", prefix, number);
    name[THREAD_NAME_SIZE - 1] = '\0';
    (void)pthread_setname_np(pthread_self(), name); /* for people only */
}

bool pool_take_loop_locked(struct pool_worker *w)
{
    struct pool_team *team = w->team;
    uint64_t token = atomic_load(&team->token);

    REQUIRE(pool_holding == w->pool);
    if (token_state(token) != TOKEN_FREE)
        return false;
    /* Only a thread under mu changes FREE. The release orders this driver's number before the
     * token, for the monitor. */
    atomic_store_explicit(&team->driver, w, memory_order_relaxed);
    atomic_store(&team->token, token_with(token, TOKEN_DRIVEN));
    w->has_driven = true;
    return true;
}

/* Run the job that the body waits for. Returns true if the loop was kept. */
static bool run_placed(struct pool_worker *w, struct pool_job *job)
{
    struct pool_team *team = w->team;
    uint64_t token =
        token_with(atomic_load_explicit(&team->token, memory_order_relaxed), TOKEN_HANDLER) +
        TOKEN_STEP;

    job->ran = w;
    atomic_store_explicit(&team->begun_ns, job->placed_ns, memory_order_relaxed);
    atomic_store(&team->token, token); /* seq_cst, also for what comes next: see monitor note */
    pool_monitor_note(w->pool);
    job->run(job);
    /* acquire and release: nothing of run() is later than the swap */
    if (atomic_compare_exchange_strong(&team->token, &token, token_with(token, TOKEN_DRIVEN)))
        return true;
    job->done(job);
    return false;
}

static void add_permit(struct pool_team *team)
{
    struct pool *pool = team->pool;

    team_add_permit(team);
    if (__builtin_expect(atomic_load(&pool->waiting) == 0, 1)) /* seq_cst: see wake-up note */
        return;
    pool_lock(pool);
    struct pool_worker *woken = pool_wanted_locked(pool);
    pool_unlock(pool);
    pool_wake(woken);
}

/* What pool_place() returns in the body. */
static enum pool_placed outcomes[] = {POOL_NOT_PLACED, POOL_ENDED, POOL_LEFT, POOL_LEFT_BUSY};

bool pool_drive(struct pool_worker *w)
{
    struct pool_team *team = w->team;
    const struct pool_loop *loop = &team->loop;
    struct pool_job *job;
    bool kept = true;

    REQUIRE(pool_holding == NULL && pool_self == w); /* so no thread drives another team's loop */
    thread_give_way(team->gives_way);
    name_thread("loop", (unsigned)(team - team->pool->team));
    if (loop->driven != NULL)
        loop->driven(loop->arg);
    /* The first driver's value is not read. `left_busy` was written under mu, before this thread
     * found the token free there, and is not written again while this thread drives. */
    job = fiber_resume(team->fiber, &outcomes[team->left_busy ? POOL_LEFT_BUSY : POOL_LEFT]);
    while (job != NULL && (kept = run_placed(w, job))) {
        add_permit(team);
        job = fiber_resume(team->fiber, &outcomes[POOL_ENDED]);
    }
    if (job == NULL) /* the body has returned; nobody else changes DRIVEN */
        atomic_store(&team->token, token_with(atomic_load(&team->token), TOKEN_ENDED));
    if (loop->left != NULL)
        loop->left(loop->arg);
    name_thread(w->pool->name, (unsigned)(w - w->pool->worker));
    return !kept;
}

/* ---- the body, on the loop's stack ---- */

enum pool_placed pool_place(struct pool *pool, unsigned loop, struct pool_job *job)
{
    struct pool_team *team = &pool->team[loop];

    REQUIRE(loop < pool->teams && team->has_loop);
    if (!team_take_permit(team))
        return POOL_NOT_PLACED;
    job->owner = pool;
    job->placed_ns = clock_now_ns();
    /* relaxed, both: the token's store publishes them */
    atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
    atomic_store_explicit(&job->started, true, memory_order_relaxed);
    const enum pool_placed *outcome = fiber_yield(team->fiber, job);
    return *outcome;
}

void pool_set_busy(struct pool *pool, unsigned loop, bool busy)
{
    struct pool_team *team = &pool->team[loop];

    REQUIRE(loop < pool->teams && team->has_loop);
    if (team->gives_way == busy)
        return;
    team->gives_way = busy;
    (void)atomic_fetch_add_explicit(&pool->busy_loops, busy ? 1U : -1U, memory_order_relaxed);
    thread_give_way(busy); /* the body runs on its driver */
}

int pool_start_loop(struct pool *pool, unsigned loop, const struct pool_loop *what)
{
    struct pool_team *team = &pool->team[loop];

    REQUIRE(loop < pool->teams && team->has_loop && team->fiber == NULL);
    team->loop = *what;
    int err = fiber_create(STACK_BYTES, what->body, what->arg, &team->fiber);
    if (err != 0)
        return err;
    pool_lock(pool);
    atomic_store(&team->token, TOKEN_FREE);
    struct pool_worker *w = pool_unpark_locked(team); /* NULL: one is on its way, and will see it */
    pool_unlock(pool);
    pool_wake(w);
    return 0;
}

/* The token and the driver may change meanwhile: the answer is about a moment. */
bool pool_driver_is_awake(const struct pool *pool, unsigned loop, uint64_t *ret_used_ns)
{
    REQUIRE(loop < pool->teams);
    const struct pool_team *team = &pool->team[loop];
    enum token_state state = token_state(atomic_load(&team->token));
    const struct pool_worker *driver = atomic_load_explicit(&team->driver, memory_order_relaxed);

    *ret_used_ns = 0;
    if (state == TOKEN_ENDED || state == TOKEN_FREE || driver == NULL)
        return state == TOKEN_FREE;
    pid_t tid = atomic_load_explicit(&driver->tid, memory_order_relaxed);
    *ret_used_ns = thread_used_ns(tid);
    return thread_state_of(tid) == THREAD_AWAKE;
}

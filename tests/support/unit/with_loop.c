#include "with_loop.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "thread.h"

struct pool *make_with_loops(unsigned workers, unsigned queue, unsigned loops)
{
    const struct pool_config config = {.workers = workers,
                                       .queue = queue,
                                       .loops = loops,
                                       .on_idle = with_pool_on_idle,
                                       .on_idle_arg = &pool};
    assert_int_equal(pool_create(&config, &pool), 0);
    return pool;
}

void run_at_once(unsigned n)
{
    struct step s[64];

    for (unsigned i = 0; i < n; i++) {
        s[i] = (struct step){.job = step_job, .entered = &entered, .gate = &gate};
        assert_int_equal(pool_submit(pool, &s[i].job), 0);
    }
    for (unsigned i = 0; i < n; i++)
        sem_wait(&entered);
    for (unsigned i = 0; i < n; i++)
        sem_post(&gate);
    assert_int_equal(pool_wait_idle(pool, FOREVER), 0);
}

/* ---- the loop's functions ---- */

static void driven(void *arg)
{
    struct turner *t = arg;
    unsigned i = 0;

    t->driver = thread_self_id();
    while (i < t->drivers_count && t->drivers[i] != t->driver)
        i++;
    if (i < DRIVERS_MOST)
        t->drivers[i] = t->driver;
    t->drivers_count += i == t->drivers_count;
    atomic_fetch_add_explicit(&t->driven, 1, memory_order_relaxed);
}

/* The next driver may have the loop already. */
static void left_it(void *arg)
{
    struct turner *t = arg;
    atomic_fetch_add_explicit(&t->left, 1, memory_order_relaxed);
}

static void check_driver(struct turner *t)
{
    t->strayed += t->driver != thread_self_id();
}

static void body(void *arg)
{
    struct turner *t = arg;

    check_driver(t);
    t->script(t);
    check_driver(t);
    sem_post(&t->ended);
}

/* ---- the test's side ---- */

void turner_start(struct turner *t, unsigned index, void (*script)(struct turner *t), void *arg)
{
    *t = (struct turner){.index = index, .script = script, .arg = arg};
    sem_init(&t->gate, 0, 0);
    sem_init(&t->back, 0, 0);
    sem_init(&t->ended, 0, 0);
    const struct pool_loop loop = {.body = body, .driven = driven, .left = left_it, .arg = t};
    assert_int_equal(pool_start_loop(pool, index, &loop), 0);
}

void turner_wait(struct turner *t)
{
    sem_wait(&t->ended);
}

void turner_end(struct turner *t)
{
    assert_null(pool);
    assert_int_equal(t->strayed, 0);
    assert_int_equal(t->driven, t->left);
    assert_int_equal(t->driven, t->outcomes[POOL_LEFT] + 1);
    assert_true(t->drivers_count <= DRIVERS_MOST);
    sem_destroy(&t->gate);
    sem_destroy(&t->back);
    sem_destroy(&t->ended);
}

unsigned team_of(unsigned worker, unsigned workers, unsigned loops)
{
    unsigned team = 0, end = 0;

    for (;; team++) {
        end += workers / loops + (team < workers % loops) + 1;
        if (worker < end)
            return team;
    }
}

/* ---- the script's side ---- */

enum pool_placed turner_place(struct turner *t, struct pool_job *job)
{
    enum pool_placed outcome = pool_place(pool, t->index, job);
    if (outcome == POOL_LEFT_BUSY) { /* the claims are about both */
        t->left_busy++;
        outcome = POOL_LEFT;
    }

    check_driver(t);
    t->outcomes[outcome]++;
    return outcome;
}

enum pool_placed turner_place_surely(struct turner *t, struct pool_job *job)
{
    enum pool_placed outcome;

    while ((outcome = turner_place(t, job)) == POOL_NOT_PLACED)
        sched_yield();
    return outcome;
}

void turner_hand_off(struct turner *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct step s = {.job = step_job, .gate = &t->gate, .left = &t->back};
        (void)turner_place_surely(t, &s.job);
        sem_post(&t->gate);
        sem_wait(&t->back);
    }
}

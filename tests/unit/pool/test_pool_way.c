/* Which threads of the pool give way when they wake up, and when: see way note, pool_p.h. A thread
 * that does has the policy SCHED_BATCH, others have SCHED_OTHER. */

#include "with_loop.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "thread.h"

/* A step that also notes the policy of the thread that runs it. */
struct look {
    struct step s; /* first */
    int policy;
};

static void look_run(struct pool_job *job)
{
    struct look *look = (struct look *)job;

    look->policy = sched_getscheduler(0);
    step_job.run(job);
}

/* done() posts `over`. */
static struct look make_look(sem_t *over)
{
    struct look look = {.s = {.job = step_job, .left = over}};

    look.s.job.run = look_run;
    return look;
}

/* ---- one loop ---- */

struct ways {
    /* of jobs in place and of the queue: before the loop is busy, while it is, afterwards */
    int placed[3], queued[3];
    enum pool_placed outcome;
    int body;
    struct step blocks;
    struct look look;
};

/* The monitor may take the loop from a thread that loses its processor in the job. Then that thread
 * ends the job, and done() posts `back`. */
static int policy_of_a_placed_job(struct turner *t)
{
    struct look look = make_look(&t->back);

    if (turner_place_surely(t, &look.s.job) == POOL_LEFT)
        sem_wait(&t->back);
    return look.policy;
}

/* -1: it was refused. */
static int policy_of_a_queued_job(struct turner *t)
{
    struct look look = make_look(&t->back);

    if (pool_submit(pool, &look.s.job) != 0)
        return -1;
    sem_wait(&t->back);
    return look.policy;
}

static void is_busy_for_a_while(struct turner *t)
{
    struct ways *ways = t->arg;

    for (unsigned i = 0; i < 3; i++) {
        pool_set_busy(pool, t->index, i == 1);
        pool_set_busy(pool, t->index, i == 1); /* to say it again changes nothing */
        ways->placed[i] = policy_of_a_placed_job(t);
        ways->queued[i] = policy_of_a_queued_job(t);
    }
}

static struct ways ways_of_a_loop(void)
{
    struct turner t;
    struct ways ways = {.outcome = POOL_NOT_PLACED};

    make_with_loops(1, 1, 1); /* so there is one worker beside the loop, and it knows each state */
    turner_start(&t, 0, is_busy_for_a_while, &ways);
    turner_wait(&t);
    unmake();
    turner_end(&t);
    return ways;
}

static void test_no_thread_gives_way_at_first(void **state)
{
    (void)state;
    struct ways ways = ways_of_a_loop();
    assert_int_equal(ways.placed[0], SCHED_OTHER);
    assert_int_equal(ways.queued[0], SCHED_OTHER);
}

static void test_a_busy_loop_gives_way(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_loop().placed[1], SCHED_BATCH);
}

static void test_a_worker_gives_way_while_a_loop_is_busy(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_loop().queued[1], SCHED_BATCH);
}

static void test_a_loop_that_is_not_busy_any_more_does_not_give_way(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_loop().placed[2], SCHED_OTHER);
}

static void test_a_worker_does_not_give_way_when_no_loop_is_busy_any_more(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_loop().queued[2], SCHED_OTHER);
}

/* ---- two loops ---- */

/* Each script has its turn after the other's: `gate` of one is posted by the other. */
struct pair {
    struct turner t[2];
    int placed, queued; /* of the second loop, while only the first one is busy */
    int after;          /* of the queue, when the first one is not any more, but the second is */
};

static void is_busy_first(struct turner *t)
{
    struct pair *pair = t->arg;

    pool_set_busy(pool, 0, true);
    sem_post(&pair->t[1].gate);
    sem_wait(&t->gate);
    pool_set_busy(pool, 0, false);
    pair->after = policy_of_a_queued_job(t);
}

static void is_busy_second(struct turner *t)
{
    struct pair *pair = t->arg;

    sem_wait(&t->gate);
    turner_hand_off(t, 1); /* a driver that begins now sees that a loop is busy */
    pair->placed = policy_of_a_placed_job(t);
    pair->queued = policy_of_a_queued_job(t);
    pool_set_busy(pool, 1, true);
    sem_post(&pair->t[0].gate);
}

static void run_pair(struct pair *pair)
{
    make_with_loops(2, 1, 2);
    turner_start(&pair->t[1], 1, is_busy_second, pair); /* it waits for the other one */
    turner_start(&pair->t[0], 0, is_busy_first, pair);
    for (unsigned i = 0; i < 2; i++)
        turner_wait(&pair->t[i]);
    unmake();
    for (unsigned i = 0; i < 2; i++)
        turner_end(&pair->t[i]);
}

static void test_a_loop_that_is_not_busy_does_not_give_way_because_another_is(void **state)
{
    struct pair pair = {0};

    (void)state;
    run_pair(&pair);
    assert_int_equal(pair.placed, SCHED_OTHER);
    assert_int_equal(pair.queued, SCHED_BATCH);
}

static void test_workers_give_way_until_the_last_loop_is_not_busy_any_more(void **state)
{
    struct pair pair = {0};

    (void)state;
    run_pair(&pair);
    assert_int_equal(pair.after, SCHED_BATCH);
}

/* ---- hand-offs ---- */

/* Of one worker, the team has two threads: one is left with the first job, so the other drives. As
 * long as the body blocks, only the one that was left can run the second job. By then the loop is
 * busy. */
static void leaves_a_thread_to_the_queue(struct turner *t)
{
    struct ways *ways = t->arg;

    ways->blocks = (struct step){.job = step_job, .gate = &t->gate, .left = &t->back};
    ways->outcome = turner_place_surely(t, &ways->blocks.job);
    ways->body = sched_getscheduler(0);
    sem_post(&t->gate);
    sem_wait(&t->back);
    pool_set_busy(pool, t->index, true);
    ways->look = make_look(&t->back);
    if (pool_submit(pool, &ways->look.s.job) == 0)
        sem_wait(&t->back);
}

static void is_busy_and_leaves_a_thread(struct turner *t)
{
    pool_set_busy(pool, t->index, true);
    leaves_a_thread_to_the_queue(t);
}

/* The thread that takes over has run a job while the loop was busy, so it gives way itself. */
static void was_busy_and_leaves_a_thread(struct turner *t)
{
    pool_set_busy(pool, t->index, true);
    (void)policy_of_a_queued_job(t);
    pool_set_busy(pool, t->index, false);
    leaves_a_thread_to_the_queue(t);
}

static struct ways ways_of_a_hand_off(void (*script)(struct turner *t))
{
    struct turner t;
    struct ways ways = {.outcome = POOL_NOT_PLACED};

    make_with_loops(1, 1, 1);
    turner_start(&t, 0, script, &ways);
    turner_wait(&t);
    unmake();
    turner_end(&t);
    assert_int_equal(ways.outcome, POOL_LEFT);
    assert_int_equal(ways.look.s.runs, 1);
    assert_int_equal(ways.look.s.thread[0], ways.blocks.thread[0]);
    return ways;
}

static void test_the_next_driver_of_a_busy_loop_gives_way(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_hand_off(is_busy_and_leaves_a_thread).body, SCHED_BATCH);
}

static void test_the_next_driver_of_a_loop_that_is_not_busy_does_not_give_way(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_hand_off(was_busy_and_leaves_a_thread).body, SCHED_OTHER);
}

static void test_a_thread_that_was_left_gives_way_like_any_worker(void **state)
{
    (void)state;
    assert_int_equal(ways_of_a_hand_off(was_busy_and_leaves_a_thread).look.policy, SCHED_BATCH);
}

/* ---- a thread that is started by one that gives way ---- */

/* A job that submits another one, and has it started on a new thread, since all others are taken.
 */
struct starter {
    struct pool_job job; /* first */
    sem_t *over;         /* done() posts it */
    struct look next;
};

static void starter_run(struct pool_job *job)
{
    struct starter *starter = (struct starter *)job;

    sem_post(&entered);
    sem_wait(&gate);
    if (pool_submit(pool, &starter->next.s.job) == 0)
        sem_wait(&left);
}

static void starter_done(struct pool_job *job)
{
    sem_post(((struct starter *)job)->over);
}

/* It begins while the loop is busy, and submits the other job afterwards. */
static void starts_a_thread_when_it_is_not_busy_any_more(struct turner *t)
{
    struct starter *starter = t->arg;

    starter->over = &t->back;
    pool_set_busy(pool, t->index, true);
    if (pool_submit(pool, &starter->job) != 0)
        return;
    sem_wait(&entered);
    pool_set_busy(pool, t->index, false);
    sem_post(&gate);
    sem_wait(&t->back);
}

static void test_a_new_thread_does_not_give_way_because_its_creator_does(void **state)
{
    struct turner t;
    struct starter starter = {.job = {.run = starter_run, .done = starter_done},
                              .next = make_look(&left)};

    (void)state;
    make_with_loops(2, 1, 1);
    turner_start(&t, 0, starts_a_thread_when_it_is_not_busy_any_more, &starter);
    turner_wait(&t);
    unmake();
    turner_end(&t);
    assert_int_equal(starter.next.s.runs, 1);
    assert_int_equal(starter.next.policy, SCHED_OTHER);
}

/* ---- a policy that somebody chose ---- */

struct creation {
    int policy, err;
};

/* Its own thread: back from some policies, only root can come. */
static void *create(void *arg)
{
    static const struct sched_param none;
    static const struct pool_config config = {.workers = 1, .queue = 1, .loops = 1};
    struct creation *creation = arg;

    creation->err = sched_setscheduler(0, creation->policy, &none);
    if (creation->err == 0)
        creation->err = pool_create(&config, &pool);
    return NULL;
}

static void test_the_policy_of_its_creator_stays_if_it_is_not_the_usual_one(void **state)
{
    struct creation creation = {.policy = SCHED_BATCH};
    struct turner t;
    struct ways ways = {.outcome = POOL_NOT_PLACED};
    pthread_t creator;

    (void)state;
    assert_int_equal(pthread_create(&creator, NULL, create, &creation), 0);
    assert_int_equal(pthread_join(creator, NULL), 0);
    assert_int_equal(creation.err, 0);
    turner_start(&t, 0, is_busy_for_a_while, &ways);
    turner_wait(&t);
    unmake();
    turner_end(&t);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ways.placed[i], SCHED_BATCH);
        assert_int_equal(ways.queued[i], SCHED_BATCH);
    }
}

/* ---- */

/* Tests that somebody runs with another policy would show nothing. */
static int begin(void **state)
{
    static const struct sched_param none;

    return sched_setscheduler(0, SCHED_OTHER, &none) != 0 ? -1 : with_pool_begin(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_no_thread_gives_way_at_first),
        claim(test_a_busy_loop_gives_way),
        claim(test_a_worker_gives_way_while_a_loop_is_busy),
        claim(test_a_loop_that_is_not_busy_any_more_does_not_give_way),
        claim(test_a_worker_does_not_give_way_when_no_loop_is_busy_any_more),
        claim(test_a_loop_that_is_not_busy_does_not_give_way_because_another_is),
        claim(test_workers_give_way_until_the_last_loop_is_not_busy_any_more),
        claim(test_the_next_driver_of_a_busy_loop_gives_way),
        claim(test_the_next_driver_of_a_loop_that_is_not_busy_does_not_give_way),
        claim(test_a_thread_that_was_left_gives_way_like_any_worker),
        claim(test_a_new_thread_does_not_give_way_because_its_creator_does),
        claim(test_the_policy_of_its_creator_stays_if_it_is_not_the_usual_one),
    };
    return cmocka_run_group_tests_name("pool_way", tests, begin, NULL);
}

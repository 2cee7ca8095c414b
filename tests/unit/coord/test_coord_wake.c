/* The specification of coord.h, one claim a test: what wakes the coordinator, and which waiters and
 * observers it wakes. A lost wake-up shows as a hang, which alarm(2) ends. */

#include "with_coord.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

/* ---- wake-ups: see the poke note in coord.c ---- */

static void play_quiet_before_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    } else if (call == FINISH) { /* the look that follows takes the poke away, and must see it */
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_before_the_look_is_seen(void **state)
{
    (void)state;
    fake.play = play_quiet_before_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 1);
}

static void play_quiet_after_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_between_look_and_sleep_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_quiet_after_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 2);
}

static void play_quiet_after_the_decision(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    } else if (call == LIST) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_between_decision_and_sleep_is_not_lost(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.progress_ns = 1;
    fake.play = play_quiet_after_the_decision;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(count_calls(LIST), 1);
}

static void play_listener_closes_after_the_look(struct fake *f, enum call call,
                                                enum coord_phase phase)
{
    if (call == CENSUS && phase == PHASE_CLOSING && f->acts++ == 0) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_for_the_last_listener_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_listener_closes_after_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.looks[PHASE_CLOSING], 2);
}

static void play_request_after_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_RUNNING && f->acts++ == 0)
        coord_poke(f->coord); /* for nothing: a second look */
    else if (call == CENSUS && phase == PHASE_RUNNING && f->acts == 2)
        coord_request_drain(f->coord, "test", "");
}

static void test_request_between_look_and_sleep_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_request_after_the_look;
    make(ordinary);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
}

static void play_pokes_for_nothing(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING) {
        coord_poke(f->coord);
        if (++f->acts == 1000)
            set_counts(f, 0, 0, 0);
    }
}

static void test_pokes_for_nothing_end_nothing(void **state)
{
    (void)state;
    fake.play = play_pokes_for_nothing;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 1001);
    assert_calls("lame-duck close finish");
}

/* Lets the other side of a race get a little further: some nanoseconds a turn. */
static void dawdle(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

static struct {
    sem_t go;
    unsigned turns;
} poker;

static void *poke_later(void *arg)
{
    struct fake *f = arg;
    while (sem_wait(&poker.go) != 0)
        ;
    dawdle(poker.turns);
    set_counts(f, 0, 0, 0);
    coord_poke(f->coord);
    return NULL;
}

static void play_starts_the_poker(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0)
        sem_post(&poker.go);
}

/* The poke falls anywhere between the look and the depth of the sleep. */
static void test_poke_that_races_the_sleep_is_never_lost(void **state)
{
    (void)state;
    sem_init(&poker.go, 0, 0);
    fake.play = play_starts_the_poker;
    for (unsigned round = 0; round < 400; round++) {
        pthread_t thread;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        fake.call_count = 0;
        poker.turns = round * 20;
        assert_int_equal(pthread_create(&thread, NULL, poke_later, &fake), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        pthread_join(thread, NULL);
        assert_int_equal(status, EXIT_STATUS_CLEAN);
    }
    sem_destroy(&poker.go);
}

static atomic_bool looking; /* not a semaphore: the window is shorter than a wake-up */

static void *undrain_later(void *arg)
{
    while (!atomic_load(&looking))
        ;
    dawdle(poker.turns);
    undone[0] = coord_undrain(arg);
    undone[1] = false;
    if (undone[0]) { /* no trigger is left, so it stays running while this waits */
        undone[1] = coord_wait_phase(arg, PHASE_CLOSING, clock_now_ns() + NS_PER_MS) == 0;
        coord_request_drain(arg, "test", "so that it ends");
    }
    return NULL;
}

static void play_starts_the_undrain(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_RUNNING && f->acts++ == 0)
        atomic_store(&looking, true);
}

static void test_an_undrain_that_returned_true_has_undone_the_drain(void **state)
{
    (void)state;
    fake.play = play_starts_the_undrain;
    for (unsigned round = 0; round < 500; round++) {
        pthread_t thread;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        atomic_store(&looking, false);
        fake.call_count = 0;
        poker.turns = round % 100;
        assert_int_equal(pthread_create(&thread, NULL, undrain_later, coord), 0);
        coord_request_drain(coord, "undone", "");
        (void)coord_run(coord);
        pthread_join(thread, NULL);
        if (undone[0] && undone[1])
            fail_msg("undone, and closed even so, in round %u", round);
    }
}

#define CLIENTS 4
#define REQUESTS 2000

static void *end_requests(void *arg)
{
    struct fake *f = arg;
    for (int i = 0; i < REQUESTS; i++) {
        pthread_mutex_lock(&f->mu);
        f->now.active--;
        f->now.answered++;
        f->now.connections--;
        pthread_mutex_unlock(&f->mu);
        coord_poke(f->coord);
    }
    return NULL;
}

static void test_the_last_of_many_requests_ends_the_drain(void **state)
{
    (void)state;
    pthread_t threads[CLIENTS];
    fake.play = play_many_requests;
    set_counts(&fake, 1, CLIENTS * REQUESTS, CLIENTS * REQUESTS);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, end_requests, &fake), 0);
    int status = coord_run(coord);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(status, EXIT_STATUS_CLEAN);
    assert_int_equal(fake.now.answered, CLIENTS * REQUESTS);
}

static void *signal_once(void *arg)
{
    coord_signal(arg, SIGTERM, 1);
    return NULL;
}

static void test_two_signals_at_once_are_the_first_and_the_second(void **state)
{
    (void)state;
    fake.play = play_busy;
    for (int round = 0; round < 50; round++) {
        pthread_t one, other;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.call_count = 0;
        assert_int_equal(pthread_create(&one, NULL, signal_once, coord), 0);
        assert_int_equal(pthread_create(&other, NULL, signal_once, coord), 0);
        int status = coord_run(coord);
        pthread_join(one, NULL);
        pthread_join(other, NULL);
        assert_int_equal(status, EXIT_STATUS_FORCED);
    }
}

/* ---- waiting for a phase ---- */

static void test_waiting_for_the_present_phase_returns_past_any_deadline(void **state)
{
    (void)state;
    make(ordinary);
    assert_int_equal(coord_wait_phase(coord, PHASE_RUNNING, 0), 0);
}

static void test_waiting_for_a_phase_that_does_not_come_times_out(void **state)
{
    (void)state;
    make(ordinary);
    uint64_t until_ns = clock_now_ns() + 2 * NS_PER_MS;
    assert_int_equal(coord_wait_phase(coord, PHASE_CLOSING, until_ns), -ETIMEDOUT);
    assert_true(clock_now_ns() >= until_ns);
    assert_int_equal(coord_wait_phase(coord, PHASE_CLOSING, 0), -ETIMEDOUT);
}

static int waited[2];

static void *wait_for_done(void *arg)
{
    waited[0] = coord_wait_phase(arg, PHASE_DONE, CLOCK_NEVER);
    return NULL;
}

static void *wait_for_lame_duck(void *arg)
{
    waited[1] = coord_wait_phase(arg, PHASE_LAME_DUCK, CLOCK_NEVER);
    return NULL;
}

static void test_a_wait_for_a_phase_ends_with_it_or_a_later_one(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        pthread_t one, other;
        coord_destroy(coord);
        make(ordinary); /* without a lame duck: that phase is passed over */
        set_counts(&fake, 1, 1, 1);
        fake.call_count = 0;
        waited[0] = waited[1] = -1;
        assert_int_equal(pthread_create(&one, NULL, wait_for_done, coord), 0);
        assert_int_equal(pthread_create(&other, NULL, wait_for_lame_duck, coord), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        pthread_join(one, NULL);
        pthread_join(other, NULL);
        assert_int_equal(status, EXIT_STATUS_CLEAN);
        assert_int_equal(waited[0], 0);
        assert_int_equal(waited[1], 0);
    }
}

/* ---- with a pool ---- */

static struct {
    struct pool *pool;
    sem_t gate;     /* the job's run() waits for it */
    sem_t idle;     /* on_idle() posts it, after its poke */
    atomic_int ran; /* jobs, written by the workers, read by the coordinator's thread */
} works;

static void job_run(struct pool_job *job)
{
    (void)job;
    while (sem_wait(&works.gate) != 0)
        ;
}

static void job_done(struct pool_job *job)
{
    (void)job;
    atomic_fetch_add(&works.ran, 1);
}

static void on_idle(void *arg)
{
    coord_poke(arg);
    sem_post(&works.idle);
}

static void open_works(void)
{
    const struct pool_config config = {
        .workers = 2, .queue = 8, .on_idle = on_idle, .on_idle_arg = coord};
    sem_init(&works.gate, 0, 0);
    sem_init(&works.idle, 0, 0);
    atomic_store(&works.ran, 0);
    assert_int_equal(pool_create(&config, &works.pool), 0);
    coord_attach_pool(coord, works.pool);
}

static void close_works(void)
{
    assert_int_equal(pool_destroy(works.pool, UINT64_MAX), 0);
    sem_destroy(&works.gate);
    sem_destroy(&works.idle);
}

/* The server is quiet from the first; the job ends between decision and sleep, or later. */
static void play_pool(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == LIST && phase == PHASE_DRAINING && f->acts++ == 0) {
        sem_post(&works.gate);
        while (sem_wait(&works.idle) != 0) /* the poke has come before the sleep */
            ;
    }
}

static void test_pool_that_falls_idle_wakes_the_coordinator(void **state)
{
    (void)state;
    struct pool_job job = {.run = job_run, .done = job_done};
    struct coord_config config = ordinary;
    config.progress_ns = 1;
    fake.play = play_pool;
    make(config);
    open_works();
    assert_int_equal(pool_submit(works.pool, &job), 0);
    coord_request_drain(coord, "test", "");
    int status = coord_run(coord);
    close_works();
    assert_int_equal(status, EXIT_STATUS_CLEAN);
    assert_int_equal(fake.acts, 1);
    assert_int_equal(works.ran, 1);
    assert_calls("lame-duck close finish list");
}

static void play_pool_race(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0)
        sem_post(&works.gate);
}

/* The worker runs against the coordinator's way into its sleep. */
static void test_pool_that_falls_idle_at_any_moment_wakes_the_coordinator(void **state)
{
    (void)state;
    fake.play = play_pool_race;
    for (unsigned round = 0; round < 200; round++) {
        struct pool_job job = {.run = job_run, .done = job_done};
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        fake.call_count = 0;
        open_works();
        assert_int_equal(pool_submit(works.pool, &job), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        int ran = atomic_load(&works.ran);
        close_works();
        assert_int_equal(status, EXIT_STATUS_CLEAN);
        assert_int_equal(ran, 1); /* it was waited for */
    }
}

static void test_a_job_that_never_ends_is_at_most_the_deadline(void **state)
{
    (void)state;
    struct pool_job job = {.run = job_run, .done = job_done};
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    config.report_path = report_path;
    make(config);
    open_works();
    assert_int_equal(pool_submit(works.pool, &job), 0);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    int ran = atomic_load(&works.ran);
    sem_post(&works.gate);
    close_works();
    assert_int_equal(ran, 0);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    json_t *report = read_report();
    assert_int_equal(number_of(json_object_get(report, "counts"), "jobs_at_end"), 1);
    json_decref(report);
}

static void test_an_idle_pool_holds_nothing_up(void **state)
{
    (void)state;
    make(ordinary);
    open_works();
    coord_request_drain(coord, "test", "");
    int status = coord_run(coord);
    close_works();
    assert_int_equal(status, EXIT_STATUS_CLEAN);
}

/* ---- for onlookers ---- */

/* What they saw, step by step; on the coordinator's thread, which is the test's. */
static struct {
    enum coord_phase phases[CALLS_MAX];
    struct coord_status status[CALLS_MAX];
    size_t calls_before[CALLS_MAX]; /* of the server's callbacks */
    size_t count;
} onlooker;

static void look_on(void *arg, enum coord_phase phase)
{
    /* Deadlocks if the coordinator calls observers with its lock held. */
    coord_get_status(arg, &onlooker.status[onlooker.count]);
    onlooker.calls_before[onlooker.count] = fake.call_count;
    onlooker.phases[onlooker.count++] = phase;
}

static void make_watched(struct coord_config config)
{
    memset(&onlooker, 0, sizeof(onlooker));
    make(config);
    coord_on_step(coord, look_on, coord);
}

static void test_onlookers_are_called_after_each_step(void **state)
{
    (void)state;
    make_watched(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    static const enum coord_phase want[] = {PHASE_CLOSING, PHASE_DRAINING, PHASE_DONE};
    assert_int_equal(onlooker.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(onlooker.phases[i], want[i]);
        assert_int_equal(onlooker.status[i].phase, want[i]);
    }
    assert_calls("lame-duck close finish");
    assert_int_equal(onlooker.calls_before[0],
                     2); /* the listeners were called before the observers */
    assert_int_equal(onlooker.calls_before[1], 3);
}

static void look_on_too(void *arg, enum coord_phase phase)
{
    (void)phase;
    ++*(unsigned *)arg;
}

static void test_as_many_onlookers_as_there_is_room_for(void **state)
{
    (void)state;
    unsigned seen[COORD_STEPS_MAX] = {0};
    make(ordinary);
    for (size_t i = 0; i < COORD_STEPS_MAX; i++)
        coord_on_step(coord, look_on_too, &seen[i]);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    for (size_t i = 0; i < COORD_STEPS_MAX; i++)
        assert_int_equal(seen[i], 3);
}

static void look_on_and_undrain(void *arg, enum coord_phase phase)
{
    look_on(arg, phase);
    if (onlooker.count == 2)
        undone[0] = coord_undrain(arg);
}

static void play_second_trigger_then_force(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS)
        return;
    if (phase == PHASE_LAME_DUCK && f->acts == 0) {
        coord_request_drain(f->coord, "api", "second");
        f->acts = 1;
    } else if (phase == PHASE_RUNNING && f->acts == 1) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 2;
    }
}

static void test_onlookers_are_called_for_a_later_trigger_and_an_undrain(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_second_trigger_then_force;
    memset(&onlooker, 0, sizeof(onlooker));
    make(config);
    coord_on_step(coord, look_on_and_undrain, coord);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    assert_true(undone[0]);
    static const enum coord_phase want[] = {PHASE_LAME_DUCK, PHASE_LAME_DUCK, PHASE_RUNNING};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(onlooker.phases[i], want[i]);
    assert_int_equal(onlooker.status[0].trigger_count, 1);
    assert_int_equal(onlooker.status[1].trigger_count, 2);
    assert_string_equal(onlooker.status[1].triggers[0].name, "file");
    assert_string_equal(onlooker.status[1].triggers[1].detail, "second");
    assert_int_equal(onlooker.status[2].trigger_count, 0);
    assert_int_equal(onlooker.status[2].entered_ns[PHASE_LAME_DUCK], 0);
}

static void play_undrain_before_it_is_seen(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && f->acts++ == 0)
        undone[0] = coord_undrain(f->coord);
}

static void look_on_and_force(void *arg, enum coord_phase phase)
{
    look_on(arg, phase);
    if (phase != PHASE_RUNNING)
        return;
    coord_signal(arg, SIGTERM, 0);
    coord_signal(arg, SIGTERM, 0);
}

/* The undrain comes between the coordinator's look and its step, so there is no step. The
 * coordinator calls the observers even so. */
static void test_onlookers_are_called_for_an_undrain_without_a_step(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_undrain_before_it_is_seen;
    memset(&onlooker, 0, sizeof(onlooker));
    make(config);
    coord_on_step(coord, look_on_and_force, coord);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    assert_true(undone[0]);
    assert_int_equal(onlooker.phases[0], PHASE_RUNNING);
    assert_logged("undrained", 0);
}

static void test_status_before_a_drain_has_nothing_of_one(void **state)
{
    (void)state;
    struct coord_status status;
    make(ordinary);
    coord_get_status(coord, &status);
    assert_int_equal(status.phase, PHASE_RUNNING);
    assert_int_equal(status.trigger_count, 0);
    assert_false(status.forced);
    assert_true(status.lame_duck_until_ns == CLOCK_NEVER);
    assert_true(status.deadline_at_ns == CLOCK_NEVER);
    assert_int_equal(status.begin.connections, 0);
    assert_int_equal(status.exit_status, -1);
    assert_int_equal(status.unfinished, 0);
    for (int phase = PHASE_LAME_DUCK; phase < PHASE_COUNT; phase++)
        assert_int_equal(status.entered_ns[phase], 0);
}

static void test_status_tells_when_lame_duck_and_deadline_are_over(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = 2 * NS_PER_MS;
    config.drain.deadline_ns = 3 * NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    fake.unfinished.left_out = 2;
    make_watched(config);
    coord_request_drain(coord, "file", "why");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    const struct coord_status *duck = &onlooker.status[0], *closing = &onlooker.status[1];
    assert_int_equal(duck->phase, PHASE_LAME_DUCK);
    assert_true(duck->lame_duck_until_ns == duck->entered_ns[PHASE_LAME_DUCK] + 2 * NS_PER_MS);
    assert_true(duck->deadline_at_ns == CLOCK_NEVER);
    assert_int_equal(duck->begin.active, 1);
    assert_string_equal(duck->triggers[0].detail, "why");
    assert_int_equal(closing->phase, PHASE_CLOSING);
    assert_true(closing->lame_duck_until_ns == CLOCK_NEVER);
    assert_true(closing->deadline_at_ns == closing->entered_ns[PHASE_CLOSING] + 3 * NS_PER_MS);
    assert_int_equal(closing->exit_status, -1);
    const struct coord_status *end = &onlooker.status[onlooker.count - 1];
    assert_int_equal(end->phase, PHASE_DONE);
    assert_int_equal(end->exit_status, EXIT_STATUS_DEADLINE);
    assert_int_equal(end->unfinished, 3);
}

static void test_a_drain_within_has_its_own_deadline(void **state)
{
    (void)state;
    fake.play = play_busy;
    make_watched(ordinary); /* its deadline is far */
    assert_true(coord_request_drain_within(coord, "api", "", 2 * NS_PER_MS));
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN); /* nothing was on the list */
    const struct coord_status *closing = &onlooker.status[0];
    assert_true(closing->deadline_at_ns == closing->entered_ns[PHASE_CLOSING] + 2 * NS_PER_MS);
    assert_true(closing->drain.deadline_ns == 2 * NS_PER_MS);
    assert_int_equal(count_calls(FREEZE), 1);
}

static void test_a_drain_within_that_comes_later_changes_no_deadline(void **state)
{
    (void)state;
    make_watched(ordinary);
    coord_request_drain(coord, "file", "");
    assert_false(coord_request_drain_within(coord, "api", "", 0));
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(count_calls(FREEZE), 0);
    assert_true(onlooker.status[0].drain.deadline_ns == FAR);
    assert_int_equal(onlooker.status[0].trigger_count, 2);
}

static void test_an_undrain_takes_the_deadline_with_it(void **state)
{
    (void)state;
    make_watched(ordinary);
    assert_true(coord_request_drain_within(coord, "api", "", 0));
    assert_true(coord_undrain(coord));
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_true(onlooker.status[0].drain.deadline_ns == FAR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_poke_before_the_look_is_seen),
        claim(test_poke_between_look_and_sleep_is_not_lost),
        claim(test_poke_between_decision_and_sleep_is_not_lost),
        claim(test_poke_for_the_last_listener_is_not_lost),
        claim(test_request_between_look_and_sleep_is_not_lost),
        claim(test_pokes_for_nothing_end_nothing),
        claim(test_poke_that_races_the_sleep_is_never_lost),
        claim(test_the_last_of_many_requests_ends_the_drain),
        claim(test_two_signals_at_once_are_the_first_and_the_second),
        claim(test_an_undrain_that_returned_true_has_undone_the_drain),
        claim(test_waiting_for_the_present_phase_returns_past_any_deadline),
        claim(test_waiting_for_a_phase_that_does_not_come_times_out),
        claim(test_a_wait_for_a_phase_ends_with_it_or_a_later_one),
        claim(test_pool_that_falls_idle_wakes_the_coordinator),
        claim(test_pool_that_falls_idle_at_any_moment_wakes_the_coordinator),
        claim(test_a_job_that_never_ends_is_at_most_the_deadline),
        claim(test_an_idle_pool_holds_nothing_up),
        claim(test_onlookers_are_called_after_each_step),
        claim(test_as_many_onlookers_as_there_is_room_for),
        claim(test_onlookers_are_called_for_a_later_trigger_and_an_undrain),
        claim(test_onlookers_are_called_for_an_undrain_without_a_step),
        claim(test_status_before_a_drain_has_nothing_of_one),
        claim(test_status_tells_when_lame_duck_and_deadline_are_over),
        claim(test_a_drain_within_has_its_own_deadline),
        claim(test_a_drain_within_that_comes_later_changes_no_deadline),
        claim(test_an_undrain_takes_the_deadline_with_it),
    };
    return cmocka_run_group_tests_name("coord_wake", tests, with_coord_make_directory,
                                       with_coord_remove_directory);
}

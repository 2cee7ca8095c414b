/* The specification of phase.h and drain.h, one claim a test. The rules have no thread and no
 * clock, so each test is a play of numbers. */

#include "drain.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "skip.h"

#define T0 UINT64_C(1000)
#define LAME UINT64_C(50)
#define DEADLINE UINT64_C(1000)
#define GRACE UINT64_C(100)

static const struct drain_config with_lame_duck = {
    .lame_duck_ns = LAME, .deadline_ns = DEADLINE, .idle_grace_ns = GRACE};
static const struct drain_config plain = {.deadline_ns = DEADLINE, .idle_grace_ns = GRACE};

static const struct drain_view busy = {.listeners_closed = false};
static const struct drain_view closed = {.listeners_closed = true};
static const struct drain_view quiet = {.listeners_closed = true, .quiet = true};
static const struct drain_view archived = {.listeners_closed = true, .archived = true};

/* ---- helpers ---- */

/* Look, and go where the look says. */
static struct drain_advice look(struct drain *d, uint64_t now_ns, struct drain_view view)
{
    struct drain_advice advice = drain_look(d, now_ns, &view);
    if (advice.next != d->phase)
        drain_enter(d, advice.next, now_ns);
    return advice;
}

static void assert_goes(struct drain *d, uint64_t now_ns, struct drain_view view,
                        enum coord_phase want)
{
    look(d, now_ns, view);
    assert_string_equal(phase_name(d->phase), phase_name(want));
}

/* A drain in `phase`, entered at T0, as well as each phase on the way there. */
static struct drain drain_in(enum coord_phase phase, struct drain_config config)
{
    struct drain d;
    drain_init(&d, &config, T0);
    if (phase == PHASE_RUNNING)
        return d;
    assert_true(drain_request(&d, T0));
    if (phase == PHASE_LAME_DUCK) {
        d.config.lame_duck_ns = LAME;
        assert_goes(&d, T0, busy, PHASE_LAME_DUCK);
        return d;
    }
    d.config.lame_duck_ns = 0;
    assert_goes(&d, T0, busy, PHASE_CLOSING);
    if (phase == PHASE_CLOSING)
        return d;
    assert_goes(&d, T0, closed, PHASE_DRAINING);
    if (phase == PHASE_DRAINING)
        return d;
    if (phase == PHASE_ABORTING) {
        drain_force(&d);
        assert_goes(&d, T0, closed, PHASE_ABORTING);
    } else {
        assert_goes(&d, T0, quiet, PHASE_DONE);
    }
    return d;
}

/* ---- phase ---- */

/* Written by hand, from the graph in phase.h, not from the table in phase.c. */
static bool is_in_the_graph(enum coord_phase from, enum coord_phase to)
{
    static const enum coord_phase steps[][2] = {
        {PHASE_RUNNING, PHASE_LAME_DUCK}, {PHASE_RUNNING, PHASE_CLOSING},
        {PHASE_LAME_DUCK, PHASE_RUNNING}, {PHASE_LAME_DUCK, PHASE_CLOSING},
        {PHASE_CLOSING, PHASE_DRAINING},  {PHASE_CLOSING, PHASE_ABORTING},
        {PHASE_DRAINING, PHASE_ABORTING}, {PHASE_DRAINING, PHASE_DONE},
        {PHASE_ABORTING, PHASE_DONE},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (steps[i][0] == from && steps[i][1] == to)
            return true;
    return false;
}

static void test_the_table_of_steps_is_the_graph(void **state)
{
    (void)state;
    for (enum coord_phase from = PHASE_RUNNING; from < PHASE_COUNT; from++)
        for (enum coord_phase to = PHASE_RUNNING; to < PHASE_COUNT; to++)
            if (phase_step_is_allowed(from, to) != is_in_the_graph(from, to))
                fail_msg("%s -> %s", phase_name(from), phase_name(to));
}

static void test_every_step_in_the_table_can_be_taken(void **state)
{
    (void)state;
    for (enum coord_phase from = PHASE_RUNNING; from < PHASE_COUNT; from++)
        for (enum coord_phase to = PHASE_RUNNING; to < PHASE_COUNT; to++) {
            if (!is_in_the_graph(from, to))
                continue;
            struct drain d = drain_in(from, plain);
            drain_enter(&d, to, T0 + 7);
            assert_int_equal(d.phase, to);
            assert_true(d.entered_ns[to] == T0 + 7);
        }
}

/* Enter in a child: the refusal is an assertion. Returns the signal that ended it, 0 for none. */
static int enter_in_a_child(struct drain *d, enum coord_phase to)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        drain_enter(d, to, T0);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_every_step_not_in_the_table_is_refused(void **state)
{
    (void)state;
#ifdef NDEBUG
    skip_test("built without assertions");
#endif
    for (enum coord_phase from = PHASE_RUNNING; from < PHASE_COUNT; from++)
        for (enum coord_phase to = PHASE_RUNNING; to < PHASE_COUNT; to++) {
            struct drain d = drain_in(from, plain);
            if (!is_in_the_graph(from, to) && enter_in_a_child(&d, to) != SIGABRT)
                fail_msg("%s -> %s was taken", phase_name(from), phase_name(to));
        }
}

static void test_no_phase_leads_to_itself(void **state)
{
    (void)state;
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_false(phase_step_is_allowed(p, p));
}

static void test_nothing_follows_done(void **state)
{
    (void)state;
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_false(phase_step_is_allowed(PHASE_DONE, p));
}

static void test_only_lame_duck_leads_back_to_running(void **state)
{
    (void)state;
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_int_equal(phase_step_is_allowed(p, PHASE_RUNNING), p == PHASE_LAME_DUCK);
}

static void test_names_are_the_words_of_the_log(void **state)
{
    (void)state;
    static const char *const want[] = {"running",  "lame-duck", "closing",
                                       "draining", "aborting",  "done"};
    assert_int_equal(PHASE_COUNT, sizeof(want) / sizeof(want[0]));
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_string_equal(phase_name(p), want[p]);
}

/* ---- running ---- */

static void test_nothing_happens_before_a_request(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    assert_goes(&d, T0, quiet, PHASE_RUNNING);
    assert_goes(&d, T0 + 1000 * DEADLINE, quiet, PHASE_RUNNING);
    assert_goes(&d, CLOCK_NEVER - 1, archived, PHASE_RUNNING);
    assert_true(drain_next_look_ns(&d) == CLOCK_NEVER);
    assert_true(d.deadline_at_ns == CLOCK_NEVER);
}

static void test_the_first_request_counts(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, plain);
    assert_true(drain_request(&d, T0 + 5));
    assert_false(drain_request(&d, T0 + 6));
    assert_false(drain_request(&d, T0 + 7));
    assert_true(d.requested_ns == T0 + 5);
}

static void test_a_request_without_lame_duck_closes_at_once(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, plain);
    drain_request(&d, T0);
    assert_goes(&d, T0, busy, PHASE_CLOSING);
    assert_true(d.entered_ns[PHASE_LAME_DUCK] == 0);
}

static void test_a_request_with_lame_duck_waits_it_out(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    drain_request(&d, T0);
    assert_goes(&d, T0, quiet, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + LAME - 1, quiet, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + LAME, busy, PHASE_CLOSING);
}

static void test_lame_duck_lasts_from_its_beginning_not_from_the_request(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    drain_request(&d, T0);
    assert_goes(&d, T0 + 30, busy, PHASE_LAME_DUCK);
    assert_true(drain_next_look_ns(&d) == T0 + 30 + LAME);
    assert_goes(&d, T0 + LAME, busy, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + 30 + LAME, busy, PHASE_CLOSING);
}

/* ---- undrain ---- */

static void test_undrain_in_lame_duck_leads_back_to_running(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_true(drain_undo(&d));
    assert_goes(&d, T0 + 1, busy, PHASE_RUNNING);
    assert_goes(&d, T0 + 10 * LAME, busy, PHASE_RUNNING);
}

static void test_undrain_wins_over_the_end_of_lame_duck_in_the_same_look(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_true(drain_undo(&d));
    assert_goes(&d, T0 + LAME, busy, PHASE_RUNNING);
}

static void test_undrain_before_the_look_cancels_the_request(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    drain_request(&d, T0);
    assert_true(drain_undo(&d));
    assert_goes(&d, T0 + 1, busy, PHASE_RUNNING);
}

static void test_a_drain_called_off_can_begin_again(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_true(drain_undo(&d));
    assert_goes(&d, T0 + 1, busy, PHASE_RUNNING);
    assert_true(drain_request(&d, T0 + 100));
    assert_true(d.requested_ns == T0 + 100);
    assert_goes(&d, T0 + 100, busy, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + 100 + LAME - 1, busy, PHASE_LAME_DUCK); /* its whole time again */
    assert_goes(&d, T0 + 100 + LAME, busy, PHASE_CLOSING);
}

static void test_undrain_is_refused_past_the_point_of_no_return(void **state)
{
    (void)state;
    for (enum coord_phase p = PHASE_CLOSING; p < PHASE_COUNT; p++) {
        struct drain d = drain_in(p, plain);
        assert_false(drain_undo(&d));
        assert_true(d.requested);
    }
}

static void test_undrain_is_refused_once_forced(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    drain_force(&d);
    assert_false(drain_undo(&d));
    assert_goes(&d, T0 + 1, busy, PHASE_CLOSING);
    assert_goes(&d, T0 + 1, busy, PHASE_ABORTING);
}

/* ---- closing, and what is set there ---- */

static void test_deadline_is_set_before_anything_closes(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, plain);
    drain_request(&d, T0);
    assert_true(d.deadline_at_ns == CLOCK_NEVER);
    drain_enter(&d, PHASE_CLOSING, T0 + 3); /* the listeners close after this returns */
    assert_true(d.deadline_at_ns == T0 + 3 + DEADLINE);
    assert_true(d.grace_at_ns == T0 + 3 + GRACE);
}

static void test_lame_duck_does_not_count_against_the_deadline(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_goes(&d, T0 + LAME, busy, PHASE_CLOSING);
    assert_true(d.deadline_at_ns == T0 + LAME + DEADLINE);
}

static void test_closing_lasts_until_the_last_listener_is_closed(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_goes(&d, T0 + 1, busy, PHASE_CLOSING);
    assert_goes(&d, T0 + DEADLINE - 1, busy, PHASE_CLOSING);
    assert_goes(&d, T0 + DEADLINE - 1, closed, PHASE_DRAINING);
}

static void test_quiet_does_not_end_closing(void **state)
{
    (void)state;
    const struct drain_view quiet_but_open = {.quiet = true};
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_goes(&d, T0 + 1, quiet_but_open, PHASE_CLOSING);
}

static void test_closing_goes_through_draining_also_when_quiet(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_goes(&d, T0 + 1, quiet, PHASE_DRAINING);
    assert_goes(&d, T0 + 1, quiet, PHASE_DONE);
}

static void test_the_deadline_ends_closing(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_goes(&d, T0 + DEADLINE, busy, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_a_deadline_of_zero_ends_it_at_once(void **state)
{
    (void)state;
    const struct drain_config none = {.lame_duck_ns = 0, .deadline_ns = 0, .idle_grace_ns = GRACE};
    struct drain d = drain_in(PHASE_CLOSING, none);
    assert_goes(&d, T0, busy, PHASE_ABORTING);
    assert_goes(&d, T0, archived, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

/* ---- draining ---- */

static void test_draining_lasts_until_all_is_quiet(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    assert_goes(&d, T0 + 1, closed, PHASE_DRAINING);
    assert_int_equal(d.cause, DRAIN_CAUSE_NONE);
    assert_goes(&d, T0 + 2, quiet, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_QUIET);
}

static void test_the_deadline_ends_draining_on_its_nanosecond(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    assert_goes(&d, T0 + DEADLINE - 1, closed, PHASE_DRAINING);
    assert_goes(&d, T0 + DEADLINE, closed, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_quiet_wins_over_the_deadline_in_the_same_look(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    assert_goes(&d, T0 + 2 * DEADLINE, quiet, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_QUIET);
}

static void test_quiet_wins_over_force_in_the_same_look(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    drain_force(&d);
    assert_goes(&d, T0 + 1, quiet, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_QUIET);
}

static void test_force_wins_over_the_deadline_in_the_same_look(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    drain_force(&d);
    assert_goes(&d, T0 + DEADLINE, closed, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_FORCED);
}

/* ---- idle grace ---- */

static void test_idle_connections_are_released_once_when_the_grace_ends(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    assert_false(look(&d, T0 + GRACE - 1, closed).release_idle);
    assert_true(look(&d, T0 + GRACE, closed).release_idle);
    assert_false(look(&d, T0 + GRACE, closed).release_idle);
    assert_false(look(&d, T0 + GRACE + 1, closed).release_idle);
    assert_false(look(&d, T0 + DEADLINE, closed).release_idle);
}

static void test_a_grace_of_zero_releases_at_the_first_look(void **state)
{
    (void)state;
    const struct drain_config no_grace = {
        .lame_duck_ns = 0, .deadline_ns = DEADLINE, .idle_grace_ns = 0};
    struct drain d = drain_in(PHASE_DRAINING, no_grace);
    assert_true(look(&d, T0, closed).release_idle);
}

static void test_grace_that_ends_while_closing_releases_then(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_false(look(&d, T0 + GRACE - 1, busy).release_idle);
    assert_true(
        look(&d, T0 + GRACE, busy).release_idle); /* they may hold what the close waits for */
    assert_int_equal(d.phase, PHASE_CLOSING);
    assert_false(look(&d, T0 + 2 * GRACE, closed).release_idle);
    assert_int_equal(d.phase, PHASE_DRAINING);
    assert_false(look(&d, T0 + 2 * GRACE, closed).release_idle);
}

static void test_grace_that_ends_with_the_step_releases_after_it(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    assert_false(look(&d, T0 + 2 * GRACE, closed).release_idle); /* the step, finish() first */
    assert_int_equal(d.phase, PHASE_DRAINING);
    assert_true(look(&d, T0 + 2 * GRACE, closed).release_idle);
}

static void test_nothing_is_released_in_the_look_that_ends_draining(void **state)
{
    (void)state;
    struct drain done = drain_in(PHASE_DRAINING, plain);
    assert_false(look(&done, T0 + GRACE, quiet).release_idle);
    struct drain late = drain_in(PHASE_DRAINING, plain);
    assert_false(look(&late, T0 + DEADLINE, closed).release_idle);
}

static void test_grace_ends_before_the_deadline(void **state)
{
    (void)state;
    static const uint64_t graces[] = {0, 1, 899, 900, 901, 999, 1000, 1001, CLOCK_NEVER};
    for (size_t i = 0; i < sizeof(graces) / sizeof(graces[0]); i++) {
        const struct drain_config config = {
            .lame_duck_ns = 0, .deadline_ns = 1000, .idle_grace_ns = graces[i]};
        struct drain d = drain_in(PHASE_CLOSING, config);
        assert_true(d.grace_at_ns == T0 + (graces[i] < 900 ? graces[i] : 900));
        assert_true(d.grace_at_ns < d.deadline_at_ns);
    }
}

static void test_grace_ends_before_a_deadline_of_a_month(void **state)
{
    (void)state;
    const uint64_t month_ns = 30 * 24 * 3600 * NS_PER_S;
    const struct drain_config config = {
        .lame_duck_ns = month_ns, .deadline_ns = month_ns, .idle_grace_ns = month_ns};
    struct drain d = drain_in(PHASE_CLOSING, config);
    assert_true(d.deadline_at_ns == T0 + month_ns);
    assert_true(d.grace_at_ns == T0 + month_ns / 10 * 9);
}

/* ---- force ---- */

static void test_force_leads_to_aborting_from_every_phase_before_it(void **state)
{
    (void)state;
    for (enum coord_phase p = PHASE_LAME_DUCK; p <= PHASE_DRAINING; p++) {
        struct drain d = drain_in(p, with_lame_duck);
        drain_force(&d);
        if (p == PHASE_LAME_DUCK) /* nothing keeps newcomers out but CLOSING */
            assert_goes(&d, T0, closed, PHASE_CLOSING);
        assert_goes(&d, T0, closed, PHASE_ABORTING);
        assert_int_equal(d.cause, DRAIN_CAUSE_FORCED);
    }
}

static void test_force_while_running_skips_lame_duck_and_still_closes(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    drain_force(&d);
    assert_goes(&d, T0, busy, PHASE_CLOSING);
    assert_goes(&d, T0, busy, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_FORCED);
}

static void test_force_while_closing_does_not_wait_for_the_listeners(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_CLOSING, plain);
    drain_force(&d);
    assert_goes(&d, T0, busy, PHASE_ABORTING);
}

static void test_force_while_aborting_on_the_deadline_leaves_the_cause(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    assert_goes(&d, T0 + DEADLINE, closed, PHASE_ABORTING);
    drain_force(&d);
    assert_goes(&d, T0 + DEADLINE, archived, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_a_request_after_force_is_a_later_one(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, plain);
    drain_force(&d);
    assert_false(drain_request(&d, T0 + 9));
}

/* ---- the end ---- */

static void test_aborting_lasts_until_the_archive_is_made(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_ABORTING, plain);
    assert_goes(&d, T0 + 10 * DEADLINE, closed, PHASE_ABORTING);
    assert_goes(&d, T0 + 10 * DEADLINE, quiet, PHASE_ABORTING); /* quiet came too late */
    assert_goes(&d, T0 + 10 * DEADLINE, archived, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_FORCED);
}

static void test_done_stays_done(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DONE, plain);
    drain_force(&d);
    (void)drain_request(&d, T0 + 1);
    assert_goes(&d, T0 + 10 * DEADLINE, archived, PHASE_DONE);
    assert_goes(&d, T0 + 10 * DEADLINE, busy, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_QUIET);
}

/* ---- when to look again ---- */

static void test_the_clock_matters_only_where_something_ends_by_it(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, with_lame_duck);
    assert_true(drain_next_look_ns(&d) == CLOCK_NEVER);
    d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_true(drain_next_look_ns(&d) == T0 + LAME);
    d = drain_in(PHASE_CLOSING, plain);
    assert_true(drain_next_look_ns(&d) == T0 + GRACE);
    d = drain_in(PHASE_DRAINING, plain);
    assert_true(drain_next_look_ns(&d) == T0 + GRACE);
    look(&d, T0 + GRACE, closed);
    assert_true(drain_next_look_ns(&d) == T0 + DEADLINE - drain_farewell_ns(&d));
    look(&d, T0 + DEADLINE - drain_farewell_ns(&d), closed);
    assert_true(drain_next_look_ns(&d) == T0 + DEADLINE);
    d = drain_in(PHASE_ABORTING, plain);
    assert_true(drain_next_look_ns(&d) == CLOCK_NEVER);
    d = drain_in(PHASE_DONE, plain);
    assert_true(drain_next_look_ns(&d) == CLOCK_NEVER);
}

/* Sleep exactly as told, with nothing ever happening: each look must change something, or the
 * coordinator would spin; and the end must come, or it would sleep past it. */
static void test_no_look_that_the_clock_asks_for_is_in_vain(void **state)
{
    (void)state;
    static const struct drain_config configs[] = {
        {.lame_duck_ns = 0, .deadline_ns = 1000, .idle_grace_ns = 100},
        {.lame_duck_ns = 50, .deadline_ns = 1000, .idle_grace_ns = 100},
        {.lame_duck_ns = 50, .deadline_ns = 1000, .idle_grace_ns = 5000},
        {.lame_duck_ns = 1, .deadline_ns = 1, .idle_grace_ns = 1},
        {.lame_duck_ns = 0, .deadline_ns = 0, .idle_grace_ns = 0},
        {.lame_duck_ns = 5, .deadline_ns = 9, .idle_grace_ns = 9},
        {.deadline_ns = 1000, .idle_grace_ns = 100, .class_ns = {0, 50, 100, 5000}},
        {.deadline_ns = 1000, .idle_grace_ns = 100, .class_ns = {0, 1000, 1, 1000}},
    };
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        struct drain d;
        uint64_t now_ns = T0;
        bool listeners_closed = false;
        drain_init(&d, &configs[i], now_ns);
        drain_request(&d, now_ns);
        while (d.phase != PHASE_ABORTING) {
            enum coord_phase before = d.phase;
            struct drain_advice advice =
                look(&d, now_ns, (struct drain_view){.listeners_closed = listeners_closed});
            listeners_closed = d.phase >= PHASE_CLOSING;
            if (d.phase != before)
                continue;
            if (!advice.release_idle && now_ns > T0)
                assert_true(drain_next_look_ns(&d) > now_ns);
            assert_true(drain_next_look_ns(&d) != CLOCK_NEVER);
            if (drain_next_look_ns(&d) > now_ns)
                now_ns = drain_next_look_ns(&d);
        }
        assert_true(now_ns == T0 + configs[i].lame_duck_ns + drain_longest_ns(&configs[i]));
    }
}

/* ---- no clock ---- */

static unsigned clock_reads;

/* Replaces libc's in the whole program: the rules must not read the clock. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    clock_reads++;
    return (int)syscall(SYS_clock_gettime, id, ts);
}

static void test_wall_clock_is_not_used(void **state)
{
    (void)state;
    unsigned before = clock_reads;
    /* Centuries pass, and so does the drain: time is what the caller says. */
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    uint64_t now_ns = UINT64_C(9000000000) * NS_PER_S;
    look(&d, now_ns, busy);
    look(&d, now_ns, closed);
    look(&d, now_ns + GRACE, closed);
    assert_int_equal(d.phase, PHASE_DRAINING);
    assert_true(d.idle_released);
    look(&d, now_ns + DEADLINE, closed);
    look(&d, now_ns + DEADLINE, archived);
    assert_int_equal(d.phase, PHASE_DONE);
    assert_int_equal(clock_reads, before);
    (void)clock_now_ns();
    assert_int_equal(clock_reads, before + 1); /* it would have been noticed */
}

/* ---- deadlines of classes ---- */

#define BIT(class) (1U << DRAIN_##class)

static const struct drain_config classes = {
    .deadline_ns = DEADLINE,
    .idle_grace_ns = GRACE,
    .class_ns = {[DRAIN_TUNNEL] = 200, [DRAIN_STREAM] = 500, [DRAIN_UPLOAD] = 3000}};

static void test_each_class_is_given_up_at_its_deadline_once(void **state)
{
    struct drain d = drain_in(PHASE_DRAINING, classes);
    (void)state;
    assert_int_equal(look(&d, T0 + 199, closed).give_up, 0);
    assert_int_equal(look(&d, T0 + 200, closed).give_up, BIT(TUNNEL));
    assert_int_equal(look(&d, T0 + 200, closed).give_up, 0);
    assert_int_equal(look(&d, T0 + 499, closed).give_up, 0);
    /* Also the classes whose deadline has passed: requests may have joined them since. */
    assert_int_equal(look(&d, T0 + 500, closed).give_up, BIT(TUNNEL) | BIT(STREAM));
    assert_int_equal(look(&d, T0 + DEADLINE, closed).give_up,
                     BIT(TUNNEL) | BIT(STREAM) | BIT(OTHER));
    assert_int_equal(look(&d, T0 + 2999, closed).give_up, 0);
    assert_int_equal(d.phase, PHASE_DRAINING);
    assert_int_equal(look(&d, T0 + 3000, closed).give_up, 0); /* that is the end */
    assert_int_equal(d.phase, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_late_look_gives_up_all_that_is_due(void **state)
{
    struct drain d = drain_in(PHASE_CLOSING, classes);
    (void)state;
    assert_int_equal(look(&d, T0 + 600, busy).give_up, BIT(TUNNEL) | BIT(STREAM));
}

static void test_coordinator_wakes_for_each_deadline(void **state)
{
    struct drain d = drain_in(PHASE_DRAINING, classes);
    const uint64_t points[] = {GRACE, 200, 500, DEADLINE, 3000};
    (void)state;
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        assert_int_equal(drain_next_look_ns(&d), T0 + points[i]);
        look(&d, T0 + points[i], closed);
    }
    assert_int_equal(d.phase, PHASE_ABORTING);
}

static void test_class_without_a_deadline_has_the_general_one(void **state)
{
    struct drain d = drain_in(PHASE_DRAINING, plain);
    (void)state;
    assert_int_equal(drain_longest_ns(&plain), DEADLINE);
    assert_int_equal(look(&d, T0 + DEADLINE - 1, closed).give_up, 0);
    assert_int_equal(look(&d, T0 + DEADLINE, closed).give_up, 0);
    assert_int_equal(d.phase, PHASE_ABORTING);
}

/* A class may have more time than the general deadline gives: the drain then lasts as long. */
static void test_longest_deadline_is_the_drains(void **state)
{
    struct drain_config config = plain;
    (void)state;
    config.class_ns[DRAIN_STREAM] = DEADLINE / 2;
    assert_int_equal(drain_longest_ns(&config), DEADLINE);
    config.class_ns[DRAIN_UPLOAD] = 2 * DEADLINE;
    assert_int_equal(drain_longest_ns(&config), 2 * DEADLINE);
    struct drain d = drain_in(PHASE_CLOSING, config);
    assert_int_equal(d.deadline_at_ns, T0 + 2 * DEADLINE);
}

static void test_order_with_a_deadline_limits_every_class(void **state)
{
    struct drain d;
    (void)state;
    drain_init(&d, &classes, T0);
    drain_limit(&d, 300);
    assert_int_equal(drain_longest_ns(&d.config), 300);
    assert_int_equal(d.config.class_ns[DRAIN_TUNNEL], 200); /* earlier ones stay */
    drain_init(&d, &classes, T0);
    drain_limit(&d, 10000);
    assert_int_equal(drain_longest_ns(&d.config), 10000);
    assert_int_equal(d.config.class_ns[DRAIN_UPLOAD], 3000);
    drain_init(&d, &classes, T0);
    drain_limit(&d, 0);
    assert_int_equal(drain_longest_ns(&d.config), 0);
}

static void test_jobs_hold_the_exit_until_the_general_deadline(void **state)
{
    struct drain d = drain_in(PHASE_DRAINING, classes);
    struct drain_view jobs = quiet;
    (void)state;
    jobs.jobs = true;
    assert_goes(&d, T0 + DEADLINE - 1, jobs, PHASE_DRAINING);
    struct drain ended = d;
    assert_goes(&ended, T0 + DEADLINE - 1, quiet, PHASE_DONE);
    /* An upload may last longer; a handler whose client has left may not. */
    assert_goes(&d, T0 + DEADLINE, jobs, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_what_ends_after_the_general_deadline_ends_the_drain(void **state)
{
    struct drain d = drain_in(PHASE_DRAINING, classes);
    (void)state;
    assert_goes(&d, T0 + DEADLINE, closed, PHASE_DRAINING);
    assert_goes(&d, T0 + DEADLINE + 1, quiet, PHASE_DONE);
    assert_int_equal(d.cause, DRAIN_CAUSE_QUIET);
}

/* ---- what has no end of its own ---- */

static void test_tunnels_are_asked_to_leave_before_their_deadline(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, classes);
    assert_int_equal(drain_farewell_ns(&d), 100); /* half of a short deadline */
    assert_false(look(&d, T0 + 99, closed).ask_to_leave);
    struct drain_advice advice = look(&d, T0 + 100, closed);
    assert_true(advice.ask_to_leave);
    assert_int_equal(advice.give_up, 0);
    assert_int_equal(drain_leave_spread_ns(&d, T0 + 100), 0); /* all at once */
    assert_false(look(&d, T0 + 150, closed).ask_to_leave);
    assert_int_equal(look(&d, T0 + 200, closed).give_up, BIT(TUNNEL));
}

static void test_without_a_deadline_of_their_own_tunnels_have_the_general_one(void **state)
{
    (void)state;
    const struct drain_config config = {.deadline_ns = 30 * NS_PER_S, .idle_grace_ns = GRACE};
    struct drain d = drain_in(PHASE_CLOSING, config);
    assert_int_equal(drain_farewell_ns(&d), NS_PER_S);
    look(&d, T0 + GRACE, busy);
    assert_int_equal(drain_next_look_ns(&d), T0 + 29 * NS_PER_S);
    assert_false(look(&d, T0 + 29 * NS_PER_S - 1, busy).ask_to_leave);
    assert_true(look(&d, T0 + 29 * NS_PER_S, busy).ask_to_leave); /* while listeners close, too */
}

static void test_a_spread_of_tunnels_begins_with_the_listeners_closed(void **state)
{
    struct drain_config config = classes;
    (void)state;
    config.spread_ns = 60;
    struct drain d = drain_in(PHASE_CLOSING, config);
    assert_false(look(&d, T0, busy).ask_to_leave);
    assert_false(look(&d, T0 + 10, closed).ask_to_leave); /* the step, finish() first */
    assert_true(look(&d, T0 + 10, closed).ask_to_leave);
    assert_int_equal(drain_leave_spread_ns(&d, T0 + 10), 60);
    assert_int_equal(drain_leave_spread_ns(&d, T0 + 70), 30); /* the last one has its farewell */
    assert_int_equal(drain_leave_spread_ns(&d, T0 + 150), 0);
}

static void test_tunnels_that_were_asked_hear_of_an_earlier_deadline(void **state)
{
    struct drain_config config = classes;
    (void)state;
    config.spread_ns = 60;
    struct drain d = drain_in(PHASE_DRAINING, config);
    assert_true(look(&d, T0 + 10, closed).ask_to_leave);
    drain_limit_at(&d, T0 + 150, T0 + 20);
    assert_true(look(&d, T0 + 20, closed).ask_to_leave);
    assert_int_equal(drain_leave_spread_ns(&d, T0 + 20), 55); /* 75 are for the farewell */
    assert_int_equal(drain_farewell_left_ns(&d, T0 + 20), 75);
    assert_int_equal(drain_farewell_left_ns(&d, T0 + 100), 50);
    drain_limit_at(&d, T0 + 160, T0 + 30);
    assert_false(look(&d, T0 + 30, closed).ask_to_leave);
}

/* ---- spread ---- */

static void test_spread_ends_before_the_deadline(void **state)
{
    struct drain_config config = plain;
    (void)state;
    config.spread_ns = 300;
    struct drain d = drain_in(PHASE_DRAINING, config);
    assert_int_equal(drain_spread_ns(&d, T0), 300);
    assert_int_equal(drain_spread_ns(&d, T0 + GRACE), 300);
    assert_int_equal(drain_spread_ns(&d, T0 + 700), 200); /* nine tenths of the deadline */
    assert_int_equal(drain_spread_ns(&d, T0 + 900), 0);
    assert_int_equal(drain_spread_ns(&d, T0 + 2000), 0);
    struct drain at_once = drain_in(PHASE_DRAINING, plain);
    assert_int_equal(drain_spread_ns(&at_once, T0), 0);
}

static void test_limit_moves_the_deadlines_of_a_drain_under_way(void **state)
{
    struct drain_config config = plain;
    (void)state;
    config.class_ns[DRAIN_UPLOAD] = 5 * DEADLINE;
    struct drain d = drain_in(PHASE_DRAINING, config);
    drain_limit_at(&d, T0 + 300, T0 + 100);
    assert_int_equal(d.deadline_at_ns, T0 + 300);
    assert_int_equal(d.class_at_ns[DRAIN_UPLOAD], T0 + 300);
    drain_limit_at(&d, T0 + 400, T0 + 100); /* a later one changes nothing */
    assert_goes(&d, T0 + 299, closed, PHASE_DRAINING);
    assert_goes(&d, T0 + 300, closed, PHASE_ABORTING);
    assert_int_equal(d.cause, DRAIN_CAUSE_DEADLINE);
}

static void test_limit_before_closing_counts_from_its_own_time(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_RUNNING, plain);
    assert_true(drain_request(&d, T0));
    drain_limit_at(&d, T0 + 300, T0);
    assert_goes(&d, T0 + 200, busy, PHASE_CLOSING);
    assert_int_equal(d.deadline_at_ns, T0 + 300);
    assert_int_equal(d.grace_at_ns, T0 + 290); /* nine tenths of what is left */
    assert_goes(&d, T0 + 300, busy, PHASE_ABORTING);
}

static void test_limit_later_than_the_deadline_changes_nothing(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_DRAINING, plain);
    drain_limit_at(&d, T0 + 2 * DEADLINE, T0);
    assert_int_equal(d.deadline_at_ns, T0 + DEADLINE);
}

static void test_lame_duck_takes_half_of_a_limit(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    assert_int_equal(drain_next_look_ns(&d), T0 + LAME);
    drain_limit_at(&d, T0 + 60, T0 + 10);
    assert_int_equal(drain_next_look_ns(&d), T0 + 30);
    assert_goes(&d, T0 + 29, busy, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + 30, busy, PHASE_CLOSING);
    assert_int_equal(d.deadline_at_ns, T0 + 60);
}

static void test_undrain_takes_the_limit_away(void **state)
{
    (void)state;
    struct drain d = drain_in(PHASE_LAME_DUCK, with_lame_duck);
    drain_limit_at(&d, T0 + 60, T0);
    assert_true(drain_undo(&d));
    assert_goes(&d, T0 + 1, busy, PHASE_RUNNING);
    assert_true(drain_request(&d, T0 + 100));
    assert_goes(&d, T0 + 100, busy, PHASE_LAME_DUCK);
    assert_goes(&d, T0 + 100 + LAME, busy, PHASE_CLOSING);
    assert_int_equal(d.deadline_at_ns, T0 + 100 + LAME + DEADLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_of_steps_is_the_graph),
        cmocka_unit_test(test_every_step_in_the_table_can_be_taken),
        cmocka_unit_test(test_every_step_not_in_the_table_is_refused),
        cmocka_unit_test(test_no_phase_leads_to_itself),
        cmocka_unit_test(test_nothing_follows_done),
        cmocka_unit_test(test_only_lame_duck_leads_back_to_running),
        cmocka_unit_test(test_names_are_the_words_of_the_log),
        cmocka_unit_test(test_nothing_happens_before_a_request),
        cmocka_unit_test(test_the_first_request_counts),
        cmocka_unit_test(test_a_request_without_lame_duck_closes_at_once),
        cmocka_unit_test(test_a_request_with_lame_duck_waits_it_out),
        cmocka_unit_test(test_lame_duck_lasts_from_its_beginning_not_from_the_request),
        cmocka_unit_test(test_undrain_in_lame_duck_leads_back_to_running),
        cmocka_unit_test(test_undrain_wins_over_the_end_of_lame_duck_in_the_same_look),
        cmocka_unit_test(test_undrain_before_the_look_cancels_the_request),
        cmocka_unit_test(test_a_drain_called_off_can_begin_again),
        cmocka_unit_test(test_undrain_is_refused_past_the_point_of_no_return),
        cmocka_unit_test(test_undrain_is_refused_once_forced),
        cmocka_unit_test(test_deadline_is_set_before_anything_closes),
        cmocka_unit_test(test_lame_duck_does_not_count_against_the_deadline),
        cmocka_unit_test(test_closing_lasts_until_the_last_listener_is_closed),
        cmocka_unit_test(test_quiet_does_not_end_closing),
        cmocka_unit_test(test_closing_goes_through_draining_also_when_quiet),
        cmocka_unit_test(test_the_deadline_ends_closing),
        cmocka_unit_test(test_a_deadline_of_zero_ends_it_at_once),
        cmocka_unit_test(test_draining_lasts_until_all_is_quiet),
        cmocka_unit_test(test_the_deadline_ends_draining_on_its_nanosecond),
        cmocka_unit_test(test_quiet_wins_over_the_deadline_in_the_same_look),
        cmocka_unit_test(test_quiet_wins_over_force_in_the_same_look),
        cmocka_unit_test(test_force_wins_over_the_deadline_in_the_same_look),
        cmocka_unit_test(test_idle_connections_are_released_once_when_the_grace_ends),
        cmocka_unit_test(test_a_grace_of_zero_releases_at_the_first_look),
        cmocka_unit_test(test_grace_that_ends_while_closing_releases_then),
        cmocka_unit_test(test_grace_that_ends_with_the_step_releases_after_it),
        cmocka_unit_test(test_nothing_is_released_in_the_look_that_ends_draining),
        cmocka_unit_test(test_grace_ends_before_the_deadline),
        cmocka_unit_test(test_grace_ends_before_a_deadline_of_a_month),
        cmocka_unit_test(test_force_leads_to_aborting_from_every_phase_before_it),
        cmocka_unit_test(test_force_while_running_skips_lame_duck_and_still_closes),
        cmocka_unit_test(test_force_while_closing_does_not_wait_for_the_listeners),
        cmocka_unit_test(test_force_while_aborting_on_the_deadline_leaves_the_cause),
        cmocka_unit_test(test_a_request_after_force_is_a_later_one),
        cmocka_unit_test(test_aborting_lasts_until_the_archive_is_made),
        cmocka_unit_test(test_done_stays_done),
        cmocka_unit_test(test_the_clock_matters_only_where_something_ends_by_it),
        cmocka_unit_test(test_no_look_that_the_clock_asks_for_is_in_vain),
        cmocka_unit_test(test_wall_clock_is_not_used),
        cmocka_unit_test(test_each_class_is_given_up_at_its_deadline_once),
        cmocka_unit_test(test_late_look_gives_up_all_that_is_due),
        cmocka_unit_test(test_coordinator_wakes_for_each_deadline),
        cmocka_unit_test(test_class_without_a_deadline_has_the_general_one),
        cmocka_unit_test(test_longest_deadline_is_the_drains),
        cmocka_unit_test(test_order_with_a_deadline_limits_every_class),
        cmocka_unit_test(test_jobs_hold_the_exit_until_the_general_deadline),
        cmocka_unit_test(test_what_ends_after_the_general_deadline_ends_the_drain),
        cmocka_unit_test(test_tunnels_are_asked_to_leave_before_their_deadline),
        cmocka_unit_test(test_tunnels_that_were_asked_hear_of_an_earlier_deadline),
        cmocka_unit_test(test_without_a_deadline_of_their_own_tunnels_have_the_general_one),
        cmocka_unit_test(test_a_spread_of_tunnels_begins_with_the_listeners_closed),
        cmocka_unit_test(test_spread_ends_before_the_deadline),
        cmocka_unit_test(test_limit_moves_the_deadlines_of_a_drain_under_way),
        cmocka_unit_test(test_limit_before_closing_counts_from_its_own_time),
        cmocka_unit_test(test_limit_later_than_the_deadline_changes_nothing),
        cmocka_unit_test(test_lame_duck_takes_half_of_a_limit),
        cmocka_unit_test(test_undrain_takes_the_limit_away),
    };
    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}

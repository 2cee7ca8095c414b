#include "with_coord.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Where a drain counts from: its own begin, its own phase, under the coordinator's lock. */

/* ---- a drain that is called off and asked for again ---- */

static void set_answered(struct fake *f, uint64_t answered)
{
    pthread_mutex_lock(&f->mu);
    f->now.answered = answered;
    f->now.accepted = answered;
    pthread_mutex_unlock(&f->mu);
}

/* Both within one look: the coordinator has not seen the drain that was called off go. */
static void play_again_between_two_looks(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS || phase != PHASE_LAME_DUCK)
        return;
    if (f->acts == 0) {
        undone[0] = coord_undrain(f->coord);
        coord_request_drain(f->coord, "api", "again");
    } else {
        coord_signal(f->coord, SIGTERM, 0); /* the lame duck is long: cut it short */
        coord_signal(f->coord, SIGTERM, 0);
    }
    f->acts++;
}

static int run_again_between_two_looks(void)
{
    struct coord_config config = ordinary;

    config.drain.lame_duck_ns = FAR;
    config.report_path = report_path;
    fake.play = play_again_between_two_looks;
    set_answered(&fake, 500); /* before any drain */
    make(config);
    coord_request_drain(coord, "file", "first");
    return coord_run(coord);
}

static void test_a_drain_soon_after_an_undrain_has_its_own_begin(void **state)
{
    (void)state;
    assert_int_equal(run_again_between_two_looks(), EXIT_STATUS_FORCED);
    assert_true(undone[0]);
    assert_logged("undrained", 1);
    assert_logged("drain-begun", 2);
    json_t *line = logged("drain-begun", 1);
    assert_string_equal(text_of(line, "trigger"), "api");
    assert_int_equal(number_of(line, "in_flight"), 1);
    json_decref(line);
}

static void test_a_drain_soon_after_an_undrain_counts_from_its_own_request(void **state)
{
    (void)state;
    (void)run_again_between_two_looks();
    json_t *report = read_report();
    const json_t *counts = json_object_get(report, "counts");
    assert_int_equal(number_of(counts, "answered_during"), 0);
    assert_int_equal(number_of(counts, "accepted_during"), 0);
    assert_int_equal(number_of(counts, "connections_at_begin"), 1);
    const json_t *first = json_array_get(json_object_get(report, "phases"), 0);
    assert_string_equal(text_of(first, "phase"), "lame-duck");
    assert_true(real_of(first, "at_ms") >= 0.0);
    assert_true(real_of(first, "at_ms") < HANG_S * 1000.0); /* the trigger comes before it */
    json_decref(report);
}

/* ---- the deadline ---- */

static double entered_ms(const json_t *report, const char *name)
{
    size_t i;
    const json_t *phase, *phases = json_object_get(report, "phases");

    for (i = 0; (phase = json_array_get(phases, i)) != NULL; i++)
        if (strcmp(text_of(phase, "phase"), name) == 0)
            return real_of(phase, "at_ms");
    fail_msg("%s was not entered", name);
    return 0;
}

static void run_past_the_deadline(void)
{
    struct coord_config config = ordinary;

    config.drain.lame_duck_ns = 20 * NS_PER_MS;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_busy;
    make(config);
    coord_request_drain(coord, "api", "");
    (void)coord_run(coord);
}

/* The lame duck is no part of it, nor is the time that listing and archiving take. */
static void assert_counts_from_closing(const char *event)
{
    json_t *line = logged(event, 0), *report = read_report();
    double want_ms = entered_ms(report, "aborting") - entered_ms(report, "closing");

    assert_non_null(line);
    assert_true(fabs(real_of(line, "after_ms") - want_ms) < 0.01);
    json_decref(line);
    json_decref(report);
}

static void test_the_line_about_the_deadline_counts_from_the_phase_it_runs_in(void **state)
{
    (void)state;
    add_unfinished(&fake, "GET", "/");
    run_past_the_deadline();
    assert_counts_from_closing("drain-deadline");
}

static void test_the_line_about_a_deadline_with_nothing_unfinished_does_too(void **state)
{
    (void)state;
    run_past_the_deadline();
    assert_counts_from_closing("drained-late");
}

/* ---- the lock ---- */

static pthread_t asker;
static atomic_bool asked;

static void *make_it_final(void *arg)
{
    coord_request_stop(arg, "restart", "", 1, true); /* no lame duck any more */
    atomic_store_explicit(&asked, true, memory_order_relaxed);
    return NULL;
}

/* Between the decision and the line about progress. Nothing here orders the two threads but the
 * coordinator's lock, so ThreadSanitizer names a read that is made without it. */
static void play_final_before_the_progress_line(struct fake *f, enum call call,
                                                enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != LIST || f->acts++ > 0)
        return;
    assert_int_equal(pthread_create(&asker, NULL, make_it_final, f->coord), 0);
    while (!atomic_load_explicit(&asked, memory_order_relaxed))
        ;
}

static void test_progress_is_reported_from_what_the_lock_guards(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    config.progress_ns = NS_PER_MS;
    fake.play = play_final_before_the_progress_line;
    atomic_store(&asked, false);
    make(config);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(pthread_join(asker, NULL), 0);
    assert_logged("drain-progress", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_drain_soon_after_an_undrain_has_its_own_begin),
        claim(test_a_drain_soon_after_an_undrain_counts_from_its_own_request),
        claim(test_the_line_about_the_deadline_counts_from_the_phase_it_runs_in),
        claim(test_the_line_about_a_deadline_with_nothing_unfinished_does_too),
        claim(test_progress_is_reported_from_what_the_lock_guards),
    };
    return cmocka_run_group_tests_name("coord_again", tests, with_coord_make_directory,
                                       with_coord_remove_directory);
}

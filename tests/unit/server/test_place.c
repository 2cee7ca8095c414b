/* The specification of place.h, one claim a test: the estimate of a route, and what is made of the
 * time of a handler. Where a test needs a time, it passes one that lies so far back that a busy
 * machine does not matter. */

#include "place.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "clock.h"
#include "loop.h"

static struct loop *the_loop;
static struct place place;

static int setup(void **state)
{
    (void)state;
    the_loop = aligned_alloc(_Alignof(struct loop), sizeof(*the_loop));
    assert_non_null(the_loop);
    memset(the_loop, 0, sizeof(*the_loop));
    place_init(&place, PLACE_AUTO);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(the_loop);
    return 0;
}

static void set(uint32_t estimate_ns, uint32_t to_measure)
{
    atomic_store(&place.estimate_ns, estimate_ns);
    atomic_store(&place.to_measure, to_measure);
}

static bool is_here(void)
{
    return place_is_here(&place, the_loop);
}

/* A handler that returns at once; if this thread loses its processor meanwhile, it is measured the
 * next time. */
static void be_short(void)
{
    struct place_watch watch;
    place_begin(&watch, &place, 0);
    (void)place_end(&watch);
}

/* Compute for `ns` of this thread's processor time. */
static void burn(uint64_t ns)
{
    struct timespec now;
    uint64_t end_ns = 0, now_ns;

    do {
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        now_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
        if (end_ns == 0)
            end_ns = now_ns + ns;
    } while (now_ns < end_ns);
}

/* ---- the estimate ---- */

static void test_a_route_begins_in_the_queue(void **state)
{
    (void)state;
    assert_false(is_here());
}

static void test_handlers_that_are_short_bring_a_route_in_place(void **state)
{
    unsigned handlers = 0;

    (void)state;
    for (; !is_here() && handlers < 100000; handlers++)
        be_short();
    assert_true(is_here());
    assert_true(handlers > 1);
}

static void test_the_estimate_goes_half_of_the_way_up_at_once(void **state)
{
    (void)state;
    set(0, 0);
    assert_true(is_here());
    place_was_left(&place, false);
    assert_int_equal(place.estimate_ns, PLACE_LONGEST_NS / 2);
    assert_false(is_here());
    place_was_left(&place, false);
    assert_int_equal(place.estimate_ns, PLACE_LONGEST_NS * 3 / 4);
}

static void test_the_estimate_goes_down_slowly(void **state)
{
    unsigned handlers = 0;

    (void)state;
    set(0, 0);
    place_was_left(&place, false);
    for (; !is_here() && handlers < 100000; handlers++)
        be_short();
    assert_true(is_here());
    assert_true(handlers >= 1400); /* more, if some were preempted */
}

static unsigned count_until_here(void)
{
    unsigned handlers = 0;

    place_was_left(&place, false);
    for (; !is_here() && handlers < 1000000; handlers++)
        be_short();
    assert_true(is_here());
    return handlers;
}

static void test_a_route_that_is_long_again_waits_twice_as_long(void **state)
{
    unsigned least = UINT_MAX;

    (void)state;
    set(0, 0);
    /* At least: more, if some were preempted. */
    assert_true(count_until_here() >= 1400);
    assert_true(count_until_here() >= 2800);
    assert_true(count_until_here() >= 5600);
    for (unsigned i = 0; i < 8; i++) {
        unsigned handlers = count_until_here();
        least = handlers < least ? handlers : least;
    }
    assert_true(least < 2 * 5600); /* no longer than that */
}

static void test_one_that_was_left_counts_no_more_than_the_loop_waits(void **state)
{
    (void)state;
    set(PLACE_LONGEST_NS, 0);
    for (unsigned i = 0; i < 10; i++)
        place_was_left(&place, false);
    assert_int_equal(place.estimate_ns, PLACE_LONGEST_NS);
}

#define SHORT_NS 1000

/* After how many of 100,000 handlers the route is in place, if one in `every` is long. */
static unsigned count_here(unsigned every)
{
    unsigned here = 0;

    set(0, 0);
    for (unsigned i = 0; i < 100000; i++) {
        if (i % every == every / 2)
            place_was_left(&place, false);
        place_add_sample(&place, SHORT_NS);
        here += is_here();
    }
    return here;
}

static void test_one_that_was_left_busy_has_the_next_ones_measured(void **state)
{
    (void)state;
    set(0, 0);
    place_was_left(&place, true);
    assert_int_equal(place.estimate_ns, 0);
    assert_true(is_here());
    assert_true(place.to_measure > 0);
}

static void test_one_long_handler_in_a_thousand_keeps_a_route_in_the_queue(void **state)
{
    (void)state;
    assert_true(count_here(1000) <= 500);
}

static void test_one_long_handler_in_ten_thousand_leaves_a_route_in_place(void **state)
{
    (void)state;
    assert_in_range(count_here(10000), 40000, 55000);
}

static void test_a_route_is_brief_though_one_handler_in_a_thousand_is_long(void **state)
{
    unsigned brief = 0;

    (void)state;
    assert_false(place_is_brief(&place));
    for (unsigned i = 0; i < 10000; i++) {
        if (i % 1000 == 500)
            place_was_left(&place, false);
        place_add_sample(&place, SHORT_NS);
        brief += place_is_brief(&place);
    }
    assert_true(brief > 8000);
    for (unsigned i = 0; i < 10; i++)
        place_was_left(&place, false);
    assert_false(place_is_brief(&place));
}

/* ---- what is a sample ---- */

static void test_the_time_of_a_handler_is_returned(void **state)
{
    struct place_watch watch;

    (void)state;
    place_begin(&watch, &place, clock_now_ns() - NS_PER_S);
    assert_true(place_end(&watch) >= NS_PER_S);
}

static void test_a_long_time_alone_is_no_sample(void **state)
{
    struct place_watch watch;

    (void)state;
    set(1000, 0);
    place_begin(&watch, &place, clock_now_ns() - NS_PER_S);
    (void)place_end(&watch);
    assert_int_equal(place.estimate_ns, 1000);
    assert_true(is_here());
}

static void test_a_long_time_has_the_next_handlers_measured(void **state)
{
    struct place_watch watch;

    (void)state;
    set(1000, 0);
    place_begin(&watch, &place, clock_now_ns() - NS_PER_S);
    assert_false(watch.measured);
    (void)place_end(&watch);
    assert_true(place.to_measure > 0);
    place_begin(&watch, &place, 0);
    assert_true(watch.measured);
}

static void test_measuring_ends(void **state)
{
    struct place_watch watch;
    unsigned measured = 0;

    (void)state;
    set(1000, 3);
    for (unsigned i = 0; i < 10; i++) {
        place_begin(&watch, &place, 0);
        measured += watch.measured;
    }
    assert_int_equal(measured, 3);
}

/* The wall time would count PLACE_LONGEST_NS. The thread sleeps nowhere in between, unless the
 * kernel has it wait for a page: so there are several tries. */
static void test_a_measured_handler_that_computed_counts_its_processor_time(void **state)
{
    uint32_t least = UINT32_MAX;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct place_watch watch;
        set(0, 1);
        place_begin(&watch, &place, clock_now_ns() - NS_PER_S);
        burn(100 * NS_PER_US);
        (void)place_end(&watch);
        uint32_t estimate = atomic_load(&place.estimate_ns);
        assert_true(estimate >= 45000); /* half of it; the kernel counts in microseconds */
        least = estimate < least ? estimate : least;
    }
    assert_true(least < PLACE_LONGEST_NS / 4);
}

static void test_a_measured_handler_that_slept_counts_its_whole_time(void **state)
{
    const struct timespec pause = {0, 1000000};
    struct place_watch watch;

    (void)state;
    set(0, 1);
    place_begin(&watch, &place, 0);
    (void)nanosleep(&pause, NULL);
    (void)place_end(&watch);
    assert_int_equal(place.estimate_ns, PLACE_LONGEST_NS / 2);
    assert_false(is_here());
}

static void test_a_route_that_sleeps_now_and_then_does_not_come_in_place(void **state)
{
    const struct timespec pause = {0, 1000000};

    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        struct place_watch watch;
        place_begin(&watch, &place, 0);
        (void)nanosleep(&pause, NULL);
        (void)place_end(&watch);
        assert_false(is_here());
    }
}

/* ---- other reasons ---- */

static void test_a_turn_spends_no_more_than_its_budget_in_handlers(void **state)
{
    (void)state;
    set(0, 0);
    the_loop->handlers.turn_ns = PLACE_TURN_NS - 1;
    assert_true(is_here());
    the_loop->handlers.turn_ns = PLACE_TURN_NS;
    assert_false(is_here());
}

static void test_a_route_for_the_queue_is_never_in_place(void **state)
{
    (void)state;
    place_init(&place, PLACE_QUEUE);
    assert_false(is_here());
    set(0, 0);
    assert_false(is_here());
}

#define claim(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_route_begins_in_the_queue),
        claim(test_handlers_that_are_short_bring_a_route_in_place),
        claim(test_the_estimate_goes_half_of_the_way_up_at_once),
        claim(test_the_estimate_goes_down_slowly),
        claim(test_a_route_that_is_long_again_waits_twice_as_long),
        claim(test_one_that_was_left_counts_no_more_than_the_loop_waits),
        claim(test_a_route_is_brief_though_one_handler_in_a_thousand_is_long),
        claim(test_one_that_was_left_busy_has_the_next_ones_measured),
        claim(test_one_long_handler_in_a_thousand_keeps_a_route_in_the_queue),
        claim(test_one_long_handler_in_ten_thousand_leaves_a_route_in_place),
        claim(test_the_time_of_a_handler_is_returned),
        claim(test_a_long_time_alone_is_no_sample),
        claim(test_a_long_time_has_the_next_handlers_measured),
        claim(test_measuring_ends),
        claim(test_a_measured_handler_that_computed_counts_its_processor_time),
        claim(test_a_measured_handler_that_slept_counts_its_whole_time),
        claim(test_a_route_that_sleeps_now_and_then_does_not_come_in_place),
        claim(test_a_turn_spends_no_more_than_its_budget_in_handlers),
        claim(test_a_route_for_the_queue_is_never_in_place),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}

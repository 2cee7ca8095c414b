/* The specification of coord.h, one claim a test: the order of its calls, when they come, who may
 * ask for a drain and who may call it off. */

#include "with_coord.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* ---- create, destroy ---- */

static void test_a_new_coordinator_is_running(void **state)
{
    (void)state;
    make(ordinary);
    assert_int_equal(coord_get_phase(coord), PHASE_RUNNING);
    assert_int_equal(fake.call_count, 0);
}

static void test_destroy_of_no_coordinator_is_allowed(void **state)
{
    (void)state;
    coord_destroy(NULL);
}

static void test_destroy_before_run_is_allowed(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "api", "nobody runs it");
}

static void test_release_of_an_empty_list_is_allowed(void **state)
{
    (void)state;
    struct coord_requests list = {0};
    coord_requests_release(&list);
    coord_requests_release(&list);
    assert_null(list.items);
}

/* ---- the order of calls ---- */

static void play_full_order(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 0, 2);
    } else if (call == RELEASE) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_call_order_is_lame_duck_close_finish_release(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = NS_PER_MS;
    fake.play = play_full_order;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_calls("lame-duck close finish release");
}

static void test_spread_is_handed_to_what_lets_go(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = NS_PER_MS;
    config.drain.spread_ns = 7 * NS_PER_S;
    fake.play = play_full_order;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.spread_ns[0], 7 * NS_PER_S);
    assert_int_equal(fake.spread_ns[1], 7 * NS_PER_S);
}

/* A request stays, and a tunnel; the tunnel is given up, and then the request is answered. */
static void play_tunnel(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 2);
    } else if (call == GIVE_UP) {
        pthread_mutex_lock(&f->mu);
        f->now.given_up++;
        pthread_mutex_unlock(&f->mu);
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_class_is_given_up_while_others_are_waited_for(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.class_ns[DRAIN_TUNNEL] = NS_PER_MS;
    fake.play = play_tunnel;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE); /* it was cut, and named */
    assert_calls("lame-duck close finish give-up");
    assert_int_equal(fake.give_up_count, 1);
    assert_int_equal(fake.given_up[0], 1U << DRAIN_TUNNEL);
}

static void test_order_with_a_deadline_is_one_for_every_class(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.class_ns[DRAIN_UPLOAD] = FAR;
    fake.play = play_busy;
    make(config);
    assert_true(coord_request_drain_within(coord, "test", "", NS_PER_MS));
    (void)coord_run(coord);
    assert_int_equal(count_calls(CUT), 1);
    assert_int_equal(fake.give_up_count, 0);
}

static void test_a_drain_with_lame_duck_says_so_twice_and_closes_once(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_calls("lame-duck lame-duck close finish");
}

static void test_lame_duck_calls_come_before_close_listeners(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.idle_grace_ns = 0;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_calls("lame-duck lame-duck close finish release freeze cut");
    assert_true(time_of(LAME_DUCK_ON) <= time_of(CLOSE));
}

static void test_each_call_comes_in_its_phase(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 0;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_calls("lame-duck close finish release freeze cut");
    assert_int_equal(phase_of[LAME_DUCK_ON], PHASE_CLOSING);
    assert_int_equal(phase_of[CLOSE], PHASE_CLOSING);
    assert_int_equal(phase_of[FINISH], PHASE_DRAINING);
    assert_int_equal(phase_of[RELEASE], PHASE_DRAINING);
    assert_int_equal(phase_of[FREEZE], PHASE_ABORTING);
    assert_int_equal(phase_of[CUT], PHASE_ABORTING);
    assert_int_equal(coord_get_phase(coord), PHASE_DONE);
}

static void play_freeze_after_cut(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CUT)
        assert_int_equal(f->calls[f->call_count - 2], FREEZE);
}

static void test_the_unfinished_are_listed_before_they_are_cut(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_freeze_after_cut;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
}

static void play_pokes_after_release(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call != CENSUS || phase != PHASE_DRAINING)
        return;
    if (++f->acts == 20)
        set_counts(f, 0, 0, 0);
    coord_poke(f->coord);
}

static void test_release_idle_is_called_once(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 0;
    fake.play = play_pokes_after_release;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_true(fake.looks[PHASE_DRAINING] >= 20);
    assert_int_equal(count_calls(RELEASE), 1);
}

static void test_the_server_is_not_called_before_a_request(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    fake.play = play_pokes_after_release; /* acts in DRAINING only */
    make(config);
    for (int i = 0; i < 10; i++)
        coord_poke(coord);
    assert_int_equal(fake.call_count, 0);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_int_equal(fake.looks[PHASE_RUNNING], 1); /* ten pokes and a request are one look */
}

/* ---- times ---- */

/* Until the clock reads `until_ns`: the claim is about time that has passed. */
static void let_time_pass_until(uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static void test_lame_duck_lasts_its_time(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = 10 * NS_PER_MS;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_true(time_of(CLOSE) >= began_ns + 10 * NS_PER_MS);
}

static void test_idle_grace_lasts_its_time(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 10 * NS_PER_MS;
    fake.play = play_full_order;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_true(time_of(RELEASE) >= began_ns + 10 * NS_PER_MS);
}

static void test_the_deadline_is_not_early(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 15 * NS_PER_MS;
    fake.play = play_busy;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_true(time_of(FREEZE) >= began_ns + 15 * NS_PER_MS);
}

static void play_slow_close(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == LAME_DUCK_ON) {
        let_time_pass_until(clock_now_ns() + 5 * NS_PER_MS);
    } else if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    }
}

static void test_deadline_is_set_before_anything_closes(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 5 * NS_PER_MS;
    fake.play = play_slow_close;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    /* The deadline was over when the listener had closed: no time was lost on draining. */
    assert_calls("lame-duck close freeze cut");
}

static void test_the_deadline_ends_a_close_that_never_ends(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    config.drain.idle_grace_ns = 0;
    fake.play = NULL;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    /* If the first look is so late that the deadline is over as well, nobody is released any more.
     */
    assert_calls(count_calls(RELEASE) > 0 ? "lame-duck close release freeze cut"
                                          : "lame-duck close freeze cut");
}

static void test_a_sleeping_coordinator_does_not_look(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain = (struct drain_config){.lame_duck_ns = 20 * NS_PER_MS,
                                         .deadline_ns = 20 * NS_PER_MS,
                                         .idle_grace_ns = 10 * NS_PER_MS};
    fake.play = play_busy;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    /* One look on entry and one at the end of each timed wait; POSIX allows a few for nothing. */
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_in_range(fake.looks[p], 0, 10);
}

static void play_wall_clock_steps(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS) /* ten years ahead, ten years back, and so on */
        atomic_store(&wall_shift_s, ++f->acts % 2 != 0 ? 315000000 : -315000000);
}

static void test_wall_clock_is_not_used(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 10 * NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_wall_clock_steps;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_true(time_of(FREEZE) >= began_ns + 10 * NS_PER_MS);
    json_t *report = read_report();
    assert_true(real_of(report, "took_ms") >= 10.0);
    assert_true(real_of(report, "took_ms") < HANG_S * 1000.0); /* ten years are more */
    json_decref(report);
}

/* ---- the origins of a drain ---- */

static void test_drain_requested_twice_is_one_drain(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "file", "first");
    coord_request_drain(coord, "api", "second");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_calls("lame-duck close finish");
    assert_logged("drain-begun", 1);
    assert_message_has("drain-begun", "file: first: draining, 1 request in flight");
}

static void play_requests_in_every_call(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    coord_request_drain(f->coord, "again", "");
}

static void test_a_request_in_any_phase_changes_nothing(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_requests_in_every_call;
    make(config);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_calls("lame-duck lame-duck close finish");
    assert_logged("drain-begun", 1);
}

static void test_a_signal_begins_the_drain_and_is_named_with_its_sender(void **state)
{
    (void)state;
    make(ordinary);
    coord_signal(coord, SIGTERM, 4711);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_message_has("drain-begun", "SIGTERM received from process 4711: draining");
}

static void test_a_signal_without_sender_is_named_alone(void **state)
{
    (void)state;
    make(ordinary);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_message_has("drain-begun", "SIGINT received: draining");
}

static enum coord_phase force_phase;

/* One more signal in the first look of `force_phase`, then no time passes by itself. */
static void play_force(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE && force_phase != PHASE_CLOSING)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == force_phase && f->acts++ == 0)
        coord_signal(f->coord, SIGTERM, 0);
}

static int run_forced_in(enum coord_phase phase)
{
    struct coord_config config = ordinary;
    if (phase == PHASE_LAME_DUCK)
        config.drain.lame_duck_ns = FAR;
    force_phase = phase;
    fake.play = play_force;
    make(config);
    coord_signal(coord, SIGTERM, 0);
    return coord_run(coord);
}

static void test_second_signal_while_running_still_closes_the_listeners(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_RUNNING), EXIT_STATUS_FORCED);
    assert_calls("lame-duck close freeze cut");
}

static void test_second_signal_in_lame_duck_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_LAME_DUCK), EXIT_STATUS_FORCED);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    assert_int_equal(count_calls(FINISH), 0);
}

static void test_second_signal_while_closing_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_CLOSING), EXIT_STATUS_FORCED);
    assert_calls("lame-duck close freeze cut");
}

static void test_second_signal_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_DRAINING), EXIT_STATUS_FORCED);
    assert_calls("lame-duck close finish freeze cut");
    assert_logged("drain-forced", 1);
    assert_message_has("drain-forced", "forced by SIGTERM");
}

static void play_force_while_aborting(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CUT) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
    }
}

static void test_a_signal_while_aborting_comes_too_late(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_force_while_aborting;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_signal(coord, SIGTERM, 0);
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    assert_logged("drain-deadline", 1);
    assert_logged("drain-forced", 0);
}

static void test_what_is_passed_on_is_no_second_signal(void **state)
{
    const pid_t predecessor = 4711, other = 4712;
    (void)state;
    make(ordinary);
    coord_set_predecessor(coord, predecessor);
    assert_int_equal(coord_signal(coord, SIGTERM, other), 1);
    assert_int_equal(coord_signal(coord, SIGTERM, predecessor), 1);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
}

static void test_a_second_one_that_is_passed_on_is(void **state)
{
    const pid_t predecessor = 4711;
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_set_predecessor(coord, predecessor);
    assert_int_equal(coord_signal(coord, SIGTERM, predecessor), 1);
    assert_int_equal(coord_signal(coord, SIGTERM, predecessor), 2);
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
}

static void test_forced_names_the_signal_that_forced(void **state)
{
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    for (int i = 0; i < COORD_TRIGGERS_MAX; i++)
        coord_request_drain(coord, "api", "");
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    assert_message_has("drain-forced", "forced by SIGINT");
}

static void play_one_signal_while_draining(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call != CENSUS || phase != PHASE_DRAINING)
        return;
    if (f->acts++ == 0) {
        coord_signal(f->coord, SIGTERM, 1);
    } else {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

/* Kubernetes: the preStop hook asks for the drain, and then SIGTERM comes. */
static void test_the_first_signal_after_another_trigger_does_not_force(void **state)
{
    (void)state;
    fake.play = play_one_signal_while_draining;
    make(ordinary);
    coord_request_drain(coord, "api", "preStop");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
}

static void test_force_in_lame_duck_closes_the_listeners(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_LAME_DUCK), EXIT_STATUS_FORCED);
    assert_int_equal(count_calls(CLOSE), 1);
    assert_true(time_of(CLOSE) <= time_of(FREEZE));
}

/* ---- calling it off ---- */

static void play_undrain_then_again(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS)
        return;
    if (phase == PHASE_LAME_DUCK && f->acts == 0) {
        undone[0] = coord_undrain(f->coord);
        f->acts = 1;
    } else if (phase == PHASE_RUNNING && f->acts == 1) {
        coord_request_drain(f->coord, "api", "again");
        f->acts = 2;
    } else if (phase == PHASE_LAME_DUCK && f->acts == 2) {
        coord_signal(f->coord, SIGTERM, 0); /* the lame duck is long: cut it short */
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 3;
    }
}

static void test_undrain_in_lame_duck_is_ready_again(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_undrain_then_again;
    make(config);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    assert_true(undone[0]);
    assert_int_equal(fake.calls[0], LAME_DUCK_ON);
    assert_int_equal(fake.calls[1], LAME_DUCK_OFF);
    assert_int_equal(fake.calls[2], LAME_DUCK_ON);
    assert_logged("undrained", 1);
    assert_logged("drain-begun", 2);
}

static void test_the_drain_after_an_undrain_names_its_own_trigger(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    config.report_path = report_path;
    fake.play = play_undrain_then_again;
    make(config);
    coord_request_drain(coord, "file", "first");
    (void)coord_run(coord);
    json_t *line = logged("drain-begun", 1);
    assert_string_equal(text_of(line, "trigger"), "api");
    json_decref(line);
    json_t *report = read_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 3);
    assert_string_equal(text_of(json_array_get(triggers, 0), "name"), "api");
    json_decref(report);
}

/* A close that is not the hand-over's would shut what the successor accepts on. */
static void play_followed_in_lame_duck(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts++ == 0) {
        undone[0] =
            coord_request_handover(f->coord, "another has taken over", 0) != COORD_HANDOVER_JOINED;
        undone[1] = coord_undrain(f->coord);
    }
}

static void test_a_drain_that_is_followed_in_its_lame_duck_hands_over(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_followed_in_lame_duck;
    undone[0] = undone[1] = true;
    make(config);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_false(undone[0]); /* a stop came first: it has to be forwarded to the successor */
    assert_false(undone[1]);
    assert_calls("lame-duck hand-over finish");
}

static void play_followed_too_late(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CLOSE)
        undone[0] = coord_request_handover(f->coord, "another has taken over", 0) ==
                    COORD_HANDOVER_TOO_LATE;
}

static void test_a_drain_that_closes_already_does_not_hand_over(void **state)
{
    (void)state;
    fake.play = play_followed_too_late;
    make(ordinary);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_true(undone[0]);
    assert_calls("lame-duck close finish");
}

/* ---- a successor that another process has started ---- */

static void test_a_process_that_stands_by_ends_without_a_lame_duck(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    make(config);
    coord_stand_by(coord);
    coord_request_drain(coord, "file", "");
    assert_false(coord_undrain(coord));
    assert_false(coord_take_charge(coord)); /* too late: it must not serve */
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_logged("lame-duck", 0);
}

static void test_a_successor_that_has_taken_charge_drains_like_any_process(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    make(config);
    coord_stand_by(coord);
    assert_true(coord_take_charge(coord));
    coord_request_drain(coord, "file", "");
    assert_true(coord_undrain(coord));
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_message_has("lame-duck", "the drain can be called off");
}

static void play_stopped_in_lame_duck(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts++ == 0) {
        coord_request_stop(f->coord, "restart", "process 4711 stops", 1, true);
        undone[0] = coord_undrain(f->coord);
    }
}

static void test_a_stop_by_the_predecessor_ends_a_lame_duck_for_good(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_stopped_in_lame_duck;
    undone[0] = true;
    make(config);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_false(undone[0]);
}

static void test_a_stop_by_the_predecessor_stands_for_the_signals_so_far(void **state)
{
    const pid_t predecessor = 4711, other = 4712;
    (void)state;
    make(ordinary);
    coord_set_predecessor(coord, predecessor);
    assert_int_equal(coord_signal(coord, SIGTERM, predecessor), 1);
    coord_request_stop(coord, "restart", "", 1, false);
    assert_int_equal(coord_signal(coord, SIGTERM, other), 1); /* to all, by a service manager */
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
}

static void test_a_forced_stop_by_the_predecessor_forces(void **state)
{
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_request_stop(coord, "restart", "process 4711 stops", 2, true);
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    assert_message_has("drain-forced", "forced by restart");
}

static void play_ended_in_lame_duck(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS || phase != PHASE_LAME_DUCK)
        return;
    struct coord_status status;
    coord_get_status(f->coord, &status);
    if (f->acts == 0) {
        undone[1] = status.revocable;
        (void)coord_request_drain_ending(f->coord, "application", "ended", 7);
        undone[0] = coord_undrain(f->coord);
        coord_get_status(f->coord, &status);
        undone[2] = status.revocable;
    } else if (f->acts == 1) {
        coord_signal(f->coord, SIGTERM, 0);
    } else if (f->acts == 2) {
        coord_signal(f->coord, SIGINT, 0);
    }
    f->acts++;
}

static void test_what_has_ended_cannot_be_called_off(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_ended_in_lame_duck;
    undone[0] = undone[2] = true;
    make(config);
    coord_request_drain(coord, "file", "");
    (void)coord_run(coord);
    assert_false(undone[0]);
    assert_true(undone[1]);  /* as the status had it before, */
    assert_false(undone[2]); /* and after it */
    assert_message_has("lame-duck", "the drain can be called off");
    assert_logged("final", 1);
}

static void test_what_ends_with_its_purpose_does_not_say_that_it_can_be_called_off(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    set_counts(&fake, 0, 0, 0);
    make(config);
    (void)coord_request_drain_ending(coord, "application", "ended", 7);
    assert_int_equal(coord_run(coord), 7);
    assert_message_has("lame-duck", "the drain cannot be called off");
    assert_logged("final", 0);
}

static void play_undrain_late(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        undone[0] = coord_undrain(f->coord);
        set_counts(f, 0, 1, 1);
    } else if (call == FINISH) {
        undone[1] = coord_undrain(f->coord);
    } else if (call == CUT) {
        undone[2] = coord_undrain(f->coord);
    }
}

static void test_undrain_is_refused_past_the_point_of_no_return(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    fake.play = play_undrain_late;
    undone[0] = undone[1] = undone[2] = true;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_false(undone[0] || undone[1] || undone[2]);
    assert_false(coord_undrain(coord)); /* and when it is over */
    assert_int_equal(count_calls(LAME_DUCK_OFF), 0);
}

static void test_a_request_taken_back_before_the_look_is_forgotten(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "file", "taken back");
    assert_true(coord_undrain(coord));
    coord_request_drain(coord, "api", "meant");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_message_has("drain-begun", "api: meant");
}

static void play_request_while_undraining(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts++ == 0)
        (void)coord_undrain(f->coord);
    if (call == LAME_DUCK_OFF) /* the coordinator is inside its step to RUNNING */
        coord_request_drain(f->coord, "api", "while undraining");
}

static void test_a_request_while_the_undrain_is_carried_out_keeps_its_trigger(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_request_while_undraining;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE); /* UBSan: triggers[-1] */
    json_t *report = read_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 1);
    assert_string_equal(text_of(json_array_get(triggers, 0), "name"), "api");
    json_decref(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_new_coordinator_is_running),
        claim(test_destroy_of_no_coordinator_is_allowed),
        claim(test_destroy_before_run_is_allowed),
        claim(test_release_of_an_empty_list_is_allowed),
        claim(test_lame_duck_calls_come_before_close_listeners),
        claim(test_spread_is_handed_to_what_lets_go),
        claim(test_class_is_given_up_while_others_are_waited_for),
        claim(test_order_with_a_deadline_is_one_for_every_class),
        claim(test_each_call_comes_in_its_phase),
        claim(test_call_order_is_lame_duck_close_finish_release),
        claim(test_a_drain_with_lame_duck_says_so_twice_and_closes_once),
        claim(test_the_unfinished_are_listed_before_they_are_cut),
        claim(test_release_idle_is_called_once),
        claim(test_the_server_is_not_called_before_a_request),
        claim(test_lame_duck_lasts_its_time),
        claim(test_idle_grace_lasts_its_time),
        claim(test_the_deadline_is_not_early),
        claim(test_deadline_is_set_before_anything_closes),
        claim(test_the_deadline_ends_a_close_that_never_ends),
        claim(test_a_sleeping_coordinator_does_not_look),
        claim(test_wall_clock_is_not_used),
        claim(test_drain_requested_twice_is_one_drain),
        claim(test_a_request_in_any_phase_changes_nothing),
        claim(test_a_signal_begins_the_drain_and_is_named_with_its_sender),
        claim(test_a_signal_without_sender_is_named_alone),
        claim(test_second_signal_while_running_still_closes_the_listeners),
        claim(test_second_signal_in_lame_duck_skips_the_wait),
        claim(test_second_signal_while_closing_skips_the_wait),
        claim(test_second_signal_skips_the_wait),
        claim(test_a_signal_while_aborting_comes_too_late),
        claim(test_what_is_passed_on_is_no_second_signal),
        claim(test_a_second_one_that_is_passed_on_is),
        claim(test_a_drain_that_closes_already_does_not_hand_over),
        claim(test_a_process_that_stands_by_ends_without_a_lame_duck),
        claim(test_a_successor_that_has_taken_charge_drains_like_any_process),
        claim(test_a_stop_by_the_predecessor_ends_a_lame_duck_for_good),
        claim(test_a_stop_by_the_predecessor_stands_for_the_signals_so_far),
        claim(test_a_forced_stop_by_the_predecessor_forces),
        claim(test_forced_names_the_signal_that_forced),
        claim(test_the_first_signal_after_another_trigger_does_not_force),
        claim(test_force_in_lame_duck_closes_the_listeners),
        claim(test_undrain_in_lame_duck_is_ready_again),
        claim(test_the_drain_after_an_undrain_names_its_own_trigger),
        claim(test_a_drain_that_is_followed_in_its_lame_duck_hands_over),
        claim(test_what_has_ended_cannot_be_called_off),
        claim(test_what_ends_with_its_purpose_does_not_say_that_it_can_be_called_off),
        claim(test_undrain_is_refused_past_the_point_of_no_return),
        claim(test_a_request_taken_back_before_the_look_is_forgotten),
        claim(test_a_request_while_the_undrain_is_carried_out_keeps_its_trigger),
    };
    return cmocka_run_group_tests_name("coord", tests, with_coord_make_directory,
                                       with_coord_remove_directory);
}

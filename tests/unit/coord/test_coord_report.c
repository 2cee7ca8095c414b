/* The specification of coord.h and report.h, one claim a test: the exit status, the lines of the
 * log and the report that a drain writes. */

#include "with_coord.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "report.h"

/* ---- the status ---- */

static void test_an_empty_server_drains_at_once(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_calls("lame-duck close finish");
    assert_logged("drained", 1);
}

static void test_deadline_with_unfinished_is_3(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), 3);
    assert_message_has("drain-deadline", "1 request unfinished");
    assert_message_has("unfinished", "GET /slow from 192.0.2.1:4711, running, age 1.5s");
}

static void test_deadline_with_nothing_unfinished_is_0(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy; /* a connection is open, but the list is empty */
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), 0);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    assert_logged("drain-deadline", 0);
}

static void test_unfinished_that_the_list_left_out_count_as_well(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    fake.unfinished.left_out = 2;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    assert_message_has("drain-deadline", "2 requests unfinished");
}

static void test_what_ended_has_its_status_where_the_drain_is_clean(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    assert_true(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 7);
    assert_logged("drained", 1);
}

static void test_what_ended_in_a_drain_does_not_set_its_status(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_false(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 0);
}

static void test_the_unfinished_win_over_the_status_of_what_ended(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(config);
    assert_true(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 3);
}

static void test_the_line_of_the_deadline_counts_what_was_given_up_before_it(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    fake.now.given_up = 2;
    for (int i = 0; i < 25; i++)
        add_unfinished(&fake, "GET", "/slow");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    assert_message_has("drain-deadline", "27 requests unfinished");
    assert_message_has("unfinished-more", "and 5 more");
}

static void test_forced_status_is_4(void **state)
{
    (void)state;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGTERM, 0);
    assert_int_equal(coord_run(coord), 4);
}

static void test_forced_with_nothing_unfinished_is_4_too(void **state)
{
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), 4);
    assert_message_has("drain-forced", "forced by SIGINT");
}

static void test_a_hundred_unfinished_are_not_a_hundred_lines(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_busy;
    for (int i = 0; i < 100; i++)
        add_unfinished(&fake, "GET", "/slow");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    assert_logged("unfinished", 20);
    assert_message_has("unfinished-more", "and 80 more");
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "unfinished")), 100);
    json_decref(report);
}

static void test_unfinished_that_no_line_names_are_counted_in_one(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    fake.unfinished.left_out = 2;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    assert_message_has("unfinished-more", "and 2 more");
}

/* ---- log lines ---- */

static void play_progress(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == LIST && ++f->acts == 3)
        set_counts(f, 0, 0, 0);
}

static void test_progress_is_logged_again_and_again(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.progress_ns = NS_PER_MS;
    fake.play = play_progress;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_logged("drain-progress", 3);
    assert_message_has("drain-progress", "draining: waiting for 1 request on 1 connection");
    assert_true(fake.called_ns[4] >= fake.called_ns[3] + NS_PER_MS); /* list to list */
}

static void test_without_progress_no_request_is_listed(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    fake.play = play_busy;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(count_calls(LIST), 0);
    assert_logged("drain-progress", 0);
}

static void test_progress_names_the_oldest_and_survives_long_names(void **state)
{
    (void)state;
    char *path = calloc(1, 3000);
    struct drain drain;
    const struct drain_config config = {
        .lame_duck_ns = 0, .deadline_ns = 10 * NS_PER_S, .idle_grace_ns = NS_PER_S};
    const struct coord_census census = {.active = 4, .connections = 4};
    assert_non_null(path);
    path[0] = '/';
    memset(path + 1, 0xff, 2998);
    drain_init(&drain, &config, 1);
    drain_enter(&drain, PHASE_CLOSING, 1);
    add_unfinished(&fake, "GET", "/oldest");
    add_unfinished(&fake, path + 1, path);
    add_unfinished(&fake, "GET", path);
    add_unfinished(&fake, "GET", "/fourth");
    report_log_progress(&drain, &census, &fake.unfinished, NS_PER_S);
    assert_message_has("drain-progress", "closing: waiting for 4 requests on 4 connections, 9s "
                                         "left; oldest: GET /oldest (running, 1.5s), ");
    free(path);
}

static void test_the_end_is_counted(void **state)
{
    (void)state;
    fake.play = play_many_requests;
    fake.now = (struct coord_census){.listeners = 1, .answered = 30, .idle_released = 28};
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    assert_message_has("drained", "0 answered, 28 idle connections released");
    json_t *line = logged("drained", 0);
    assert_int_equal(number_of(line, "answered"), 0); /* the thirty came before the drain */
    json_decref(line);
}

/* ---- the report ---- */

#define ODD_PATH "/odd\xff\n\x01\"\\\xc3\xbc"

static void play_report(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call != CLOSE)
        return;
    pthread_mutex_lock(&f->mu);
    f->now = (struct coord_census){
        .active = 2, .connections = 3, .answered = 15, .accepted = 27, .idle_released = 4};
    pthread_mutex_unlock(&f->mu);
}

/* A drain of 5 ms with a lame duck before it, two triggers, and five requests left over. */
static json_t *run_for_report(void)
{
    struct coord_config config = ordinary;
    config.drain = (struct drain_config){
        .lame_duck_ns = 2 * NS_PER_MS, .deadline_ns = 5 * NS_PER_MS, .idle_grace_ns = NS_PER_MS};
    config.report_path = report_path;
    fake.play = play_report;
    fake.now = (struct coord_census){
        .listeners = 1, .active = 7, .connections = 9, .answered = 10, .accepted = 20};
    add_unfinished(&fake, "P\xfeST", ODD_PATH);
    add_unfinished(&fake, "GET", "/second");
    fake.unfinished.left_out = 3;
    make(config);
    coord_request_drain(coord, "file", "/run/drain");
    coord_request_drain(coord, "api", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    return read_report();
}

static void test_report_names_server_outcome_and_status(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    assert_int_equal(number_of(report, "schema"), 1);
    assert_string_equal(text_of(report, "server"), "lastcall/" LASTCALL_VERSION);
    assert_string_equal(text_of(report, "outcome"), "deadline");
    assert_int_equal(number_of(report, "exit_status"), 3);
    assert_int_equal(strlen(text_of(report, "began")), strlen("2024-01-01T00:00:00.000Z"));
    assert_true(real_of(report, "deadline_ms") == 5.0);
    assert_true(real_of(report, "took_ms") >= 7.0);
    json_decref(report);
}

static void test_report_holds_every_trigger_in_order(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 2);
    const json_t *first = json_array_get(triggers, 0), *second = json_array_get(triggers, 1);
    assert_string_equal(text_of(first, "name"), "file");
    assert_string_equal(text_of(first, "detail"), "/run/drain");
    assert_true(real_of(first, "at_ms") == 0.0);
    assert_string_equal(text_of(second, "name"), "api");
    assert_true(real_of(second, "at_ms") >= 0.0);
    json_decref(report);
}

static void test_report_holds_every_phase_in_order(void **state)
{
    (void)state;
    static const char *const want[] = {"lame-duck", "closing", "draining", "aborting", "done"};
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.idle_grace_ns = 0;
    config.report_path = report_path;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    json_t *report = read_report();
    const json_t *phases = json_object_get(report, "phases");
    assert_int_equal(json_array_size(phases), 5);
    double last_ms = 0;
    for (size_t i = 0; i < 5; i++) {
        const json_t *phase = json_array_get(phases, i);
        assert_string_equal(text_of(phase, "phase"), want[i]);
        assert_true(real_of(phase, "at_ms") >= last_ms);
        last_ms = real_of(phase, "at_ms");
    }
    assert_true(last_ms >= 1.0); /* the lame duck */
    json_decref(report);
}

static void test_report_counts_from_begin_to_end(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *counts = json_object_get(report, "counts");
    assert_int_equal(number_of(counts, "in_flight_at_begin"), 7);
    assert_int_equal(number_of(counts, "connections_at_begin"), 9);
    assert_int_equal(number_of(counts, "accepted_during"), 7);
    assert_int_equal(number_of(counts, "answered_during"), 5);
    assert_int_equal(number_of(counts, "idle_released"), 4);
    assert_int_equal(number_of(counts, "unfinished"), 5);
    assert_int_equal(number_of(counts, "jobs_at_end"), 0);
    json_decref(report);
}

static void test_report_holds_the_unfinished_with_odd_bytes(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *unfinished = json_object_get(report, "unfinished");
    assert_int_equal(json_array_size(unfinished), 2);
    const json_t *odd = json_array_get(unfinished, 0);
    assert_string_equal(text_of(odd, "method"), "P\xef\xbf\xbdST");
    /* once one byte is not UTF-8, no byte beyond ASCII is trusted */
    assert_string_equal(text_of(odd, "path"), "/odd\xef\xbf\xbd\n\x01\"\\\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(text_of(odd, "authority"), "example.com");
    assert_string_equal(text_of(odd, "peer"), "192.0.2.1:4711");
    assert_string_equal(text_of(odd, "state"), "running");
    assert_true(real_of(odd, "age_ms") == 1500.0);
    assert_int_equal(number_of(odd, "body_bytes"), 11);
    assert_int_equal(number_of(odd, "sent_bytes"), 22);
    assert_string_equal(text_of(json_array_get(unfinished, 1), "path"), "/second");
    json_decref(report);
    assert_message_has("unfinished", "/odd"); /* and teardown parses every line of the log */
}

static void test_report_of_a_clean_drain_says_quiet(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    coord_signal(coord, SIGTERM, 7);
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "quiet");
    assert_int_equal(number_of(report, "exit_status"), 0);
    assert_int_equal(json_array_size(json_object_get(report, "unfinished")), 0);
    assert_int_equal(json_array_size(json_object_get(report, "phases")), 3);
    const json_t *trigger = json_array_get(json_object_get(report, "triggers"), 0);
    assert_string_equal(text_of(trigger, "name"), "SIGTERM");
    assert_string_equal(text_of(trigger, "detail"), "from process 7");
    json_decref(report);
}

static void test_report_of_a_forced_drain_says_forced(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    fake.play = play_busy;
    make(config);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "forced");
    assert_int_equal(number_of(report, "exit_status"), 4);
    json_decref(report);
}

static void test_report_notes_no_more_triggers_than_it_has_room_for(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    for (int i = 0; i < 3 * COORD_TRIGGERS_MAX; i++)
        coord_request_drain(coord, "a-name-that-is-much-too-long-for-it",
                            "and a detail that is much too long for its place: it is cut, as it "
                            "may be anything that anybody wrote anywhere");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "triggers")), COORD_TRIGGERS_MAX);
    json_decref(report);
}

static void test_report_is_for_its_group_to_read(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    struct stat st;
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(stat(report_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void write_old_report(void)
{
    FILE *file = fopen(report_path, "w");
    assert_non_null(file);
    (void)fputs("\"old\"", file);
    (void)fclose(file);
}

static void test_report_replaces_the_old_one_whole(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    write_old_report();
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "quiet");
    json_decref(report);
    assert_directory_holds(1); /* no temporary file beside it */
}

/* Runs a drain whose report cannot be written. */
static void assert_report_fails_to(const char *path)
{
    struct coord_config config = ordinary;
    config.report_path = path;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN); /* the drain itself was clean */
    assert_logged("report-failed", 1);
    json_t *line = logged("report-failed", 0);
    assert_string_equal(text_of(line, "level"), "error");
    json_decref(line);
}

static void test_report_into_no_directory_is_an_error_in_the_log(void **state)
{
    (void)state;
    assert_report_fails_to("/nowhere/at/all/report.json");
    assert_message_has("report-failed", "/nowhere/at/all/report.json: No such file or directory");
}

static void test_report_into_a_directory_that_refuses_is_an_error_in_the_log(void **state)
{
    (void)state;
    assert_report_fails_to("/proc/report.json"); /* root may not write there either */
}

static void test_report_that_cannot_take_its_name_leaves_no_file(void **state)
{
    (void)state;
    assert_int_equal(mkdir(report_path, 0700), 0); /* rename(2) over it fails */
    assert_report_fails_to(report_path);
    assert_directory_holds(1);
    assert_int_equal(rmdir(report_path), 0);
}

static void test_report_file_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    struct rlimit before, small;
    write_old_report();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100; /* a full disk: the report is longer. The log would be, too */
    struct report report = {.status = 0};
    struct drain drain;
    drain_init(&drain, &ordinary.drain, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = report_write(&report, &drain, report_path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_true(err < 0);
    assert_directory_holds(1);
    json_t *old = json_load_file(report_path, JSON_DECODE_ANY, NULL);
    assert_string_equal(json_string_value(old), "old");
    json_decref(old);
}

static void play_force_after_undrain(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts == 0) {
        (void)coord_undrain(f->coord);
        f->acts = 1;
    } else if (call == CENSUS && phase == PHASE_RUNNING && f->acts == 1) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 2;
    }
}

static void test_phases_of_a_drain_called_off_are_not_in_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    config.report_path = report_path;
    fake.play = play_force_after_undrain;
    make(config);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_FORCED);
    json_t *report = read_report();
    const json_t *first = json_array_get(json_object_get(report, "phases"), 0);
    assert_string_equal(text_of(first, "phase"), "closing");
    assert_true(real_of(first, "at_ms") < HANG_S * 1000.0);
    json_decref(report);
}

static void test_a_trigger_that_is_not_utf_8_is_in_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "file", "/run/\xff");
    assert_int_equal(coord_run(coord), EXIT_STATUS_CLEAN);
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "triggers")), 1);
    json_decref(report);
    json_t *line = logged("drain-begun", 0);
    assert_string_equal(text_of(line, "trigger"), "file");
    json_decref(line);
}

static void *ask_at_the_end(void *arg)
{
    int *ends = arg;
    char byte[4096];
    if (coord_wait_phase(coord, PHASE_DONE, CLOCK_NEVER) != 0)
        abort();
    coord_request_drain(coord, "late", "the coordinator is writing its last lines");
    while (read(ends[0], byte, sizeof(byte)) > 0) /* and now they fit */
        ;
    return NULL;
}

/* For TSan: the last line of the log blocks on a full pipe until the late request is noted. */
static void test_a_request_while_the_report_is_written_is_no_race(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    char junk[4096];
    int ends[2];
    pthread_t thread;
    config.report_path = report_path;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    make(config);
    log_init(LOG_FORMAT_JSON, true);
    memset(junk, '.', sizeof(junk));
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(ends[1], junk, sizeof(junk)) > 0)
        ;
    fcntl(ends[0], F_SETFL, 0);
    fcntl(ends[1], F_SETFL, 0);
    coord_request_drain(coord, "test", "");
    assert_int_equal(pthread_create(&thread, NULL, ask_at_the_end, ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    int status = coord_run(coord);
    dup2(memory, STDERR_FILENO);
    pthread_join(thread, NULL);
    close(ends[0]);
    assert_int_equal(status, EXIT_STATUS_DEADLINE);
}

static void test_a_text_that_memory_failed_for_does_not_crash_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    free(fake.unfinished.items[0].peer);
    fake.unfinished.items[0].peer = NULL; /* strdup(3) in the server returned NULL */
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), EXIT_STATUS_DEADLINE);
    json_decref(read_report());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_an_empty_server_drains_at_once),
        claim(test_deadline_with_unfinished_is_3),
        claim(test_deadline_with_nothing_unfinished_is_0),
        claim(test_unfinished_that_the_list_left_out_count_as_well),
        claim(test_what_ended_has_its_status_where_the_drain_is_clean),
        claim(test_what_ended_in_a_drain_does_not_set_its_status),
        claim(test_the_unfinished_win_over_the_status_of_what_ended),
        claim(test_the_line_of_the_deadline_counts_what_was_given_up_before_it),
        claim(test_forced_status_is_4),
        claim(test_forced_with_nothing_unfinished_is_4_too),
        claim(test_a_hundred_unfinished_are_not_a_hundred_lines),
        claim(test_unfinished_that_no_line_names_are_counted_in_one),
        claim(test_progress_is_logged_again_and_again),
        claim(test_without_progress_no_request_is_listed),
        claim(test_progress_names_the_oldest_and_survives_long_names),
        claim(test_the_end_is_counted),
        claim(test_report_names_server_outcome_and_status),
        claim(test_report_holds_every_trigger_in_order),
        claim(test_report_holds_every_phase_in_order),
        claim(test_report_counts_from_begin_to_end),
        claim(test_report_holds_the_unfinished_with_odd_bytes),
        claim(test_report_of_a_clean_drain_says_quiet),
        claim(test_report_of_a_forced_drain_says_forced),
        claim(test_report_notes_no_more_triggers_than_it_has_room_for),
        claim(test_report_is_for_its_group_to_read),
        claim(test_report_replaces_the_old_one_whole),
        claim(test_report_into_no_directory_is_an_error_in_the_log),
        claim(test_report_into_a_directory_that_refuses_is_an_error_in_the_log),
        claim(test_report_that_cannot_take_its_name_leaves_no_file),
        claim(test_report_file_is_written_whole_or_not_at_all),
        claim(test_phases_of_a_drain_called_off_are_not_in_the_report),
        claim(test_a_trigger_that_is_not_utf_8_is_in_the_report),
        claim(test_a_request_while_the_report_is_written_is_no_race),
        claim(test_a_text_that_memory_failed_for_does_not_crash_the_report),
    };
    return cmocka_run_group_tests_name("coord_report", tests, with_coord_make_directory,
                                       with_coord_remove_directory);
}

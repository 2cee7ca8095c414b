/* The load client: when it asks, and what it notes of when. */

#include "with_loadgen.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"

/* ---- the timeline and the times ---- */

static void test_timeline_holds_every_answer_and_loss(void **state)
{
    (void)state;
    struct load_options options = with_requests(12);
    options.connections = 1;
    options.timeline = &timeline;
    struct load_result r = run(close_on_the_third, options);

    assert_int_equal(r.lost, 4);
    assert_timeline_is(&r);
}

static void test_timeline_holds_refused_streams_and_sent_ones(void **state)
{
    (void)state;
    struct load_options options = with_streams(8, 8);
    options.timeline = &timeline;
    struct load_result r = run_h2(h2_goaway_behind_the_third, options);

    assert_int_equal(timeline_sum(LOAD_REFUSED), 5);
    assert_timeline_is(&r);
    assert_in_range(r.first_refused_ns, r.start_ns, clock_now_ns());
}

static void test_timeline_puts_an_answer_into_the_slot_of_its_time(void **state)
{
    (void)state;
    struct load_options options = with_requests(2);
    options.connections = 1;
    options.pause_ms = 50;
    options.timeline = &timeline;
    struct load_result r = run(say_hello, options);
    size_t slot = (size_t)((r.last_answer_ns - r.start_ns) / 10000000);

    assert_timeline_is(&r);
    assert_true(slot >= 5);
    assert_int_equal(timeline.slots[slot][LOAD_ANSWERED], 1);
}

static void test_timeline_is_written_as_lines_with_marks_between(void **state)
{
    (void)state;
    struct load_result r = {.start_ns = 1000000000,
                            .signal_ns = 1011500000,
                            .gone_ns = 1099000000,
                            .first_refused_ns = 1011200000};
    char text[512] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    memset(&timeline, 0, sizeof(timeline));
    timeline.slots[0][LOAD_SENT] = 2;
    timeline.slots[1][LOAD_ANSWERED] = 1;
    timeline.slots[3][LOAD_LOST] = 1;
    timeline.slots[3][LOAD_REFUSED] = 7;
    timeline.beyond = 9;
    assert_int_equal(load_timeline_write(&timeline, &r, file), 0);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "{\"t_ms\":0,\"sent\":2,\"answered\":0,\"lost\":0,\"refused\":0}\n"
                              "{\"t_ms\":10,\"sent\":0,\"answered\":1,\"lost\":0,\"refused\":0}\n"
                              "{\"t_ms\":11.200,\"mark\":\"first_refused\"}\n"
                              "{\"t_ms\":11.500,\"mark\":\"signal\"}\n"
                              "{\"t_ms\":30,\"sent\":0,\"answered\":0,\"lost\":1,\"refused\":7}\n"
                              "{\"t_ms\":99.000,\"mark\":\"gone\"}\n"
                              "{\"beyond\":9}\n");
}

static struct load_latencies latencies;

static uint64_t latencies_between(size_t from, size_t to)
{
    uint64_t sum = 0;

    for (size_t i = from; i < to; i++)
        for (size_t j = 0; j < LOAD_LATENCY_BUCKETS; j++)
            sum += latencies.windows[i][j];
    return sum;
}

static void test_latencies_are_kept_by_the_time_of_the_answer(void **state)
{
    (void)state;
    struct load_options options = with_requests(3);
    options.connections = 1;
    options.pause_ms = 120;
    options.latencies = &latencies;
    struct load_result r = run(say_hello, options);
    size_t last = (size_t)((r.last_answer_ns - r.start_ns) / 100000000);

    assert_int_equal(r.answered, 3);
    assert_true(last >= 2);
    assert_int_equal(latencies_between(0, LOAD_WINDOWS), 3);
    assert_int_equal(latencies_between(last, last + 1), 1);
}

static void test_latencies_are_written_as_a_line_a_window(void **state)
{
    (void)state;
    struct load_result r = {.start_ns = 1000000000};
    char text[256] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    memset(&latencies, 0, sizeof(latencies));
    latencies.windows[0][7] = 2;
    latencies.windows[3][0] = 1;
    latencies.windows[3][64] = 4; /* the first bucket that is wider than one: 64 and 65 */
    assert_int_equal(load_latencies_write(&latencies, &r, file), 0);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "{\"start_ns\":1000000000}\n"
                              "{\"t_ms\":0,\"us\":[[7,2]]}\n"
                              "{\"t_ms\":300,\"us\":[[0,1],[65,4]]}\n");
}

static int signal_pipe[2];

static void write_to_pipe(void *arg)
{
    assert_int_equal(write(*(int *)arg, "", 1), 1);
}

static enum bad_next hold_the_second_until_the_signal(int fd, unsigned ordinal)
{
    char byte;

    if (ordinal == 2 && read(signal_pipe[0], &byte, 1) != 1)
        return BAD_RESET;
    return say_hello(fd, ordinal);
}

static void test_latencies_are_kept_apart_by_the_signal(void **state)
{
    (void)state;
    struct load_options options = with_requests(4);
    options.connections = 1;
    options.signal_after_ms = LONG_ENOUGH_MS;
    options.on_signal = write_to_pipe;
    options.on_signal_arg = &signal_pipe[1];
    assert_int_equal(pipe(signal_pipe), 0);
    struct load_result r = run(hold_the_second_until_the_signal, options);
    (void)close(signal_pipe[0]);
    (void)close(signal_pipe[1]);

    assert_all_answered(&r, 4);
    assert_int_equal(r.after_signal.count, r.answered_after_signal);
    assert_int_equal(r.before_signal.count, 1);
    assert_int_equal(r.after_signal.count, 3);
    assert_true(r.latency_max_us == (r.before_signal.max_us > r.after_signal.max_us
                                         ? r.before_signal.max_us
                                         : r.after_signal.max_us));
}

static pid_t start_sleeper(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(30); /* should the test fail */
        (void)pause();
        _exit(0);
    }
    return pid;
}

static void kill_sleeper(void *arg)
{
    (void)kill(*(pid_t *)arg, SIGTERM);
}

static struct load_options with_process(pid_t *pid)
{
    struct load_options options = base;

    options.server_pid = *pid;
    options.signal_after_ms = LONG_ENOUGH_MS;
    options.on_signal = kill_sleeper;
    options.on_signal_arg = pid;
    return options;
}

/* The parent has not reaped the process: a zombie counts as gone. */
static void test_run_lasts_until_the_process_is_gone_and_tells_when(void **state)
{
    (void)state;
    pid_t pid = start_sleeper();
    struct load_result r = run(say_hello, with_process(&pid)); /* the requests end long before */

    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_all_answered(&r, 20);
    assert_in_range(r.gone_ns, r.signal_ns, clock_now_ns());
    assert_true(r.gone_ns > r.last_answer_ns);
}

/* In a child, because a seccomp filter cannot be removed. */
static int run_without_pidfd(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number of the system call */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = 4, .filter = code};
    pid_t pid = start_sleeper();
    struct load_options options = with_process(&pid);
    struct load_result r;

    options.address = "unix:/nonexistent/socket";
    options.connections = 1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0 || load_run(&options, &r) != 0)
        return 1;
    return r.signal_ns != 0 && r.gone_ns >= r.signal_ns ? 0 : 2;
}

static void test_without_pidfd_the_exit_is_found_by_asking(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run_without_pidfd());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_report_tells_the_exit_lag_or_that_there_is_none(void **state)
{
    (void)state;
    struct load_result r = {
        .signal_ns = 5000000, .last_answer_ns = 7000000, .gone_ns = 7123000, .lost = 3};
    char text[4096] = "";
    FILE *file = fmemopen(text, sizeof(text), "w");

    load_report_print(&r, 1, true, file);
    r.gone_ns = 0;
    load_report_print(&r, 1, true, file);
    assert_int_equal(fclose(file), 0);
    assert_non_null(strstr(text, ",\"lost\":3,"));
    assert_non_null(strstr(text, ",\"signal_to_gone_ms\":2.123,\"last_answer_to_gone_ms\":0.123,"));
    assert_non_null(strstr(text, ",\"signal_to_gone_ms\":null,\"last_answer_to_gone_ms\":null,"));
}

/* ---- open loop ---- */

static void test_open_loop_begins_every_request_when_it_is_due(void **state)
{
    (void)state;
    struct load_options options = with_requests(20);
    options.rate = 500;
    options.timeline = &timeline;
    struct load_result r = run(say_hello, options);

    assert_all_answered(&r, 20);
    assert_int_equal(r.waiting_to_start + r.queue_overflow, 0);
    assert_true(r.last_answer_ns - r.start_ns >= 19 * 2000000); /* the last is due at 38 ms */
    assert_timeline_is(&r);
}

static enum bad_next hold_the_first_50_ms(int fd, unsigned ordinal)
{
    if (ordinal == 1)
        (void)poll(NULL, 0, 50); /* the stall that is planted */
    return say_hello(fd, ordinal);
}

/* All ten are due within 9 ms and held up by one answer that takes 50 ms: each is late. */
static void test_open_loop_latency_counts_from_the_intended_start(void **state)
{
    (void)state;
    struct load_options options = with_requests(10);
    options.connections = 1;
    options.rate = 1000;
    struct load_result r = run(hold_the_first_50_ms, options);

    assert_all_answered(&r, 10);
    assert_true(r.latency_p50_us >= 40000);
}

static void test_open_loop_what_finds_no_connection_waits_to_start(void **state)
{
    (void)state;
    struct load_options options = with_requests(0);
    options.connections = 3;
    options.rate = 100; /* arrivals at 0, 10, ... 690 ms, the last ones too if the client stalls */
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = 20;
    struct load_result r = run(never_answer, options);

    assert_int_equal(r.waiting, 3);
    assert_int_equal(r.waiting_to_start, LONG_ENOUGH_MS / 10 - 3);
    assert_int_equal(r.lost + r.queue_overflow, 0);
}

static void test_open_loop_queue_is_bounded(void **state)
{
    (void)state;
    struct load_options options = with_requests(70000);
    options.connections = 1;
    options.rate = 1000000; /* all are due after 70 ms */
    options.duration_ms = LONG_ENOUGH_MS;
    options.patience_ms = 1;
    struct load_result r = run(never_answer, options);

    assert_int_equal(r.waiting, 1);
    assert_int_equal(r.waiting_to_start, 65536);
    assert_int_equal(r.queue_overflow, 70000 - 65536 - 1);
}

static void test_open_loop_refused_connect_takes_its_request(void **state)
{
    (void)state;
    struct load_options options = with_requests(10);
    options.rate = 1000;
    options.timeline = &timeline;
    struct load_result r = run_at_closed_port(options); /* ends at once after the last */

    assert_int_equal(r.refused, 10);
    assert_int_equal(r.sent + r.waiting_to_start + r.lost, 0);
    assert_timeline_is(&r);
}

static void test_open_loop_goes_on_asking_a_server_that_refuses_after_the_signal(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct load_options options = with_requests(100);
    options.rate = 5000;
    options.on_signal = count_call;
    options.on_signal_arg = &calls;
    struct load_result r = run_at_closed_port(options);

    assert_int_equal(r.refused, 100);
    assert_int_equal(r.waiting_to_start, 0);
}

static void test_open_loop_loses_what_the_server_drops(void **state)
{
    (void)state;
    struct load_options options = with_requests(12);
    options.connections = 1;
    options.rate = 2000;
    struct load_result r = run(close_on_the_third, options);

    assert_int_equal(r.answered, 8);
    assert_int_equal(r.lost_eof, 4);
}

static void test_open_loop_h2_uses_the_streams(void **state)
{
    (void)state;
    struct load_options options = with_streams(8, 100);
    options.rate = 5000;
    struct load_result r = run_h2(h2_say_hello, options);

    assert_all_answered(&r, 100);
    assert_int_equal(r.connects, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeline_holds_every_answer_and_loss),
        cmocka_unit_test(test_timeline_holds_refused_streams_and_sent_ones),
        cmocka_unit_test(test_timeline_puts_an_answer_into_the_slot_of_its_time),
        cmocka_unit_test(test_timeline_is_written_as_lines_with_marks_between),
        cmocka_unit_test(test_latencies_are_kept_by_the_time_of_the_answer),
        cmocka_unit_test(test_latencies_are_written_as_a_line_a_window),
        cmocka_unit_test(test_latencies_are_kept_apart_by_the_signal),
        cmocka_unit_test(test_run_lasts_until_the_process_is_gone_and_tells_when),
        cmocka_unit_test(test_without_pidfd_the_exit_is_found_by_asking),
        cmocka_unit_test(test_report_tells_the_exit_lag_or_that_there_is_none),
        cmocka_unit_test(test_open_loop_begins_every_request_when_it_is_due),
        cmocka_unit_test(test_open_loop_latency_counts_from_the_intended_start),
        cmocka_unit_test(test_open_loop_what_finds_no_connection_waits_to_start),
        cmocka_unit_test(test_open_loop_queue_is_bounded),
        cmocka_unit_test(test_open_loop_refused_connect_takes_its_request),
        cmocka_unit_test(test_open_loop_goes_on_asking_a_server_that_refuses_after_the_signal),
        cmocka_unit_test(test_open_loop_loses_what_the_server_drops),
        cmocka_unit_test(test_open_loop_h2_uses_the_streams),
    };

    return cmocka_run_group_tests_name("loadgen_times", tests, NULL, NULL);
}

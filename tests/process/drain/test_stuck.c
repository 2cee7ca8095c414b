/* A loop that does not come back: held by ptrace(2), as one that spins in a library or waits in a
 * system call. The deadline holds, what the loop could not list is still in the record, and a drain
 * that ends clean waits for what the loop has not taken note of yet. */

#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "directory.h"
#include "expect.h"
#include "fault.h"
#include "skip.h"
#include "with_journal.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define TEST(f) cmocka_unit_test_setup_teardown(f, with_journal_set_up, process_kill_left)

/* After the deadline. Debug builds give threads a second to end, and loops longer to list. */
#ifdef NDEBUG
#define LATE_MS 100
#else
#define LATE_MS 10000
#endif
#define TRIES 10 /* the machine may be busy: one that was in time shows that it can be */

#define NEVER "POST /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx"

/* What the next start finds there. */
static void assert_next_start_archives(unsigned n)
{
    struct process p;
    char want[64];

    process_start(&p, NULL, ARGS("--threads", "1", "--journal-dir", journal));
    (void)snprintf(want, sizeof(want), "%u request%s archived to ", n, n == 1 ? "" : "s");
    if (n > 0)
        assert_contains(p.log, want);
    else
        assert_lacks(p.log, "ended without answering");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* How long after `deadline_ms` it ended, of several runs the shortest. */
static double lateness_ms(const char *deadline, unsigned deadline_ms, unsigned signals)
{
    double least_ms = 1e9;

    for (unsigned i = 0; i < TRIES && least_ms > LATE_MS; i++) {
        struct process p;
        struct fault_hold loop;
        if (i > 0)
            (void)with_journal_set_up(NULL);
        process_start(&p, NULL,
                      ARGS("--threads", "1", "--admin", admin_address, "--journal-dir", journal,
                           "--deadline", deadline));
        struct process admin = admin_of(&p);
        int fd = client_connect(&p);
        client_send(fd, NEVER);
        admin_wait_number(&admin, "pool.running", 1);
        if (!fault_hold_thread(&loop, p.pid, "loop-0")) {
            (void)close(fd);
            process_release(&p);
            skip_test("needs ptrace(2)");
        }
        uint64_t asked_ns = now_ns();
        process_signal(&p, SIGTERM);
        if (signals > 1) {
            process_wait_log(&p, "SIGTERM received");
            (void)usleep(300 * 1000); /* two that come together may be one */
            asked_ns = now_ns();
            process_signal(&p, SIGTERM);
        }
        process_expect(&p, LIMIT_MS, signals > 1 ? 4 : 3);
        fault_let_go(&loop);
        double late_ms = (double)(p.exited_ns - asked_ns) / 1e6 - deadline_ms;
        least_ms = late_ms < least_ms ? late_ms : least_ms;
        assert_contains(p.log, "loop 0 did not list its requests in ");
        assert_int_equal(count_records(), 1);
        (void)close(fd);
        process_release(&p);
    }
    return least_ms;
}

static void assert_in_time(double late_ms)
{
    if (late_ms > LATE_MS)
        fail_msg("%.1f ms after the deadline", late_ms);
    print_message("%.1f ms after the deadline\n", late_ms);
}

static void test_a_stuck_loop_ends_at_the_deadline_and_its_requests_stay_on_record(void **state)
{
    (void)state;
    double late_ms = lateness_ms("300ms", 300, 1);
    assert_in_time(late_ms);
    assert_true(late_ms >= 0);
    assert_next_start_archives(1);
}

static void test_a_stuck_loop_ends_at_a_second_signal(void **state)
{
    (void)state;
    assert_in_time(lateness_ms("60s", 0, 2));
    assert_next_start_archives(1);
}

/* A line about the progress is due just before: it asks the loops for names, too. */
static void test_a_line_about_progress_does_not_put_the_deadline_off(void **state)
{
    (void)state;
    assert_in_time(lateness_ms("3020ms", 3020, 1));
}

/* ---- what a loop has not taken note of ---- */

static void send_frame(int fd, const char *head, const char *payload, size_t bytes)
{
    assert_int_equal(send(fd, head, 9, MSG_NOSIGNAL), 9);
    assert_int_equal(send(fd, payload, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

/* POST /sleep?ms=6000 over HTTP/2 (RFC 7541: indexed fields and one literal). */
static int begin_post(const struct process *p)
{
    int fd = client_connect(p);

    client_send(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, "\0\0\0\x04\0\0\0\0\0", "", 0);
    send_frame(fd, "\0\0\x15\x01\x05\0\0\0\x01", "\x83\x86\x04\x0e/sleep?ms=6000\x41\x01t", 21);
    return fd;
}

static void test_a_clean_drain_leaves_no_record_of_a_request_whose_client_left(void **state)
{
    struct process p;
    struct fault_hold worker, loop;
    (void)state;
    process_start(&p, NULL,
                  ARGS("--threads", "1", "--workers", "1", "--admin", admin_address,
                       "--journal-dir", journal));
    struct process admin = admin_of(&p);
    int fd = begin_post(&p);
    admin_wait_number(&admin, "journal.on_record", 1);
    admin_wait_number(&admin, "pool.running", 1);
    /* Its client leaves, and the server cancels the handler, which does not get that far. */
    if (!fault_hold_thread(&worker, p.pid, "worker")) {
        process_release(&p);
        skip_test("needs ptrace(2)");
    }
    (void)close(fd);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    json_t *status;
    do {
        status = admin_status(&admin);
        fd = (int)admin_number(status, "connections.open");
        json_decref(status);
    } while (fd > 0);
    /* The handler returns while the loop stands still. A process that ended then would leave the
     * request on record, and the next start would call it crashed. */
    assert_true(fault_hold_thread(&loop, p.pid, "loop-0"));
    fault_let_go(&worker);
    bool ended = false;
    for (unsigned i = 0; i < 100 && !ended; i++) {
        (void)usleep(10000);
        ended = process_is_gone(&p);
    }
    fault_let_go(&loop);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_records(), 0);
    assert_false(ended);
    process_release(&p);
    assert_next_start_archives(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_stuck_loop_ends_at_the_deadline_and_its_requests_stay_on_record),
        TEST(test_a_stuck_loop_ends_at_a_second_signal),
        TEST(test_a_line_about_progress_does_not_put_the_deadline_off),
        TEST(test_a_clean_drain_leaves_no_record_of_a_request_whose_client_left),
    };
    return cmocka_run_group_tests_name("stuck", tests, make_directory, remove_directory);
}

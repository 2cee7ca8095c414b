/* The disk takes long to flush a file. A drain does not wait for it beyond its deadline: what is
 * not in the archive by then stays on record, and the next start moves it. */

#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "command.h"
#include "directory.h"
#include "expect.h"
#include "h2_by_hand.h"
#include "with_journal.h"

#define LIMIT_MS 30000
#define CMD(...) ((const char *const[]){NULL, __VA_ARGS__, NULL})

/* `flush_ms` "": the disk is as quick as it is. */
static void start(struct process *p, const char *deadline, const char *flush_ms)
{
    const char *path = in_directory("lastcall.conf");
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\n"
                  "num-threads: 1\n"
                  "user: %s\n"
                  "admin: {listen: \"%s\"}\n"
                  "drain: {deadline: %s}\n"
                  "http2-graceful-shutdown-timeout: 1\n"
                  "journal: {dir: %s}\n"
                  "hosts: {default: {paths: {/: {handler: sleep}}}}\n",
                  own_user_name(), admin_address, deadline, journal);
    assert_int_equal(fclose(file), 0);
    if (flush_ms[0] != '\0') {
#ifdef __SANITIZE_ADDRESS__
        (void)setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
#endif
        (void)setenv("LASTCALL_TEST_FLUSH_MS", flush_ms, 1);
        (void)setenv("LD_PRELOAD", LASTCALL_SLOW_FLUSH, 1);
    }
    const char *const args[] = {"--conf", path, NULL};
    process_start_configured(p, args);
    (void)unsetenv("LD_PRELOAD");
}

/* A request in a handler that does not return. Keep the connection: its end would cancel that. */
static int take_one(struct process *p)
{
    const struct process admin = admin_of(p);
    static struct h2_bytes block;
    int fd = h2_connect(p, false);

    block.size = 0;
    h2_add_head(&block, "POST", "/?ms=60000");
    h2_send_block(fd, 1, true, &block);
    admin_wait_number(&admin, "pool.running", 1);
    return fd;
}

static void expect_one_in_archive(void)
{
    struct command c;

    command_run(&c, 0, CMD("unfinished", "--from", journal, "--count"));
    assert_contains(c.out, "1 request: 1 open");
    assert_lacks(c.out, "not archived yet");
    command_release(&c);
    assert_int_equal(count_records(), 0);
}

static void test_a_disk_that_is_too_slow_leaves_the_request_to_the_next_start(void **state)
{
    struct process p;

    (void)state;
    start(&p, "100ms", "2000");
    int fd = take_one(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log,
                    "error: cannot archive 1 request: there was no time left (on record in ");
    assert_lacks(p.log, "archived to ");
    process_release(&p);
    (void)close(fd);
    assert_int_equal(count_records(), 1);

    start(&p, "100ms", "");
    /* Its line was written, and then the disk was waited for. */
    assert_contains(p.log, "1 request of process ");
    assert_contains(p.log, " had been archived already");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    expect_one_in_archive();
}

/* A limit ends the request, and with it the drain. The deadline is far away, so there is time. */
static void test_a_disk_may_take_longer_before_the_deadline(void **state)
{
    struct process p;

    (void)state;
    start(&p, "60s", "700");
    int fd = take_one(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "cut by http2-graceful-shutdown-timeout");
    assert_contains(p.log, "1 request archived to ");
    process_release(&p);
    (void)close(fd);
    expect_one_in_archive();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, with_journal_set_up, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_disk_that_is_too_slow_leaves_the_request_to_the_next_start),
        TEST(test_a_disk_may_take_longer_before_the_deadline),
    };

    (void)alarm(240);
    return cmocka_run_group_tests_name("slow_disk", tests, make_directory_in_memory,
                                       remove_directory);
}

/* Replays from the retry queue's stream in a real Redis: each request is sent and leaves the
 * stream, whatever happens to Redis or to a replayer. LASTCALL_RUNS says how often a replay is
 * killed: twice that (5 by default). */

#include "with_queue.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

static void test_stream_is_replayed_and_empty(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(50);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "50 of 50 settled, 0 parked, 0 left; 50 attempts");
    expect_each_arrived(50, true);
    expect_empty();
    redis_server_expect(&redis, "XINFO CONSUMERS q lastcall",
                        ""); /* nothing is left of the replayer */
    tool_release(&command);
    /* The file knows that the stream has them. */
    tool_run(&command, 0, ARGS("replay", "--from", archive, "--to", target.url));
    assert_contains(command.text, "skipped: 50 queued in a Redis stream");
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "0 of 0 settled");
    assert_int_equal(target_count(&target), 50);
    tool_release(&command);
}

static void test_dry_run_leaves_the_stream_alone(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(40);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url, "--dry-run"));
    assert_contains(command.text, "40 would be sent");
    assert_int_equal(target_count(&target), 0);
    redis_server_expect(&redis, "XINFO GROUPS q", "");
    tool_release(&command);
}

static void test_refused_ones_move_to_a_stream_of_their_own(void **state)
{
    struct tool command;
    struct unfinished request;
    char parked[700];
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/status/404", UNFINISHED_CLASS_IDEMPOTENT);
    made_request(&request, 2, "PUT", "/big", "");
    free(request.body.base);
    request.body = (struct unfinished_text){NULL, 0};
    request.body_bytes = 77;
    request.gap = UNFINISHED_GAP_BODY_TOO_LARGE;
    made_append(archive, &request);
    fill_stream(0);
    free(redis_server_ask(&redis, "XADD q * something else"));
    tool_run(&command, 1, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "not a request: it has no field `request`");
    assert_contains(command.text, "3 parked, 0 left");
    assert_int_equal(target_count(&target), 1);
    tool_release(&command);
    expect_empty();
    redis_server_expect(&redis, "XLEN q:parked", "3");
    char *entries = redis_server_ask(&redis, "XRANGE q:parked - +");
    assert_contains(entries, "status\n404\nanswer\nthe answer.");
    assert_contains(entries, "answer\nbody-too-large");
    free(entries);
    tool_run(&command, 0, ARGS("unfinished", "--from", from, "--count"));
    assert_contains(command.text, "2 requests: 0 open, 0 settled, 2 parked");
    tool_release(&command);
    /* That stream can be replayed in turn; requests that are refused again stay in it. */
    (void)snprintf(parked, sizeof(parked), "%s:parked", from);
    tool_run(&command, 1, ARGS("replay", "--from", parked, "--to", target.url));
    assert_int_equal(target_count(&target), 2);
    redis_server_expect(&redis, "XLEN q:parked", "3");
    tool_release(&command);
}

static void test_failed_ones_stay_and_count_their_attempts(void **state)
{
    struct tool command;
    char id[UNFINISHED_ID_SIZE];
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/status/503", UNFINISHED_CLASS_IDEMPOTENT);
    add(2, "PUT", "/flaky/1/x", UNFINISHED_CLASS_IDEMPOTENT);
    fill_stream(0);
    for (unsigned run = 1; run <= 2; run++) {
        tool_run(&command, 1,
                 ARGS("replay", "--from", from, "--to", target.url, "--max-attempts", "2"));
        assert_int_equal(target_find(&target, made_id(id, 1))->attempt, 2 * run);
        redis_server_expect(&redis, "XLEN q", "1");
        tool_release(&command);
    }
    assert_int_equal(target_count_key(&target, made_id(id, 2)), 2);
}

static void test_what_may_have_run_stays_until_it_is_requested(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/a", UNFINISHED_CLASS_IDEMPOTENT);
    add(2, "POST", "/b", UNFINISHED_CLASS_MAY_HAVE_RUN);
    fill_stream(0);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "1 of 1 settled");
    assert_contains(command.text, "skipped: 1 may have run");
    tool_release(&command);
    tool_run(&command, 0, ARGS("unfinished", "--from", from));
    assert_contains(command.text, "open ");
    assert_contains(command.text, "POST shop.example/b (may-have-run, deadline)");
    tool_release(&command);
    tool_run(&command, 0,
             ARGS("replay", "--from", from, "--to", target.url, "--include-may-have-run"));
    assert_contains(command.text, "1 of 1 settled");
    expect_empty();
    tool_release(&command);
}

static void test_two_replayers_share_a_stream(void **state)
{
    struct tool one, two;
    (void)state;
    begin(NULL, NULL);
    fill_stream(300);
    target_hold(&target, true);
    tool_start(&one, ARGS("replay", "--from", from, "--to", target.url));
    tool_start(&two, ARGS("replay", "--from", from, "--to", target.url));
    target_wait(&target, 8); /* four of each: both replay */
    target_hold(&target, false);
    (void)tool_wait(&one);
    (void)tool_wait(&two);
    assert_true(one.status == 0 || one.status == 1 || one.status == 75);
    assert_true(two.status == 0 || two.status == 1 || two.status == 75);
    expect_each_arrived(300, true);
    expect_empty();
    tool_release(&one);
    tool_release(&two);
}

static void test_entries_of_killed_replayers_are_taken_over(void **state)
{
    struct tool command;
    const char *text = getenv("LASTCALL_RUNS");
    unsigned kills = 2 * (text != NULL ? (unsigned)strtoul(text, NULL, 10) : 5);
    size_t seen = 0;
    const char *const *args = ARGS("replay", "--from", from, "--to", target.url, "--timeout",
                                   "500ms", "--claim-after", "600ms");
    (void)state;
    begin(NULL, NULL);
    fill_stream(200);
    for (unsigned i = 0; i < kills && seen < 100; i++) {
        size_t last = seen + 1 + (unsigned)random() % 4;
        target_hold_from(&target, last); /* else it may finish before the signal */
        tool_start(&command, args);
        target_wait(&target, last);
        (void)kill(command.pid, SIGKILL);
        assert_int_equal(tool_wait(&command), 128 + SIGKILL);
        tool_release(&command);
        target_hold_from(&target, 0);
        seen = target_count(&target);
    }
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    for (int status = -1; status != 0;) { /* until those that were killed count as dead */
        tool_start(&command, args);
        status = tool_wait(&command);
        if (clock_now_ns() > until_ns)
            fail_msg("not all are taken over: %s", command.text);
        tool_release(&command);
        (void)poll(NULL, 0, 100);
    }
    expect_each_arrived(200, false);
    expect_empty();
}

/* One that stood still for so long that another one took its request finds that out before it sends
 * it again. */
static void test_request_that_was_taken_over_is_not_sent_by_the_first(void **state)
{
    struct tool first, second;
    const char *const *args = ARGS("replay", "--from", from, "--to", target.url, "--timeout",
                                   "1400ms", "--claim-after", "1500ms");
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/status/503", UNFINISHED_CLASS_IDEMPOTENT);
    fill_stream(0);
    tool_start(&first, args);
    target_wait(&target, 1);
    redis_server_wait(&redis, "HGETALL q:attempts", "!"); /* it waits for its second try, or soon */
    assert_int_equal(kill(first.pid, SIGSTOP), 0);
    (void)poll(NULL, 0, 1600); /* until it counts as dead */
    size_t before = target_count(&target);
    target_hold(&target, true);
    tool_start(&second, args);
    target_wait(&target, before + 1);
    assert_int_equal(kill(first.pid, SIGCONT), 0);
    (void)tool_wait(&first);
    assert_contains(first.text, "1 finished by another replayer");
    target_hold(&target, false);
    (void)kill(second.pid, SIGINT);
    (void)tool_wait(&second);
    tool_release(&first);
    tool_release(&second);
}

/* ---- a Redis that is not well, during a replay ---- */

static void test_redis_that_stands_still_and_restarts_in_a_replay(void **state)
{
    struct tool command;
    const char *const *keeping =
        ARGS("--appendonly", "yes", "--appendfsync", "always", "--dir", directory);
    (void)state;
    begin(NULL, keeping);
    fill_stream(200);
    tool_start(&command, ARGS("replay", "--from", from, "--to", target.url, "--max-rate", "400"));
    target_wait(&target, 20);
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    (void)poll(NULL, 0, 200);
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    target_wait(&target, 60);
    redis_server_stop(&redis);
    (void)poll(NULL, 0, 200);
    redis_server_start(&redis, NULL, keeping);
    if (tool_wait(&command) != 0 || target_count(&target) < 200)
        fail_msg("status %d, %zu requests arrived; it said:\n%s", command.status,
                 target_count(&target), command.text);
    expect_each_arrived(200, false);
    expect_empty();
    tool_release(&command);
}
static void test_full_redis_keeps_what_cannot_be_parked(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/status/404", UNFINISHED_CLASS_IDEMPOTENT);
    add(2, "PUT", "/fine", UNFINISHED_CLASS_IDEMPOTENT);
    fill_stream(0);
    free(redis_server_ask(&redis, "XGROUP CREATE q lastcall 0")); /* there would be no room */
    redis_server_expect(&redis, "CONFIG SET maxmemory 1", "OK");
    tool_run(&command, 74,
             ARGS("replay", "--from", from, "--to", target.url, "--concurrency", "1"));
    assert_contains(command.text, "OOM");
    tool_release(&command);
    redis_server_expect(&redis, "CONFIG SET maxmemory 0", "OK");
    redis_server_expect(&redis, "XLEN q", "2");
    redis_server_expect(&redis, "EXISTS q:parked", "0");
    tool_run(&command, 1, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "1 of 2 settled, 1 parked, 0 left");
    expect_empty();
    tool_release(&command);
}

static void test_wrong_password_of_a_stream_is_not_shown(void **state)
{
    struct tool command;
    (void)state;
    begin("right", NULL);
    fill_stream(1);
    (void)snprintf(from, sizeof(from), "redis://:wr0ng@127.0.0.1:%d/0?stream=q", redis.port);
    tool_run(&command, 69, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "WRONGPASS");
    assert_null(strstr(command.text, "wr0ng"));
    tool_release(&command);
    tool_run(&command, 69, ARGS("unfinished", "--from", from));
    assert_null(strstr(command.text, "wr0ng"));
    tool_release(&command);
    redis_server_expect(&redis, "XLEN q", "1");
}
int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_stream_is_replayed_and_empty),
        TEST(test_dry_run_leaves_the_stream_alone),
        TEST(test_refused_ones_move_to_a_stream_of_their_own),
        TEST(test_failed_ones_stay_and_count_their_attempts),
        TEST(test_what_may_have_run_stays_until_it_is_requested),
        TEST(test_two_replayers_share_a_stream),
        TEST(test_entries_of_killed_replayers_are_taken_over),
        TEST(test_request_that_was_taken_over_is_not_sent_by_the_first),
        TEST(test_redis_that_stands_still_and_restarts_in_a_replay),
        TEST(test_full_redis_keeps_what_cannot_be_parked),
        TEST(test_wrong_password_of_a_stream_is_not_shown),
    };
    (void)alarm(300);
    return cmocka_run_group_tests_name("queue_replay", tests, with_queue_set_up, remove_directory);
}

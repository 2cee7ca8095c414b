/* Replays from the retry queue's stream, through a relay that loses replies: Redis has run the
 * command, and the connection ends before the client has the reply. */

#include "with_queue.h"

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

#define LOSE(...) (&(const struct redis_relay_rule){__VA_ARGS__})

/* A replay, one request at a time, through a relay that loses replies. */
static void start_with_losses(struct tool *command, const struct redis_relay_rule *rule)
{
    char through[128];

    redis_relay_start(&relay, redis.port, rule);
    (void)snprintf(through, sizeof(through), "redis://127.0.0.1:%d/0?stream=q", relay.port);
    tool_start(command,
               ARGS("replay", "--from", through, "--to", target.url, "--concurrency", "1"));
}

static void replay_with_losses(struct tool *command, int want, const struct redis_relay_rule *rule)
{
    start_with_losses(command, rule);
    if (tool_wait(command) != want)
        fail_msg("exit status %d instead of %d; output:\n%s", command->status, want, command->text);
    redis_relay_stop(&relay);
    assert_in_range(relay.lost, 1, rule->most);
}

/* `count` requests that each need two tries and have had one: pending, and free to be claimed. */
static void fill_pending(unsigned count)
{
    struct tool command;

    for (unsigned i = 0; i < count; i++)
        add(i, "PUT", "/flaky/1/x", UNFINISHED_CLASS_IDEMPOTENT);
    fill_stream(0);
    tool_run(&command, 1,
             ARGS("replay", "--from", from, "--to", target.url, "--max-attempts", "1"));
    assert_int_equal(target_count(&target), count);
    tool_release(&command);
}

static void expect_all_settled(const struct tool *command, unsigned count)
{
    char want[80];

    (void)snprintf(want, sizeof(want), "%u of %u settled, 0 parked, 0 left; %u attempts, 0 failed",
                   count, count, count);
    assert_contains(command->text, want);
    expect_empty();
}

static void test_entries_whose_reply_was_lost_are_sent_in_the_same_run(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(10);
    replay_with_losses(&command, 0, LOSE(.word = "XREADGROUP", .most = 1));
    expect_all_settled(&command, 10);
    expect_each_arrived(10, true);
    tool_release(&command);
}

/* The repeated call finds nothing more: that is not the end. */
static void test_last_entries_whose_reply_was_lost_are_sent_in_the_same_run(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(4);
    replay_with_losses(&command, 0, LOSE(.word = "XREADGROUP", .most = 1));
    expect_all_settled(&command, 4);
    expect_each_arrived(4, true);
    tool_release(&command);
}

static void test_claimed_entries_whose_reply_was_lost_are_sent_in_the_same_run(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_pending(10);
    replay_with_losses(&command, 0, LOSE(.word = "XAUTOCLAIM", .most = 1));
    expect_all_settled(&command, 10);
    assert_int_equal(target_count(&target), 20);
    tool_release(&command);
}

static void test_last_claimed_entries_whose_reply_was_lost_are_sent_in_the_same_run(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_pending(4);
    replay_with_losses(&command, 0, LOSE(.word = "XAUTOCLAIM", .most = 1));
    expect_all_settled(&command, 4);
    assert_int_equal(target_count(&target), 8);
    tool_release(&command);
}

/* The replies that list the missed entries are lost, too. */
static void test_every_other_reply_with_entries_is_lost_and_each_is_sent_once(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(10);
    replay_with_losses(&command, 0, LOSE(.word = "XREADGROUP", .most = 100));
    assert_true(relay.lost > 2);
    expect_all_settled(&command, 10);
    expect_each_arrived(10, true);
    tool_release(&command);
}

static void test_decisions_whose_reply_was_lost_are_our_own(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/fine", UNFINISHED_CLASS_IDEMPOTENT);
    add(2, "PUT", "/status/404", UNFINISHED_CLASS_IDEMPOTENT);
    fill_stream(0);
    free(redis_server_ask(&redis, "XADD q * something else")); /* parked without being sent */
    replay_with_losses(&command, 1, LOSE(.word = "EVAL", .most = 100));
    assert_true(relay.lost > 4);
    assert_contains(command.text, "1 of 2 settled, 2 parked, 0 left; 2 attempts, 0 failed");
    assert_null(strstr(command.text, "another replayer"));
    assert_int_equal(target_count(&target), 2);
    expect_empty();
    redis_server_expect(&redis, "XLEN q:parked", "2");
    tool_release(&command);
}

/* Entries that XDEL or `maxlen` has deleted from the stream stay pending. */
static void test_deleted_entries_are_not_parked_for_want_of_a_request(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(10);
    replay_with_losses(&command, 1,
                       LOSE(.word = "XREADGROUP", .most = 1, .then = "XTRIM q MAXLEN 9"));
    assert_contains(command.text, "9 of 10 settled, 0 parked, 1 left; 9 attempts, 0 failed");
    redis_server_expect(&redis, "EXISTS q:parked", "0");
    expect_empty();
    redis_server_expect(&redis, "XINFO CONSUMERS q lastcall", "");
    tool_release(&command);
}

/* Redis restarts with data from before the replay: entries that it delivers again are sent again.
 */
static void test_entries_that_redis_hands_out_again_are_sent_again(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, ARGS("--dir", directory, "--enable-debug-command", "yes"));
    fill_stream(10);
    redis_server_expect(&redis, "XGROUP CREATE q lastcall 0", "OK");
    redis_server_expect(&redis, "SAVE", "OK");
    replay_with_losses(
        &command, 0,
        LOSE(.word = "XREADGROUP", .skip = 1, .most = 1, .then = "DEBUG RELOAD NOSAVE"));
    assert_int_equal(target_count(&target), 14);
    expect_each_arrived(10, false);
    expect_empty();
    tool_release(&command);
}

/* An interrupted run also returns the entries that it has not read yet. */
static void test_missed_entries_of_an_interrupted_run_are_free_at_once(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(10);
    target_hold(&target, true);
    start_with_losses(&command, LOSE(.word = "XREADGROUP", .most = 1));
    target_wait(&target, 1);
    assert_int_equal(kill(command.pid, SIGINT), 0);
    target_hold(&target, false); /* the signal is pending by now */
    assert_int_equal(tool_wait(&command), 130);
    redis_relay_stop(&relay);
    assert_int_equal(relay.lost, 1);
    assert_contains(command.text, "1 of 10 settled, 0 parked, 9 left");
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "9 of 9 settled, 0 parked, 0 left; 9 attempts, 0 failed");
    expect_each_arrived(10, true);
    expect_empty();
    tool_release(&command);
}
int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_entries_whose_reply_was_lost_are_sent_in_the_same_run),
        TEST(test_last_entries_whose_reply_was_lost_are_sent_in_the_same_run),
        TEST(test_claimed_entries_whose_reply_was_lost_are_sent_in_the_same_run),
        TEST(test_last_claimed_entries_whose_reply_was_lost_are_sent_in_the_same_run),
        TEST(test_every_other_reply_with_entries_is_lost_and_each_is_sent_once),
        TEST(test_decisions_whose_reply_was_lost_are_our_own),
        TEST(test_deleted_entries_are_not_parked_for_want_of_a_request),
        TEST(test_entries_that_redis_hands_out_again_are_sent_again),
        TEST(test_missed_entries_of_an_interrupted_run_are_free_at_once),
    };
    (void)alarm(300);
    return cmocka_run_group_tests_name("queue_lost_replies", tests, with_queue_set_up,
                                       remove_directory);
}

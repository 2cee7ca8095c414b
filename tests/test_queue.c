/* The retry queue in a real Redis: what the archive holds gets into the stream, and out of it again
 * by `lastcall replay`, whatever happens to Redis or to a replayer in between. LASTCALL_RUNS says
 * how often a replay is killed: twice that (5 by default). */

#include "queue.h"

#include "archive_made.h"
#include "tool.h"
#include "process.h"
#include "redis_server.h"
#include "target.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "marks.h"

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LIMIT_NS (20 * NS_PER_S)

static char directory[] = "/tmp/lastcall-queue-XXXXXX";
static char archive[64];
static struct target target;
static struct redis_server redis;
static char from[640]; /* the stream, for --from */

static void begin(const char *password, const char *const *arguments)
{
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, password, arguments);
    (void)snprintf(from, sizeof(from), "%s?stream=q", redis.url);
}

static struct queue *open_queue(uint64_t maxlen)
{
    const struct queue_config config = {
        .dir = directory, .url = redis.url, .stream = "q", .maxlen = maxlen};
    char error[QUEUE_ERROR_SIZE];
    struct queue *queue;
    if (queue_create(&config, &queue, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(queue_start(queue, NULL), 0);
    return queue;
}

static void close_queue(struct queue *queue)
{
    queue_leave(queue);
    queue_stop(queue);
    queue_destroy(queue);
}

static unsigned count_queued(unsigned count)
{
    char error[MARKS_ERROR_SIZE], id[UNFINISHED_ID_SIZE];
    struct marks *marks;
    unsigned queued = 0;
    assert_int_equal(marks_open(archive, false, &marks, error), 0);
    for (unsigned i = 0; i < count; i++) {
        const struct mark *mark = marks_find(marks, made_id(id, i));
        queued += mark != NULL && mark->outcome == MARK_QUEUED;
    }
    marks_close(marks);
    return queued;
}

/* All of an archive, by the queue itself. */
static void fill_stream(unsigned count)
{
    made_archive(archive, count);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    close_queue(queue);
}

static void add(unsigned n, const char *method, const char *where, enum unfinished_class class)
{
    struct unfinished request;
    made_request(&request, n, method, where, "body");
    request.class = class;
    made_append(archive, &request);
}

/* ---- into the stream ---- */

static void test_archive_goes_to_the_stream_once(void **state)
{
    (void)state;
    begin(NULL, NULL);
    fill_stream(100);
    redis_server_expect(&redis, "XLEN q", "100");
    assert_int_equal(count_queued(100), 100);
    char *entry = redis_server_ask(&redis, "XREVRANGE q + - COUNT 1");
    assert_contains(entry, "id\n000000630193a1b2c3d4e5f60718293a\nrequest\n{");
    assert_contains(entry, "\"path\":\"/orders/99\"");
    free(entry);
    /* The next start finds the marks; and a kick finds what is new. */
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    redis_server_expect(&redis, "XLEN q", "100");
    add(200, "PUT", "/new", UNFINISHED_CLASS_IDEMPOTENT);
    queue_kick(queue);
    redis_server_wait(&redis, "XLEN q", "101");
    close_queue(queue);
}

static void test_what_was_archived_last_is_queued_on_leaving(void **state)
{
    (void)state;
    begin(NULL, NULL);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    add(1, "PUT", "/last", UNFINISHED_CLASS_IDEMPOTENT);
    queue_leave(queue);
    redis_server_wait(&redis, "XLEN q", "1"); /* 250 ms may be too short on a busy machine */
    queue_stop(queue);
    queue_destroy(queue);
}

static void test_crash_between_stream_and_mark_makes_no_double(void **state)
{
    char done[80];
    (void)state;
    begin(NULL, NULL);
    fill_stream(20);
    (void)snprintf(done, sizeof(done), "%s.done", archive);
    assert_int_equal(unlink(done), 0);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    redis_server_expect(&redis, "XLEN q", "20");
    assert_int_equal(count_queued(20), 20);
    close_queue(queue);
}

static void test_what_was_decided_is_not_queued(void **state)
{
    static const enum mark_outcome outcomes[] = {MARK_SETTLED, MARK_PARKED, MARK_FAILED};
    char error[MARKS_ERROR_SIZE];
    struct marks *marks;
    (void)state;
    begin(NULL, NULL);
    made_archive(archive, 4);
    assert_int_equal(marks_open(archive, true, &marks, error), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct mark mark = {.outcome = outcomes[i], .attempt = 1};
        (void)made_id(mark.id, i);
        assert_int_equal(marks_add(marks, &mark), 0);
    }
    assert_int_equal(marks_flush(marks), 0);
    struct queue *queue = open_queue(0);
    /* A replayer works on the file: later. */
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), -EAGAIN);
    redis_server_expect(&redis, "XLEN q", "0");
    marks_close(marks);
    redis_server_wait(&redis, "XLEN q", "1");
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    close_queue(queue);
    assert_int_equal(count_queued(4), 1);
}

static void test_length_of_the_stream_is_bounded(void **state)
{
    (void)state;
    begin(NULL, NULL);
    made_archive(archive, 500);
    struct queue *queue = open_queue(10);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    char *length = redis_server_ask(&redis, "XLEN q");
    assert_in_range(strtol(length, NULL, 10), 10, 200); /* "about" */
    free(length);
    close_queue(queue);
}

static void test_redis_that_comes_later_gets_all(void **state)
{
    (void)state;
    begin(NULL, NULL);
    redis_server_stop(&redis);
    made_archive(archive, 10);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), -EAGAIN);
    assert_int_equal(count_queued(10), 0);
    redis_server_start(&redis, NULL, NULL);
    redis_server_wait(&redis, "XLEN q", "10");
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    assert_int_equal(count_queued(10), 10);
    close_queue(queue);
}

static void test_full_redis_gets_all_once_there_is_room(void **state)
{
    (void)state;
    begin(NULL, ARGS("--maxmemory", "1"));
    made_archive(archive, 10);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), -EAGAIN);
    assert_int_equal(count_queued(10), 0);
    redis_server_expect(&redis, "CONFIG SET maxmemory 0", "OK");
    redis_server_wait(&redis, "XLEN q", "10");
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    close_queue(queue);
    assert_int_equal(count_queued(10), 10);
}

static void test_redis_that_stands_still_gets_each_once(void **state)
{
    (void)state;
    begin(NULL, NULL);
    made_archive(archive, 100);
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), -EAGAIN);
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    /* What it was sent while it stood is run when it wakes, with nobody to hear the answers. */
    redis_server_wait(&redis, "XLEN q", "100");
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    redis_server_expect(&redis, "XLEN q", "100");
    close_queue(queue);
    assert_int_equal(count_queued(100), 100);
}

static void test_wrong_settings_of_the_queue_are_refused(void **state)
{
    static const struct {
        struct queue_config config;
        const char *want;
    } wrong[] = {
        {{.dir = "/tmp", .url = "rediss://:s3cret@h?ca-file=/nowhere/ca", .stream = "q"},
         "journal.redis.url: ca-file=/nowhere/ca: No such file"},
        {{.dir = "/tmp", .url = "redis://:s3cret@h?stream=x", .stream = "q"},
         "journal.redis.stream"},
        {{.url = "redis://:s3cret@h", .stream = "q"}, "journal.dir"},
        {{.dir = "/tmp", .url = "redis://h", .stream = "q", .password_file = "/nowhere"},
         "/nowhere"},
    };
    (void)state;
    redis_server_need();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char error[QUEUE_ERROR_SIZE] = "";
        struct queue *queue;
        assert_int_equal(queue_create(&wrong[i].config, &queue, error), -EINVAL);
        assert_contains(error, wrong[i].want);
        assert_null(strstr(error, "s3cret"));
    }
}

/* ---- out of it ---- */

static void expect_empty(void)
{
    redis_server_expect(&redis, "XLEN q", "0");
    char *pending = redis_server_ask(&redis, "XPENDING q lastcall");
    if (strncmp(pending, "0\n", 2) != 0)
        fail_msg("still pending: %s", pending);
    free(pending);
    redis_server_expect(&redis, "HLEN q:attempts", "0");
}

static void expect_each_arrived(unsigned count, bool once)
{
    for (unsigned i = 0; i < count; i++) {
        char id[UNFINISHED_ID_SIZE], body[32];
        const struct target_request *got = target_find(&target, made_id(id, i));
        if (got == NULL)
            fail_msg("request %u never arrived", i);
        (void)snprintf(body, sizeof(body), "order %u", i);
        assert_int_equal(got->body_bytes, strlen(body));
        assert_memory_equal(got->body, body, strlen(body));
        if (once)
            assert_int_equal(target_count_key(&target, id), 1);
    }
}

static void test_stream_is_replayed_and_empty(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    fill_stream(50);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "50 of 50 settled, 0 parked, 0 left; 50 sent");
    expect_each_arrived(50, true);
    expect_empty();
    redis_server_expect(&redis, "XINFO CONSUMERS q lastcall",
                        ""); /* nothing is left of the replayer */
    tool_release(&command);
    /* The file knows that the stream has them. */
    tool_run(&command, 0, ARGS("replay", "--from", archive, "--to", target.url));
    assert_contains(command.text, "left alone: 50 queued in a Redis stream");
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
    assert_contains(command.text, "no request: it has no field `request`");
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
    /* That stream can be replayed in turn; what is refused again stays in it. */
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

static void test_what_may_have_run_stays_for_whoever_asks_for_it(void **state)
{
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    add(1, "PUT", "/a", UNFINISHED_CLASS_IDEMPOTENT);
    add(2, "POST", "/b", UNFINISHED_CLASS_MAY_HAVE_RUN);
    fill_stream(0);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_contains(command.text, "1 of 1 settled");
    assert_contains(command.text, "left alone: 1 may have run");
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
    target_wait(&target, 8); /* four of each: both are at it */
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
        tool_start(&command, args);
        target_wait(&target, seen + 1 + (unsigned)random() % 4);
        (void)kill(command.pid, SIGKILL);
        assert_int_equal(tool_wait(&command), 128 + SIGKILL);
        tool_release(&command);
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
    assert_contains(first.text, "1 decided by another replayer");
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
    (void)tool_wait(&command);
    assert_int_equal(target_count(&target) >= 200, 1);
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

/* ---- from a server that could not finish, to one that does ---- */

#define POST                                                                                       \
    "POST /sleep?ms=60000&ignore-cancel=1 HTTP/1.1\r\nHost: shop.example\r\nX-Order: 7\r\n"        \
    "Content-Length: 9\r\n\r\n\0\1\377order\n"

static void send_order(const struct process *p)
{
    int fd = client_connect(p);
    char hello[] = "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n";
    assert_int_equal(send(fd, POST, sizeof(POST) - 1, MSG_NOSIGNAL), sizeof(POST) - 1);
    (void)fd;                          /* stays open: the client waits */
    for (unsigned i = 0; i < 3; i++) { /* it has been read by then */
        int other = client_connect(p);
        client_send(other, hello);
        free(client_read_answer(other));
        (void)close(other);
    }
}

static void test_deadline_and_crash_lead_to_the_stream_and_back(void **state)
{
    struct process p;
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    const char *const *args = ARGS("--threads", "1", "--journal-dir", directory, "--journal-redis",
                                   redis.url, "--journal-redis-stream", "q", "--deadline", "300ms");
    process_start(&p, NULL, args);
    send_order(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, 20000, 3);
    process_release(&p);
    process_start(&p, NULL, args); /* in case 250 ms were too short for the first */
    redis_server_wait(&redis, "XLEN q", "1");
    send_order(&p);
    process_signal(&p, SIGKILL);
    process_expect(&p, 20000, 128 + SIGKILL);
    process_release(&p);
    process_start(&p, NULL, args);
    redis_server_wait(&redis, "XLEN q", "2");
    process_signal(&p, SIGTERM);
    process_expect(&p, 20000, 0);
    process_release(&p);

    tool_run(&command, 0,
             ARGS("replay", "--from", from, "--to", target.url, "--include-may-have-run"));
    assert_contains(command.text, "2 of 2 settled");
    tool_release(&command);
    assert_int_equal(target_count(&target), 2);
    for (const struct target_request *got = target.requests; got != NULL; got = got->next) {
        assert_contains(got->head, "POST /sleep?ms=60000&ignore-cancel=1 HTTP/1.1\r\n");
        assert_contains(got->head, "\r\nHost: shop.example\r\n");
        assert_contains(got->head, "\r\nx-order: 7\r\n");
        assert_int_equal(got->body_bytes, 9);
        assert_memory_equal(got->body, "\0\1\377order\n", 9);
    }
    expect_empty();
}

/* A Redis that does not answer delays neither the start nor the exit, and the file has it. */
static void test_server_does_not_wait_for_a_redis_that_is_away(void **state)
{
    struct process p;
    struct tool command;
    (void)state;
    begin(NULL, NULL);
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    process_start(&p, NULL,
                  ARGS("--threads", "1", "--journal-dir", directory, "--journal-redis", redis.url,
                       "--deadline", "300ms"));
    send_order(&p);
    uint64_t from_ns = clock_now_ns();
    process_signal(&p, SIGTERM);
    process_expect(&p, 20000, 3);
    assert_true(p.exited_ns - from_ns < 10 * NS_PER_S);
    process_release(&p);
    /* On a machine that stands still the archive, too, may be left to the next start. */
    process_start(&p, NULL, ARGS("--threads", "1", "--journal-dir", directory));
    process_signal(&p, SIGTERM);
    process_expect(&p, 20000, 0);
    process_release(&p);
    tool_run(&command, 0, ARGS("unfinished", "--from", directory, "--count"));
    assert_contains(command.text, "1 request: 1 open");
    tool_release(&command);
}

static int make_target(void **state)
{
    (void)state;
    target_start(&target);
    return 0;
}

static int clean_up(void **state)
{
    char command[160];
    (void)tool_kill_left(state);
    (void)process_kill_left(state);
    target_release(&target);
    redis_server_stop(&redis);
    (void)redis_server_kill_left(state);
    (void)snprintf(command, sizeof(command), "rm -rf %s/*", directory);
    return system(command);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(archive, sizeof(archive), "%s/unfinished-20260101.ndjson", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_target, clean_up)
    static const struct CMUnitTest tests[] = {
        TEST(test_archive_goes_to_the_stream_once),
        TEST(test_what_was_archived_last_is_queued_on_leaving),
        TEST(test_crash_between_stream_and_mark_makes_no_double),
        TEST(test_what_was_decided_is_not_queued),
        TEST(test_length_of_the_stream_is_bounded),
        TEST(test_redis_that_comes_later_gets_all),
        TEST(test_full_redis_gets_all_once_there_is_room),
        TEST(test_redis_that_stands_still_gets_each_once),
        TEST(test_wrong_settings_of_the_queue_are_refused),
        TEST(test_stream_is_replayed_and_empty),
        TEST(test_dry_run_leaves_the_stream_alone),
        TEST(test_refused_ones_move_to_a_stream_of_their_own),
        TEST(test_failed_ones_stay_and_count_their_attempts),
        TEST(test_what_may_have_run_stays_for_whoever_asks_for_it),
        TEST(test_two_replayers_share_a_stream),
        TEST(test_entries_of_killed_replayers_are_taken_over),
        TEST(test_request_that_was_taken_over_is_not_sent_by_the_first),
        TEST(test_redis_that_stands_still_and_restarts_in_a_replay),
        TEST(test_full_redis_keeps_what_cannot_be_parked),
        TEST(test_wrong_password_of_a_stream_is_not_shown),
        TEST(test_deadline_and_crash_lead_to_the_stream_and_back),
        TEST(test_server_does_not_wait_for_a_redis_that_is_away),
    };
    (void)alarm(300);
    return cmocka_run_group_tests_name("queue", tests, make_directory, remove_directory);
}

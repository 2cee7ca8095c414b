/* The retry queue in a real Redis: the archive's requests get into the stream, each once, whatever
 * happens to Redis; and a server that could not finish fills it. */

#include "with_queue.h"

#include "dispositions.h"
#include "process.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

static unsigned count_queued(unsigned count)
{
    char error[DISPOSITIONS_ERROR_SIZE], id[UNFINISHED_ID_SIZE];
    struct dispositions *dispositions;
    unsigned queued = 0;
    assert_int_equal(dispositions_open(archive, false, &dispositions, error), 0);
    for (unsigned i = 0; i < count; i++) {
        const struct disposition *disposition = dispositions_find(dispositions, made_id(id, i));
        queued += disposition != NULL && disposition->outcome == DISPOSITION_QUEUED;
    }
    dispositions_close(dispositions);
    return queued;
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
    /* The next start finds the dispositions; and a kick finds what is new. */
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
    static const enum disposition_outcome outcomes[] = {DISPOSITION_SETTLED, DISPOSITION_PARKED,
                                                        DISPOSITION_FAILED};
    char error[DISPOSITIONS_ERROR_SIZE];
    struct dispositions *dispositions;
    (void)state;
    begin(NULL, NULL);
    made_archive(archive, 4);
    assert_int_equal(dispositions_open(archive, true, &dispositions, error), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct disposition disposition = {.outcome = outcomes[i], .attempt = 1};
        (void)made_id(disposition.id, i);
        assert_int_equal(dispositions_add(dispositions, &disposition), 0);
    }
    assert_int_equal(dispositions_flush(dispositions), 0);
    struct queue *queue = open_queue(0);
    /* A replayer works on the file: later. */
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), -EAGAIN);
    redis_server_expect(&redis, "XLEN q", "0");
    dispositions_close(dispositions);
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
    /* When it wakes, it runs the commands that it got meanwhile; their client has gone. */
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
int main(void)
{
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
        TEST(test_deadline_and_crash_lead_to_the_stream_and_back),
        TEST(test_server_does_not_wait_for_a_redis_that_is_away),
    };
    (void)alarm(300);
    return cmocka_run_group_tests_name("queue", tests, with_queue_set_up, remove_directory);
}

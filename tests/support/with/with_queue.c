#include "with_queue.h"

#include "process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char archive[64];
struct target target;
struct redis_server redis;
struct redis_relay relay;
char from[640];

void begin(const char *password, const char *const *arguments)
{
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, password, arguments);
    (void)snprintf(from, sizeof(from), "%s?stream=q", redis.url);
}

struct queue *open_queue(uint64_t maxlen)
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

void close_queue(struct queue *queue)
{
    queue_leave(queue);
    queue_stop(queue);
    queue_destroy(queue);
}

void add(unsigned n, const char *method, const char *where, enum unfinished_class class)
{
    struct unfinished request;
    made_request(&request, n, method, where, "body");
    request.class = class;
    made_append(archive, &request);
}

void fill_stream(unsigned count)
{
    made_archive(archive, count);
    struct queue *queue = open_queue(0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    close_queue(queue);
}

void expect_empty(void)
{
    redis_server_expect(&redis, "XLEN q", "0");
    char *pending = redis_server_ask(&redis, "XPENDING q lastcall");
    if (strncmp(pending, "0\n", 2) != 0)
        fail_msg("still pending: %s", pending);
    free(pending);
    redis_server_expect(&redis, "HLEN q:attempts", "0");
}

void expect_each_arrived(unsigned count, bool once)
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
int with_queue_begin(void **state)
{
    (void)state;
    target_start(&target);
    return 0;
}

int with_queue_end(void **state)
{
    char command[160];
    (void)tool_kill_left(state);
    (void)process_kill_left(state);
    redis_relay_stop(&relay);
    target_release(&target);
    redis_server_stop(&redis);
    (void)redis_server_kill_left(state);
    (void)snprintf(command, sizeof(command), "rm -rf %s/*", directory);
    return system(command);
}

int with_queue_set_up(void **state)
{
    if (make_directory_in_memory(state) != 0)
        return -1;
    (void)snprintf(archive, sizeof(archive), "%s", in_directory("unfinished-20260101.ndjson"));
    return 0;
}

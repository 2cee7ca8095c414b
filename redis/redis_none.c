/* redis.h for a build without hiredis: redis_open() fails, so the other functions are never
 * reached. */

#include "redis.h"

#include <errno.h>
#include <stdio.h>

bool redis_is_built(void)
{
    return false;
}

int redis_open(const struct redis_url *url, int cancel_fd, uint64_t until_ns,
               struct redis **ret_redis, char error[REDIS_ERROR_SIZE])
{
    (void)url;
    (void)cancel_fd;
    (void)until_ns;
    (void)ret_redis;
    (void)snprintf(error, REDIS_ERROR_SIZE, "this lastcall was built without hiredis");
    return -ENOTSUP;
}

void redis_close(struct redis *redis)
{
    (void)redis;
}

int redis_call(struct redis *redis, uint64_t until_ns, size_t argc, const char *const *argv,
               const size_t *lengths, struct redis_reply **ret_reply)
{
    (void)lengths;
    (void)redis;
    (void)until_ns;
    (void)argc;
    (void)argv;
    (void)ret_reply;
    return -ENOTSUP;
}

int redis_send(struct redis *redis, size_t argc, const char *const *argv, const size_t *lengths)
{
    (void)lengths;
    (void)redis;
    (void)argc;
    (void)argv;
    return -ENOTSUP;
}

int redis_take(struct redis *redis, uint64_t until_ns, struct redis_reply **ret_reply)
{
    (void)redis;
    (void)until_ns;
    (void)ret_reply;
    return -ENOTSUP;
}

const char *redis_error(const struct redis *redis)
{
    (void)redis;
    return "this lastcall was built without hiredis";
}

void redis_reply_free(struct redis_reply *reply)
{
    (void)reply;
}

long long redis_reply_integer(const struct redis_reply *reply)
{
    (void)reply;
    return 0;
}

const char *redis_reply_text(const struct redis_reply *reply, size_t *ret_length)
{
    (void)reply;
    (void)ret_length;
    return NULL;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    (void)reply;
    return 0;
}

bool redis_reply_is_list(const struct redis_reply *reply)
{
    (void)reply;
    return false;
}

bool redis_reply_is_nil(const struct redis_reply *reply)
{
    (void)reply;
    return false;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t at)
{
    (void)reply;
    (void)at;
    return NULL;
}

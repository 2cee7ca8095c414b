#include "redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_wire.h"

/* hiredis formats commands and parses replies. The sockets are our own: those of hiredis would be
 * inherited by child processes, and its version 0.14 has no TLS. */

#define READ_SIZE 16384

struct redis {
    struct redis_wire wire;
    redisReader *reader;
    char *out; /* commands: `room` bytes are allocated, `size` used, `sent` sent */
    size_t room, size, sent;
    char error[REDIS_ERROR_SIZE];
};

bool redis_is_built(void)
{
    return true;
}

/* ---- the first words ---- */

static int expect_ok(struct redis *redis, uint64_t until_ns, size_t argc, const char *const *argv)
{
    struct redis_reply *reply = NULL;
    int err = redis_call(redis, until_ns, argc, argv, NULL, &reply);
    redis_reply_free(reply);
    return err;
}

static int greet(struct redis *redis, const struct redis_url *url, uint64_t until_ns)
{
    char db[16];
    int err = 0;

    if (url->password != NULL && url->password[0] != '\0') {
        const char *argv[3] = {"AUTH", url->user, url->password};
        if (url->user == NULL)
            argv[1] = url->password;
        err = expect_ok(redis, until_ns, url->user != NULL ? 3 : 2, argv);
    }
    if (err == 0) { /* also for database 0: the answer shows whether we have access */
        (void)snprintf(db, sizeof(db), "%u", url->db);
        err = expect_ok(redis, until_ns, 2, (const char *const[]){"SELECT", db});
    }
    return err;
}

int redis_open(const struct redis_url *url, int cancel_fd, uint64_t until_ns,
               struct redis **ret_redis, char error[REDIS_ERROR_SIZE])
{
    struct redis *redis = calloc(1, sizeof(*redis));
    redisReader *reader = redis != NULL ? redisReaderCreate() : NULL;

    if (reader == NULL) {
        (void)snprintf(error, REDIS_ERROR_SIZE, "no memory");
        free(redis);
        return -ENOMEM;
    }
    redis->reader = reader;
    int err = redis_wire_open(&redis->wire, url, cancel_fd, until_ns);
    if (err != 0)
        memcpy(redis->error, redis->wire.error, sizeof(redis->error));
    else
        err = greet(redis, url, until_ns);
    if (err != 0) {
        (void)snprintf(error, REDIS_ERROR_SIZE, "%s", redis->error);
        redis_close(redis);
        return err;
    }
    *ret_redis = redis;
    return 0;
}

/* The commands were sent, or never will be. They may hold a password. */
static void forget_out(struct redis *redis)
{
    if (redis->out != NULL)
        explicit_bzero(redis->out, redis->size);
    free(redis->out);
    redis->out = NULL;
    redis->room = redis->size = redis->sent = 0;
}

void redis_close(struct redis *redis)
{
    if (redis == NULL)
        return;
    if (redis->wire.fd >= 0)
        redis_wire_close(&redis->wire);
    redisReaderFree(redis->reader);
    forget_out(redis);
    free(redis);
}

/* ---- commands ---- */

static int lost(struct redis *redis, int err, const char *why)
{
    (void)snprintf(redis->error, sizeof(redis->error), "%s", why[0] != '\0' ? why : "no memory");
    return err;
}

/* Not realloc(3): no copy of a password may stay in memory. */
static bool append_out(struct redis *redis, const char *command, size_t length)
{
    size_t size = redis->size - redis->sent;

    if (redis->room - redis->size < length) {
        size_t room = 2 * (size + length);
        char *out = malloc(room);
        if (out == NULL)
            return false;
        if (size > 0)
            memcpy(out, redis->out + redis->sent, size);
        forget_out(redis);
        redis->out = out;
        redis->room = room;
        redis->size = size;
    }
    memcpy(redis->out + redis->size, command, length);
    redis->size += length;
    return true;
}

int redis_send(struct redis *redis, size_t argc, const char *const *argv, const size_t *lengths)
{
    /* hiredis takes non-const pointers, and does not change the texts. */
    const char **words = (const char **)(uintptr_t)argv;
    char *command = NULL;
    long long length = redisFormatCommandArgv(&command, (int)argc, words, lengths);
    bool done = length > 0 && append_out(redis, command, (size_t)length);

    if (length > 0) {
        explicit_bzero(command, (size_t)length);
        redisFreeCommand(command);
    }
    return done ? 0 : lost(redis, -ENOMEM, "no memory");
}

/* 0: sent as much as the socket takes now. */
static int write_out(struct redis *redis)
{
    while (redis->sent < redis->size) {
        ssize_t n =
            redis_wire_write(&redis->wire, redis->out + redis->sent, redis->size - redis->sent);
        if (n < 0)
            return n == -EAGAIN ? 0 : (int)n;
        redis->sent += (size_t)n;
    }
    forget_out(redis);
    return 0;
}

static int read_in(struct redis *redis)
{
    char bytes[READ_SIZE];
    ssize_t n = redis_wire_read(&redis->wire, bytes, sizeof(bytes));

    if (n < 0)
        return (int)n;
    return redisReaderFeed(redis->reader, bytes, (size_t)n) == REDIS_OK ? 0 : -ENOMEM;
}

int redis_take(struct redis *redis, uint64_t until_ns, struct redis_reply **ret_reply)
{
    void *reply = NULL;

    for (;;) {
        if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK)
            return lost(redis, -EPROTO, redis->reader->errstr);
        if (reply != NULL)
            break;
        int err = write_out(redis);
        if (err == 0)
            err = read_in(redis);
        if (err == -EAGAIN)
            err = redis_wire_wait(&redis->wire, until_ns);
        if (err != 0)
            return lost(redis, err, err == -ENOMEM ? "no memory" : redis->wire.error);
    }
    const redisReply *answer = reply;
    if (answer->type == REDIS_REPLY_ERROR) {
        (void)snprintf(redis->error, sizeof(redis->error), "%.*s", REDIS_ERROR_SIZE - 1,
                       answer->str);
        freeReplyObject(reply);
        return -EREMOTEIO;
    }
    *ret_reply = reply;
    return 0;
}

int redis_call(struct redis *redis, uint64_t until_ns, size_t argc, const char *const *argv,
               const size_t *lengths, struct redis_reply **ret_reply)
{
    int err = redis_send(redis, argc, argv, lengths);
    return err != 0 ? err : redis_take(redis, until_ns, ret_reply);
}

const char *redis_error(const struct redis *redis)
{
    return redis->error;
}

/* ---- replies: those of the library under a name of ours ---- */

static const redisReply *inside(const struct redis_reply *reply)
{
    return (const redisReply *)(const void *)reply;
}

void redis_reply_free(struct redis_reply *reply)
{
    if (reply != NULL)
        freeReplyObject(reply);
}

long long redis_reply_integer(const struct redis_reply *reply)
{
    return reply != NULL && inside(reply)->type == REDIS_REPLY_INTEGER ? inside(reply)->integer : 0;
}

const char *redis_reply_text(const struct redis_reply *reply, size_t *ret_length)
{
    const redisReply *answer = inside(reply);
    if (answer == NULL ||
        (answer->type != REDIS_REPLY_STRING && answer->type != REDIS_REPLY_STATUS))
        return NULL;
    if (ret_length != NULL)
        *ret_length = answer->len;
    return answer->str;
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return reply != NULL && inside(reply)->type == REDIS_REPLY_ARRAY ? inside(reply)->elements : 0;
}

bool redis_reply_is_list(const struct redis_reply *reply)
{
    return reply != NULL && inside(reply)->type == REDIS_REPLY_ARRAY;
}

bool redis_reply_is_nil(const struct redis_reply *reply)
{
    return reply != NULL && inside(reply)->type == REDIS_REPLY_NIL;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t at)
{
    return at < redis_reply_count(reply) ? (const void *)inside(reply)->element[at] : NULL;
}

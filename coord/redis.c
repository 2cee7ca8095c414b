#include "redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

struct redis {
    redisContext *context;
    int cancel_fd;
    char error[REDIS_ERROR_SIZE];
};

bool redis_is_built(void)
{
    return true;
}

/* ---- waiting ---- */

/* 0: something of `events` holds, or the socket has failed; -ETIMEDOUT; -ECANCELED. */
static int wait_for(int fd, short events, int cancel_fd, uint64_t until_ns)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};
        uint64_t now_ns = clock_now_ns();
        uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
        int n = poll(fds, 2, left_ms > 60000 ? 60000 : (int)left_ms);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents != 0)
            return -ECANCELED;
        if (n > 0)
            return 0;
        if (left_ms == 0)
            return -ETIMEDOUT;
    }
}

/* ---- connecting. hiredis could; its sockets would be inherited by what we start. ---- */

static int connect_address(const struct sockaddr *address, socklen_t length, int cancel_fd,
                           uint64_t until_ns)
{
    int err = 0, one = 1;
    socklen_t size = sizeof(err);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (address->sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, address, length) != 0) {
        err = -errno;
        if (err == -EINPROGRESS) {
            err = wait_for(fd, POLLOUT, cancel_fd, until_ns);
            if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0)
                err = -err;
        }
    }
    if (err == 0)
        return fd;
    (void)close(fd);
    return err;
}

static int connect_unix(const char *path, int cancel_fd, uint64_t until_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    return connect_address((const struct sockaddr *)&address, sizeof(address), cancel_fd, until_ns);
}

static int connect_tcp(const struct redis_url *url, int cancel_fd, uint64_t until_ns,
                       const char **ret_why)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    char port[8];
    int fd = -EHOSTUNREACH;

    (void)snprintf(port, sizeof(port), "%d", url->port);
    int err = getaddrinfo(url->host, port, &hints, &found);
    if (err != 0) {
        *ret_why = gai_strerror(err);
        return -EHOSTUNREACH;
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        fd = connect_address(at->ai_addr, at->ai_addrlen, cancel_fd, until_ns);
        if (fd >= 0 || fd == -ETIMEDOUT || fd == -ECANCELED)
            break;
    }
    freeaddrinfo(found);
    return fd;
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
    if (err == 0) { /* 0, too: it shows whether we may do anything */
        (void)snprintf(db, sizeof(db), "%u", url->db);
        err = expect_ok(redis, until_ns, 2, (const char *const[]){"SELECT", db});
    }
    return err;
}

int redis_open(const struct redis_url *url, int cancel_fd, uint64_t until_ns,
               struct redis **ret_redis, char error[REDIS_ERROR_SIZE])
{
    const char *why = NULL;
    int fd = url->path != NULL ? connect_unix(url->path, cancel_fd, until_ns)
                               : connect_tcp(url, cancel_fd, until_ns, &why);

    if (fd < 0) {
        (void)snprintf(error, REDIS_ERROR_SIZE, "%s", why != NULL ? why : strerrordesc_np(-fd));
        return fd;
    }
    struct redis *redis = calloc(1, sizeof(*redis));
    redisContext *context = redis != NULL ? redisConnectFd(fd) : NULL;
    if (context == NULL || context->err != 0) {
        (void)snprintf(error, REDIS_ERROR_SIZE, "no memory");
        if (context != NULL)
            redisFree(context); /* closes fd */
        else
            (void)close(fd);
        free(redis);
        return -ENOMEM;
    }
    context->flags &= ~REDIS_BLOCK; /* it must not wait in read(2): that is done in wait_for() */
    redis->context = context;
    redis->cancel_fd = cancel_fd;
    int err = greet(redis, url, until_ns);
    if (err != 0) {
        (void)snprintf(error, REDIS_ERROR_SIZE, "%s", redis->error);
        redis_close(redis);
        return err;
    }
    *ret_redis = redis;
    return 0;
}

void redis_close(struct redis *redis)
{
    if (redis == NULL)
        return;
    redisFree(redis->context);
    free(redis);
}

/* ---- commands ---- */

static int lost(struct redis *redis, int err)
{
    const redisContext *context = redis->context;

    if (err == -EPROTO && context->err == REDIS_ERR_IO)
        (void)snprintf(redis->error, sizeof(redis->error), "%s", strerrordesc_np(errno));
    else if (err == -EPROTO)
        (void)snprintf(redis->error, sizeof(redis->error), "%.120s",
                       context->errstr[0] != '\0' ? context->errstr : "no memory");
    else
        (void)snprintf(redis->error, sizeof(redis->error), "%s",
                       err == -ETIMEDOUT ? "it does not answer" : strerrordesc_np(-err));
    return err;
}

int redis_send(struct redis *redis, size_t argc, const char *const *argv, const size_t *lengths)
{
    /* The library takes pointers to what it does not change. */
    const char **words = (const char **)(uintptr_t)argv;
    if (redisAppendCommandArgv(redis->context, (int)argc, words, lengths) != REDIS_OK)
        return lost(redis, -EPROTO);
    return 0;
}

int redis_take(struct redis *redis, uint64_t until_ns, struct redis_reply **ret_reply)
{
    redisContext *context = redis->context;
    void *reply = NULL;
    int sent = 0;

    for (;;) {
        if (redisGetReplyFromReader(context, &reply) != REDIS_OK)
            return lost(redis, -EPROTO);
        if (reply != NULL)
            break;
        if (sent == 0 && redisBufferWrite(context, &sent) != REDIS_OK)
            return lost(redis, -EPROTO);
        short events = (short)(sent != 0 ? POLLIN : POLLIN | POLLOUT);
        int err = wait_for(context->fd, events, redis->cancel_fd, until_ns);
        if (err != 0)
            return lost(redis, err);
        if (redisBufferRead(context) != REDIS_OK)
            return lost(redis, -EPROTO);
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

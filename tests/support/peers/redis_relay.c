#include "redis_relay.h"

#include "loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define COMMAND_MOST 65536

/* One client's connection, and the relay's own to Redis. */
struct pair {
    struct redis_relay *relay;
    int client, redis;
    char command[COMMAND_MOST]; /* the bytes since the last reply */
    size_t length;
};

static int connect_to(int port)
{
    struct sockaddr_in there = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&there, sizeof(there)) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static bool send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

static bool pass_command(struct pair *pair)
{
    char *at = pair->command + pair->length;
    ssize_t n = recv(pair->client, at, COMMAND_MOST - pair->length, 0);

    if (n <= 0)
        return false;
    pair->length += (size_t)n;
    return send_all(pair->redis, at, (size_t)n);
}

/* As an inline command, on a connection of its own. */
static void run_command(const struct redis_relay *relay)
{
    int fd = connect_to(relay->redis_port);
    char reply[128];

    if (fd < 0)
        return;
    if (send_all(fd, relay->rule.then, strlen(relay->rule.then)) && send_all(fd, "\r\n", 2))
        (void)recv(fd, reply, sizeof(reply), 0); /* it has run */
    (void)close(fd);
}

static bool loses_reply(struct pair *pair)
{
    struct redis_relay *relay = pair->relay;
    const struct redis_relay_rule *rule = &relay->rule;

    if (memmem(pair->command, pair->length, rule->word, strlen(rule->word)) == NULL)
        return false;
    relay->seen++;
    relay->lost_last = !relay->lost_last && relay->seen > rule->skip && relay->lost < rule->most;
    relay->lost += relay->lost_last;
    if (relay->lost_last && rule->then != NULL)
        run_command(relay);
    return relay->lost_last;
}

static bool pass_reply(struct pair *pair)
{
    char bytes[16384];
    ssize_t n = recv(pair->redis, bytes, sizeof(bytes), 0);

    if (n <= 0 || (pair->length > 0 && loses_reply(pair)))
        return false;
    pair->length = 0; /* a reply may come in pieces: the rest of it is passed on */
    return send_all(pair->client, bytes, (size_t)n);
}

static void serve(struct pair *pair)
{
    bool goes_on = pair->redis >= 0;

    while (goes_on) {
        struct pollfd fds[] = {{.fd = pair->client, .events = POLLIN},
                               {.fd = pair->redis, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[0].revents != 0)
            goes_on = pass_command(pair);
        if (goes_on && fds[1].revents != 0)
            goes_on = pass_reply(pair);
    }
}

static void *relay_thread(void *arg)
{
    struct pair pair = {.relay = arg};

    while ((pair.client = accept4(pair.relay->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0 ||
           errno == EINTR) {
        if (pair.client < 0)
            continue;
        pair.length = 0;
        pair.redis = connect_to(pair.relay->redis_port);
        serve(&pair);
        (void)close(pair.client);
        if (pair.redis >= 0)
            (void)close(pair.redis);
    }
    return NULL;
}

void redis_relay_start(struct redis_relay *relay, int redis_port,
                       const struct redis_relay_rule *rule)
{
    *relay = (struct redis_relay){.redis_port = redis_port, .rule = *rule};
    relay->listener = listen_here(&relay->port, 16);
    assert_int_equal(pthread_create(&relay->thread, NULL, relay_thread, relay), 0);
}

void redis_relay_stop(struct redis_relay *relay)
{
    if (relay->port == 0)
        return;
    (void)shutdown(relay->listener, SHUT_RDWR); /* accept4(2) returns */
    (void)pthread_join(relay->thread, NULL);
    (void)close(relay->listener);
    relay->port = 0;
}

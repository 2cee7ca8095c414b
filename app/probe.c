#include "probe.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int take_unix_path(struct probe_target *target, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&target->at[0].address;

    if (strlen(path) >= sizeof(un->sun_path))
        return -ENAMETOOLONG;
    un->sun_family = AF_UNIX;
    (void)strcpy(un->sun_path, path);
    target->at[0].length = sizeof(*un);
    target->count = 1;
    (void)snprintf(target->name, sizeof(target->name), "unix:%s", path);
    return 0;
}

static int take_host(struct probe_target *target, const char *host, uint16_t port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];

    (void)snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return -EHOSTUNREACH;
    for (struct addrinfo *one = found; one != NULL && target->count < PROBE_ADDRESSES;
         one = one->ai_next) {
        memcpy(&target->at[target->count].address, one->ai_addr, one->ai_addrlen);
        target->at[target->count++].length = one->ai_addrlen;
    }
    freeaddrinfo(found);
    (void)snprintf(target->name, sizeof(target->name), strchr(host, ':') ? "[%s]:%u" : "%s:%u",
                   host, port);
    return 0;
}

int probe_target_init(struct probe_target *target, const char *path, const char *host,
                      uint16_t port, const char *health)
{
    memset(target, 0, sizeof(*target));
    int err = path != NULL ? take_unix_path(target, path) : take_host(target, host, port);
    if (err != 0 || health == NULL)
        return err;
    int n = snprintf(target->request, sizeof(target->request),
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lastcall/%s\r\nConnection: "
                     "close\r\n\r\n",
                     health, path != NULL ? "localhost" : target->name, LASTCALL_VERSION);
    return n > 0 && (size_t)n < sizeof(target->request) ? 0 : -ENAMETOOLONG;
}

void probe_init(struct probe *probe)
{
    memset(probe, 0, sizeof(*probe));
    probe->fd = -1;
}

void probe_end(struct probe *probe)
{
    if (probe->fd >= 0)
        (void)close(probe->fd);
    probe->fd = -1;
}

static enum probe_result failed(struct probe *probe, const char *why)
{
    (void)snprintf(probe->why, sizeof(probe->why), "%s", why);
    probe_end(probe);
    return PROBE_FAILED;
}

enum probe_result probe_begin(struct probe *probe, const struct probe_target *target)
{
    size_t i = probe->turn++ % target->count;
    const struct sockaddr *to = (const struct sockaddr *)&target->at[i].address;

    probe->sent = probe->got = 0;
    probe->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd < 0)
        return failed(probe, strerrordesc_np(errno));
    probe->events = POLLOUT;
    if (connect(probe->fd, to, target->at[i].length) == 0 || errno == EINPROGRESS)
        return PROBE_PENDING; /* probe_go_on() handles both cases */
    return failed(probe, strerrordesc_np(errno));
}

static enum probe_result read_answer(struct probe *probe)
{
    const size_t want = sizeof(probe->line) - 1;

    while (probe->got < want) {
        ssize_t n = recv(probe->fd, probe->line + probe->got, want - probe->got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return PROBE_PENDING;
        if (n <= 0)
            return failed(probe, n < 0 ? strerrordesc_np(errno) : "it closed without an answer");
        probe->got += (size_t)n;
    }
    probe->line[want] = '\0';
    if (strncmp(probe->line, "HTTP/1.", 7) == 0 && probe->line[9] == '2') {
        probe_end(probe);
        return PROBE_ANSWERED;
    }
    char why[40];
    (void)snprintf(why, sizeof(why), "its answer begins with %.12s", probe->line);
    return failed(probe, why);
}

/* If nothing listens on a port of the ephemeral range, the kernel may choose the same port as the
 * source: then TCP connects the socket to itself. */
static bool is_self_connected(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_length = sizeof(here), there_length = sizeof(there);

    return getsockname(fd, (struct sockaddr *)&here, &here_length) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_length) == 0 &&
           here.ss_family != AF_UNIX && here_length == there_length &&
           memcmp(&here, &there, here_length) == 0;
}

enum probe_result probe_go_on(struct probe *probe, const struct probe_target *target)
{
    size_t whole = strlen(target->request);
    int err = 0;
    socklen_t length = sizeof(err);

    if (probe->events == POLLIN)
        return read_answer(probe);
    if (probe->sent == 0) {
        if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &err, &length) != 0 || err != 0)
            return failed(probe, strerrordesc_np(err));
        if (is_self_connected(probe->fd))
            return failed(probe, "nothing listens there");
        if (whole == 0) {
            probe_end(probe);
            return PROBE_ANSWERED;
        }
    }
    while (probe->sent < whole) {
        ssize_t n =
            send(probe->fd, target->request + probe->sent, whole - probe->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return PROBE_PENDING;
        if (n < 0)
            return failed(probe, strerrordesc_np(errno));
        probe->sent += (size_t)n;
    }
    probe->events = POLLIN;
    return PROBE_PENDING;
}

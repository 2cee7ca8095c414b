#include "progress_watch.h"

#include <linux/sockios.h>
#include <linux/tcp.h> /* its tcp_info is longer than the one of netinet/tcp.h */
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "address.h"
#include "clock.h"
#include "log.h"
#include "log_limit.h"
#include "server_state.h"
#include "given_up.h"

/* Progress: what both protocols need. progress.c has the rules. */

static uint64_t least_bytes(const struct server_config *config)
{
    /* The bounds of both keep this below 2^53. */
    return config->progress_rate * (config->progress_window_ns / NS_PER_MS) / 1000;
}

bool progress_is_late(const struct loop *loop, struct progress_watch *watch, uint64_t position,
                      uint64_t now_ns)
{
    const struct server_config *config = &loop->server->config;

    if (config->progress_rate == 0)
        return false;
    if (watch->since_ns != 0 && position < watch->from)
        watch->from = position; /* a stream was reset, or a frame was mere padding */
    if (watch->since_ns != 0 && position - watch->from < least_bytes(config))
        return now_ns - watch->since_ns >= config->progress_window_ns;
    *watch = (struct progress_watch){.since_ns = now_ns, .from = position};
    return false;
}

bool progress_acked(struct conn *conn, uint64_t *ret_bytes)
{
    int fd = h2o_socket_get_fd(conn->sock);
    struct tcp_info info;
    socklen_t length = sizeof(info);
    int unread = 0;

    if (conn->is_tcp) {
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
            length < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked))
            return false;
        *ret_bytes = info.tcpi_bytes_acked;
        return true;
    }
    /* Of a Unix socket the kernel tells how much is unread, with its own overhead, but not how much
     * was written: any change is progress. Such a client is on this machine. */
    if (ioctl(fd, SIOCOUTQ, &unread) != 0)
        return false;
    uint64_t seen = conn->sock->bytes_written ^ (uint64_t)unread << 40;
    if (seen != conn->progress.acked_then) {
        conn->progress.acked_then = seen;
        conn->progress.taken += least_bytes(&conn->loop->server->config);
    }
    *ret_bytes = conn->progress.taken;
    return true;
}

static void peer_text(const struct conn *conn, char *text, size_t size)
{
    struct sockaddr_storage peer;

    if (h2o_socket_getpeername(conn->sock, (void *)&peer) == 0 || !address_text(&peer, text, size))
        (void)snprintf(text, size, "a Unix socket");
}

static void say(const struct conn *conn, enum cut_reason reason, uint64_t bytes, uint64_t age_ns)
{
    static struct log_limit limit;
    const struct server_config *config = &conn->loop->server->config;
    unsigned long long n = bytes, rate = config->progress_rate;
    char peer[INET6_ADDRSTRLEN + 16], age[CLOCK_TEXT_SIZE], time[CLOCK_TEXT_SIZE];

    peer_text(conn, peer, sizeof(peer));
    (void)clock_format_duration(age_ns, age);
    (void)clock_format_duration(reason == CUT_HEAD   ? config->progress_head_ns
                                : reason == CUT_IDLE ? config->progress_idle_ns
                                                     : config->progress_window_ns,
                                time);
    if (reason == CUT_HEAD)
        log_limited(&limit, LOG_LEVEL_WARN, "client-cut",
                    "cut %s: the header of a request is not whole: %llu bytes in %s "
                    "(progress.head %s)",
                    peer, n, age, time);
    else if (reason == CUT_IDLE)
        log_limited(&limit, LOG_LEVEL_INFO, "client-cut",
                    "let %s go: no HTTP/2 stream in %s (progress.idle %s)", peer, age, time);
    else
        log_limited(&limit, LOG_LEVEL_WARN, "client-cut",
                    "cut %s: %s: %llu bytes in %s (progress.rate %llu bytes a second, "
                    "progress.window %s)",
                    peer,
                    reason == CUT_BODY ? "the body of a request comes too slowly"
                                       : "it takes its answer too slowly",
                    n, age, rate, time);
}

void progress_note(struct conn *conn, enum cut_reason reason, uint64_t bytes, uint64_t age_ns)
{
    struct loop *loop = conn->loop;

    count_add(&loop->metrics.clients_cut[reason], 1);
    say(conn, reason, bytes, age_ns);
    conn->progress.over = true;
    if (loop->draining)
        given_up_conn(conn, reason == CUT_HEAD ? "progress.head" : "progress.rate");
}

void progress_cut(struct conn *conn, enum cut_reason reason, uint64_t bytes, uint64_t age_ns,
                  bool half_sent)
{
    progress_note(conn, reason, bytes, age_ns);
    conn->reset_when_cut |= half_sent;
    conn_cut(conn);
}

#include "listener.h"

#include <errno.h>
#include <linux/tcp.h> /* its tcp_info is longer than the one of netinet/tcp.h */
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

/* What the close of a listener needs of the kernel, and round trips of connections. */

/* Only our own file: a successor may have bound the path again. */
static void unlink_own_path(const struct listener *listener)
{
    struct stat st;
    if (listener->path != NULL && lstat(listener->path, &st) == 0 &&
        st.st_dev == listener->path_dev && st.st_ino == listener->path_ino)
        (void)unlink(listener->path);
}

int listener_stop_newcomers(struct listener *listener)
{
    if (listener->family == AF_UNIX) {
        unlink_own_path(listener);
        return shutdown(listener->fd, SHUT_RD) == 0 ? 0 : -errno;
    }
    return listener_limit_hops(listener);
}

int listener_queue_length(const struct listener *listener)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (listener->family == AF_UNIX ||
        getsockopt(listener->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return -1;
    return (int)info.tcpi_unacked;
}

size_t listener_newcomers(const struct listener *listener)
{
    struct pollfd door = {.fd = listener->fd, .events = POLLIN};
    int queue = listener_queue_length(listener);

    if (queue >= 0)
        return (size_t)queue;
    return poll(&door, 1, 0) == 1 && (door.revents & POLLIN) != 0;
}

void listener_close(struct listener *listener)
{
    if (listener->fd >= 0 && !listener->is_held && !listener->stays)
        unlink_own_path(listener);
    listener_leave(listener);
}

void listener_leave(struct listener *listener)
{
    if (listener->fd >= 0)
        (void)close(listener->fd);
    listener->fd = -1;
}

uint64_t listener_peer_rtt_ns(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return 0;
    return (uint64_t)info.tcpi_rtt * NS_PER_US;
}

uint64_t listener_peer_min_rtt_ns(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
        length < offsetof(struct tcp_info, tcpi_min_rtt) + sizeof(info.tcpi_min_rtt))
        return 0;
    return (uint64_t)info.tcpi_min_rtt * NS_PER_US;
}

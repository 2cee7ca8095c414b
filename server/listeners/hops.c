#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "listener.h"

/* How a process without privileges stops new handshakes on a TCP listener: it requires a time to
 * live that no routed segment can have (IP_MINTTL, ip(7); IPV6_MINHOPCOUNT is the same for IPv6).
 * Hosts send with 64, 128 or 255, and each router takes one off.
 *
 * The kernel checks the limit of the socket that a segment belongs to:
 *
 *     a SYN                                   finds the listener: dropped, without a reset
 *     the last ACK of a handshake             finds the half-open connection, which has no limit:
 *                                             it passes, with the data that it carries
 *     a segment of an accepted connection     finds that connection, and its limit
 *
 * A connection copies the listener's limit when its handshake completes. So one that was complete
 * before has none. One that completes after is there, but drops what its client sends: so the
 * limit of each connection that is accepted from then on is lifted. The client sends again what was
 * dropped meanwhile, some 200 ms later.
 *
 * Two kinds are not covered. A client on the same link that sends with 255 gets in, up to the
 * close. And while the kernel answers with SYN cookies, because its table of half-open connections
 * is full, there is no half-open connection to find, and the last ACK is dropped as a SYN is. In
 * both cases the listener is no worse than one that accepts until it is closed.
 *
 * An IPv6 listener that takes IPv4 too has both limits, and so have its connections. */

#define MOST_HOPS 255

struct hop_limit {
    int level, name;
};

static const struct hop_limit limits[] = {
    {IPPROTO_IP, IP_MINTTL},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT},
};

static size_t limits_of(const struct listener *listener)
{
    return listener->family == AF_INET6 ? 2 : listener->family == AF_INET ? 1 : 0;
}

int listener_limit_hops(struct listener *listener)
{
    int err = 0, most = MOST_HOPS;

    /* seq_cst, and a fence: a connection that has the limit was completed after setsockopt(2), and
     * is accepted after that. A loop that accepts it sees this flag: see listener_lift_hops(). */
    atomic_store(&listener->limits_hops, true);
    atomic_thread_fence(memory_order_seq_cst);
    for (size_t i = 0; i < limits_of(listener) && err == 0; i++)
        if (setsockopt(listener->fd, limits[i].level, limits[i].name, &most, sizeof(most)) != 0)
            err = -errno;
    return err;
}

int listener_lift_hops(const struct listener *listener, int fd, bool *ret_had_limit)
{
    int err = 0;

    *ret_had_limit = false;
    for (size_t i = 0; i < limits_of(listener); i++) {
        int limit = 0, none = 0;
        socklen_t length = sizeof(limit);
        if (getsockopt(fd, limits[i].level, limits[i].name, &limit, &length) != 0 || limit == 0)
            continue; /* no such option: no limit */
        *ret_had_limit = true;
        if (setsockopt(fd, limits[i].level, limits[i].name, &none, sizeof(none)) != 0)
            err = -errno;
    }
    return err;
}

bool listener_may_have_limited(const struct listener *listener)
{
    /* acquire: pairs with the store in listener_limit_hops() */
    return atomic_load_explicit(&listener->limits_hops, memory_order_acquire);
}

int listener_reopen(struct listener *listener)
{
    bool had_limit;

    int err = listener_lift_hops(listener, listener->fd, &had_limit);
    /* Its queue may hold connections that still have the limit. Before start: no other thread. */
    atomic_store_explicit(&listener->limits_hops, had_limit, memory_order_relaxed);
    return err;
}

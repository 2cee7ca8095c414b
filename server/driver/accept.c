#include "accept.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "listener.h"
#include "log.h"
#include "make_room.h"
#include "places.h"
#include "rtt.h"
#include "server_state.h"
#include "tls.h"

/* Accepting, on the loop's own descriptor of each listener. */

#define ACCEPTS_A_TURN 16

/* Even note. All loops wait on the same accept queues, and the kernel tells them all of a new
 * connection. The loop that is awake already comes first, so it would take them all, and one
 * processor would do the work of many. So a loop that has clearly more connections than its part
 * looks away for a moment, and leaves the newcomers to the others. At any time one loop at least
 * does not look away.
 *
 * The others may be stuck, in a handler on the loop or on a slow disk. So a loop that has looked
 * away takes some connections afterwards, whether it is ahead or not. This right lasts for some
 * turns, not for some time: a turn may take long, and the accept queue is looked at in the next. */
#define UNEVEN_LEAST 4
#define UNEVEN_PART 8
#define AWAY_NS NS_PER_MS
#define ANYWAY_CONNECTIONS 8
#define ANYWAY_TURNS 3 /* one turn handles 256 events at most */

/* A loop writes until the kernel takes no more, and megabytes of one answer would delay all others.
 * So the kernel takes only this much more than it has sent. Accepted sockets inherit the limit. */
#define UNSENT_MOST (128 * 1024)

static void limit_unsent(int fd)
{
    static const int most = UNSENT_MOST;
    /* Only an improvement: if it fails, megabytes of one answer delay the others. Not logged, since
     * it would fail for each connection. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof(most));
}

/* Over TLS the library reads as long as bytes arrive; this limits how many can. */
#define UNREAD_MOST (1024 * 1024)

static void limit_unread(int fd)
{
    static const int most = UNREAD_MOST;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &most, sizeof(most)); /* as above */
}

int accept_open(struct loop *loop, size_t i)
{
    struct loop_listener *ll = &loop->listeners[i];
    int fd = fcntl(loop->server->listeners.items[i].fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (loop->server->listeners.items[i].family != AF_UNIX)
        limit_unsent(fd);
    if (loop->server->listeners.items[i].tls != NULL)
        limit_unread(fd);
    ll->loop = loop;
    ll->listener = &loop->server->listeners.items[i];
    ll->accept_ctx.ctx = &loop->ctx;
    ll->accept_ctx.hosts =
        ll->listener->hosts != NULL ? ll->listener->hosts : loop->server->globalconf.hosts;
    ll->accept_ctx.ssl_ctx = ll->listener->tls != NULL ? tls_context(ll->listener->tls) : NULL;
    ll->accept_ctx.expect_proxy_line = ll->listener->expects_proxy_line;
    ll->sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    ll->sock->data = ll; /* ORDER_RESUME_ACCEPT starts the reads, see server_open() */
    return 0;
}

static void stop_reading(struct loop *loop)
{
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        if (loop->listeners[i].sock != NULL)
            h2o_socket_read_stop(loop->listeners[i].sock);
}

static void pause_accepting(struct loop *loop)
{
    loop->accepting.paused = true;
    stop_reading(loop);
}

static void on_listener(h2o_socket_t *sock, const char *err);

void accept_resume(struct loop *loop)
{
    loop->accepting.paused = false;
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        /* `stays` is valid once the close has begun: then another process accepts there. */
        if (loop->listeners[i].sock != NULL &&
            !(loop->closing.begun && loop->server->listeners.items[i].stays))
            h2o_socket_read_start(loop->listeners[i].sock, on_listener);
}

static void look_again(struct fine_timer *timer)
{
    struct loop *loop = container_of(timer, struct loop, accepting.away_timer);

    (void)atomic_fetch_sub_explicit(&loop->server->loops_looking_away, 1, memory_order_relaxed);
    loop->accepting.anyway = ANYWAY_CONNECTIONS;
    loop->accepting.anyway_turns = ANYWAY_TURNS;
    if (!loop->accepting.paused)
        accept_resume(loop);
}

void accept_end_turn(struct loop *loop)
{
    if (loop->accepting.anyway_turns > 0 && --loop->accepting.anyway_turns == 0)
        loop->accepting.anyway = 0;
}

static bool is_ahead(const struct loop *loop)
{
    const struct server *server = loop->server;
    uint64_t part = atomic_load_explicit(&server->open_connections, memory_order_relaxed) /
                    server->config.threads;
    uint64_t own = atomic_load_explicit(&loop->counts.connections, memory_order_relaxed);
    return own > part + part / UNEVEN_PART + UNEVEN_LEAST;
}

/* See even note. */
static bool looks_away(struct loop *loop)
{
    struct server *server = loop->server;
    _Atomic unsigned *away = &server->loops_looking_away; /* relaxed: it guards nothing */

    if (fine_is_set(&loop->accepting.away_timer)) { /* something else has resumed */
        stop_reading(loop);
        return true;
    }
    if (loop->closing.begun || !is_ahead(loop))
        return false;
    if (loop->accepting.anyway > 0) {
        loop->accepting.anyway--;
        return false;
    }
    if (atomic_fetch_add_explicit(away, 1, memory_order_relaxed) + 1 >= server->config.threads) {
        (void)atomic_fetch_sub_explicit(away, 1, memory_order_relaxed);
        return false;
    }
    stop_reading(loop);
    loop->accepting.away_timer.cb = look_again;
    fine_set(loop, &loop->accepting.away_timer, clock_now_ns() + AWAY_NS);
    return true;
}

static void on_retry_accept(struct fine_timer *timer)
{
    accept_resume(container_of(timer, struct loop, accepting.retry_timer));
}

#define RETRY_NS (10 * NS_PER_MS)

/* No descriptor or memory is left: the connection stays in the kernel's queue; try again soon. */
static void accept_later(struct loop *loop, int err)
{
    static _Atomic bool said; /* relaxed: logging it twice does no harm */
    if (!atomic_exchange_explicit(&said, true, memory_order_relaxed))
        log_line(
            LOG_LEVEL_WARN, "accept-failed", NULL,
            "cannot accept a connection: %s (it waits and is tried again; raise the limit with "
            "ulimit -n, or set --max-connections; this warning is logged once)",
            strerrordesc_np(err));
    if (!loop->accepting.paused)
        pause_accepting(loop);
    make_room_ask(loop);
    loop->accepting.retry_timer.cb = on_retry_accept;
    if (!fine_is_set(&loop->accepting.retry_timer))
        fine_set(loop, &loop->accepting.retry_timer, clock_now_ns() + RETRY_NS);
}

/* accept(2) returns the errors of a connection that has gone meanwhile as its own. */
static bool is_of_one_connection(int err)
{
    return err == EINTR || err == ECONNABORTED || err == EPROTO || err == ENETDOWN ||
           err == ENOPROTOOPT || err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH ||
           err == EOPNOTSUPP || err == ENETUNREACH || err == ETIMEDOUT || err == EPERM;
}

enum accept_end accept_one(struct loop_listener *ll)
{
    struct loop *loop = ll->loop;
    bool is_tcp = ll->listener->family != AF_UNIX;

    if (places_are_full(loop) && listener_newcomers(ll->listener) == 0)
        return ACCEPT_DRY; /* no place is left, and no connection waits for one */
    if (!places_take(loop)) {
        make_room_ask(loop);
        return ACCEPT_STUCK;
    }
    for (;;) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(ll->sock);
        if (sock != NULL) {
            if (is_tcp && rtt_wants_sample(loop))
                rtt_note(loop, h2o_socket_get_fd(sock));
            conn_open(ll, sock);
            return ACCEPT_MORE;
        }
        int err = errno;
        if (is_of_one_connection(err)) {
            count_add(&loop->metrics.accept_errors, 1);
            continue;
        }
        places_give_back(loop);
        /* EINVAL: a Unix-domain listener after shutdown(2), with an empty queue. */
        if (err == EAGAIN || err == EINVAL)
            return ACCEPT_DRY;
        count_add(&loop->metrics.accept_errors, 1);
        accept_later(loop, err);
        return ACCEPT_STUCK;
    }
}

static void on_listener(h2o_socket_t *sock, const char *err)
{
    struct loop_listener *ll = sock->data;

    if (err != NULL)
        return;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        if (looks_away(ll->loop))
            return;
        enum accept_end end = accept_one(ll);
        if (end == ACCEPT_STUCK)
            pause_accepting(ll->loop);
        /* Once shut down, a Unix-domain listener stays readable; only the close accepts from it. */
        if (end == ACCEPT_DRY && ll->loop->closing.begun && ll->listener->family == AF_UNIX)
            h2o_socket_read_stop(sock);
        if (end != ACCEPT_MORE)
            return;
    }
}

void accept_leave(struct loop_listener *ll)
{
    if (ll->sock == NULL)
        return;
    h2o_socket_close(ll->sock);
    ll->sock = NULL;
}

void accept_leave_all(struct loop *loop)
{
    for (size_t i = 0; loop->listeners != NULL && i < loop->server->listeners.count; i++)
        accept_leave(&loop->listeners[i]);
}

void accept_stop(struct loop *loop)
{
    fine_clear(&loop->accepting.retry_timer);
    fine_clear(&loop->accepting.away_timer); /* loops_looking_away is of no use any more */
}

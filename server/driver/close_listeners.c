#include "close_listeners.h"

#include "accept.h"
#include "clock.h"
#include "conn.h"
#include "hand_off_take.h"
#include "listener.h"
#include "rtt.h"
#include "server_state.h"

/* Closing the listeners, so that no connection is reset.
 *
 * Every loop accepts from its own dup(2) of each listener. The coordinator lets no new handshakes
 * begin (listener_stop_newcomers) and orders ORDER_CLOSING. Loop 0, the closing loop, then watches
 * the accept queues until they have been empty for the settle time. Shortly before that it orders
 * the other loops to leave, so that it need not wait for them afterwards. When both are over, it
 * accepts until EAGAIN and closes. The kernel drops the queue with its last descriptor, so a single
 * loop must do this, after all others.
 *
 * The two may end in either order: the closing loop itself notices the end of the settle time, and
 * the last loop that leaves wakes it. Both ways lead to close_if_due(), on the closing loop.
 *
 * The settle time is two round trips of the slowest peer seen, at least a millisecond: a client
 * that got our SYN-ACK is connected, and its ACK, followed by its request, is on the way. */

#define SETTLE_MIN_NS (1 * NS_PER_MS)
#define SETTLE_UNKNOWN_NS (100 * NS_PER_MS)
#define SETTLE_LOOK_NS (1 * NS_PER_MS)
#define LEAVE_BEFORE_NS (2 * NS_PER_MS)
#define RETRY_NS (1 * NS_PER_MS)
#define RTT_SAMPLES 1024

static bool is_closing_loop(const struct loop *loop)
{
    return loop->index == 0;
}

void close_listeners_leave(struct loop *loop)
{
    struct server *server = loop->server;

    if (is_closing_loop(loop))
        return;
    accept_leave_all(loop);
    hand_off_take_end(loop, false);
    /* release: the closing loop must come after every other loop's last accept; pairs with the
     * acquire in close_if_due(). acq_rel: the last one passes that on for those before it. */
    if (atomic_fetch_sub_explicit(&server->loops_accepting, 1, memory_order_acq_rel) == 2)
        loop_order(&server->loops[0], ORDER_CLOSE_LISTENERS);
}

static void order_others_to_leave(struct loop *loop)
{
    if (loop->closing.others_leave)
        return;
    loop->closing.others_leave = true;
    for (unsigned i = 1; i < loop->server->config.threads; i++)
        loop_order(&loop->server->loops[i], ORDER_LEAVE_LISTENERS);
}

static void accept_dry_and_close(struct loop *loop);

static void close_if_due(struct loop *loop)
{
    /* acquire: pairs with the release in close_listeners_leave() */
    if (!loop->closing.settled || loop->closing.closes ||
        atomic_load_explicit(&loop->server->loops_accepting, memory_order_acquire) > 1)
        return;
    loop->closing.closes = true;
    accept_dry_and_close(loop);
}

static bool all_are_local(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].is_local && !server->listeners.items[i].stays)
            return false;
    return true;
}

static bool all_stay(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].stays)
            return false;
    return true;
}

static uint64_t settle_time_ns(struct server *server)
{
    uint64_t longest_ns = 0;

    if (all_stay(server)) /* nothing closes */
        return 0;
    for (unsigned i = 0; i < server->config.threads; i++) {
        uint64_t rtt_ns = atomic_load_explicit(&server->loops[i].rtt.max_ns, memory_order_relaxed);
        if (rtt_ns > longest_ns)
            longest_ns = rtt_ns;
    }
    uint64_t settle_ns = 2 * longest_ns;
    if (longest_ns == 0 && !all_are_local(server))
        settle_ns = SETTLE_UNKNOWN_NS; /* no client has connected yet, so no round trip is known */
    if (settle_ns < SETTLE_MIN_NS)
        settle_ns = SETTLE_MIN_NS;
    return settle_ns < server->config.settle_max_ns ? settle_ns : server->config.settle_max_ns;
}

static bool queues_are_empty(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].stays &&
            listener_queue_length(&server->listeners.items[i]) > 0)
            return false;
    return true;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void on_settle(struct fine_timer *timer);

static void settle(struct loop *loop)
{
    struct server *server = loop->server;
    uint64_t now_ns = clock_now_ns();

    bool empty = queues_are_empty(server);
    if (!empty)
        loop->closing.quiet_since_ns = now_ns;
    uint64_t end_ns = lesser(loop->closing.quiet_since_ns + settle_time_ns(server),
                             loop->closing.settle_began_ns + server->config.settle_max_ns);
    if (empty && end_ns < now_ns + LEAVE_BEFORE_NS)
        order_others_to_leave(loop);
    if (now_ns < end_ns) {
        loop->closing.settle_timer.cb = on_settle;
        fine_set(loop, &loop->closing.settle_timer, lesser(end_ns, now_ns + SETTLE_LOOK_NS));
        return;
    }
    loop->closing.settled = true;
    order_others_to_leave(loop);
    close_if_due(loop);
}

static void on_settle(struct fine_timer *timer)
{
    settle(container_of(timer, struct loop, closing.settle_timer));
}

void close_listeners_begin(struct loop *loop)
{
    unsigned samples = 0;

    if (loop->closing.begun)
        return;
    loop->closing.begun = true;
    for (h2o_linklist_t *node = loop->conns.prev; node != &loop->conns && samples < RTT_SAMPLES;
         node = node->prev, samples++) {
        struct conn *conn = container_of(node, struct conn, link);
        if (!conn->is_tcp || conn->sock == NULL)
            continue;
        rtt_note(loop, h2o_socket_get_fd(conn->sock));
        /* A successor that closes right after its start sets the limit on a listener that this
         * process still accepts from. This process is not told, so its latest connections may have
         * the limit. */
        conn_lift_hops(conn);
    }
    if (loop->accepting.paused && !fine_is_set(&loop->accepting.retry_timer))
        accept_resume(loop);
    if (is_closing_loop(loop)) {
        loop->closing.settle_began_ns = loop->closing.quiet_since_ns = clock_now_ns();
        settle(loop);
    }
}

static void on_retry_close(struct fine_timer *timer)
{
    accept_dry_and_close(container_of(timer, struct loop, closing.settle_timer));
}

static void accept_dry_and_close(struct loop *loop)
{
    struct server *server = loop->server;

    hand_off_take_end(loop, true);
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct loop_listener *ll = &loop->listeners[i];
        enum accept_end end = ACCEPT_MORE;
        if (ll->sock == NULL)
            continue;
        while (end == ACCEPT_MORE && !ll->listener->stays)
            end = accept_one(ll);
        if (end == ACCEPT_STUCK) { /* no descriptor left: they are freed as answers end */
            loop->closing.settle_timer.cb = on_retry_close;
            fine_set(loop, &loop->closing.settle_timer, clock_now_ns() + RETRY_NS);
            continue;
        }
        accept_leave(ll);
        (void)pthread_mutex_lock(&server->mu); /* see server_offer() */
        listener_close(ll->listener);
        (void)pthread_mutex_unlock(&server->mu);
        /* release: pairs with the acquire in op_census; a thread that sees the last one closed
         * sees the connections that it accepted counted */
        atomic_fetch_sub_explicit(&server->listeners_open, 1, memory_order_release);
    }
    if (atomic_load_explicit(&server->listeners_open, memory_order_relaxed) == 0)
        coord_poke(server->coord);
}

void close_listeners_now(struct loop *loop)
{
    close_if_due(loop);
}

void close_listeners_stop(struct loop *loop)
{
    fine_clear(&loop->closing.settle_timer);
}

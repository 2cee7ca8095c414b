#include "make_room.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "goaway.h"
#include "idle.h"
#include "listener.h"
#include "server_state.h"

/* When no connection can be accepted, those that have idled longest are closed. They are spread
 * over the loops, and each loop knows only its own, so this takes a round of three steps:
 *
 *     ask      a loop that cannot accept orders every loop to show what idles (ORDER_SHOW_IDLE)
 *     show     each loop writes down since when its longest idle connections idle; the last loop to
 *              do so picks the longest of all, as many as there are newcomers
 *     do       each loop closes its share (ORDER_MAKE_ROOM)
 *
 * A close makes the paused loops accept again (limit note, places.c). While they stay paused, the
 * loop asks again every 10 ms, no more often: looking at all connections costs time. A loop that is
 * held up delays the round by ROUND_LONGEST_NS at most; then the round ends without it.
 *
 * A connection idles if it has no request, read or unread, and has had none for a quarter of a
 * second: a client needs a round trip to send its first one. An HTTP/1 connection is shut down for
 * reading, as a drain does it (idle_close_h1.c); HTTP/2 gets its last GOAWAY, which names the last
 * stream that was processed. */

#define IDLE_LEAST_NS (250 * NS_PER_MS)
#define ROUND_EVERY_NS (10 * NS_PER_MS)
#define ROUND_LONGEST_NS (100 * NS_PER_MS)

/* ---- what idles ---- */

/* The longest idle ones, the longest first. */
struct longest {
    uint64_t now_ns;
    struct idle {
        struct conn *conn;
        h2o_http2_conn_t *h2; /* NULL: HTTP/1, or nothing yet */
    } items[MAKE_ROOM_MOST];
    size_t count;
};

static void consider(struct longest *longest, struct conn *conn, h2o_http2_conn_t *h2)
{
    size_t at = longest->count;

    if (conn->idle_released || conn->handed_over || conn->is_tunnel || conn->linger.fd >= 0 ||
        conn->active != 0 || longest->now_ns < conn->idle_since_ns + IDLE_LEAST_NS)
        return;
    while (at > 0 && longest->items[at - 1].conn->idle_since_ns > conn->idle_since_ns)
        at--;
    if (at == MAKE_ROOM_MOST)
        return;
    if (longest->count < MAKE_ROOM_MOST)
        longest->count++;
    memmove(&longest->items[at + 1], &longest->items[at],
            (longest->count - at - 1) * sizeof(longest->items[0]));
    longest->items[at] = (struct idle){.conn = conn, .h2 = h2};
}

static int consider_h1(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    if (conn != NULL && h1_is_idle(req))
        consider(data, conn, NULL);
    return 0;
}

static bool is_idle_h2(const h2o_http2_conn_t *h2)
{
    return h2->sock != NULL && h2->state == H2O_HTTP2_CONN_STATE_OPEN &&
           h2->num_streams.pull.open + h2->num_streams.push.open == 0 &&
           h2->_headers_unparsed == NULL && h2->sock->input->size == 0 &&
           h2->_write.buf->size == 0 && h2->_write.buf_in_flight == NULL;
}

static void find_longest(struct loop *loop, struct longest *longest)
{
    h2o_linklist_t *h2s = &loop->ctx.http2._conns, *node;

    longest->now_ns = loop_now_ns(loop);
    longest->count = 0;
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, consider_h1, longest);
    for (node = h2s->next; node != h2s; node = node->next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        if (is_idle_h2(h2))
            consider(longest, h2->sock->on_close.data, h2);
    }
    for (node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        if (conn_is_silent(conn))
            consider(longest, conn, NULL);
    }
}

/* ---- a round ---- */

/* Under `mu`: a loop that has not carried out ORDER_CLOSING yet still calls this, and the closing
 * loop may have closed the listeners by then. It does so under `mu` as well: see
 * accept_dry_and_close(). */
static size_t newcomers_locked(const struct server *server)
{
    size_t waiting = 0;

    for (size_t i = 0; i < server->listeners.count; i++)
        waiting += listener_newcomers(&server->listeners.items[i]);
    return waiting < MAKE_ROOM_MOST ? waiting : MAKE_ROOM_MOST;
}

/* Pick the longest idle connections of all loops: count for each loop how many it is to close. */
static void end_round_locked(struct server *server)
{
    size_t left = newcomers_locked(server);

    server->make_room.is_running = false;
    while (left-- > 0) {
        struct loop *next = NULL;
        for (unsigned i = 0; i < server->started; i++) {
            struct loop *loop = &server->loops[i];
            if (loop->make_room.shown > loop->make_room.to_close &&
                (next == NULL || loop->make_room.idle_since_ns[loop->make_room.to_close] <
                                     next->make_room.idle_since_ns[next->make_room.to_close]))
                next = loop;
        }
        if (next == NULL)
            break;
        next->make_room.to_close++;
    }
    for (unsigned i = 0; i < server->started; i++)
        if (server->loops[i].make_room.to_close > 0)
            loop_order(&server->loops[i], ORDER_MAKE_ROOM);
}

/* True: a round has begun, and every loop is to show its idle connections. */
static bool begin_round_locked(struct server *server, uint64_t now_ns)
{
    if (server->make_room.is_running && now_ns - server->make_room.begun_ns < ROUND_LONGEST_NS)
        return false;
    if (server->make_room.is_running)
        end_round_locked(server); /* some loop is held up */
    if (now_ns - server->make_room.begun_ns < ROUND_EVERY_NS)
        return false;
    server->make_room.is_running = true;
    server->make_room.begun_ns = now_ns;
    server->make_room.left = server->started;
    for (unsigned i = 0; i < server->started; i++) {
        server->loops[i].make_room.has_shown = false;
        server->loops[i].make_room.shown = server->loops[i].make_room.to_close = 0;
    }
    return true;
}

static void on_ask_again(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, make_room.timer);
    if (!loop->accepting.paused || loop->closing.begun || loop->frozen)
        return;
    (void)pthread_mutex_lock(&loop->server->mu);
    size_t waiting = newcomers_locked(loop->server);
    (void)pthread_mutex_unlock(&loop->server->mu);
    if (waiting > 0)
        make_room_ask(loop);
    else
        loop_order(loop, ORDER_RESUME_ACCEPT); /* the next connection asks itself */
}

void make_room_ask(struct loop *loop)
{
    struct server *server = loop->server;

    assert_owner(loop);
    if (loop->closing.begun)
        return;
    (void)pthread_mutex_lock(&server->mu);
    bool begins = begin_round_locked(server, clock_now_ns());
    (void)pthread_mutex_unlock(&server->mu);
    for (unsigned i = 0; begins && i < server->started; i++)
        loop_order(&server->loops[i], ORDER_SHOW_IDLE);
    loop->make_room.timer.cb = on_ask_again;
    if (!h2o_timeout_is_linked(&loop->make_room.timer))
        loop_tick(loop, TICK_10_MS, &loop->make_room.timer);
}

void make_room_show(struct loop *loop)
{
    struct server *server = loop->server;
    struct longest longest;

    find_longest(loop, &longest);
    (void)pthread_mutex_lock(&server->mu);
    if (server->make_room.is_running && !loop->make_room.has_shown) {
        loop->make_room.has_shown = true;
        loop->make_room.shown = longest.count;
        for (size_t i = 0; i < longest.count; i++)
            loop->make_room.idle_since_ns[i] = longest.items[i].conn->idle_since_ns;
        if (--server->make_room.left == 0)
            end_round_locked(server);
    }
    (void)pthread_mutex_unlock(&server->mu);
}

/* ---- the close ---- */

static void give_way(struct loop *loop, struct conn *conn, h2o_http2_conn_t *h2)
{
    int fd = h2o_socket_get_fd(conn->sock), bytes = 0;

    if (ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0)
        return; /* these bytes are read in this loop's next turn */
    /* Its client is still receiving the last answer: it idles only after that. */
    if (ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0) {
        conn->idle_since_ns = loop_now_ns(loop);
        return;
    }
    if (h2 != NULL)
        goaway_end(h2, conn);
    else if (shutdown(fd, SHUT_RD) != 0)
        return; /* it is closing already */
    conn->idle_released = true;
    conn->gave_way = true;
}

void make_room_do(struct loop *loop)
{
    struct longest longest;

    (void)pthread_mutex_lock(&loop->server->mu);
    size_t number = loop->make_room.to_close;
    loop->make_room.to_close = 0;
    (void)pthread_mutex_unlock(&loop->server->mu);
    if (loop->draining || loop->released || loop->frozen)
        return; /* the drain closes them */
    find_longest(loop, &longest);
    for (size_t i = 0; i < longest.count && i < number; i++)
        give_way(loop, longest.items[i].conn, longest.items[i].h2);
}

void make_room_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->make_room.timer);
}

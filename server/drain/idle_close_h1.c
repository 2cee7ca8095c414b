#include "idle_close_h1.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "clock.h"
#include "conn.h"
#include "hand_off.h"
#include "idle.h"
#include "idle_close_turn.h"
#include "server_state.h"

/* Idle close of HTTP/1, and of connections that have not spoken yet. See idle_close.c. */

#define RECEIVED_LOOK_NS (50 * NS_PER_MS)
#define IDLE_LOOKS 256 /* in a spread */
#define IDLE_LOOK_MOST_NS (100 * NS_PER_MS)

/* The grace starts when the client's machine has received the answer: our kernel may take long to
 * send what the library wrote at once. While the unacknowledged bytes become fewer, the grace
 * starts again. (Whether the client's program has read them cannot be seen from here.) */
static void note_received(struct conn *conn)
{
    int unacked = 0;

    if (conn->h1.has_received || conn->idle_released)
        return;
    (void)ioctl(h2o_socket_get_fd(conn->sock), SIOCOUTQ, &unacked);
    if (unacked != conn->h1.unacked)
        conn->idle_since_ns = loop_now_ns(conn->loop);
    conn->h1.unacked = unacked;
    conn->h1.has_received = unacked == 0;
}

static int note_received_if_idle(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && h1_is_idle(req))
        note_received(conn);
    return 0;
}

bool h1_is_grace_over(const struct conn *conn)
{
    const struct loop *loop = conn->loop;
    uint64_t now_ns = loop_now_ns(conn->loop);
    int unread = 0;

    if (conn->idle_released || now_ns - conn->idle_since_ns < loop->server->config.idle_grace_ns ||
        now_ns < conn->silent_until_ns ||
        !is_its_turn(conn, loop->idle_close.released_since_ns, loop->idle_close.h1_spread_ns,
                     now_ns))
        return false; /* the slow look will see it again */
    /* Unread bytes are read in this loop's next turn. */
    return ioctl(h2o_socket_get_fd(conn->sock), FIONREAD, &unread) != 0 || unread == 0;
}

static void release(struct conn *conn)
{
    note_received(conn);
    if (h1_is_grace_over(conn))
        conn->idle_released = shutdown(h2o_socket_get_fd(conn->sock), SHUT_RD) == 0;
}

static int release_if_idle(h2o_req_t *req, void *data)
{
    struct conn *conn = conn_of(req);

    (void)data;
    if (conn != NULL && h1_is_idle(req) && !hand_off_wants(conn, req))
        release(conn);
    return 0;
}

/* The library does not list connections before their handshake, or their PROXY line, is complete.
 */
static void release_silent(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        if (conn_is_silent(conn))
            release(conn);
    }
}

void idle_close_h1_note(struct loop *loop, uint64_t now_ns)
{
    if (now_ns - loop->idle_close.received_looked_ns < RECEIVED_LOOK_NS)
        return;
    loop->idle_close.received_looked_ns = now_ns;
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, note_received_if_idle,
                                                                NULL);
}

/* With a spread, many connections may idle for long, while each request that ends asks for a look.
 */
static bool wants_idle_look(struct loop *loop, uint64_t now_ns)
{
    uint64_t every_ns = loop->idle_close.h1_spread_ns / IDLE_LOOKS;

    if (every_ns > IDLE_LOOK_MOST_NS)
        every_ns = IDLE_LOOK_MOST_NS;
    if (!loop->released || now_ns - loop->idle_close.idle_looked_ns < every_ns)
        return false;
    loop->idle_close.idle_looked_ns = now_ns;
    return true;
}

void idle_close_h1(struct loop *loop, uint64_t now_ns)
{
    if (!wants_idle_look(loop, now_ns))
        return;
    (void)loop->ctx.globalconf->http1.callbacks.foreach_request(&loop->ctx, release_if_idle, NULL);
    release_silent(loop);
}

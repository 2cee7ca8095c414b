#include "progress.h"

#include "bodies.h"
#include "clock.h"
#include "loop.h"
#include "progress_h1.h"
#include "progress_h2.h"
#include "server_state.h"

/* Clients that make no progress. A loop looks at its connections about once a second, while it has
 * any; no connection has a timer for this. The rules:
 *
 *     a request's body      must grow by progress.rate, averaged over progress.window
 *     an answer             that waits for the client must be acknowledged at that rate
 *     a header              must arrive whole in a given time
 *     an HTTP/2 connection  without a stream has progress.idle, whatever frames it sends
 *
 * A window begins when the server waits for the client, and begins again whenever the client has
 * moved the least amount of a window. So a client may pause for a window, and a slow line alone
 * does no harm.
 *
 * Only waiting for the client counts. An answer that waits for a handler or an upstream (a long
 * poll, a stream of events) leaves nothing in the library's output, and is not looked at; nor are
 * tunnels, which end with proxy.websocket.timeout, and answers that a handler still writes: it
 * waits for the client as long as it likes to (exchange_ops.write).
 *
 * What a client has taken is what its kernel has acknowledged: the library's write callback tells
 * only of room in our own kernel, which may hold megabytes for a slow line.
 *
 * HTTP/1. The library has one timer from the end of the last answer to the whole request
 * (http1-request-timeout). It stays the limit for a header. While a body makes progress the look
 * pushes it back: otherwise an upload that takes longer is cut however fast it is. A body that is
 * late is answered with 408. HTTP/2 is in progress_h2.c.
 *
 * The end of the wait. Between requests the library closes when that time is over, or over HTTP/2
 * http2-idle-timeout, without a look into its socket. A request that has come since the loop last
 * polled would be reset, and a loop with much to do polls seldom. So the look puts a function of
 * ours into the library's timer: a connection with unread bytes gets the time once more, and the
 * next turn reads them. The look comes several times in each wait (LOOKS_A_WINDOW). A part of a
 * request that was read keeps its limit.
 *
 * A client that is cut counts as one that has left: its request is not answered, and not counted as
 * given up, unless a drain waits for it. Then it is one of the requests that the drain could not
 * finish (given_up.c). */

#define LOOKS_A_WINDOW 8

static void look(h2o_timeout_entry_t *entry);

/* The library has a list of one-second timers in any case. Short settings pay for a finer one. */
static void look_again(struct loop *loop)
{
    const struct server_config *config = &loop->server->config;
    uint64_t shortest_ns = config->progress_window_ns;

    if (config->progress_head_ns < shortest_ns)
        shortest_ns = config->progress_head_ns;
    if (config->progress_idle_ns < shortest_ns)
        shortest_ns = config->progress_idle_ns;
    if (loop->ctx.globalconf->http1.req_timeout * NS_PER_MS < shortest_ns)
        shortest_ns = loop->ctx.globalconf->http1.req_timeout * NS_PER_MS;
    if (loop->ctx.globalconf->http2.idle_timeout * NS_PER_MS < shortest_ns)
        shortest_ns = loop->ctx.globalconf->http2.idle_timeout * NS_PER_MS;
    loop->progress.timer.cb = look;
    if (shortest_ns / LOOKS_A_WINDOW >= NS_PER_S)
        h2o_timeout_link(loop->evloop, &loop->ctx.one_sec_timeout, &loop->progress.timer);
    else
        loop_tick(loop, TICK_100_MS, &loop->progress.timer);
}

static void look(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, progress.timer);
    uint64_t now_ns = loop_patient_ns(loop);

    progress_look_h1(loop, now_ns);
    progress_look_h2(loop, now_ns);
    bodies_look(loop);
    if (!h2o_linklist_is_empty(&loop->conns))
        look_again(loop);
}

void progress_begin(struct loop *loop)
{
    if (!h2o_timeout_is_linked(&loop->progress.timer) && !loop->frozen)
        look_again(loop);
}

void progress_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->progress.timer);
}

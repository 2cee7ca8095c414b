#include "hold.h"

#include "clock.h"
#include "request.h"
#include "server_state.h"

/* Requests for the application wait here while it starts, or starts again; otherwise their clients
 * would get 502. (To accept no connection until then would leave them in the kernel's queue, which
 * can neither be listed nor bounded, and would block health checks and files that need no
 * application. A restart of the application would still need this.)
 *
 * A handler before the proxy's keeps the request and returns 0; to go on, it delegates to the next
 * handler. A held request is active: it is listed as held, a drain waits for it until
 * its deadline, and it is answered 503 with Retry-After when its time is up.
 *
 * libh2o does not look at an HTTP/1 socket meanwhile. So a client that leaves is noticed only when
 * the answer is written, as with every proxied request; one that has merely shut down its sending
 * side gets its answer.
 *
 * Hold note. `holding` is written by the app thread (if a master runs the application, by the
 * restart thread, which the master tells) and read, relaxed, by the loops. A loop that reads true
 * keeps the request in its own list; the order that follows the write of false (release in
 * loop_order, acquire in doors.c) is carried out on the same loop, later, and empties that list. So
 * no request is forgotten. */

#define HELD_MAX 1000 /* in all loops; their bodies, which libh2o has in memory: --max-bodies */

struct held {
    h2o_linklist_t link; /* loop->hold.requests */
    h2o_handler_t *handler;
    h2o_req_t *req;
    struct loop *loop;
    struct inflight *inflight;
    uint64_t since_ns;
    uint64_t body_bytes;
};

/* ---- one request ---- */

void hold_unadmit(struct server *server, uint64_t body_bytes)
{
    (void)atomic_fetch_sub_explicit(&server->held_requests, 1, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&server->held_body_bytes, body_bytes, memory_order_relaxed);
}

static void let_go(struct held *held)
{
    if (!h2o_linklist_is_linked(&held->link))
        return;
    h2o_linklist_unlink(&held->link);
    hold_unadmit(held->loop->server, held->body_bytes);
}

/* The request is disposed of, whatever the reason. */
static void on_dispose(void *data)
{
    let_go(data);
}

static int refuse(h2o_req_t *req, const char *why)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL,
                          H2O_STRLIT("1"));
    h2o_send_error_503(req, "Service Unavailable", why, H2O_SEND_ERROR_KEEP_HEADERS);
    return 0;
}

static void on_tick(h2o_timeout_entry_t *entry);

static void look_later(struct loop *loop)
{
    loop->hold.timer.cb = on_tick;
    if (!h2o_timeout_is_linked(&loop->hold.timer))
        loop_tick(loop, TICK_100_MS, &loop->hold.timer);
}

bool hold_admit(struct server *server, uint64_t body_bytes)
{
    /* relaxed: bounds, and nothing else depends on them */
    uint64_t requests =
        atomic_fetch_add_explicit(&server->held_requests, 1, memory_order_relaxed) + 1;
    uint64_t bytes =
        atomic_fetch_add_explicit(&server->held_body_bytes, body_bytes, memory_order_relaxed) +
        body_bytes;
    if (requests <= HELD_MAX && bytes <= server->config.max_bodies)
        return true;
    hold_unadmit(server, body_bytes);
    return false;
}

static int keep(h2o_handler_t *handler, struct loop *loop, h2o_req_t *req)
{
    struct inflight *inflight = inflight_of(req);

    if (inflight == NULL)
        return -1;
    if (!hold_admit(loop->server, req->entity.len))
        return refuse(req, "the application is starting, and too many wait for it\n");
    struct held *held = h2o_mem_alloc_shared(&req->pool, sizeof(*held), on_dispose);
    *held = (struct held){.handler = handler,
                          .req = req,
                          .loop = loop,
                          .inflight = inflight,
                          .since_ns = loop_patient_ns(loop),
                          .body_bytes = req->entity.len};
    inflight->held = held;
    h2o_linklist_insert(&loop->hold.requests, &held->link);
    look_later(loop);
    return 0;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct loop *loop = loop_of(req->conn);

    /* relaxed: see hold note */
    if (!atomic_load_explicit(&loop->server->holding, memory_order_relaxed))
        return -1;
    return keep(handler, loop, req);
}

void hold_register(h2o_pathconf_t *path)
{
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = on_request;
}

/* ---- all held requests ---- */

static struct held *take_first(h2o_linklist_t *list)
{
    struct held *held = container_of(list->next, struct held, link);
    let_go(held);
    held->inflight->held = NULL;
    return held;
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, hold.timer);
    uint64_t now_ns = loop_patient_ns(loop);

    while (!h2o_linklist_is_empty(&loop->hold.requests)) {
        struct held *oldest = container_of(loop->hold.requests.next, struct held, link);
        if (now_ns - oldest->since_ns < loop->server->config.app_hold_ns) {
            look_later(loop);
            return;
        }
        (void)refuse(take_first(&loop->hold.requests)->req, "the application is still starting\n");
    }
}

void hold_release_all(struct loop *loop)
{
    h2o_linklist_t all;

    assert_owner(loop);
    /* The application has ended again before this order was carried out: another order follows. */
    if (atomic_load_explicit(&loop->server->holding, memory_order_relaxed))
        return;
    h2o_linklist_init_anchor(&all);
    /* Those that wait now, not those that come meanwhile: the application may end again. */
    h2o_linklist_insert_list(&all, &loop->hold.requests);
    while (!h2o_linklist_is_empty(&all)) {
        struct held *held = take_first(&all);
        h2o_delegate_request(held->req, held->handler);
    }
}

void hold_give_up_all(struct loop *loop)
{
    /* The socket is cut already: the write fails, and the failure closes the connection. */
    while (!h2o_linklist_is_empty(&loop->hold.requests))
        (void)refuse(take_first(&loop->hold.requests)->req, "gave up\n");
}

void hold_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->hold.timer);
}

void server_hold(void *data, bool hold)
{
    struct server *server = data;

    /* relaxed: see hold note */
    atomic_store_explicit(&server->holding, hold, memory_order_relaxed);
    for (unsigned i = 0; !hold && i < server->started; i++)
        loop_order(&server->loops[i], ORDER_RELEASE_HELD);
}

#include "server_p.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "log.h"

/* Requests wait here while the application behind us starts, or starts again: the alternative is a
 * 502 that nobody deserves. (The other alternative, to accept nothing until it is up, leaves the
 * waiting to the kernel's queue, which can neither be listed nor bounded, and hides health checks
 * and files that need no application. And a restart would want this one all the same.)
 *
 * A handler in front of the proxy's keeps the request and returns 0; to go on, it delegates to the
 * handler behind itself. A held request is active: it is listed as held, a drain waits for it until
 * its deadline, and it is answered 503 with Retry-After when its time is up.
 *
 * libh2o does not look at an HTTP/1 socket meanwhile. So a client that leaves is noticed only when
 * the answer is written, as with every request that is handed on; one that has merely shut down its
 * sending side gets its answer.
 *
 * Hold note. `holding` is written by the app thread (where a master has the application, by the
 * restart thread, which hears of it) and read, relaxed, by the loops. A loop that
 * reads true keeps the request in its own list; the order that follows the write of false (release
 * in loop_order, acquire in on_wake) is carried out on the same loop, later, and empties that list.
 * So no request stays behind. */

#define HELD_MAX 1000 /* in all loops; their bodies, which libh2o has in memory: --max-bodies */

struct held {
    h2o_linklist_t link; /* loop->held */
    h2o_handler_t *handler;
    h2o_req_t *req;
    struct loop *loop;
    struct inflight *inflight;
    uint64_t since_ns;
    uint64_t body_bytes;
};

/* ---- where the application is ---- */

static bool parse(const char *url, h2o_url_t *ret_url)
{
    return url != NULL && h2o_url_parse(url, strlen(url), ret_url) == 0;
}

bool hold_is_for(const struct server *server, const char *url)
{
    h2o_url_t its, app;

    return server->options->command != NULL && parse(server->options->app_url, &app) &&
           parse(url, &its) && h2o_url_hosts_are_equal(&its, &app) &&
           h2o_url_get_port(&its) == h2o_url_get_port(&app);
}

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "configuration", NULL, "%s", error);
    return status;
}

/* It becomes part of a request as it is. */
static bool is_path(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if (!isgraph((unsigned char)*at))
            return false;
    return text[0] == '/';
}

int hold_check(struct server *server)
{
    const struct options *options = server->options;
    h2o_url_t url;
    char error[512];

    if (options->app_health != NULL && !is_path(options->app_health)) {
        (void)snprintf(error, sizeof(error),
                       "app.health %.200s: want a path that begins with / and has no spaces",
                       options->app_health);
        return fail(COORD_EXIT_CONFIG, error);
    }
    if (options->app_url != NULL && !parse(options->app_url, &url)) {
        (void)snprintf(error, sizeof(error),
                       "app.url %.200s: want http://HOST:PORT/ or "
                       "http://[unix:/path]/",
                       options->app_url);
        return fail(COORD_EXIT_CONFIG, error);
    }
    if (options->command == NULL) {
        if (options->app_url != NULL && !options->test)
            log_line(LOG_LEVEL_WARN, "configuration", NULL,
                     "app.url is %s, but no command stands behind --: nothing is started",
                     options->app_url);
        return 0;
    }
    if (options->app_url == NULL) {
        (void)snprintf(error, sizeof(error),
                       "-- %.200s: where will it answer? app: {url: ...} in %.200s says so",
                       options->command[0], options->conf);
        return fail(COORD_EXIT_CONFIG, error);
    }
    if (options->app_health != NULL && url.scheme != &H2O_URL_SCHEME_HTTP)
        return fail(COORD_EXIT_CONFIG, "app.health is asked for over http only");
    if (!server->hands_on_to_app)
        log_line(LOG_LEVEL_WARN, "configuration", NULL,
                 "no path hands requests on to the application at %s: none waits for it",
                 options->app_url);
    /* relaxed: before the loops start */
    atomic_store_explicit(&server->holding, true, memory_order_relaxed);
    return 0;
}

int server_app_target(struct server *server, struct probe_target *ret_target, uint16_t *ret_port)
{
    const char *health = server->options->app_health;
    struct sockaddr_un un;
    h2o_url_t url;

    if (!parse(server->options->app_url, &url))
        return -EINVAL;
    bool is_unix = h2o_url_host_to_sun(url.host, &un) == NULL;
    *ret_port = is_unix ? 0 : h2o_url_get_port(&url);
    char *host = strndup(url.host.base, url.host.len);
    if (host == NULL)
        return -ENOMEM;
    int err = is_unix ? probe_target_init(ret_target, un.sun_path, NULL, 0, health)
                      : probe_target_init(ret_target, NULL, host, *ret_port, health);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot find the host %s of %s", host,
                 server->options->app_url);
    free(host);
    return err;
}

/* ---- one request ---- */

static void unadmit(struct server *server, uint64_t body_bytes)
{
    (void)atomic_fetch_sub_explicit(&server->held_requests, 1, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&server->held_body_bytes, body_bytes, memory_order_relaxed);
}

static void let_go(struct held *held)
{
    if (!h2o_linklist_is_linked(&held->link))
        return;
    h2o_linklist_unlink(&held->link);
    unadmit(held->loop->server, held->body_bytes);
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
    loop->hold_timer.cb = on_tick;
    if (!h2o_timeout_is_linked(&loop->hold_timer))
        loop_tick(loop, TICK_100_MS, &loop->hold_timer);
}

/* Take a place; false: there is none. */
static bool admit(struct server *server, uint64_t body_bytes)
{
    /* relaxed: bounds, and nothing else hangs on them */
    uint64_t requests =
        atomic_fetch_add_explicit(&server->held_requests, 1, memory_order_relaxed) + 1;
    uint64_t bytes =
        atomic_fetch_add_explicit(&server->held_body_bytes, body_bytes, memory_order_relaxed) +
        body_bytes;
    if (requests <= HELD_MAX && bytes <= server->options->max_bodies)
        return true;
    unadmit(server, body_bytes);
    return false;
}

static int keep(h2o_handler_t *handler, struct loop *loop, h2o_req_t *req)
{
    struct inflight *inflight = inflight_of(req);

    if (inflight == NULL)
        return -1;
    if (!admit(loop->server, req->entity.len))
        return refuse(req, "the application is starting, and too many wait for it\n");
    struct held *held = h2o_mem_alloc_shared(&req->pool, sizeof(*held), on_dispose);
    *held = (struct held){.handler = handler,
                          .req = req,
                          .loop = loop,
                          .inflight = inflight,
                          .since_ns = loop_now_ns(loop),
                          .body_bytes = req->entity.len};
    inflight->held = held;
    h2o_linklist_insert(&loop->held, &held->link);
    look_later(loop);
    return 0;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);

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

/* ---- all of them ---- */

static struct held *take_first(h2o_linklist_t *list)
{
    struct held *held = container_of(list->next, struct held, link);
    let_go(held);
    held->inflight->held = NULL;
    return held;
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, hold_timer);
    uint64_t now_ns = loop_now_ns(loop);

    while (!h2o_linklist_is_empty(&loop->held)) {
        struct held *oldest = container_of(loop->held.next, struct held, link);
        if (now_ns - oldest->since_ns < loop->server->options->app_hold_ns) {
            look_later(loop);
            return;
        }
        (void)refuse(take_first(&loop->held)->req, "the application is still starting\n");
    }
}

void hold_let_go_on(struct loop *loop)
{
    h2o_linklist_t all;

    assert_owner(loop);
    /* It has ended again, before we got here: another order will come. */
    if (atomic_load_explicit(&loop->server->holding, memory_order_relaxed))
        return;
    h2o_linklist_init_anchor(&all);
    /* Those that wait now, not those that come while they go: it may end again meanwhile. */
    h2o_linklist_insert_list(&all, &loop->held);
    while (!h2o_linklist_is_empty(&all)) {
        struct held *held = take_first(&all);
        h2o_delegate_request(held->req, held->handler);
    }
}

void hold_give_up_all(struct loop *loop)
{
    /* The socket is cut already: the write fails, and the failure closes the connection. */
    while (!h2o_linklist_is_empty(&loop->held))
        (void)refuse(take_first(&loop->held)->req, "gave up\n");
}

void hold_stop(struct loop *loop)
{
    h2o_timeout_unlink(&loop->hold_timer);
}

void server_hold(void *data, bool hold)
{
    struct server *server = data;

    /* relaxed: see hold note */
    atomic_store_explicit(&server->holding, hold, memory_order_relaxed);
    for (unsigned i = 0; !hold && i < server->started; i++)
        loop_order(&server->loops[i], ORDER_LET_GO_ON);
}

#include "proxy.h"

#include <stdlib.h>
#include <string.h>

#include "forward.h"
#include "loop.h"
#include "upstream_tls.h"

/* Routes: which request goes to which upstream.
 *
 *     on_request()    the handler of a route: the path and the host are made, and libh2o processes
 *                     the request again, now with overrides
 *     proxy_process() libh2o's way to every upstream: with overrides, which are ours, to that of
 *                     the route; without, for `reproxy`, to the one that the URL names */

struct route {
    h2o_handler_t super;
    h2o_url_t url;
    h2o_mem_pool_t pool; /* of the target */
    struct proxy_target target;
    struct proxy_settings settings;
};

/* All overrides of this process: only routes make them. */
struct overrides {
    h2o_req_overrides_t super;
    struct route *route;
};

static struct proxy_extras extras_of_next = {.buffer_bytes = PROXY_BUFFER_DEFAULT};

void proxy_set_extras(const struct proxy_extras *extras)
{
    extras_of_next = *extras;
}

/* ---- requests of a route ---- */

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct route *route = container_of(handler, struct route, super);
    struct overrides *overrides = h2o_mem_alloc_pool(&req->pool, sizeof(*overrides));
    bool keeps_host = route->settings.preserve_host;

    memset(overrides, 0, sizeof(*overrides));
    overrides->super.location_rewrite.match = &route->url;
    overrides->super.location_rewrite.path_prefix = req->pathconf->path;
    overrides->super.headers_cmds = route->settings.headers_cmds;
    overrides->route = route;
    h2o_reprocess_request(req, req->method, keeps_host ? req->scheme : route->url.scheme,
                          keeps_host ? req->authority : route->url.authority,
                          h2o_build_destination(req, route->url.path.base, route->url.path.len, 0),
                          &overrides->super, 0);
    return 0;
}

/* The route on this loop; made at its first request. */
static struct upstream *upstream_of(struct route *route, h2o_req_t *req)
{
    h2o_context_t *ctx = req->conn->ctx;
    struct upstream *upstream = h2o_context_get_handler_context(ctx, &route->super);

    if (upstream == NULL) {
        upstream =
            upstream_create(proxy_loop(loop_of(req->conn)), &route->target, &route->settings);
        h2o_context_set_handler_context(ctx, &route->super, upstream);
    }
    return upstream;
}

/* ---- requests that name their upstream ---- */

struct single {
    struct upstream upstream;
    struct proxy_target target;
    struct proxy_settings settings;
};

static void process_url(h2o_req_t *req)
{
    h2o_context_t *ctx = req->conn->ctx;
    struct single *single = h2o_mem_alloc_pool(&req->pool, sizeof(*single));
    h2o_url_t url;

    if (h2o_url_init(&url, req->scheme, req->authority, req->path) != 0 ||
        proxy_target_init(&single->target, &req->pool, &url) != NULL) {
        h2o_req_log_error(req, "proxy", "no upstream has the name %.*s", (int)req->authority.len,
                          req->authority.base);
        h2o_send_error_502(req, "Gateway Error", "internal error", 0);
        return;
    }
    single->settings = (struct proxy_settings){
        .connect_ms = ctx->globalconf->proxy.io_timeout,
        .first_byte_ms = ctx->globalconf->proxy.io_timeout,
        .io_ms = ctx->globalconf->proxy.io_timeout,
        .buffer_bytes = PROXY_BUFFER_DEFAULT,
        .ssl_ctx = ctx->globalconf->proxy.ssl_ctx,
    };
    upstream_init(&single->upstream, proxy_loop(loop_of(req->conn)), &single->target,
                  &single->settings);
    forward_begin(req, &single->upstream);
}

void proxy_process(h2o_req_t *req)
{
    /* An internal redirect turns HEAD into GET, and the client would get the body of that. */
    if (h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")) &&
        h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")))
        req->method = req->input.method;
    if (req->overrides == NULL)
        process_url(req);
    else
        forward_begin(
            req, upstream_of(container_of(req->overrides, struct overrides, super)->route, req));
}

/* ---- registration ---- */

static void on_dispose(h2o_handler_t *handler)
{
    struct route *route = container_of(handler, struct route, super);

    SSL_CTX_free(route->settings.ssl_ctx);
    if (route->settings.headers_cmds != NULL)
        h2o_mem_release_shared(route->settings.headers_cmds);
    free(route->url.authority.base);
    free(route->url.host.base);
    free(route->url.path.base);
    h2o_mem_clear_pool(&route->pool);
}

static uint64_t or_else(uint64_t ms, uint64_t otherwise_ms)
{
    return ms > 0 ? ms : otherwise_ms;
}

void proxy_register(h2o_pathconf_t *path, h2o_url_t *url, h2o_proxy_config_vars_t *vars)
{
    struct route *route =
        container_of(h2o_create_handler(path, sizeof(*route)), struct route, super);
    const struct proxy_extras *extras = &extras_of_next;

    route->super.on_req = on_request;
    route->super.dispose = on_dispose;
    h2o_url_copy(NULL, &route->url, url);
    h2o_mem_init_pool(&route->pool);
    if (!h2o_url_host_is_unix_path(url->host))
        h2o_strtolower(route->url.host.base, route->url.host.len);
    (void)proxy_target_init(&route->target, &route->pool,
                            url); /* the path of a socket is checked */
    route->settings = (struct proxy_settings){
        .connect_ms = or_else(extras->connect_ms, vars->io_timeout),
        .first_byte_ms = or_else(extras->first_byte_ms, vars->io_timeout),
        .io_ms = vars->io_timeout,
        .keepalive_ms = vars->keepalive_timeout,
        .websocket_ms = vars->websocket.enabled ? vars->websocket.timeout : 0,
        .buffer_bytes = extras->buffer_bytes,
        .preserve_host = vars->preserve_host,
        .sends_proxy_line = vars->use_proxy_protocol,
        .headers_cmds = vars->headers_cmds,
        .ssl_ctx = vars->ssl_ctx,
    };
    if (route->settings.ssl_ctx == NULL)
        return;
    SSL_CTX_up_ref(route->settings.ssl_ctx);
    upstream_tls_set_up(route->settings.ssl_ctx);
}

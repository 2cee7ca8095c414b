#include "proxy.h"

#include <string.h>

#include "errand.h"
#include "forward.h"
#include "health_check.h"
#include "loop.h"
#include "server_state.h"
#include "upstream_tls.h"

/* Routes: which request goes to which upstream.
 *
 *     on_request()    the handler of a route: the path and the host are made, and libh2o processes
 *                     the request again, now with overrides
 *     proxy_process() libh2o's way to every upstream: with overrides, which only routes make, to
 *                     one of the route; without, for `reproxy`, to the one that the URL names */

struct route {
    h2o_handler_t super;
    h2o_mem_pool_t pool; /* of names and targets */
    struct upstream_group *group;
    struct proxy_settings settings;
    struct group_rules rules;
};

static struct proxy_extras extras_of_next = {.buffer_bytes = PROXY_BUFFER_DEFAULT};
static const struct proxy_members *members_of_next;

void proxy_set_extras(const struct proxy_extras *extras)
{
    extras_of_next = *extras;
}

void proxy_set_members(const struct proxy_members *members)
{
    members_of_next = members;
}

/* ---- requests of a route ---- */

/* All upstreams of a route have one path; errand.c changes host and scheme for the others. */
static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct route *route = container_of(handler, struct route, super);
    h2o_url_t *url = &route->group->members[0].url;
    struct errand_overrides *overrides = h2o_mem_alloc_pool(&req->pool, sizeof(*overrides));
    bool keeps_host = route->settings.preserve_host;

    memset(overrides, 0, sizeof(*overrides));
    overrides->super.location_rewrite.match = url;
    overrides->super.location_rewrite.path_prefix = req->pathconf->path;
    overrides->super.headers_cmds = route->settings.headers_cmds;
    overrides->view = h2o_context_get_handler_context(req->conn->ctx, handler);
    h2o_reprocess_request(req, req->method, keeps_host ? req->scheme : url->scheme,
                          keeps_host ? req->authority : url->authority,
                          h2o_build_destination(req, url->path.base, url->path.len, 0),
                          &overrides->super, 0);
    return 0;
}

/* The route on a loop. */
static void on_context_init(h2o_handler_t *handler, h2o_context_t *ctx)
{
    struct route *route = container_of(handler, struct route, super);
    struct proxy_loop *proxy = proxy_loop(container_of(ctx, struct loop, ctx));

    struct upstream_view *view = upstream_view_create(route->group, proxy, &errand_owner);
    h2o_context_set_handler_context(ctx, handler, view);
    if (route->group->number % proxy->loop->server->config.threads == proxy->loop->index)
        health_check_begin(view);
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
        upstream_set_error(req, upstream_label(UPSTREAM_LOOKUP));
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

void proxy_restore_head(h2o_req_t *req)
{
    if (h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")) &&
        h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")))
        req->method = req->input.method;
}

void proxy_process(h2o_req_t *req)
{
    proxy_restore_head(req);
    if (req->overrides == NULL)
        process_url(req);
    else
        errand_begin(req);
}

/* ---- registration ---- */

static void on_dispose(h2o_handler_t *handler)
{
    struct route *route = container_of(handler, struct route, super);

    SSL_CTX_free(route->settings.ssl_ctx);
    if (route->settings.headers_cmds != NULL)
        h2o_mem_release_shared(route->settings.headers_cmds);
    upstream_group_destroy(route->group);
    h2o_mem_clear_pool(&route->pool);
}

static uint64_t or_else(uint64_t ms, uint64_t otherwise_ms)
{
    return ms > 0 ? ms : otherwise_ms;
}

static void fill_settings(struct proxy_settings *settings, const h2o_proxy_config_vars_t *vars)
{
    const struct proxy_extras *extras = &extras_of_next;

    *settings = (struct proxy_settings){
        .connect_ms = or_else(extras->connect_ms, vars->io_timeout),
        .first_byte_ms = or_else(extras->first_byte_ms, vars->io_timeout),
        .io_ms = vars->io_timeout,
        .keepalive_ms = vars->keepalive_timeout,
        .websocket_ms = vars->websocket.enabled ? vars->websocket.timeout : 0,
        .buffer_bytes = extras->buffer_bytes,
        .preserve_host = vars->preserve_host,
        .sends_proxy_line = vars->use_proxy_protocol,
        .sends_forwarded = extras->sends_forwarded,
        .headers_cmds = vars->headers_cmds,
        .ssl_ctx = vars->ssl_ctx,
    };
    if (settings->ssl_ctx == NULL)
        return;
    SSL_CTX_up_ref(settings->ssl_ctx);
    upstream_tls_set_up(settings->ssl_ctx);
}

/* In the group's own memory: addresses of members are kept. */
static void fill_member(struct group_member *member, h2o_mem_pool_t *pool,
                        const struct proxy_member *from)
{
    h2o_iovec_t *host = &member->url.host;

    h2o_url_copy(pool, &member->url, &from->url);
    if (!h2o_url_host_is_unix_path(*host))
        h2o_strtolower(host->base, host->len);
    (void)proxy_target_init(&member->target, pool, &from->url); /* a socket's path is checked */
    member->weight = from->weight;
    member->is_backup = from->is_backup;
}

static void add_group(struct route *route, const struct proxy_members *members,
                      const h2o_pathconf_t *path)
{
    struct upstream_group *group = upstream_group_create(members->count);

    route->group = group;
    group->settings = &route->settings;
    group->rules = &route->rules;
    for (size_t i = 0; i < members->count; i++)
        fill_member(&group->members[i], &route->pool, &members->list[i]);
    upstream_group_finish(group);
    upstream_group_join(group, members->groups, &route->pool, members->host, path->path);
}

void proxy_register(h2o_pathconf_t *path, h2o_url_t *url, h2o_proxy_config_vars_t *vars)
{
    struct route *route =
        container_of(h2o_create_handler(path, sizeof(*route)), struct route, super);

    (void)url; /* the first of the members */
    route->super.on_req = on_request;
    route->super.on_context_init = on_context_init;
    route->super.dispose = on_dispose;
    h2o_mem_init_pool(&route->pool);
    fill_settings(&route->settings, vars);
    route->rules = extras_of_next.rules;
    add_group(route, members_of_next, path);
}

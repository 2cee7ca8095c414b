#include "fastcgi.h"

#include <string.h>

#include "fcgi_request.h"
#include "forward.h"
#include "loop.h"

struct route {
    h2o_handler_t super;
    h2o_mem_pool_t pool; /* of the target and the document root */
    struct proxy_target target;
    struct proxy_settings settings;
    struct fcgi_settings fcgi;
    h2o_fastcgi_config_vars_t vars; /* its callbacks */
};

static struct proxy_extras extras_of_next = {.buffer_bytes = PROXY_BUFFER_DEFAULT};

void fastcgi_set_extras(const struct proxy_extras *extras)
{
    extras_of_next = *extras;
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

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct route *route = container_of(handler, struct route, super);

    proxy_restore_head(req);
    forward_begin(req, upstream_of(route, req));
    return 0;
}

static void on_dispose(h2o_handler_t *handler)
{
    struct route *route = container_of(handler, struct route, super);

    /* Of `fastcgi.spawn`: ends the program. */
    if (route->vars.callbacks.dispose != NULL)
        route->vars.callbacks.dispose((h2o_fastcgi_handler_t *)handler, route->vars.callbacks.data);
    h2o_mem_clear_pool(&route->pool);
}

static uint64_t or_else(uint64_t ms, uint64_t otherwise_ms)
{
    return ms > 0 ? ms : otherwise_ms;
}

static struct route *create(h2o_pathconf_t *path, const h2o_fastcgi_config_vars_t *vars)
{
    struct route *route =
        container_of(h2o_create_handler(path, sizeof(*route)), struct route, super);
    const struct proxy_extras *extras = &extras_of_next;

    route->super.on_req = on_request;
    route->super.dispose = on_dispose;
    h2o_mem_init_pool(&route->pool);
    route->vars = *vars;
    route->fcgi = (struct fcgi_settings){.sends_delegated_uri = vars->send_delegated_uri != 0};
    if (vars->document_root.base != NULL)
        route->fcgi.document_root =
            h2o_strdup(&route->pool, vars->document_root.base, vars->document_root.len);
    route->settings = (struct proxy_settings){
        .connect_ms = or_else(extras->connect_ms, vars->io_timeout),
        .first_byte_ms = or_else(extras->first_byte_ms, vars->io_timeout),
        .io_ms = vars->io_timeout,
        .keepalive_ms = vars->keepalive_timeout,
        .buffer_bytes = extras->buffer_bytes,
        .fcgi = &route->fcgi,
    };
    return route;
}

h2o_handler_t *fastcgi_register_host(h2o_pathconf_t *path, const char *host, uint16_t port,
                                     const h2o_fastcgi_config_vars_t *vars)
{
    struct route *route = create(path, vars);

    proxy_target_init_host(&route->target, &route->pool, "fastcgi", host, port);
    return &route->super;
}

h2o_handler_t *fastcgi_register_unix(h2o_pathconf_t *path, const struct sockaddr *address,
                                     const h2o_fastcgi_config_vars_t *vars)
{
    struct route *route = create(path, vars);

    proxy_target_init_unix(&route->target, &route->pool, "fastcgi",
                           (const struct sockaddr_un *)(const void *)address);
    return &route->super;
}

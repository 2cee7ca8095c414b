#include "fastcgi.h"

#include <string.h>

#include "errand.h"
#include "fcgi_request.h"
#include "loop.h"

struct route {
    h2o_handler_t super;
    h2o_mem_pool_t pool; /* of names, targets and the document root */
    struct upstream_group *group;
    struct proxy_settings settings;
    struct fcgi_settings fcgi;
    struct group_rules rules;
    h2o_fastcgi_config_vars_t vars; /* its callbacks */
};

static struct proxy_extras extras_of_next = {.buffer_bytes = PROXY_BUFFER_DEFAULT};

/* libh2o registers one application at a time, and we have all of them. */
static struct {
    const struct proxy_members *members;
    struct route *route;
    size_t count; /* that are registered */
} next;

void fastcgi_set_extras(const struct proxy_extras *extras)
{
    extras_of_next = *extras;
}

void fastcgi_set_members(const struct proxy_members *members)
{
    next.members = members;
    next.route = NULL;
    next.count = 0;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct errand_overrides *overrides = h2o_mem_alloc_pool(&req->pool, sizeof(*overrides));

    memset(overrides, 0, sizeof(*overrides));
    overrides->view = h2o_context_get_handler_context(req->conn->ctx, handler);
    req->overrides = &overrides->super;
    proxy_restore_head(req);
    errand_begin(req);
    return 0;
}

/* The route on a loop. */
static void on_context_init(h2o_handler_t *handler, h2o_context_t *ctx)
{
    struct route *route = container_of(handler, struct route, super);
    struct proxy_loop *proxy = proxy_loop(container_of(ctx, struct loop, ctx));

    h2o_context_set_handler_context(ctx, handler,
                                    upstream_view_create(route->group, proxy, &errand_owner));
}

static void on_dispose(h2o_handler_t *handler)
{
    struct route *route = container_of(handler, struct route, super);

    /* Of `fastcgi.spawn`: ends the program. */
    if (route->vars.callbacks.dispose != NULL)
        route->vars.callbacks.dispose((h2o_fastcgi_handler_t *)handler, route->vars.callbacks.data);
    upstream_group_destroy(route->group);
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
    route->super.on_context_init = on_context_init;
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
    route->rules = extras->rules;
    route->group = upstream_group_create(next.members->count);
    route->group->settings = &route->settings;
    route->group->rules = &route->rules;
    return route;
}

/* The next member of the route; the first one makes it. */
static struct proxy_target *begin_member(h2o_pathconf_t *path,
                                         const h2o_fastcgi_config_vars_t *vars)
{
    if (next.count == 0)
        next.route = create(path, vars);
    struct group_member *member = &next.route->group->members[next.count];
    member->weight = next.members->list[next.count].weight;
    member->is_backup = next.members->list[next.count].is_backup;
    return &member->target;
}

static h2o_handler_t *end_member(const h2o_pathconf_t *path)
{
    struct route *route = next.route;
    bool is_for_scripts = path->path.base == NULL; /* of file.custom-handler */
    h2o_iovec_t name = is_for_scripts ? h2o_iovec_init(H2O_STRLIT("(scripts)")) : path->path;

    if (++next.count == next.members->count) {
        upstream_group_finish(route->group);
        upstream_group_join(route->group, next.members->groups, &route->pool, next.members->host,
                            name);
    }
    return &route->super;
}

bool fastcgi_is_member_new(void)
{
    if (next.route == NULL) /* without the mends: the library has made a handler of its own */
        return true;
    const struct group_member *members = next.route->group->members;

    for (size_t i = 0; i + 1 < next.count; i++)
        if (strcmp(members[i].target.name, members[next.count - 1].target.name) == 0)
            return false;
    return true;
}

h2o_handler_t *fastcgi_register_host(h2o_pathconf_t *path, const char *host, uint16_t port,
                                     const h2o_fastcgi_config_vars_t *vars)
{
    struct proxy_target *target = begin_member(path, vars);

    proxy_target_init_host(target, &next.route->pool, "fastcgi", host, port);
    return end_member(path);
}

h2o_handler_t *fastcgi_register_unix(h2o_pathconf_t *path, const struct sockaddr *address,
                                     const h2o_fastcgi_config_vars_t *vars)
{
    struct proxy_target *target = begin_member(path, vars);

    proxy_target_init_unix(target, &next.route->pool, "fastcgi",
                           (const struct sockaddr_un *)(const void *)address);
    return end_member(path);
}

#include "pool_route.h"

#include <stdlib.h>

struct pool_route {
    h2o_handler_t super;
    exchange_handler handler;
    bool is_root_only;
    enum place_mode mode;
};

/* A route on one loop: its estimate stands in a cache line of its own. */
struct pool_place {
    _Alignas(64) struct place place;
    _Alignas(64) struct job_call call;
};

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    const struct pool_route *route = (const void *)self;
    const struct pool_place *place = h2o_context_get_handler_context(req->conn->ctx, self);
    bool is_root = h2o_memis(req->path_normalized.base, req->path_normalized.len, H2O_STRLIT("/"));

    if (route->is_root_only && req->pathconf->path.len <= 1 && !is_root)
        return -1;
    return job_submit(req, &place->call);
}

static void on_context_init(h2o_handler_t *self, h2o_context_t *ctx)
{
    const struct pool_route *route = (const void *)self;
    struct pool_place *place = aligned_alloc(_Alignof(struct pool_place), sizeof(*place));

    if (place == NULL)
        h2o_fatal("no memory");
    place_init(&place->place, route->mode);
    place->call = (struct job_call){.handler = route->handler, .place = &place->place};
    h2o_context_set_handler_context(ctx, self, place);
}

static void on_context_dispose(h2o_handler_t *self, h2o_context_t *ctx)
{
    free(h2o_context_get_handler_context(ctx, self));
}

void pool_route_register(h2o_pathconf_t *path, exchange_handler handler, bool is_root_only)
{
    struct pool_route *route = (void *)h2o_create_handler(path, sizeof(*route));

    route->super.on_context_init = on_context_init;
    route->super.on_context_dispose = on_context_dispose;
    route->super.on_req = on_req;
    route->handler = handler;
    route->is_root_only = is_root_only;
}

bool pool_route_place(h2o_pathconf_t *path, enum place_mode mode)
{
    bool any = false;

    for (size_t i = 0; i < path->handlers.size; i++)
        if (path->handlers.entries[i]->on_req == on_req) {
            ((struct pool_route *)(void *)path->handlers.entries[i])->mode = mode;
            any = true;
        }
    return any;
}

#include "user_route.h"

#include <stdlib.h>

#include "clock.h"
#include "gate.h"
#include "loop.h"
#include "user_place.h"

/* One route of a user on one path of the configuration. */

struct user_handler {
    h2o_handler_t super;
    const struct user_route *route;
};

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    const struct user_place *place = h2o_context_get_handler_context(req->conn->ctx, self);
    return job_submit(req, &place->call);
}

static void on_context_init(h2o_handler_t *self, h2o_context_t *ctx)
{
    const struct user_handler *handler = (const void *)self;
    struct user_place *place = user_place_create(handler->route, ctx);

    if (place == NULL)
        h2o_fatal("no memory");
    h2o_context_set_handler_context(ctx, self, place);
}

static void on_context_dispose(h2o_handler_t *self, h2o_context_t *ctx)
{
    user_place_destroy(h2o_context_get_handler_context(ctx, self));
}

void user_route_register(h2o_pathconf_t *path, const struct user_route *route)
{
    struct user_handler *handler = (void *)h2o_create_handler(path, sizeof(*handler));

    handler->super.on_context_init = on_context_init;
    handler->super.on_context_dispose = on_context_dispose;
    handler->super.on_req = on_req;
    handler->route = route;
    gate_note_kind(path, ROUTE_POOL);
}

#include <stdlib.h>

#include "gate.h"
#include "loop.h"
#include "mux.h"
#include "server_state.h"
#include "user_place.h"

/* The routes of a program: the last handler of every path, and so the answer to what nothing in
 * the configuration takes. It finds the route, and the route's place on this loop. */

/* The places of a loop, found by their route: a table with open addressing, at most half full. */
struct place_table {
    struct place_slot {
        const struct user_route *route; /* NULL: free */
        struct user_place *place;
    } * slots;
    size_t size; /* a power of two, or 0 */
    size_t used;
    unsigned paths; /* that use it */
};

struct user_mux {
    h2o_handler_t super;
    const struct mux *mux;
};

/* ---- places ---- */

static size_t slot_of(const struct place_table *table, const struct user_route *route)
{
    size_t at = (size_t)((uintptr_t)route * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (table->size - 1);

    while (table->slots[at].route != NULL && table->slots[at].route != route)
        at = (at + 1) & (table->size - 1);
    return at;
}

static bool grow(struct place_table *table)
{
    struct place_table wide = {.size = table->size == 0 ? 16 : table->size * 2,
                               .used = table->used,
                               .paths = table->paths};

    wide.slots = calloc(wide.size, sizeof(*wide.slots));
    if (wide.slots == NULL)
        return false;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].route != NULL)
            wide.slots[slot_of(&wide, table->slots[i].route)] = table->slots[i];
    free(table->slots);
    *table = wide;
    return true;
}

/* A route's place is made at its first request. NULL: no memory. */
static struct user_place *place_of(struct place_table *table, const struct user_route *route,
                                   h2o_context_t *ctx)
{
    if (table->used * 2 >= table->size && !grow(table))
        return NULL;
    struct place_slot *slot = &table->slots[slot_of(table, route)];
    if (slot->route == NULL) {
        struct user_place *place = user_place_create(route, ctx);
        if (place == NULL)
            return NULL;
        *slot = (struct place_slot){.route = route, .place = place};
        table->used++;
    }
    return slot->place;
}

static void free_table(struct place_table *table)
{
    for (size_t i = 0; i < table->size; i++)
        user_place_destroy(table->slots[i].place);
    free(table->slots);
    free(table);
}

/* ---- a request ---- */

static int refuse_method(h2o_req_t *req, const char *allow)
{
    h2o_iovec_t value = h2o_strdup(&req->pool, allow, SIZE_MAX);

    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("allow"), 0, NULL, value.base,
                          value.len);
    h2o_send_error_generic(req, 405, "Method Not Allowed", "method not allowed\n",
                           H2O_SEND_ERROR_KEEP_HEADERS);
    return 0;
}

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    const struct user_mux *user = (const void *)self;
    struct place_table *table = h2o_context_get_handler_context(req->conn->ctx, self);
    size_t bytes = req->query_at != SIZE_MAX ? req->query_at : req->path.len;
    char *path = h2o_mem_alloc_pool(&req->pool, bytes + 1);
    struct mux_match match;

    bytes = mux_clean_path(req->path.base, bytes, path);
    mux_find(user->mux, req->method.base, req->method.len, path, bytes, &match);
    if (match.value == NULL)
        return match.allow[0] != '\0' ? refuse_method(req, match.allow) : -1;
    struct user_place *place = place_of(table, match.value, req->conn->ctx);
    if (place == NULL) {
        h2o_send_error_503(req, "Service Unavailable", "no memory\n", 0);
        return 0;
    }
    return job_submit(req, &place->call);
}

/* ---- life ---- */

/* All paths of a loop share one table. */
static void on_context_init(h2o_handler_t *self, h2o_context_t *ctx)
{
    struct loop *loop = container_of(ctx, struct loop, ctx);

    if (loop->user_places == NULL) {
        loop->user_places = h2o_mem_alloc(sizeof(*loop->user_places));
        *loop->user_places = (struct place_table){.slots = NULL};
    }
    loop->user_places->paths++;
    h2o_context_set_handler_context(ctx, self, loop->user_places);
}

static void on_context_dispose(h2o_handler_t *self, h2o_context_t *ctx)
{
    struct loop *loop = container_of(ctx, struct loop, ctx);

    (void)self;
    if (--loop->user_places->paths > 0)
        return;
    free_table(loop->user_places);
    loop->user_places = NULL;
}

static void put_last(h2o_pathconf_t *path, const struct mux *mux)
{
    struct user_mux *user = (void *)h2o_create_handler(path, sizeof(*user));

    user->super.on_context_init = on_context_init;
    user->super.on_context_dispose = on_context_dispose;
    user->super.on_req = on_req;
    user->mux = mux;
}

void user_route_serve(struct server *server, const struct mux *mux)
{
    for (h2o_hostconf_t **host = server->globalconf.hosts; *host != NULL; host++) {
        for (size_t i = 0; i < (*host)->paths.size; i++)
            put_last(&(*host)->paths.entries[i], mux);
        put_last(&(*host)->fallback_path, mux);
        gate_note_kind(&(*host)->fallback_path, ROUTE_POOL);
    }
}

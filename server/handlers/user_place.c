#include "user_place.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loop.h"
#include "server_state.h"
#include "turns.h"

/* ---- what the loops share of a route ---- */

struct route_turns {
    struct route_turns *next;
    const struct user_route *route;
    struct turns *turns;
};

static struct turns *find_locked(const struct server *server, const struct user_route *route)
{
    for (const struct route_turns *at = server->route_turns; at != NULL; at = at->next)
        if (at->route == route)
            return at->turns;
    return NULL;
}

/* NULL: no memory. */
static struct turns *add_locked(struct server *server, const struct user_route *route)
{
    uint64_t most = route->max_waiting > 0 ? route->max_waiting : server->config.queue;
    struct route_turns *added = malloc(sizeof(*added));

    if (added == NULL)
        return NULL;
    *added = (struct route_turns){.next = server->route_turns,
                                  .route = route,
                                  .turns = turns_create(route->max_running, most)};
    if (added->turns == NULL) {
        free(added);
        return NULL;
    }
    server->route_turns = added;
    return added->turns;
}

static struct turns *turns_of(struct server *server, const struct user_route *route)
{
    (void)pthread_mutex_lock(&server->mu);
    struct turns *turns = find_locked(server, route);
    if (turns == NULL)
        turns = add_locked(server, route);
    (void)pthread_mutex_unlock(&server->mu);
    return turns;
}

void user_places_release(struct server *server)
{
    for (struct route_turns *at = server->route_turns, *next; at != NULL; at = next) {
        next = at->next;
        turns_destroy(at->turns);
        free(at);
    }
    server->route_turns = NULL;
}

/* ---- a place ---- */

static void set_limits(struct user_place *place, const struct user_route *route)
{
    if (route->max_body > 0)
        place->call.max_body = (uint64_t)route->max_body;
    if (route->timeout_ms > 0) {
        h2o_timeout_init(place->loop, &place->limit, (uint64_t)route->timeout_ms);
        place->call.limit = &place->limit;
        place->call.limit_ns = (uint64_t)route->timeout_ms * NS_PER_MS;
    }
}

struct user_place *user_place_create(const struct user_route *route, h2o_context_t *ctx)
{
    struct user_place *place = aligned_alloc(_Alignof(struct user_place), sizeof(*place));

    if (place == NULL)
        return NULL;
    memset(place, 0, sizeof(*place));
    place->loop = ctx->loop;
    place_init(&place->place, PLACE_AUTO);
    place->call = (struct job_call){.handler = route->handler,
                                    .user = route->user,
                                    .place = &place->place,
                                    .is_user = true,
                                    .on_loop = route->on_loop,
                                    .is_recorded = route->is_recorded};
    if (route->max_running > 0) {
        place->call.turns = turns_of(container_of(ctx, struct loop, ctx)->server, route);
        if (place->call.turns == NULL) {
            free(place);
            return NULL;
        }
    }
    set_limits(place, route);
    return place;
}

void user_place_destroy(struct user_place *place)
{
    if (place == NULL)
        return;
    if (place->call.limit != NULL)
        h2o_timeout_dispose(place->loop, &place->limit);
    free(place);
}

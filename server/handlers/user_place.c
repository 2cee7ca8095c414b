#include "user_place.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

struct user_place *user_place_create(const struct user_route *route, h2o_loop_t *loop)
{
    struct user_place *place = aligned_alloc(_Alignof(struct user_place), sizeof(*place));

    if (place == NULL)
        return NULL;
    memset(place, 0, sizeof(*place));
    place->loop = loop;
    place_init(&place->place, PLACE_AUTO);
    place->call = (struct job_call){.handler = route->handler,
                                    .user = route->user,
                                    .place = &place->place,
                                    .is_user = true,
                                    .on_loop = route->on_loop,
                                    .is_recorded = route->is_recorded};
    if (route->max_body > 0)
        place->call.max_body = (uint64_t)route->max_body;
    if (route->timeout_ms > 0) {
        h2o_timeout_init(loop, &place->limit, (uint64_t)route->timeout_ms);
        place->call.limit = &place->limit;
        place->call.limit_ns = (uint64_t)route->timeout_ms * NS_PER_MS;
    }
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

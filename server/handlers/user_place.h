#ifndef LASTCALL_USER_PLACE_H
#define LASTCALL_USER_PLACE_H

/* A user's route on one loop. */

#include "h2o_api.h"
#include "job.h"
#include "place.h"
#include "user_route.h"

struct user_place {
    /* In a cache line of its own: workers write here. */
    _Alignas(64) struct place place;
    _Alignas(64) struct job_call call;
    h2o_loop_t *loop;
    h2o_timeout_t limit; /* if the route has a time limit */
};

/* NULL: no memory.     Thread: owner loop only, for both. */
struct user_place *user_place_create(const struct user_route *route, h2o_context_t *ctx);
/* No job of it is left. NULL is allowed. */
void user_place_destroy(struct user_place *place);

/* Free what the places of a route share.     Thread: main only, when all places are gone. */
void user_places_release(struct server *server);

#endif

#ifndef LASTCALL_ERRAND_H
#define LASTCALL_ERRAND_H

/* One request on its way through a group of upstreams: it goes to one, on to the next if no
 * connection comes about, and waits or gets 503 if none is up.
 *
 * Thread: owner loop only, for all of these.     Blocks: never. */

#include "upstream_group.h"

struct errand {
    struct upstream_view *view;
    h2o_req_t *req;
    h2o_linklist_t link; /* view->waiting.errands */
    struct group_wish wish;
    uint64_t waits_until_ns; /* loop_patient_ns(); 0: it has not waited yet */
    health_trial trial;      /* of `tried`; HEALTH_NO_TRIAL: none */
    size_t tried;            /* the member that it tries */
    bool was_sent_again;
    bool is_watched; /* watch_end() was called */
};

/* The overrides of every request of a route. */
struct errand_overrides {
    h2o_req_overrides_t super;
    struct upstream_view *view;
    struct errand errand;
};

/* What a view is to be made with. */
extern const struct upstream_owner errand_owner;

/* Begin, or begin again: `req` has errand_overrides. It is answered. */
void errand_begin(h2o_req_t *req);

#endif

#include "request_p.h"

/* Time, and requests that are cut. */

int lc_cancelled(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    return lc_result_of(request->exchange->ops->cancelled(request->exchange));
}

int64_t lc_time_left(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->ops->time_left(request->exchange) : LC_E_THREAD;
}

static int wait_for(const struct lc_request *request, int64_t ms, bool also_drain)
{
    struct exchange *exchange = request->exchange;

    if (ms < -1)
        return LC_E_ARG;
    /* A loop must not sleep; to ask costs nothing. */
    if (ms != 0 && request->route->user_route.on_loop && !request->is_taken)
        return LC_E_STATE;
    return lc_result_of(exchange->ops->wait(exchange, ms > LC_LONGEST_MS ? -1 : ms, also_drain));
}

int lc_sleep(lc_req *req, int64_t ms)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? wait_for(request, ms, false) : LC_E_THREAD;
}

int lc_wait_for(lc_req *req, int64_t ms, unsigned also)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if ((also & ~LC_ON_DRAIN) != 0)
        return LC_E_ARG;
    return wait_for(request, ms, (also & LC_ON_DRAIN) != 0);
}

int lc_cancel_fd(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->ops->cancel_fd(request->exchange) : LC_E_THREAD;
}

int lc_on_cancel(lc_req *req, void (*cancel)(void *arg), void *arg)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    int err = request->exchange->ops->on_cancel(request->exchange, cancel, arg);
    request->can_cancel = cancel != NULL && err == 0;
    return lc_result_of(err);
}

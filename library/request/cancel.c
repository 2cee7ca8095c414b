#include "request_p.h"

#include "thread.h"

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

static NOT_LOOKED_INTO void call_cancel(void *arg)
{
    const struct lc_request *request = arg;
    struct lc_called called;

    lc_called_begin(&called, request->route->routes->server,
                    "the function of lc_on_cancel() of route", request->route->pattern);
    LC_NOTHING_PASSES();
    request->cancel.call(request->cancel.arg);
    lc_called_end(&called);
}

void lc_forget_cancel(struct lc_request *request)
{
    if (request->can_cancel)
        (void)request->exchange->ops->on_cancel(request->exchange, NULL, NULL);
    request->can_cancel = false;
}

int lc_on_cancel(lc_req *req, void (*cancel)(void *arg), void *arg)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    lc_forget_cancel(request); /* so nobody reads what is written here */
    if (cancel == NULL)
        return LC_OK;
    request->cancel.call = cancel;
    request->cancel.arg = arg;
    int err = request->exchange->ops->on_cancel(request->exchange, call_cancel, request);
    request->can_cancel = err == 0;
    return lc_result_of(err);
}

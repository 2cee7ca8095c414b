#include "request_p.h"

#include <errno.h>

#include "log.h"
#include "thread.h"

/* Requests that are answered later, by whichever thread holds them then. */

struct lc_kept_callback {
    const struct lc_route *route;
    void (*told)(lc_server *server, lc_token token, int what, void *user);
    void *user;
};

lc_token lc_keep(lc_req *req)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL || request->failed != 0 || request->answered == LC_WHOLE)
        return 0;
    if (!request->kept) {
        request->token = request->exchange->ops->keep(request->exchange);
        request->kept = request->token != 0;
    }
    return request->token;
}

int lc_hold(lc_server *server, lc_token token, lc_req **req)
{
    struct exchange *exchange;

    if (server == NULL || req == NULL)
        return LC_E_ARG;
    struct server *running = lc_running_server(server);
    if (running == NULL)
        return LC_E_STATE;
    int err = exchange_hold(running, token, &exchange);
    if (err != 0)
        return err == -EBUSY ? LC_E_BUSY : lc_result_of(err);
    struct lc_request *request = exchange->front;
    request->is_taken = true;
    *req = lc_take(request);
    return 0;
}

static bool is_taken(const struct lc_request *request, atomic_bool *said, const char *function)
{
    if (request->is_taken)
        return true;
    if (!atomic_exchange_explicit(said, true, memory_order_relaxed))
        log_line(LOG_LEVEL_ERROR, "not-kept", NULL,
                 "%s(): the handler of this request has not returned: only lc_hold() gives a "
                 "request that can be let go or finished (lastcall says this once)",
                 function);
    return false;
}

void lc_let_go(lc_req *req)
{
    static atomic_bool said;
    struct lc_request *request = LC_HELD(req);

    if (request == NULL || !is_taken(request, &said, __func__))
        return;
    lc_forget_cancel(request);
    lc_drop(request); /* before another thread can hold it */
    exchange_let_go(request->exchange);
}

int lc_finish(lc_req *req)
{
    static atomic_bool said;
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (!is_taken(request, &said, __func__))
        return LC_E_STATE;
    lc_forget_cancel(request);
    lc_complete(request);
    lc_drop(request);
    exchange_finish(request->exchange);
    return 0;
}

static NOT_LOOKED_INTO void tell(uint64_t token, int what, void *arg)
{
    const struct lc_kept_callback *callback = arg;
    lc_server *server = callback->route->routes->server;
    struct lc_called called;

    lc_called_begin(&called, server, "the function of lc_on_kept() of route",
                    callback->route->pattern);
    LC_NOTHING_PASSES();
    callback->told(server, token, lc_result_of(what), callback->user);
    lc_called_end(&called);
}

int lc_on_kept(lc_req *req, void (*told)(lc_server *server, lc_token token, int what, void *user),
               void *user)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (!request->kept)
        return LC_E_STATE;
    if (told == NULL) {
        exchange_on_kept(request->exchange, NULL, NULL);
        return 0;
    }
    struct lc_kept_callback *callback =
        request->exchange->ops->alloc(request->exchange, sizeof(*callback));
    if (callback == NULL)
        return -ENOMEM;
    *callback = (struct lc_kept_callback){request->route, told, user};
    exchange_on_kept(request->exchange, tell, callback);
    return 0;
}

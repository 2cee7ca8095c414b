#include "request_p.h"

#include <jansson.h>
#include <stdlib.h>

#include "log.h"
#include "thread.h"

/* A handler is called, and what it leaves behind is made an answer. */

static json_t *fields_of(const struct lc_request *request)
{
    return json_pack("{s:o, s:o}", "method", log_json_text(request->exchange->method), "path",
                     log_json_text(request->exchange->path));
}

static void complain(const struct lc_request *request, const char *event, const char *what)
{
    log_line(LOG_LEVEL_ERROR, event, fields_of(request), "%s %.200s (route %.100s): %s",
             request->exchange->method, request->exchange->path, request->route->pattern, what);
}

static void complete_nothing(struct lc_request *request)
{
    const struct exchange *exchange = request->exchange;

    if (exchange->ops->cancelled(request->exchange) != 0)
        lc_answer_page(request, 503); /* nobody waits for it: no line */
    else if (request->failed != 0) {
        complain(request, "answer-failed", lc_strerror(request->failed));
        lc_answer_page(request, 500);
    } else if (request->page != 0) {
        lc_answer_page(request, request->page);
    } else {
        complain(request, "no-answer",
                 exchange->answer_fields != NULL || exchange->status != 200
                     ? "the handler has set a status or a header, and sent nothing; lc_send() does"
                     : "the handler has returned without an answer");
        lc_answer_page(request, 500);
    }
}

static void complete_stream(struct lc_request *request)
{
    struct exchange *exchange = request->exchange;
    bool is_short = exchange->length >= 0 && request->written < (uint64_t)exchange->length;

    if (exchange->length >= 0 && !is_short) /* the client has all that was announced */
        return;
    if (is_short && request->failed == 0)
        complain(request, "short-answer", "fewer bytes were written than lc_length() announced");
    if (is_short || request->failed != 0)
        exchange->broken = true;
}

/* A header was refused after the answer was made, by a middleware after lc_next(). */
static void complete_spoiled(struct lc_request *request)
{
    complain(request, "answer-failed", lc_strerror(request->failed));
    lc_drop_content(request);
    lc_answer_page(request, 500);
}

void lc_complete(struct lc_request *request)
{
    if (request->answered == LC_NOT_ANSWERED)
        complete_nothing(request);
    else if (request->answered == LC_WHOLE && request->failed != 0)
        complete_spoiled(request);
    else if (request->answered == LC_STREAM)
        complete_stream(request);
}

/* ---- the chain ---- */

static NOT_LOOKED_INTO void call(const struct lc_request *request, const char *what,
                                 const char *name, lc_handler handler, void *user)
{
    struct lc_called called;

    lc_called_begin(&called, request->route->routes->server, what, name);
    LC_NOTHING_PASSES();
    handler((lc_req *)request->handle, user);
    lc_called_end(&called);
}

static void call_next(struct lc_request *request)
{
    while (request->middleware != NULL) {
        const struct lc_middleware *middleware = request->middleware;
        request->middleware = middleware->next;
        if (lc_clean(request) &&
            mux_is_under(middleware->prefix, request->clean, request->clean_bytes)) {
            call(request, "the middleware of", middleware->prefix, middleware->handler,
                 middleware->user);
            /* It has passed the request on, or has kept it back: nobody further out may pass it on
             * again, past this one. */
            request->middleware = NULL;
            request->was_called = true;
            return;
        }
        if (request->clean == NULL) { /* it may be one that keeps others out */
            (void)lc_answer_failed(request, -ENOMEM);
            return;
        }
    }
    if (request->was_called)
        return;
    request->was_called = true;
    call(request, "the handler of route", request->route->pattern, request->route->handler,
         request->route->user);
}

void lc_next(lc_req *req)
{
    struct lc_request *request = LC_HELD(req);

    if (request != NULL && !request->is_taken)
        call_next(request);
}

void lc_run_route(struct exchange *exchange, void *user)
{
    struct lc_route *route = user;
    struct lc_request *request = exchange->ops->alloc(exchange, sizeof(*request));

    if (request == NULL) {
        log_line(LOG_LEVEL_ERROR, "no-memory", NULL, "%s %.200s: no memory for the request",
                 exchange->method, exchange->path);
        exchange->status = 500;
        return;
    }
    *request = (struct lc_request){.exchange = exchange,
                                   .route = route,
                                   .middleware = route->routes->middleware,
                                   .part_result = 1};
    exchange->front = request;
    (void)lc_take(request);
    struct lc_own *own = route->routes->own;
    if (own != NULL && !route->user_route.on_loop && lc_own_of_thread(own, true) == NULL) {
        complain(request, "worker-not-ready", "lc_each_worker()'s begin has returned NULL");
        lc_answer_page(request, 503);
    } else {
        call_next(request);
    }
    lc_forget_cancel(request); /* it may use what the handler had on its stack */
    if (!request->kept)
        lc_complete(request);
    lc_drop(request);
}

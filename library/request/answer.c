#include "request_p.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "reason.h"
#include "thread.h"

/* Whole answers: text, bytes, redirects, pages. */

static void say_twice(struct lc_request *request)
{
    if (!atomic_exchange_explicit(&request->route->said_twice, true, memory_order_relaxed))
        log_line(LOG_LEVEL_WARN, "answered-twice", NULL,
                 "%s %.200s (route %.100s): the handler has answered twice; the first answer "
                 "stands (lastcall says this once for each route)",
                 request->exchange->method, request->exchange->path, request->route->pattern);
}

bool lc_is_without_content(int status)
{
    return status == 204 || status == 205 || status == 304;
}

int lc_begin_answer(struct lc_request *request, int status, const char *type, bool has_content)
{
    if (request->failed != 0)
        return request->failed;
    if (request->answered != LC_NOT_ANSWERED) {
        say_twice(request);
        return LC_E_TWICE;
    }
    if (status < 200 || status > 599 || (has_content && lc_is_without_content(status)) ||
        (type != NULL && !lc_is_field_value(type)))
        return lc_answer_failed(request, LC_E_ARG);
    int err = type != NULL ? lc_put_field(request, "content-type", type, false) : 0;
    if (err != 0)
        return lc_answer_failed(request, err);
    request->exchange->status = status;
    request->exchange->length = -1;
    return 0;
}

static int send_copy(struct lc_request *request, int status, const char *type, const void *bytes,
                     size_t count)
{
    if (bytes == NULL && count > 0)
        return lc_answer_failed(request, LC_E_ARG);
    int err = lc_begin_answer(request, status, type, count > 0);
    if (err != 0)
        return err;
    struct exchange *exchange = request->exchange;
    char *text = exchange->scratch;
    if (count > EXCHANGE_SCRATCH) {
        text = malloc(count);
        if (text == NULL)
            return lc_answer_failed(request, -ENOMEM);
    }
    if (count > 0)
        memcpy(text, bytes, count);
    exchange->text = text;
    exchange->text_bytes = count;
    request->answered = LC_WHOLE;
    return 0;
}

int lc_send_bytes(lc_req *req, int status, const char *type, const void *bytes, size_t count)
{
    struct lc_request *request = LC_HELD(req);

    return request == NULL ? LC_E_THREAD : send_copy(request, status, type, bytes, count);
}

int lc_send(lc_req *req, int status, const char *type, const char *text)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    return send_copy(request, status, type, text, text != NULL ? strlen(text) : 0);
}

int lc_sendf(lc_req *req, int status, const char *type, const char *format, ...)
{
    struct lc_request *request = LC_HELD(req);
    char small[EXCHANGE_SCRATCH], *large = NULL;
    va_list args;

    if (request == NULL)
        return LC_E_THREAD;
    if (format == NULL)
        return lc_answer_failed(request, LC_E_ARG);
    va_start(args, format);
    int n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(small))
        return send_copy(request, status, type, small, (size_t)n);
    if (n >= 0) {
        va_start(args, format);
        n = vasprintf(&large, format, args);
        va_end(args);
    }
    if (n < 0)
        return lc_answer_failed(request, errno == ENOMEM ? -ENOMEM : LC_E_ARG);
    int err = lc_begin_answer(request, status, type, true);
    if (err != 0) {
        free(large);
        return err;
    }
    request->exchange->text = large;
    request->exchange->text_bytes = (size_t)n;
    request->answered = LC_WHOLE;
    return 0;
}

/* ---- bytes that are taken over ---- */

struct owned {
    const struct lc_route *route; /* NULL: no request */
    void (*free_it)(void *owner);
    void *owner;
};

static NOT_LOOKED_INTO void call_free(const struct owned *owned)
{
    const struct lc_route *route = owned->route;
    struct lc_called called;

    lc_called_begin(&called, route != NULL ? route->routes->server : NULL,
                    route != NULL ? "the function of lc_send_owned() of route" : "the function of",
                    route != NULL ? route->pattern : "lc_send_owned()");
    LC_NOTHING_PASSES();
    owned->free_it(owned->owner);
    lc_called_end(&called);
}

/* exchange.free_text */
static void free_owned(void *arg)
{
    struct owned *owned = arg;

    call_free(owned);
    free(owned);
}

static int send_owned(struct lc_request *request, int status, const char *type, const void *bytes,
                      size_t count, const struct owned *owned)
{
    if ((bytes == NULL && count > 0) || owned->free_it == NULL)
        return lc_answer_failed(request, LC_E_ARG);
    int err = lc_begin_answer(request, status, type, count > 0);
    if (err != 0)
        return err;
    struct owned *kept = malloc(sizeof(*kept)); /* it may live longer than the request */
    if (kept == NULL)
        return lc_answer_failed(request, -ENOMEM);
    *kept = *owned;
    request->exchange->text = (char *)(uintptr_t)bytes; /* nothing writes there */
    request->exchange->text_bytes = count;
    request->exchange->free_text = free_owned;
    request->exchange->text_owner = kept;
    request->answered = LC_WHOLE;
    return 0;
}

int lc_send_owned(lc_req *req, int status, const char *type, const void *bytes, size_t count,
                  void (*free_it)(void *owner), void *owner)
{
    struct lc_request *request = LC_HELD(req);
    const struct owned owned = {request != NULL ? request->route : NULL, free_it, owner};
    bool is_empty = bytes == NULL && count == 0;
    int err = LC_E_THREAD;

    if (request != NULL)
        err = is_empty ? send_copy(request, status, type, NULL, 0)
                       : send_owned(request, status, type, bytes, count, &owned);
    if ((err != 0 || is_empty) && free_it != NULL)
        call_free(&owned);
    return err;
}

/* ---- pages ---- */

void lc_drop_content(struct lc_request *request)
{
    struct exchange *exchange = request->exchange;

    if (exchange->free_text != NULL)
        exchange->free_text(exchange->text_owner);
    else if (exchange->text != exchange->scratch)
        free(exchange->text);
    if (exchange->file_fd >= 0)
        (void)close(exchange->file_fd);
    exchange->free_text = NULL;
    exchange->text = NULL;
    exchange->text_bytes = 0;
    exchange->file_fd = -1;
    request->answered = LC_NOT_ANSWERED;
}

static void write_page(struct lc_request *request, int status)
{
    struct exchange *exchange = request->exchange;
    int n = snprintf(exchange->scratch, EXCHANGE_SCRATCH, "%d %s\n", status, reason_of(status));

    exchange->status = status;
    exchange->content_type = "text/plain; charset=utf-8";
    exchange->length = -1;
    exchange->text = exchange->scratch;
    exchange->text_bytes = (size_t)n;
    request->failed = 0;
    request->answered = LC_WHOLE;
}

void lc_answer_page(struct lc_request *request, int status)
{
    /* They describe another content. What a middleware has set stays. */
    static const char *const stale[] = {
        "content-encoding", "content-disposition", "content-range", "accept-ranges", "etag",
        "last-modified",    "cache-control"};

    for (size_t i = 0; i < sizeof(stale) / sizeof(stale[0]); i++)
        lc_remove_field(request, stale[i]);
    write_page(request, status);
}

int lc_redirect(lc_req *req, int status, const char *where)
{
    struct lc_request *request = LC_HELD(req);
    bool is_status =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;

    if (request == NULL)
        return LC_E_THREAD;
    if (!is_status || where == NULL || *where == '\0' || !lc_is_field_value(where))
        return lc_answer_failed(request, LC_E_ARG);
    int err = lc_begin_answer(request, status, NULL, true);
    if (err != 0)
        return err;
    write_page(request, status);
    err = lc_put_field(request, "location", where, false);
    if (err == 0)
        return 0;
    request->answered = LC_NOT_ANSWERED;
    return lc_answer_failed(request, err);
}

int lc_fail(lc_req *req, int status, const char *for_the_log)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (status < 400 || status > 599)
        status = 500;
    const struct exchange *exchange = request->exchange;
    if (for_the_log != NULL)
        log_line(status >= 500 ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "handler-failed",
                 json_pack("{s:o, s:o, s:i}", "method", log_json_text(exchange->method), "path",
                           log_json_text(exchange->path), "status", status),
                 "%s %.200s: %d: %.1000s", exchange->method, exchange->path, status, for_the_log);
    if (request->answered == LC_NOT_ANSWERED) {
        lc_answer_page(request, status);
        return 0;
    }
    if (request->answered == LC_STREAM) /* the client must not take it for a whole one */
        (void)lc_answer_failed(request, LC_E_TWICE);
    return LC_E_TWICE;
}

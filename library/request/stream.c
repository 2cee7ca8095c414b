#include "request_p.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An answer that leaves while it is made. */

int lc_length(lc_req *req, int64_t bytes)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (request->failed != 0)
        return request->failed;
    if (request->answered != LC_NOT_ANSWERED)
        return request->answered == LC_STREAM ? LC_E_STATE : LC_E_TWICE;
    if (bytes < 0)
        return lc_answer_failed(request, LC_E_ARG);
    request->exchange->length = bytes;
    return 0;
}

/* May `count` more bytes be written? */
static int check(struct lc_request *request, const void *bytes, size_t count)
{
    const struct exchange *exchange = request->exchange;

    if (request->failed != 0)
        return request->failed;
    if (request->answered == LC_WHOLE)
        return LC_E_TWICE;
    /* A loop must not wait for a client. */
    if (request->route->user_route.on_loop && !request->is_taken)
        return LC_E_STATE;
    if ((bytes == NULL || lc_is_without_content(exchange->status)) && count > 0)
        return lc_answer_failed(request, LC_E_ARG);
    if (exchange->length >= 0 && count > (uint64_t)exchange->length - request->written)
        return lc_answer_failed(request, LC_E_LENGTH);
    return 0;
}

static int64_t most_ms(const struct lc_request *request)
{
    return request->kept ? 0 : request->route->user_route.write_timeout_ms;
}

/* These are no failures: nothing was written, and the next call may succeed. */
static bool is_harmless(int result)
{
    return result == 0 || result == EXCHANGE_AGAIN || result == -EMSGSIZE;
}

static int end_call(struct lc_request *request, int result)
{
    if (!is_harmless(result))
        return lc_answer_failed(request, lc_result_of(result));
    return lc_result_of(result);
}

static int write_all(struct lc_request *request, const void *bytes, size_t count, int64_t wait_ms)
{
    int result = check(request, bytes, count);

    if (result != 0)
        return result;
    result =
        request->exchange->ops->write(request->exchange, count > 0 ? bytes : "", count, wait_ms);
    if (result == 0 || !is_harmless(result))
        request->answered = LC_STREAM;
    if (result == 0)
        request->written += count;
    return end_call(request, result);
}

int lc_write(lc_req *req, const void *bytes, size_t count)
{
    struct lc_request *request = LC_HELD(req);

    return request == NULL ? LC_E_THREAD : write_all(request, bytes, count, most_ms(request));
}

int lc_try_write(lc_req *req, const void *bytes, size_t count)
{
    struct lc_request *request = LC_HELD(req);

    return request == NULL ? LC_E_THREAD : write_all(request, bytes, count, 0);
}

int lc_writef(lc_req *req, const char *format, ...)
{
    struct lc_request *request = LC_HELD(req);
    char small[512], *large = NULL;
    va_list args;

    if (request == NULL)
        return LC_E_THREAD;
    if (format == NULL)
        return lc_answer_failed(request, LC_E_ARG);
    va_start(args, format);
    int n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (n >= (int)sizeof(small)) {
        va_start(args, format);
        n = vasprintf(&large, format, args);
        va_end(args);
    }
    if (n < 0)
        return lc_answer_failed(request, errno == ENOMEM ? -ENOMEM : LC_E_ARG);
    int result = write_all(request, large != NULL ? large : small, (size_t)n, most_ms(request));
    free(large);
    return result;
}

int lc_flush(lc_req *req)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    int result = request->answered == LC_STREAM ? check(request, NULL, 0)
                                                : write_all(request, NULL, 0, most_ms(request));
    if (result != 0)
        return result;
    return end_call(request, request->exchange->ops->flush(request->exchange, most_ms(request)));
}

/* ---- Server-Sent Events (WHATWG HTML, section 9.2) ---- */

/* Each line of `data` (ended by LF, CR, or CRLF) as a field of its own. Returns the bytes; `to` may
 * be NULL. */
static size_t put_data(char *to, const char *data)
{
    size_t used = 0;

    for (;;) {
        size_t n = strcspn(data, "\r\n");
        if (to != NULL) {
            memcpy(to + used, "data: ", 6);
            memcpy(to + used + 6, data, n);
            to[used + 6 + n] = '\n';
        }
        used += 6 + n + 1;
        data += n;
        if (*data == '\0')
            return used;
        data += data[0] == '\r' && data[1] == '\n' ? 2 : 1;
    }
}

static int begin_events(struct lc_request *request)
{
    int err = 0;

    if (request->answered != LC_NOT_ANSWERED || request->failed != 0)
        return 0; /* write_all() says what is the matter */
    if (request->exchange->content_type == NULL)
        err = lc_put_field(request, "content-type", "text/event-stream", false);
    if (err == 0 && lc_answer_field(request, "cache-control") == NULL)
        err = lc_put_field(request, "cache-control", "no-cache", false);
    return err == 0 ? 0 : lc_answer_failed(request, err);
}

int lc_event(lc_req *req, const char *name, const char *data)
{
    struct lc_request *request = LC_HELD(req);
    char small[512], *text = small;

    if (request == NULL)
        return LC_E_THREAD;
    if (name != NULL && name[strcspn(name, "\r\n")] != '\0')
        return lc_answer_failed(request, LC_E_ARG);
    int result = begin_events(request);
    if (result != 0)
        return result;
    if (data == NULL) /* a comment: the stream lives */
        return write_all(request, ":\n\n", 3, most_ms(request));
    size_t name_bytes = name != NULL && *name != '\0' ? strlen("event: \n") + strlen(name) : 0;
    size_t bytes = name_bytes + put_data(NULL, data) + 1;
    if (bytes > sizeof(small))
        text = malloc(bytes);
    if (text == NULL)
        return lc_answer_failed(request, -ENOMEM);
    if (name_bytes > 0) {
        memcpy(text, "event: ", 7);
        memcpy(text + 7, name, name_bytes - 8);
        text[name_bytes - 1] = '\n';
    }
    size_t used = name_bytes + put_data(text + name_bytes, data);
    text[used] = '\n'; /* one piece: a client sees all of an event, or nothing */
    result = write_all(request, text, bytes, most_ms(request));
    if (text != small)
        free(text);
    return result;
}

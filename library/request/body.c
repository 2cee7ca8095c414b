#include "request_p.h"

#include <limits.h>
#include <string.h>

/* The body, which is whole before the handler is called. */

int64_t lc_body_size(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? (int64_t)request->exchange->body_bytes : LC_E_THREAD;
}

const void *lc_body(lc_req *req, size_t *bytes)
{
    const struct lc_request *request = LC_HELD(req);
    bool has_body = request != NULL && request->exchange->body_bytes > 0;

    if (bytes != NULL)
        *bytes = has_body ? request->exchange->body_bytes : 0;
    return has_body ? request->exchange->body : "";
}

ssize_t lc_read(lc_req *req, void *to, size_t room)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (to == NULL && room > 0)
        return LC_E_ARG;
    size_t left = request->exchange->body_bytes - request->body_at;
    size_t n = left < room ? left : room;
    if (n > SSIZE_MAX)
        n = SSIZE_MAX;
    if (n > 0)
        memcpy(to, request->exchange->body + request->body_at, n);
    request->body_at += n;
    return (ssize_t)n;
}

#include "fcgi_request.h"

#include <string.h>

#include "fcgi_params.h"

enum { ROLE_RESPONDER = 1, FLAG_KEEP = 1, BEGIN_BODY = 8 };

static char *put_header(char *to, enum fcgi_type type, size_t content)
{
    const unsigned char header[FCGI_RECORD_HEADER] = {1,
                                                      (unsigned char)type,
                                                      FCGI_REQUEST_ID >> 8,
                                                      FCGI_REQUEST_ID & 0xff,
                                                      (unsigned char)(content >> 8),
                                                      (unsigned char)content};

    memcpy(to, header, sizeof(header));
    return to + sizeof(header);
}

static char *put_begin(char *to, bool keep)
{
    const unsigned char body[BEGIN_BODY] = {0, ROLE_RESPONDER, keep ? FLAG_KEEP : 0};

    to = put_header(to, FCGI_TYPE_BEGIN_REQUEST, sizeof(body));
    memcpy(to, body, sizeof(body));
    return to + sizeof(body);
}

h2o_iovec_t fcgi_request_head(h2o_req_t *req, const struct fcgi_settings *settings, bool keep)
{
    h2o_iovec_t params = fcgi_params_make(req, settings);
    size_t records = (params.len + FCGI_RECORD_MAX - 1) / FCGI_RECORD_MAX;
    size_t size = BEGIN_BODY + params.len + (records + 2) * FCGI_RECORD_HEADER;
    char *bytes = h2o_mem_alloc_pool(&req->pool, size), *to = put_begin(bytes, keep);

    for (size_t at = 0; at < params.len;) {
        size_t n = params.len - at < FCGI_RECORD_MAX ? params.len - at : FCGI_RECORD_MAX;
        to = put_header(to, FCGI_TYPE_PARAMS, n);
        memcpy(to, params.base + at, n);
        to += n;
        at += n;
    }
    (void)put_header(to, FCGI_TYPE_PARAMS, 0);
    return h2o_iovec_init(bytes, size);
}

size_t fcgi_request_frame(struct fcgi_frame *frame, h2o_iovec_t body, size_t from, size_t size,
                          h2o_iovec_t *bufs)
{
    size_t count = 0, records = 0, end = from + size;

    while (from < end) {
        size_t n = end - from < FCGI_RECORD_MAX ? end - from : FCGI_RECORD_MAX;
        char *header = frame->headers[records++];
        (void)put_header(header, FCGI_TYPE_STDIN, n);
        bufs[count++] = h2o_iovec_init(header, FCGI_RECORD_HEADER);
        bufs[count++] = h2o_iovec_init(body.base + from, n);
        from += n;
    }
    if (end == body.len) {
        char *header = frame->headers[records];
        (void)put_header(header, FCGI_TYPE_STDIN, 0);
        bufs[count++] = h2o_iovec_init(header, FCGI_RECORD_HEADER);
    }
    return count;
}

#include "forward_p.h"

/* An upstream that speaks HTTP/1.1: proxied_request.c writes the head of a request, answer_reader.c
 * reads the answer. */

static void begin(struct forward *forward)
{
    h2o_req_t *req = forward->req;
    const struct proxy_settings *settings = forward->upstream->settings;
    enum proxied_connection connection = settings->keepalive_ms > 0 ? PROXIED_KEEP : PROXIED_CLOSE;

    forward->asks_for_upgrade = settings->websocket_ms > 0 && proxied_asks_for_upgrade(req);
    if (forward->asks_for_upgrade)
        connection = PROXIED_UPGRADE;
    const unsigned with = (settings->sends_proxy_line ? PROXIED_WITH_PROXY_LINE : 0) |
                          (settings->sends_forwarded ? PROXIED_WITH_FORWARDED : 0);
    forward->head = proxied_head_make(req, connection, with);
    answer_reader_init(&forward->reader,
                       h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD")) != 0,
                       forward->asks_for_upgrade);
}

static size_t frame(struct forward *forward, size_t from, size_t size, h2o_iovec_t *bufs)
{
    if (size == 0)
        return 0;
    bufs[0] = h2o_iovec_init(forward->req->entity.base + from, size);
    return 1;
}

static size_t unframe(struct forward *forward, char *bytes, size_t size)
{
    (void)forward;
    (void)bytes;
    return size;
}

static ssize_t noted(struct forward *forward, ssize_t result)
{
    forward->is_whole = forward->reader.is_whole;
    if (result >= 0)
        return result;
    forward->failure = UPSTREAM_MALFORMED;
    forward->fault = forward->reader.fault;
    return -1;
}

static ssize_t read_head(struct forward *forward, const char *bytes, size_t size,
                         struct answer_fields *ret_fields)
{
    return noted(forward, answer_reader_head(&forward->reader, bytes, size, ret_fields));
}

static ssize_t read_body(struct forward *forward, char *bytes, size_t size)
{
    return noted(forward, answer_reader_body(&forward->reader, bytes, size));
}

static bool read_end(struct forward *forward, bool in_order)
{
    return answer_reader_end(&forward->reader, in_order);
}

static bool may_keep(const struct forward *forward)
{
    const struct answer_reader *reader = &forward->reader;

    return reader->may_keep && !reader->has_excess && !forward->asks_for_upgrade;
}

const struct forward_protocol forward_http = {.name = "proxy",
                                              .follows_redirects = true,
                                              .begin = begin,
                                              .frame = frame,
                                              .unframe = unframe,
                                              .read_head = read_head,
                                              .read_body = read_body,
                                              .read_end = read_end,
                                              .may_keep = may_keep};

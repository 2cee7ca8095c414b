#include "forward_p.h"

#include <string.h>

#include "fcgi_request.h"
#include "log_limit.h"
#include "reason.h"

/* An upstream that speaks FastCGI: fcgi_request.c writes a request, fcgi_reader.c reads the answer.
 * What the application writes to FCGI_STDERR goes to the log. */

/* Lines of a request that the access log gets, too. */
#define LINES_NOTED 8

/* In the memory of the request. */
struct forward_fcgi {
    struct fcgi_reader reader;
    struct fcgi_frame frame;
    unsigned noted; /* lines */
};

static void on_line(void *data, const char *line, size_t size)
{
    static struct log_limit lines;
    struct forward *forward = data;
    const h2o_req_t *req = forward->req;
    size_t path = req->input.query_at != SIZE_MAX ? req->input.query_at : req->input.path.len;

    if (forward->fcgi->noted < LINES_NOTED) {
        forward->fcgi->noted++;
        forward_note(forward, h2o_iovec_init(line, size));
    }
    if (req->pathconf != NULL && !req->pathconf->error_log.emit_request_errors)
        return;
    log_limited(&lines, LOG_LEVEL_WARN, "fastcgi-stderr", "%s: %.*s (%.*s %.*s)",
                forward->upstream->target->name, (int)size, line,
                (int)(req->input.method.len < 32 ? req->input.method.len : 32),
                req->input.method.base, (int)(path < 256 ? path : 256), req->input.path.base);
}

static void begin(struct forward *forward)
{
    h2o_req_t *req = forward->req;
    const struct proxy_settings *settings = forward->upstream->settings;

    forward->fcgi = h2o_mem_alloc_pool(&req->pool, sizeof(*forward->fcgi));
    forward->fcgi->noted = 0;
    fcgi_reader_init(&forward->fcgi->reader,
                     h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD")) != 0, on_line,
                     forward);
    forward->head = fcgi_request_head(req, settings->fcgi, settings->keepalive_ms > 0);
}

static size_t frame(struct forward *forward, size_t from, size_t size, h2o_iovec_t *bufs)
{
    return fcgi_request_frame(&forward->fcgi->frame, forward->req->entity, from, size, bufs);
}

static size_t unframe(struct forward *forward, char *bytes, size_t size)
{
    return fcgi_reader_unframe(&forward->fcgi->reader, bytes, size);
}

static ssize_t noted(struct forward *forward, ssize_t result)
{
    static const enum upstream_failure failures[] = {
        [FCGI_NONE] = UPSTREAM_MALFORMED,        [FCGI_MALFORMED] = UPSTREAM_MALFORMED,
        [FCGI_ENDED] = UPSTREAM_ENDED,           [FCGI_CUT] = UPSTREAM_CUT,
        [FCGI_OVERLOADED] = UPSTREAM_OVERLOADED,
    };
    const struct fcgi_reader *reader = &forward->fcgi->reader;

    forward->is_whole = reader->is_whole;
    if (result >= 0)
        return result;
    forward->failure = failures[reader->failure];
    forward->fault = reader->fault;
    return -1;
}

static ssize_t read_head(struct forward *forward, const char *bytes, size_t size,
                         struct answer_fields *ret_fields)
{
    ssize_t result =
        noted(forward, fcgi_reader_head(&forward->fcgi->reader, bytes, size, ret_fields));

    if (result > 0 && ret_fields->reason_len == 0) {
        ret_fields->reason = reason_of(ret_fields->status);
        ret_fields->reason_len = strlen(ret_fields->reason);
    }
    return result;
}

/* An application that has answered before it has the request need not send FCGI_END_REQUEST before
 * it has the rest, which it may never read. Its connection is not kept, so nothing more is to come:
 * the client gets the end now. */
static bool has_answered_early(const struct forward *forward)
{
    return !forward->is_sent && fcgi_reader_end(&forward->fcgi->reader, false);
}

static ssize_t read_body(struct forward *forward, char *bytes, size_t size)
{
    (void)bytes;
    ssize_t taken = noted(forward, fcgi_reader_body(&forward->fcgi->reader, size));

    if (taken >= 0 && has_answered_early(forward))
        forward->is_whole = true;
    return taken;
}

static bool read_end(struct forward *forward, bool in_order)
{
    return fcgi_reader_end(&forward->fcgi->reader, in_order);
}

static bool may_keep(const struct forward *forward)
{
    return fcgi_reader_may_keep(&forward->fcgi->reader);
}

/* It follows no redirects: a front controller is reached by an internal redirect (`redirect`), and
 * its own redirects are for the client. */
const struct forward_protocol forward_fcgi = {.name = "fastcgi",
                                              .looks_first = true,
                                              .begin = begin,
                                              .frame = frame,
                                              .unframe = unframe,
                                              .read_head = read_head,
                                              .read_body = read_body,
                                              .read_end = read_end,
                                              .may_keep = may_keep};

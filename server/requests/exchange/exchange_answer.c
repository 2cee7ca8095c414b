#include <string.h>

#include "answer_head.h"
#include "exchange_p.h"
#include "loop.h"
#include "reason.h"
#include "request.h"

/* The head of an answer, and an answer that is whole. */

static bool is_one_of(const char *name, size_t bytes, const char *const *names)
{
    for (; *names != NULL; names++)
        if (h2o_lcstris(name, bytes, *names, strlen(*names)))
            return true;
    return false;
}

/* These describe the connection or the framing, which are the server's. */
static bool is_ours(const char *name, size_t bytes)
{
    static const char *const ours[] = {"connection",        "content-length",   "date",
                                       "keep-alive",        "proxy-connection", "server",
                                       "transfer-encoding", "upgrade",          NULL};
    return is_one_of(name, bytes, ours);
}

/* RFC 9110 sections 5.1 and 5.5. A handler must not be able to write another field or answer. */
static bool is_sound(const char *name, const char *value)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t bytes = strspn(name, token);

    return bytes > 0 && name[bytes] == '\0' && strpbrk(value, "\r\n") == NULL;
}

static void add_field(h2o_req_t *req, const char *name, const char *value)
{
    size_t bytes = strlen(name);

    if (!is_sound(name, value) || is_ours(name, bytes))
        return;
    h2o_iovec_t lower = h2o_strdup(&req->pool, name, bytes);
    h2o_strtolower(lower.base, lower.len);
    h2o_add_header_by_str(&req->pool, &req->res.headers, lower.base, lower.len, 1, name, value,
                          strlen(value));
}

void exchange_set_head(struct job *job)
{
    const struct exchange *exchange = &job->exchange;
    h2o_req_t *req = job->inflight->req;
    int status = exchange->status;

    if (status < 200 || status > 599) /* the library fails on some of these */
        status = 500;
    req->res.status = status;
    req->res.reason = reason_of(status);
    if (exchange->content_type != NULL && status != 204 && status != 304)
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                       exchange->content_type, strlen(exchange->content_type));
    for (const struct exchange_answer_field *field = exchange->answer_fields; field != NULL;
         field = field->next)
        add_field(req, field->name, field->value);
}

/* RFC 9110 section 8.6: HEAD and 304 may tell the length of the body that they leave out; 204 has
 * none. */
static size_t length_of(const struct exchange *exchange, const h2o_req_t *req)
{
    if (answer_has_body(req))
        return exchange->text_bytes;
    if (req->res.status == 204)
        return SIZE_MAX;
    if (exchange->length >= 0)
        return (size_t)exchange->length;
    /* HEAD without a body: the handler may not have made one */
    return req->res.status == 304 || exchange->text_bytes == 0 ? SIZE_MAX : exchange->text_bytes;
}

void exchange_answer(struct job *job)
{
    static h2o_generator_t generator; /* nothing to stop, nothing to continue */
    h2o_req_t *req = job->inflight->req;
    h2o_iovec_t body = {job->exchange.text, job->exchange.text_bytes};

    exchange_set_head(job);
    if (job->exchange.file_fd >= 0) {
        exchange_answer_file(job);
        return;
    }
    req->res.content_length = length_of(&job->exchange, req);
    bool has_body = answer_has_body(req) && body.len > 0;
    h2o_start_response(req, &generator);
    /* No copy: the job is freed with the request. */
    h2o_send(req, &body, has_body ? 1 : 0, H2O_SEND_STATE_FINAL);
}

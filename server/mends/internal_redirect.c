/* An invalid URL in X-Reproxy-URL.
 *
 * Fault: with `reproxy: ON` libh2o follows X-Reproxy-URL of an upstream's answer. If it cannot
 * parse the URL, it answers 502 as if no answer had begun. But the upstream's answer has begun, and
 * a request can have only one generator (h2o_start_response()): the process aborts.
 *
 * Upstream: never changed in the 2.2 series.
 *
 * Replaced: h2o_send_redirect_internal(). If an answer has begun and the URL cannot be parsed, this
 * mend stops that answer and sends 502, as libh2o does for a valid URL. It does so in the next turn
 * of the loop, because the caller is a filter of the answer that is stopped. */

#include <stdint.h>
#include <string.h>

#include "mends.h"

/* Lives in the request's memory pool. */
struct refusal {
    h2o_timeout_entry_t timer;
    h2o_req_t *req;
};

static void on_dispose(void *data)
{
    h2o_timeout_unlink(&((struct refusal *)data)->timer);
}

static void stop_answer(h2o_req_t *req)
{
    h2o_generator_t *generator = req->_generator;

    req->_generator = NULL;
    if (generator != NULL && generator->stop != NULL)
        generator->stop(generator, req);
    for (; req->_ostr_top->next != NULL; req->_ostr_top = req->_ostr_top->next)
        if (req->_ostr_top->stop != NULL)
            req->_ostr_top->stop(req->_ostr_top, req);
    req->res = (h2o_res_t){.reason = "OK", .content_length = SIZE_MAX};
    req->_next_filter_index = 0;
    req->bytes_sent = 0;
}

static void on_timer(h2o_timeout_entry_t *timer)
{
    struct refusal *refusal = H2O_STRUCT_FROM_MEMBER(struct refusal, timer, timer);
    h2o_req_t *req = refusal->req;

    stop_answer(req);
    h2o_send_error_502(req, "Gateway Error", "the upstream sent an invalid X-Reproxy-URL", 0);
}

bool internal_redirect_refuse(h2o_req_t *req, const char *url, size_t url_len)
{
    h2o_url_t parsed;

    if (req->_generator == NULL || h2o_url_parse_relative(url, url_len, &parsed) == 0)
        return false;
    struct refusal *refusal = h2o_mem_alloc_shared(&req->pool, sizeof(*refusal), on_dispose);
    memset(refusal, 0, sizeof(*refusal));
    refusal->req = req;
    refusal->timer.cb = on_timer;
    h2o_timeout_link(req->conn->ctx->loop, &req->conn->ctx->zero_timeout, &refusal->timer);
    return true;
}

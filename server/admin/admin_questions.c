#include "admin_routes.h"

#include <stdlib.h>
#include <string.h>

#include "admin_answer.h"
#include "metrics.h"
#include "page.h"

/* Questions (GET and HEAD): every client that can connect gets an answer. */

int admin_show_live(struct admin *admin, h2o_req_t *req)
{
    return server_is_moving(admin->server) ? admin_answer_text(req, 200, "live\n")
                                           : admin_answer_text(req, 503, "stalled\n");
}

int admin_show_ready(struct admin *admin, h2o_req_t *req)
{
    if (admin_is_ready(admin))
        return admin_answer_text(req, 200, "ready\n");
    bool runs = coord_get_phase(admin->coord) == PHASE_RUNNING;
    bool holds = atomic_load_explicit(&admin->server->holding, memory_order_relaxed);
    return admin_answer_text(req, 503, !runs ? "draining\n" : holds ? "starting\n" : "full\n");
}

int admin_show_unfinished(struct admin *admin, h2o_req_t *req)
{
    int err;

    if (admin->config.journal_dir == NULL)
        return admin_answer_error(req, 404, "not-found",
                                  "no requests are kept; set journal: {dir: DIR} to keep them");
    char *text = admin_unfinished_text(admin, &err);
    if (text == NULL)
        return admin_answer_error(req, 500, "unreadable", "cannot read %s: %s",
                                  admin->config.journal_dir,
                                  err != 0 ? strerrordesc_np(-err) : "no memory");
    (void)admin_answer(req, 200, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

int admin_show_status(struct admin *admin, h2o_req_t *req)
{
    char *text = admin_status_text(admin);

    if (text == NULL)
        return admin_answer_error(req, 503, "busy", "no memory");
    (void)admin_answer(req, 200, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

int admin_show_metrics(struct admin *admin, h2o_req_t *req)
{
    char *text = metrics_text(admin->server);

    if (text == NULL)
        return admin_answer_error(req, 503, "busy", "no memory");
    (void)admin_answer(req, 200, "text/plain; version=0.0.4; charset=utf-8", text, strlen(text));
    free(text);
    return 0;
}

int admin_show_events(struct admin *admin, h2o_req_t *req)
{
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));

    if (!is_head && admin->stream_count >= ADMIN_STREAMS_MAX)
        return admin_answer_error(req, 503, "busy", "%d clients watch already", ADMIN_STREAMS_MAX);
    if (is_head)
        return admin_answer(req, 200, "text/event-stream", "", 0);
    admin_begin_answer(req, 200, "text/event-stream");
    admin_events_begin(admin, req);
    return 0;
}

int admin_show_page(struct admin *admin, h2o_req_t *req)
{
    (void)admin;
    admin_add_header(req, "content-security-policy",
                     "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                     "connect-src 'self'");
    admin_add_header(req, "x-frame-options", "DENY");
    admin_add_header(req, "referrer-policy", "no-referrer");
    return admin_answer(req, 200, "text/html; charset=utf-8", (const char *)page_html,
                        page_html_bytes);
}

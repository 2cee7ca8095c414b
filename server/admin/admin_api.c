#include <stdio.h>
#include <string.h>

#include "admin_answer.h"
#include "admin_routes.h"

/* The table of paths, and the way of a request to its row. */

#define BODY_READ (64 << 10) /* libh2o refuses a longer body while it arrives */

/* ---- the table ---- */

static const struct entry {
    const char *path;
    int (*show)(struct admin *admin, h2o_req_t *req); /* GET and HEAD */
    admin_order_cb *order;                            /* POST */
} table[] = {
    {"/", admin_show_page, NULL},
    {"/livez", admin_show_live, NULL},
    {"/readyz", admin_show_ready, NULL},
    {"/status", admin_show_status, NULL},
    {"/unfinished", admin_show_unfinished, NULL},
    {"/metrics", admin_show_metrics, NULL},
    {"/events", admin_show_events, NULL},
    {"/drain", NULL, admin_order_drain},
    {"/undrain", NULL, admin_order_undrain},
    {"/restart", NULL, admin_order_restart},
    {"/log-level", NULL, admin_order_set_log_level},
};

struct handler {
    h2o_handler_t super;
    struct admin *admin;
};

/* Compare the path as it was sent, not as libh2o normalises it. */
static const struct entry *find_entry(const h2o_req_t *req)
{
    size_t n = req->query_at != SIZE_MAX ? req->query_at : req->path.len;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (h2o_memis(req->path.base, n, table[i].path, strlen(table[i].path)))
            return &table[i];
    return NULL;
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct admin *admin = container_of(self, struct handler, super)->admin;
    const struct entry *entry = find_entry(req);
    h2o_iovec_t method = req->input.method;
    bool is_get = h2o_memis(method.base, method.len, H2O_STRLIT("GET")) ||
                  h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));

    if (admin_conn_of(req)->pushed_out) /* else libh2o goes on with pipelined requests */
        req->http1_is_persistent = 0;
    else
        admin_conn_touch(admin_conn_of(req));
    admin_conn_owes(admin_conn_of(req), req);
    if (entry == NULL)
        return admin_answer_error(req, 404, "not-found", "no such path; GET / lists them");
    if (is_get && entry->show != NULL)
        return entry->show(admin, req);
    if (entry->order != NULL && h2o_memis(method.base, method.len, H2O_STRLIT("POST")))
        return admin_give_order(admin, req, entry->order);
    admin_add_header(req, "allow", entry->show != NULL ? "GET, HEAD" : "POST");
    return admin_answer_error(req, 405, "method-not-allowed", "%s takes %s", entry->path,
                              entry->show != NULL ? "GET or HEAD" : "POST");
}

/* ---- requests that libh2o refuses ---- */

struct refusal {
    h2o_ostream_t super;
    h2o_iovec_t text;
};

static void send_refusal(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                         h2o_send_state_t state)
{
    struct refusal *refusal = container_of(self, struct refusal, super);

    (void)bufs;
    h2o_ostream_send_next(self, req, &refusal->text, count > 0 ? 1 : 0, state);
}

/* libh2o refuses bodies that are far too large, and malformed requests: answer with JSON, too. */
static void on_refusal(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    static char too_large[] = "{\"error\":{\"code\":\"too-large\",\"message\":\"the body must "
                              "have at most 4096 bytes\"}}";
    static char bad[] = "{\"error\":{\"code\":\"bad-request\",\"message\":\"this is not a "
                        "request of HTTP/1.1\"}}";
    struct refusal *refusal =
        container_of(h2o_add_ostream(req, sizeof(*refusal), slot), struct refusal, super);

    (void)filter;
    refusal->super.do_send = send_refusal;
    refusal->text = req->res.status == 413 ? (h2o_iovec_t){H2O_STRLIT(too_large)}
                                           : (h2o_iovec_t){H2O_STRLIT(bad)};
    req->res.content_length = refusal->text.len;
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, H2O_STRLIT(CONTENT_JSON),
                   1);
    h2o_setup_next_ostream(req, &refusal->super.next);
}

void admin_api_register(struct admin *admin)
{
    h2o_hostconf_t *host =
        h2o_config_register_host(&admin->globalconf, (h2o_iovec_t){H2O_STRLIT("default")}, 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct handler *handler = (void *)h2o_create_handler(path, sizeof(*handler));

    handler->super.on_req = on_request;
    handler->admin = admin;
    admin->globalconf.max_request_entity_size = BODY_READ;
    h2o_filter_t *filter = h2o_create_filter(&host->fallback_path, sizeof(*filter));
    filter->on_setup_ostream = on_refusal;
}

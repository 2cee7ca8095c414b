#include "admin_p.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "log.h"
#include "page.h"

/* Requests, and who may order what. Questions are answered to whoever can connect. An order has to
 * pass order_is_allowed(): over a Unix socket the file's permissions have decided; over TCP it
 * takes the secret; and what a browser sends on behalf of a page from elsewhere is refused in any
 * case. */

#define BODY_LARGEST 4096
#define BODY_READ (64 << 10) /* more than that is refused while it arrives */
#define DEADLINE_LONGEST_NS (24 * 3600 * NS_PER_S)
#define CONTENT_JSON "application/json"

/* ---- answers ---- */

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 413:
        return "Payload Too Large";
    default:
        return "Service Unavailable";
    }
}

static void add_header(h2o_req_t *req, const char *name, const char *value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 0, NULL, value,
                          strlen(value));
}

static void begin_answer(h2o_req_t *req, int status, const char *type)
{
    req->res.status = status;
    req->res.reason = reason_of(status);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
    add_header(req, "cache-control", "no-store");
    add_header(req, "x-content-type-options", "nosniff");
}

static int answer(h2o_req_t *req, int status, const char *type, const char *text, size_t bytes)
{
    begin_answer(req, status, type);
    req->res.content_length = bytes;
    h2o_send_inline(req, text, bytes);
    return 0;
}

static int answer_text(h2o_req_t *req, int status, const char *text)
{
    return answer(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* Takes `json`. */
static int answer_json(h2o_req_t *req, int status, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (text == NULL)
        return answer_text(req, 503, "no memory\n");
    (void)answer(req, status, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

static int answer_error(h2o_req_t *req, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int answer_error(h2o_req_t *req, int status, const char *code, const char *format, ...)
{
    char message[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return answer_json(
        req, status,
        json_pack("{s:{s:s, s:o}}", "error", "code", code, "message", log_json_text(message)));
}

/* ---- who may give orders ---- */

static h2o_iovec_t header_of(const h2o_req_t *req, const h2o_token_t *token)
{
    ssize_t at = h2o_find_header(&req->headers, token, -1);
    return at >= 0 ? req->headers.entries[at].value : (h2o_iovec_t){NULL, 0};
}

static h2o_iovec_t header_named(const h2o_req_t *req, const char *name)
{
    ssize_t at = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    return at >= 0 ? req->headers.entries[at].value : (h2o_iovec_t){NULL, 0};
}

/* A name that a stranger's DNS may point at us is none that we go by: an address is, and localhost.
 * Who sends no Host at all is no browser. */
static bool goes_by(h2o_iovec_t authority)
{
    char host[INET6_ADDRSTRLEN + 2];
    unsigned char address[sizeof(struct in6_addr)];
    size_t n = authority.len;

    if (n == 0)
        return true;
    while (n > 0 && authority.base[n - 1] >= '0' && authority.base[n - 1] <= '9')
        n--;
    n = n > 0 && authority.base[n - 1] == ':' ? n - 1 : authority.len;
    if (n >= sizeof(host))
        return false;
    memcpy(host, authority.base, n);
    host[n] = '\0';
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        return inet_pton(AF_INET6, host + 1, address) == 1;
    }
    return strcasecmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1;
}

/* http://AUTHORITY, which the request was sent to. */
static bool is_own_origin(h2o_iovec_t origin, h2o_iovec_t authority)
{
    return origin.len == 7 + authority.len && memcmp(origin.base, "http://", 7) == 0 &&
           h2o_lcstris(origin.base + 7, authority.len, authority.base, authority.len);
}

static bool has_secret(const struct admin *admin, const h2o_req_t *req)
{
    static const char scheme[] = "Bearer ";
    h2o_iovec_t value = header_of(req, H2O_TOKEN_AUTHORIZATION);
    unsigned char digest[ADMIN_TOKEN_BYTES];
    size_t n = sizeof(scheme) - 1;

    if (value.len <= n || strncasecmp(value.base, scheme, n) != 0)
        return false;
    /* Of digests, so that the time tells nothing of the length either. */
    return EVP_Digest(value.base + n, value.len - n, digest, NULL, EVP_sha256(), NULL) == 1 &&
           CRYPTO_memcmp(digest, admin->token, sizeof(digest)) == 0;
}

/* False: it was refused, and answered. */
static bool order_is_allowed(struct admin *admin, h2o_req_t *req)
{
    bool is_unix = admin_conn_of(req)->is_unix;
    h2o_iovec_t origin = header_named(req, "origin"), host = req->input.authority;

    /* A browser comes to a Unix socket by a port that was forwarded to it. */
    if ((!is_unix || origin.base != NULL) && !goes_by(host))
        return answer_error(req, 403, "forbidden",
                            "orders must be sent to an address or to localhost, not to %.*s",
                            (int)(host.len < 256 ? host.len : 256), host.base);
    if (origin.base != NULL && !is_own_origin(origin, host))
        return answer_error(req, 403, "forbidden",
                            "orders must not come from a page of another origin (%.*s)",
                            (int)(origin.len < 256 ? origin.len : 256), origin.base);
    if (!is_unix && !admin->has_token)
        return answer_error(req, 403, "forbidden",
                            "orders over TCP want a token file: admin: {token-file: FILE}, or "
                            "--admin-token-file");
    if (!is_unix && !has_secret(admin, req)) {
        add_header(req, "www-authenticate", "Bearer");
        return answer_error(req, 401, "unauthorized",
                            "want Authorization: Bearer with the secret of the token file");
    }
    return true;
}

/* ---- bodies of orders ---- */

static bool is_json(h2o_iovec_t type)
{
    size_t n = sizeof(CONTENT_JSON) - 1;
    return type.len >= n && strncasecmp(type.base, CONTENT_JSON, n) == 0 &&
           (type.len == n || type.base[n] == ';' || type.base[n] == ' ');
}

/* The body as an object, an empty one if there is none. NULL: it was refused, and answered.
 * Owner: the caller. */
static json_t *read_body(h2o_req_t *req)
{
    json_error_t error;

    if (req->entity.len == 0)
        return json_object();
    if (req->entity.len > BODY_LARGEST) {
        (void)answer_error(req, 413, "too-large", "the body must have at most %d bytes",
                           BODY_LARGEST);
        return NULL;
    }
    if (!is_json(header_of(req, H2O_TOKEN_CONTENT_TYPE))) {
        (void)answer_error(req, 400, "bad-request", "want Content-Type: " CONTENT_JSON);
        return NULL;
    }
    json_t *body = json_loadb(req->entity.base, req->entity.len, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(body))
        return body;
    (void)answer_error(req, 400, "bad-request", "the body is no JSON object%s%s",
                       body == NULL ? ": " : "", body == NULL ? error.text : "");
    json_decref(body);
    return NULL;
}

/* A key that nobody reads is most likely one that is misspelt. */
static const char *unknown_key(json_t *body, const char *const *known)
{
    const char *key;
    json_t *value;

    json_object_foreach(body, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return key;
    }
    return NULL;
}

/* The text under `key`, NULL if there is none. False: it is no text. */
static bool text_in(json_t *body, const char *key, const char **ret_text)
{
    const json_t *value = json_object_get(body, key);

    *ret_text = json_string_value(value);
    return value == NULL || json_is_string(value);
}

/* ---- orders ---- */

struct order {
    struct admin *admin;
    h2o_req_t *req;
    json_t *body;
};

static int drain(const struct order *order)
{
    static const char *const known[] = {"deadline", "reason", NULL};
    const char *key = unknown_key(order->body, known), *deadline, *reason;
    uint64_t deadline_ns = CLOCK_NEVER; /* as configured, those of the classes too */
    h2o_req_t *req = order->req;

    if (key != NULL)
        return answer_error(req, 400, "bad-request", "unknown key %s; known are deadline, reason",
                            key);
    if (!text_in(order->body, "deadline", &deadline) ||
        (deadline != NULL &&
         (clock_parse_duration(deadline, &deadline_ns) != 0 || deadline_ns > DEADLINE_LONGEST_NS)))
        return answer_error(req, 400, "bad-request",
                            "deadline: want a text such as \"5s\", from \"0\" to \"24h\"");
    if (!text_in(order->body, "reason", &reason) ||
        (reason != NULL && strlen(reason) >= sizeof(((struct coord_trigger *)NULL)->detail)))
        return answer_error(req, 400, "bad-request", "reason: want a text of at most %zu bytes",
                            sizeof(((struct coord_trigger *)NULL)->detail) - 1);
    if (reason == NULL)
        reason = "";
    bool began = coord_request_drain_within(order->admin->coord, "admin", reason, deadline_ns);
    return answer_json(req, 202, json_pack("{s:b}", "began", began));
}

static const char *why_final(const struct coord_status *status)
{
    if (strcmp(status->final_by, "application") == 0)
        return "the application has ended";
    if (strcmp(status->final_by, "master") == 0)
        return "the master is gone, or stops";
    return "the process before this one stops, and closes the listeners";
}

static int undrain(const struct order *order)
{
    static const char *const known[] = {NULL};
    const char *key = unknown_key(order->body, known);
    struct coord_status status;

    if (key != NULL)
        return answer_error(order->req, 400, "bad-request", "unknown key %s; there are none", key);
    coord_get_status(order->admin->coord, &status);
    if (status.trigger_count == 0)
        return answer_error(order->req, 409, "not-draining",
                            "cannot call the drain off: there is none");
    if (!coord_undrain(order->admin->coord))
        return answer_error(order->req, 409, "past-no-return", "cannot call the drain off: %s",
                            status.forced        ? "it was cut short"
                            : status.is_final    ? why_final(&status)
                            : status.handed_over ? "a successor has taken over"
                                                 : "the listeners are closing");
    return answer_json(order->req, 200, json_pack("{s:b}", "undrained", true));
}

static int restart(const struct order *order)
{
    static const char *const known[] = {NULL};
    const char *key = unknown_key(order->body, known);

    if (key != NULL)
        return answer_error(order->req, 400, "bad-request", "unknown key %s; there are none", key);
    if (order->admin->restarter == NULL)
        return answer_error(order->req, 409, "no-restart",
                            "cannot restart in place with an application behind --: a successor "
                            "would start another one; with -m master it stays");
    if (coord_get_phase(order->admin->coord) != PHASE_RUNNING)
        return answer_error(order->req, 409, "draining", "cannot restart: this process is leaving");
    restarter_request(order->admin->restarter, "admin", "");
    return answer_json(order->req, 202, json_pack("{s:b}", "asked", true));
}

static int set_log_level(const struct order *order)
{
    static const char *const known[] = {"level", NULL};
    const char *key = unknown_key(order->body, known), *name;
    enum log_level level;

    if (key != NULL)
        return answer_error(order->req, 400, "bad-request", "unknown key %s; known is level", key);
    if (!text_in(order->body, "level", &name) || name == NULL || !log_level_named(name, &level))
        return answer_error(order->req, 400, "bad-request",
                            "level: want \"error\", \"warning\" or \"info\"");
    log_set_level(level);
    return answer_json(order->req, 200, json_pack("{s:s}", "level", name));
}

/* ---- questions ---- */

static int show_live(struct admin *admin, h2o_req_t *req)
{
    return server_is_moving(admin->server) ? answer_text(req, 200, "live\n")
                                           : answer_text(req, 503, "stalled\n");
}

static int show_ready(struct admin *admin, h2o_req_t *req)
{
    if (admin_is_ready(admin))
        return answer_text(req, 200, "ready\n");
    bool runs = coord_get_phase(admin->coord) == PHASE_RUNNING;
    return answer_text(req, 503, runs ? "starting\n" : "draining\n");
}

static int show_unfinished(struct admin *admin, h2o_req_t *req)
{
    int err;

    if (admin->options->journal_dir == NULL)
        return answer_error(req, 404, "not-found",
                            "no requests are kept: journal: {dir: DIR} would");
    char *text = admin_unfinished_text(admin, &err);
    if (text == NULL)
        return answer_error(req, 500, "unreadable", "cannot read %s: %s",
                            admin->options->journal_dir,
                            err != 0 ? strerrordesc_np(-err) : "no memory");
    (void)answer(req, 200, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

static int show_status(struct admin *admin, h2o_req_t *req)
{
    char *text = admin_status_text(admin);

    if (text == NULL)
        return answer_error(req, 503, "busy", "no memory");
    (void)answer(req, 200, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

static int show_metrics(struct admin *admin, h2o_req_t *req)
{
    char *text = metrics_text(admin->server);

    if (text == NULL)
        return answer_error(req, 503, "busy", "no memory");
    (void)answer(req, 200, "text/plain; version=0.0.4; charset=utf-8", text, strlen(text));
    free(text);
    return 0;
}

static int show_events(struct admin *admin, h2o_req_t *req)
{
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));

    if (!is_head && admin->stream_count >= ADMIN_STREAMS_MAX)
        return answer_error(req, 503, "busy", "%d clients watch already", ADMIN_STREAMS_MAX);
    if (is_head)
        return answer(req, 200, "text/event-stream", "", 0);
    begin_answer(req, 200, "text/event-stream");
    admin_events_begin(admin, req);
    return 0;
}

static int show_page(struct admin *admin, h2o_req_t *req)
{
    (void)admin;
    add_header(req, "content-security-policy",
               "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
               "connect-src 'self'");
    add_header(req, "x-frame-options", "DENY");
    add_header(req, "referrer-policy", "no-referrer");
    return answer(req, 200, "text/html; charset=utf-8", (const char *)page_html, page_html_bytes);
}

/* ---- the table ---- */

static const struct entry {
    const char *path;
    int (*show)(struct admin *admin, h2o_req_t *req); /* GET and HEAD */
    int (*order)(const struct order *order);          /* POST */
} table[] = {
    {"/", show_page, NULL},
    {"/livez", show_live, NULL},
    {"/readyz", show_ready, NULL},
    {"/status", show_status, NULL},
    {"/unfinished", show_unfinished, NULL},
    {"/metrics", show_metrics, NULL},
    {"/events", show_events, NULL},
    {"/drain", NULL, drain},
    {"/undrain", NULL, undrain},
    {"/restart", NULL, restart},
    {"/log-level", NULL, set_log_level},
};

struct handler {
    h2o_handler_t super;
    struct admin *admin;
};

/* The path as it was sent: one that leads here only once it is made simpler is no path of ours. */
static const struct entry *find_entry(const h2o_req_t *req)
{
    size_t n = req->query_at != SIZE_MAX ? req->query_at : req->path.len;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (h2o_memis(req->path.base, n, table[i].path, strlen(table[i].path)))
            return &table[i];
    return NULL;
}

static int give_order(struct admin *admin, h2o_req_t *req, const struct entry *entry)
{
    struct order order = {.admin = admin, .req = req};

    if (!order_is_allowed(admin, req) || (order.body = read_body(req)) == NULL)
        return 0;
    (void)entry->order(&order);
    json_decref(order.body);
    return 0;
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    struct admin *admin = container_of(self, struct handler, super)->admin;
    const struct entry *entry = find_entry(req);
    h2o_iovec_t method = req->input.method;
    bool is_get = h2o_memis(method.base, method.len, H2O_STRLIT("GET")) ||
                  h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));

    if (admin_conn_of(req)->pushed_out) /* else the library goes on with what was pipelined */
        req->http1_is_persistent = 0;
    else
        admin_conn_touch(admin_conn_of(req));
    admin_conn_owes(admin_conn_of(req), req);
    if (entry == NULL)
        return answer_error(req, 404, "not-found", "there is no such path; GET / lists them");
    if (is_get && entry->show != NULL)
        return entry->show(admin, req);
    if (entry->order != NULL && h2o_memis(method.base, method.len, H2O_STRLIT("POST")))
        return give_order(admin, req, entry);
    add_header(req, "allow", entry->show != NULL ? "GET, HEAD" : "POST");
    return answer_error(req, 405, "method-not-allowed", "%s wants %s", entry->path,
                        entry->show != NULL ? "GET or HEAD" : "POST");
}

/* ---- what the library refuses by itself ---- */

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

/* A body that is far too large, or that breaks the rules of HTTP: the answer is JSON, too. */
static void on_refusal(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    static char too_large[] = "{\"error\":{\"code\":\"too-large\",\"message\":\"the body must "
                              "have at most 4096 bytes\"}}";
    static char bad[] = "{\"error\":{\"code\":\"bad-request\",\"message\":\"this is no "
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

#include "admin_routes.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "admin_answer.h"
#include "log.h"

/* Orders (POST), and who may give them. Over a Unix socket the permissions of its file decide. Over
 * TCP an order needs the secret. An order that a browser sends for a page of another origin is
 * always refused. */

#define BODY_LARGEST 4096
#define DEADLINE_LONGEST_NS (24 * 3600 * NS_PER_S)

/* ---- permission ---- */

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

/* May an order name this host? An address or localhost may be named. Any other name may belong to a
 * page whose DNS points at us (DNS rebinding). A client without a Host is not a browser. */
static bool is_allowed_host(h2o_iovec_t authority)
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

/* Is the origin http://AUTHORITY, the one that the request was sent to? */
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
    /* Compare digests: so the time does not depend on the secret's length, either. */
    return EVP_Digest(value.base + n, value.len - n, digest, NULL, EVP_sha256(), NULL) == 1 &&
           CRYPTO_memcmp(digest, admin->token, sizeof(digest)) == 0;
}

/* False: it was refused, and answered. */
static bool is_allowed(struct admin *admin, h2o_req_t *req)
{
    bool is_unix = admin_conn_of(req)->is_unix;
    h2o_iovec_t origin = header_named(req, "origin"), host = req->input.authority;

    /* A browser reaches a Unix socket through a forwarded port. */
    if ((!is_unix || origin.base != NULL) && !is_allowed_host(host))
        return admin_answer_error(req, 403, "forbidden",
                                  "orders must be sent to an address or to localhost, not to %.*s",
                                  (int)(host.len < 256 ? host.len : 256), host.base);
    if (origin.base != NULL && !is_own_origin(origin, host))
        return admin_answer_error(req, 403, "forbidden",
                                  "orders must not come from a page of another origin (%.*s)",
                                  (int)(origin.len < 256 ? origin.len : 256), origin.base);
    if (!is_unix && !admin->has_token)
        return admin_answer_error(
            req, 403, "forbidden",
            "orders over TCP want a token file: admin: {token-file: FILE}, or "
            "--admin-token-file");
    if (!is_unix && !has_secret(admin, req)) {
        admin_add_header(req, "www-authenticate", "Bearer");
        return admin_answer_error(req, 401, "unauthorized",
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

/* Parse the body; without one the object is empty. NULL: it was refused, and answered.
 * Owner: the caller. */
static json_t *read_body(h2o_req_t *req)
{
    json_error_t error;

    if (req->entity.len == 0)
        return json_object();
    if (req->entity.len > BODY_LARGEST) {
        (void)admin_answer_error(req, 413, "too-large", "the body must have at most %d bytes",
                                 BODY_LARGEST);
        return NULL;
    }
    if (!is_json(header_of(req, H2O_TOKEN_CONTENT_TYPE))) {
        (void)admin_answer_error(req, 400, "bad-request", "want Content-Type: " CONTENT_JSON);
        return NULL;
    }
    json_t *body = json_loadb(req->entity.base, req->entity.len, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(body))
        return body;
    (void)admin_answer_error(req, 400, "bad-request", "the body is not a JSON object%s%s",
                             body == NULL ? ": " : "", body == NULL ? error.text : "");
    json_decref(body);
    return NULL;
}

/* An unknown key is an error: it is most likely misspelt. */
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

/* The text under `key`, NULL if there is none. False: it is not a text. */
static bool text_in(json_t *body, const char *key, const char **ret_text)
{
    const json_t *value = json_object_get(body, key);

    *ret_text = json_string_value(value);
    return value == NULL || json_is_string(value);
}

/* ---- orders ---- */

int admin_order_drain(const struct admin_order *order)
{
    static const char *const known[] = {"deadline", "reason", NULL};
    const char *key = unknown_key(order->body, known), *deadline, *reason;
    uint64_t deadline_ns = CLOCK_NEVER; /* as configured, also for the classes */
    h2o_req_t *req = order->req;

    if (key != NULL)
        return admin_answer_error(req, 400, "bad-request",
                                  "unknown key %s; known are deadline, reason", key);
    if (!text_in(order->body, "deadline", &deadline) ||
        (deadline != NULL &&
         (clock_parse_duration(deadline, &deadline_ns) != 0 || deadline_ns > DEADLINE_LONGEST_NS)))
        return admin_answer_error(req, 400, "bad-request",
                                  "deadline: want a text such as \"5s\", from \"0\" to \"24h\"");
    if (!text_in(order->body, "reason", &reason) ||
        (reason != NULL && strlen(reason) >= sizeof(((struct coord_trigger *)NULL)->detail)))
        return admin_answer_error(req, 400, "bad-request",
                                  "reason: want a text of at most %zu bytes",
                                  sizeof(((struct coord_trigger *)NULL)->detail) - 1);
    if (reason == NULL)
        reason = "";
    bool began = coord_request_drain_within(order->admin->coord, "admin", reason, deadline_ns);
    return admin_answer_json(req, 202, json_pack("{s:b}", "began", began));
}

static const char *why_final(const struct coord_status *status)
{
    if (strcmp(status->final_by, "application") == 0)
        return "the application has ended";
    if (strcmp(status->final_by, "master") == 0)
        return "the master has ended, or stops";
    return "the predecessor stops, and closes the listeners";
}

int admin_order_undrain(const struct admin_order *order)
{
    static const char *const known[] = {NULL};
    const char *key = unknown_key(order->body, known);
    struct coord_status status;

    if (key != NULL)
        return admin_answer_error(order->req, 400, "bad-request", "unknown key %s; there are none",
                                  key);
    coord_get_status(order->admin->coord, &status);
    if (status.trigger_count == 0)
        return admin_answer_error(order->req, 409, "not-draining",
                                  "cannot call the drain off: there is no drain");
    if (!coord_undrain(order->admin->coord))
        return admin_answer_error(order->req, 409, "past-no-return",
                                  "cannot call the drain off: %s",
                                  status.forced        ? "it was forced"
                                  : status.is_final    ? why_final(&status)
                                  : status.handed_over ? "a successor has taken over"
                                                       : "the listeners are closing");
    return admin_answer_json(order->req, 200, json_pack("{s:b}", "undrained", true));
}

int admin_order_restart(const struct admin_order *order)
{
    static const char *const known[] = {NULL};
    const char *key = unknown_key(order->body, known);

    if (key != NULL)
        return admin_answer_error(order->req, 400, "bad-request", "unknown key %s; there are none",
                                  key);
    struct restarter *restarter =
        atomic_load_explicit(&order->admin->restarter, memory_order_acquire);
    if (restarter == NULL)
        return admin_answer_error(
            order->req, 409, "no-restart",
            "cannot restart in place with an application after --: the successor "
            "would start it a second time; with -m master it keeps running");
    if (coord_get_phase(order->admin->coord) != PHASE_RUNNING)
        return admin_answer_error(order->req, 409, "draining",
                                  "cannot restart: this process is draining");
    struct restart_outcomes outcomes;
    restarter_get_outcomes(restarter, &outcomes);
    restarter_request(restarter, "admin", "");
    return admin_answer_json(
        order->req, 202,
        json_pack("{s:b, s:b}", "asked", true, "under_way", outcomes.is_under_way));
}

int admin_order_set_log_level(const struct admin_order *order)
{
    static const char *const known[] = {"level", NULL};
    const char *key = unknown_key(order->body, known), *name;
    enum log_level level;

    if (key != NULL)
        return admin_answer_error(order->req, 400, "bad-request", "unknown key %s; known is level",
                                  key);
    if (!text_in(order->body, "level", &name) || name == NULL || !log_level_named(name, &level))
        return admin_answer_error(order->req, 400, "bad-request",
                                  "level: want \"error\", \"warning\" or \"info\"");
    log_set_level(level);
    return admin_answer_json(order->req, 200, json_pack("{s:s}", "level", name));
}

int admin_give_order(struct admin *admin, h2o_req_t *req, admin_order_cb *carry_out)
{
    struct admin_order order = {.admin = admin, .req = req};

    if (!is_allowed(admin, req) || (order.body = read_body(req)) == NULL)
        return 0;
    (void)carry_out(&order);
    json_decref(order.body);
    return 0;
}

#include "request_p.h"

#include <errno.h>
#include <string.h>

/* What a handler reads of its request. */

char *lc_copy(const struct lc_request *request, const char *text, size_t bytes)
{
    char *copy = request->exchange->ops->alloc(request->exchange, bytes + 1);

    if (copy != NULL) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
    return copy;
}

/* Of ASCII alone, whatever the locale. */
bool lc_same_name(const char *a, const char *b)
{
    for (;; a++, b++) {
        char x = *a >= 'A' && *a <= 'Z' ? (char)(*a | 0x20) : *a;
        char y = *b >= 'A' && *b <= 'Z' ? (char)(*b | 0x20) : *b;
        if (x != y)
            return false;
        if (x == '\0')
            return true;
    }
}

/* ---- paths ---- */

bool lc_clean(struct lc_request *request)
{
    const char *target = request->exchange->path;

    if (request->clean != NULL)
        return true;
    char *to = lc_copy(request, target, strlen(target));
    if (to == NULL)
        return false;
    request->clean_bytes = mux_clean_path(to, strlen(to), to);
    request->clean = to;
    return true;
}

/* Resolve "." and ".." of a decoded path, in place. */
static void resolve(char *path)
{
    char *to = path;

    for (const char *at = path; *at == '/';) {
        size_t bytes = strcspn(at + 1, "/");
        bool is_last = at[1 + bytes] == '\0';
        bool is_dot = bytes == 1 && at[1] == '.';
        bool is_up = bytes == 2 && at[1] == '.' && at[2] == '.';
        if (is_up)
            while (to > path && *--to != '/')
                ;
        if (!is_dot && !is_up) {
            memmove(to, at, bytes + 1);
            to += bytes + 1;
        } else if (is_last) {
            *to++ = '/';
        }
        at += bytes + 1;
    }
    *to = '\0';
}

const char *lc_path(lc_req *req)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return NULL;
    if (request->path == NULL) {
        const char *target = request->exchange->path;
        size_t bytes = strcspn(target, "?");
        char *path = lc_copy(request, target, bytes);
        if (path != NULL) {
            (void)lc_decode(path, bytes, path, false);
            if (*path == '/')
                resolve(path);
        }
        request->path = path;
    }
    return request->path;
}

static bool find_match(struct lc_request *request)
{
    struct exchange *exchange = request->exchange;

    if (request->match != NULL)
        return true;
    struct mux_match *match = exchange->ops->alloc(exchange, sizeof(*match));
    if (match == NULL || !lc_clean(request))
        return false;
    mux_find(request->route->routes->mux, exchange->method, strlen(exchange->method),
             request->clean, request->clean_bytes, match);
    if (match->value != &request->route->user_route) /* called by its name */
        match->params = 0;
    request->match = match;
    return true;
}

const char *lc_param(lc_req *req, const char *name)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL || name == NULL || !find_match(request))
        return NULL;
    const struct mux_match *match = request->match;
    for (size_t i = 0; i < match->params; i++) {
        if (strcmp(match->param[i].name, name) != 0)
            continue;
        if (request->param[i] == NULL) {
            char *value =
                lc_copy(request, request->clean + match->param[i].at, match->param[i].bytes);
            if (value != NULL)
                (void)lc_decode(value, match->param[i].bytes, value, false);
            request->param[i] = value;
        }
        return request->param[i];
    }
    return NULL;
}

/* ---- fields ---- */

const char *lc_first_field(const struct lc_request *request, const char *name)
{
    const struct exchange *exchange = request->exchange;

    for (size_t i = 0; exchange->fields != NULL && i < exchange->field_count; i++)
        if (lc_same_name(exchange->fields[i].name, name))
            return exchange->fields[i].value;
    return NULL;
}

static const char *known_value(const struct lc_request *request, enum lc_value_kind kind,
                               const char *name)
{
    const struct lc_value *value = request->values;

    while (value != NULL && (value->kind != kind || strcmp(value->name, name) != 0))
        value = value->next;
    return value != NULL ? value->value : NULL;
}

static const char *keep_value(struct lc_request *request, enum lc_value_kind kind, const char *name,
                              const char *text)
{
    struct exchange *exchange = request->exchange;
    struct lc_value *value = exchange->ops->alloc(exchange, sizeof(*value));
    const char *copy = lc_copy(request, name, strlen(name));

    if (value != NULL && copy != NULL && text != NULL) {
        *value = (struct lc_value){request->values, kind, copy, text};
        request->values = value;
    }
    return text;
}

/* RFC 9110 section 5.3; cookies: RFC 9113 section 8.2.3 */
static const char *join(struct lc_request *request, const char *name)
{
    const struct exchange *exchange = request->exchange;
    const char *between = lc_same_name(name, "cookie") ? "; " : ", ";
    size_t bytes = 0, used = 0;

    for (size_t i = 0; i < exchange->field_count; i++)
        if (lc_same_name(exchange->fields[i].name, name))
            bytes += strlen(exchange->fields[i].value) + 2;
    char *text = exchange->ops->alloc(request->exchange, bytes + 1);
    for (size_t i = 0; text != NULL && i < exchange->field_count; i++) {
        if (!lc_same_name(exchange->fields[i].name, name))
            continue;
        size_t n = strlen(exchange->fields[i].value);
        if (used > 0)
            memcpy(text + used, between, 2);
        used += used > 0 ? 2 : 0;
        memcpy(text + used, exchange->fields[i].value, n);
        used += n;
    }
    if (text != NULL)
        text[used] = '\0';
    return text;
}

const char *lc_request_field(struct lc_request *request, const char *name)
{
    const struct exchange *exchange = request->exchange;
    const char *first = lc_first_field(request, name);
    size_t count = 0;

    if (first == NULL) /* libh2o takes it out of the fields, and HTTP/2 has :authority */
        return lc_same_name(name, "host") ? exchange->authority : NULL;
    for (size_t i = 0; i < exchange->field_count; i++)
        count += lc_same_name(exchange->fields[i].name, name);
    if (count == 1)
        return first;
    const char *known = known_value(request, LC_VALUE_HEADER, name);
    return known != NULL ? known : keep_value(request, LC_VALUE_HEADER, name, join(request, name));
}

const char *lc_header(lc_req *req, const char *name)
{
    struct lc_request *request = LC_HELD(req);

    return request != NULL && name != NULL ? lc_request_field(request, name) : NULL;
}

int lc_header_at(lc_req *req, size_t i, const char **name, const char **value)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (request->exchange->fields == NULL || i >= request->exchange->field_count)
        return LC_E_ARG;
    if (name != NULL)
        *name = request->exchange->fields[i].name;
    if (value != NULL)
        *value = request->exchange->fields[i].value;
    return 0;
}

/* ---- values ---- */

static const char *pair(struct lc_request *request, enum lc_value_kind kind, const char *text,
                        size_t bytes, const char *name)
{
    const char *value, *known = known_value(request, kind, name);
    size_t n;

    if (known != NULL || !lc_find_pair(text, bytes, name, &value, &n))
        return known;
    char *decoded = lc_copy(request, value, n);
    if (decoded != NULL)
        (void)lc_decode(decoded, n, decoded, true);
    return keep_value(request, kind, name, decoded);
}

const char *lc_query(lc_req *req, const char *name)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL || name == NULL)
        return NULL;
    const char *query = request->exchange->query;
    return pair(request, LC_VALUE_QUERY, query, strlen(query), name);
}

bool lc_has_form(const struct lc_request *request)
{
    static const char form[] = "application/x-www-form-urlencoded";
    const char *type = lc_first_field(request, "content-type");
    char name[sizeof(form)];

    if (type == NULL || strcspn(type, "; \t") != strlen(form))
        return false;
    memcpy(name, type, strlen(form));
    name[strlen(form)] = '\0';
    return lc_same_name(name, form);
}

const char *lc_form(lc_req *req, const char *name)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL || name == NULL || !lc_has_form(request))
        return NULL;
    return pair(request, LC_VALUE_FORM, request->exchange->body, request->exchange->body_bytes,
                name);
}

const char *lc_cookie(lc_req *req, const char *name)
{
    struct lc_request *request = LC_HELD(req);
    const char *value;
    size_t bytes;

    if (request == NULL || name == NULL)
        return NULL;
    const char *known = known_value(request, LC_VALUE_COOKIE, name);
    const char *field = known == NULL ? lc_request_field(request, "cookie") : NULL;
    if (field == NULL || !lc_find_cookie(field, name, &value, &bytes))
        return known;
    return keep_value(request, LC_VALUE_COOKIE, name, lc_copy(request, value, bytes));
}

/* ---- the rest ---- */

const char *lc_method(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->method : NULL;
}

const char *lc_target(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->path : NULL;
}

const char *lc_host(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->authority : NULL;
}

int lc_is_https(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->is_https : LC_E_THREAD;
}

int lc_http_version(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    return (int)(request->exchange->version >> 8) * 10 + (int)(request->exchange->version & 0xff);
}

const char *lc_peer(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->peer : NULL;
}

const char *lc_client(lc_req *req)
{
    struct lc_request *request = LC_HELD(req);
    char text[64];

    if (request == NULL)
        return NULL;
    if (request->route->routes->trust == NULL)
        return request->exchange->peer;
    if (request->client == NULL) {
        lc_find_client(request->route->routes->trust, request->exchange->peer,
                       lc_request_field(request, "x-forwarded-for"),
                       lc_request_field(request, "forwarded"), text);
        request->client = lc_copy(request, text, strlen(text));
    }
    return request->client;
}

void *lc_alloc(lc_req *req, size_t bytes)
{
    const struct lc_request *request = LC_HELD(req);

    return request != NULL ? request->exchange->ops->alloc(request->exchange, bytes) : NULL;
}

struct lc_put {
    struct lc_put *next;
    const void *key;
    void *value;
};

int lc_put(lc_req *req, const void *key, void *value)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    struct lc_put *put = request->puts;
    while (put != NULL && put->key != key)
        put = put->next;
    if (put == NULL) {
        put = request->exchange->ops->alloc(request->exchange, sizeof(*put));
        if (put == NULL)
            return -ENOMEM;
        *put = (struct lc_put){request->puts, key, NULL};
        request->puts = put;
    }
    put->value = value;
    return 0;
}

void *lc_get(lc_req *req, const void *key)
{
    const struct lc_request *request = LC_HELD(req);
    const struct lc_put *put = request != NULL ? request->puts : NULL;

    while (put != NULL && put->key != key)
        put = put->next;
    return put != NULL ? put->value : NULL;
}

void *lc_own(lc_req *req)
{
    const struct lc_request *request = LC_HELD(req);

    if (request == NULL || request->route->routes->own == NULL || request->is_taken ||
        request->route->user_route.on_loop)
        return NULL;
    return lc_own_of_thread(request->route->routes->own, false);
}

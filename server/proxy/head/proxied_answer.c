#include "proxied_head.h"

#include <string.h>

#include "errand.h"
#include "header_commands.h"
#include "interim.h"

/* What becomes of the head of an upstream's answer. */

/* ---- Location ---- */

static bool ends_with_slash(h2o_iovec_t path)
{
    return path.len > 0 && path.base[path.len - 1] == '/';
}

/* /base/x is below /base/ and below /base; /basement is not. */
static bool is_below(h2o_iovec_t path, h2o_iovec_t base)
{
    return path.len >= base.len && memcmp(path.base, base.base, base.len) == 0 &&
           (path.len == base.len || ends_with_slash(base) ||
            strchr("/?#", path.base[base.len]) != NULL);
}

/* Of the scheme the application may not know whether TLS is before it. */
static bool is_at(const h2o_url_t *url, const h2o_url_t *upstream)
{
    return h2o_url_hosts_are_equal(url, upstream) &&
           h2o_url_get_port(url) == h2o_url_get_port(upstream) &&
           is_below(url->path, upstream->path);
}

/* Is it a URL of the route's upstreams? To the client all of them are the route, whichever has
 * answered. *ret_path: the part of its path that all of them have. */
static bool is_of_route(const h2o_req_t *req, h2o_iovec_t location, h2o_url_t *ret_url,
                        h2o_iovec_t *ret_path)
{
    const h2o_req_overrides_t *overrides = req->overrides;

    if (overrides == NULL || overrides->location_rewrite.match == NULL ||
        h2o_url_parse(location.base, location.len, ret_url) != 0)
        return false;
    const struct upstream_group *group =
        container_of(overrides, struct errand_overrides, super)->view->group;
    size_t i = 0;
    while (i < group->count && !is_at(ret_url, &group->members[i].url))
        i++;
    if (i == group->count)
        return false;
    *ret_path = group->members[0].url.path;
    return true;
}

/* One of the two paths may end with a slash, and the other one not. */
static h2o_iovec_t rewritten_location(h2o_req_t *req, h2o_iovec_t location)
{
    h2o_url_t url;
    h2o_iovec_t theirs, ours, slash = h2o_iovec_init("", 0);

    if (!is_of_route(req, location, &url, &theirs))
        return location;
    ours = req->overrides->location_rewrite.path_prefix;
    h2o_iovec_t rest = h2o_iovec_init(url.path.base + theirs.len, url.path.len - theirs.len);
    if (ends_with_slash(theirs) && !ends_with_slash(ours))
        slash = h2o_iovec_init(H2O_STRLIT("/"));
    else if (ends_with_slash(ours) && rest.len > 0 && rest.base[0] == '/')
        ours.len--;
    return h2o_concat(&req->pool, req->input.scheme->name, h2o_iovec_init(H2O_STRLIT("://")),
                      req->input.authority, ours, slash, rest);
}

/* Where to go on with a request that the server was told to fetch. libh2o stays with the route if
 * the URL has the authority that the request has. */
static h2o_iovec_t next_url(h2o_req_t *req, h2o_iovec_t location)
{
    h2o_url_t url;
    h2o_iovec_t theirs;

    if (!is_of_route(req, location, &url, &theirs))
        return location;
    return h2o_concat(&req->pool, req->scheme->name, h2o_iovec_init(H2O_STRLIT("://")),
                      req->authority, url.path);
}

/* ---- fields ---- */

static bool is_redirect(int status)
{
    return status >= 300 && status <= 399 && status != 304;
}

static char compress_hint(h2o_iovec_t value)
{
    if (h2o_lcstris(value.base, value.len, H2O_STRLIT("on")))
        return H2O_COMPRESS_HINT_ENABLE;
    if (h2o_lcstris(value.base, value.len, H2O_STRLIT("off")))
        return H2O_COMPRESS_HINT_DISABLE;
    return H2O_COMPRESS_HINT_AUTO;
}

/* Such a field sets the length of the final answer, or whether libh2o compresses it. An interim
 * answer has no length (RFC 9110 section 8.6), and is not compressed. */
static void note_known(h2o_req_t *req, const h2o_token_t *token, h2o_iovec_t value)
{
    if (token == H2O_TOKEN_X_COMPRESS_HINT)
        req->compress_hint = compress_hint(value);
    else if (req->res.status != 204) /* it has no length, either */
        req->res.content_length = h2o_strtosize(value.base, value.len);
}

/* False: this field is not passed on, or it is told elsewhere. */
static bool take_known(h2o_req_t *req, const h2o_token_t *token, h2o_iovec_t *value,
                       bool is_interim)
{
    if (token->proxy_should_drop_for_res)
        return false;
    if (token == H2O_TOKEN_CONTENT_LENGTH || token == H2O_TOKEN_X_COMPRESS_HINT) {
        if (!is_interim)
            note_known(req, token, *value);
        return false;
    }
    /* Orders to this server; of a final answer the filters take them out that obey them. */
    if (is_interim && (token == H2O_TOKEN_X_REPROXY_URL || token == H2O_TOKEN_X_TRAFFIC))
        return false;
    if (token == H2O_TOKEN_LOCATION) {
        *value = rewritten_location(req, *value);
    } else if (token == H2O_TOKEN_LINK) {
        *value = h2o_push_path_in_link_header(req, value->base, value->len);
        return value->len > 0;
    } else if (token == H2O_TOKEN_SERVER) {
        return req->conn->ctx->globalconf->proxy.preserve_server_header;
    }
    return true;
}

static bool is_named(const struct phr_header *field, const char *name, size_t len)
{
    return h2o_lcstris(field->name, field->name_len, name, len) != 0;
}

static bool is_connection(const struct phr_header *field)
{
    return field->name_len == 10 && is_named(field, H2O_STRLIT("connection"));
}

/* May a Connection field name other fields? Most say nothing but this. */
static bool has_nominations(const struct answer_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct phr_header *field = &fields->fields[i];
        if (is_connection(field) &&
            !h2o_lcstris(field->value, field->value_len, H2O_STRLIT("close")) &&
            !h2o_lcstris(field->value, field->value_len, H2O_STRLIT("keep-alive")))
            return true;
    }
    return false;
}

/* Is `name`, in lower case, for the upstream's connection only? (RFC 9110 section 7.6.1) */
static bool is_nominated(const struct answer_fields *fields, const char *name, size_t name_len)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct phr_header *field = &fields->fields[i];
        if (is_connection(field) &&
            h2o_contains_token(field->value, field->value_len, name, name_len, ','))
            return true;
    }
    return false;
}

/* A head whose `size` bytes are at `bytes` is taken over, into `pool`. */
struct taking {
    h2o_req_t *req;
    const struct answer_fields *fields;
    const char *bytes;
    size_t size;
    bool is_interim;
    h2o_mem_pool_t *pool;
    h2o_headers_t *to;
    char *copy; /* of the bytes */
    bool has_nominations;
};

static void add_field(const struct taking *taking, const struct phr_header *field)
{
    char *name = taking->copy + (field->name - taking->bytes);
    h2o_iovec_t value =
        h2o_iovec_init(taking->copy + (field->value - taking->bytes), field->value_len);

    h2o_strtolower(name, field->name_len);
    if (taking->has_nominations && is_nominated(taking->fields, name, field->name_len))
        return;
    const h2o_token_t *token = h2o_lookup_token(name, field->name_len);
    if (token != NULL && !take_known(taking->req, token, &value, taking->is_interim))
        return;
    /* A final answer has yet to pass the path's filters, an interim one passes none. */
    if (taking->is_interim && header_commands_change(taking->req->pathconf, name, field->name_len))
        return;
    if (token == NULL)
        h2o_add_header_by_str(taking->pool, taking->to, name, field->name_len, 0, field->name,
                              value.base, value.len);
    else
        h2o_add_header(taking->pool, taking->to, token, field->name, value.base, value.len);
}

static void add_fields(struct taking *taking)
{
    taking->copy = h2o_strdup(taking->pool, taking->bytes, taking->size).base;
    taking->has_nominations = has_nominations(taking->fields);
    for (size_t i = 0; i < taking->fields->count; i++)
        add_field(taking, &taking->fields->fields[i]);
}

/* ---- interim answers ---- */

static void push_links(h2o_req_t *req, const struct answer_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++)
        if (is_named(&fields->fields[i], H2O_STRLIT("link")))
            (void)h2o_push_path_in_link_header(req, fields->fields[i].value,
                                               fields->fields[i].value_len);
}

void proxied_head_interim(h2o_req_t *req, const struct answer_fields *fields, const char *bytes,
                          size_t size)
{
    struct inflight *inflight = inflight_of(req);
    h2o_headers_t passed_on = {NULL, 0, 0};
    h2o_mem_pool_t pool; /* a request may get many of them */

    if (inflight == NULL || !interim_may_send(inflight, fields->status)) {
        push_links(req, fields);
        return;
    }
    h2o_mem_init_pool(&pool);
    add_fields(&(struct taking){.req = req,
                                .fields = fields,
                                .bytes = bytes,
                                .size = size,
                                .is_interim = true,
                                .pool = &pool,
                                .to = &passed_on});
    interim_send(inflight, fields->status, &passed_on);
    h2o_mem_clear_pool(&pool);
}

/* ---- final answers ---- */

bool proxied_head_follow(h2o_req_t *req, const struct answer_fields *fields)
{
    if (!req->res_is_delegated || !is_redirect(fields->status))
        return false;
    for (size_t i = 0; i < fields->count; i++) {
        const struct phr_header *field = &fields->fields[i];
        if (!is_named(field, H2O_STRLIT("location")))
            continue;
        h2o_iovec_t method = h2o_get_redirect_method(req->method, fields->status);
        h2o_iovec_t url = next_url(req, h2o_iovec_init(field->value, field->value_len));
        h2o_send_redirect_internal(req, method, url.base, url.len, 1);
        return true;
    }
    return false;
}

void proxied_head_answer(h2o_req_t *req, const struct answer_fields *fields, const char *bytes,
                         size_t size)
{
    req->res.status = fields->status;
    req->res.reason = h2o_strdup(&req->pool, fields->reason, fields->reason_len).base;
    add_fields(&(struct taking){.req = req,
                                .fields = fields,
                                .bytes = bytes,
                                .size = size,
                                .pool = &req->pool,
                                .to = &req->res.headers});
}

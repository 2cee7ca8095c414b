#include "fcgi_params.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "claims.h"
#include "proxied_head.h"

/* The names and values of a request. A length is one byte, or four with the highest bit set. */

struct params {
    h2o_req_t *req;
    char *bytes;
    size_t size, room;
};

static char *make_room(struct params *params, size_t size)
{
    if (size > params->room - params->size) {
        size_t room = params->room;
        do
            room *= 2;
        while (size > room - params->size);
        char *bigger = h2o_mem_alloc_pool(&params->req->pool, room);
        memcpy(bigger, params->bytes, params->size);
        params->bytes = bigger;
        params->room = room;
    }
    char *to = params->bytes + params->size;
    params->size += size;
    return to;
}

static char *put_length(char *to, size_t length)
{
    if (length >= 128) {
        *to++ = (char)(0x80 | length >> 24);
        *to++ = (char)(length >> 16);
        *to++ = (char)(length >> 8);
    }
    *to++ = (char)length;
    return to;
}

/* A pair; returns where its name is to be written, and its value after that. */
static char *put_pair(struct params *params, size_t name, size_t value)
{
    size_t lengths = (name < 128 ? 1 : 4) + (value < 128 ? 1u : 4u);
    char *to = make_room(params, lengths + name + value);

    return put_length(put_length(to, name), value);
}

/* ---- variables ---- */

/* Does `setenv` have it? */
static bool is_set(const h2o_req_t *req, const char *name, size_t size)
{
    for (size_t i = 0; i < req->env.size; i += 2)
        if (h2o_memis(req->env.entries[i].base, req->env.entries[i].len, name, size))
            return true;
    return false;
}

static void put(struct params *params, const char *name, h2o_iovec_t value)
{
    size_t size = strlen(name);

    if (is_set(params->req, name, size))
        return;
    char *to = put_pair(params, size, value.len);
    memcpy(to, name, size);
    h2o_memcpy(to + size, value.base, value.len);
}

static void put_text(struct params *params, const char *name, const char *value)
{
    put(params, name, h2o_iovec_init(value, strlen(value)));
}

static void put_number(struct params *params, const char *name, size_t number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%zu", number);
    put_text(params, name, text);
}

static void put_env(struct params *params)
{
    const h2o_iovec_t *entries = params->req->env.entries;

    for (size_t i = 0; i + 1 < params->req->env.size; i += 2) {
        if (own_variable_is(&entries[i]))
            continue;
        char *to = put_pair(params, entries[i].len, entries[i + 1].len);
        h2o_memcpy(to, entries[i].base, entries[i].len);
        h2o_memcpy(to + entries[i].len, entries[i + 1].base, entries[i + 1].len);
    }
}

static void put_script(struct params *params, const struct fcgi_settings *settings)
{
    h2o_req_t *req = params->req;
    const h2o_filereq_t *file = req->filereq;
    h2o_iovec_t info = file != NULL ? file->path_info : req->path_normalized;

    if (file != NULL)
        put(params, "SCRIPT_FILENAME", file->local_path);
    put(params, "SCRIPT_NAME", file != NULL ? file->script_name : h2o_iovec_init(NULL, 0));
    if (info.base != NULL)
        put(params, "PATH_INFO", info);
    if (settings->document_root.base == NULL)
        return;
    put(params, "DOCUMENT_ROOT", settings->document_root);
    if (info.base != NULL)
        put(params, "PATH_TRANSLATED", h2o_concat(&req->pool, settings->document_root, info));
}

static void put_address(struct params *params, const char *name, const char *port_name,
                        socklen_t (*get)(h2o_conn_t *conn, struct sockaddr *ret_address))
{
    struct sockaddr_storage address;
    socklen_t len = get(params->req->conn, (void *)&address);
    char host[NI_MAXHOST];

    if (len == 0)
        return;
    size_t size = h2o_socket_getnumerichost((void *)&address, len, host);
    int32_t port = h2o_socket_getport((void *)&address);
    if (size != SIZE_MAX) /* a Unix socket has no address */
        put(params, name, h2o_iovec_init(host, size));
    if (port != -1)
        put_number(params, port_name, (uint16_t)port);
}

static void put_request(struct params *params, bool delegated)
{
    h2o_req_t *req = params->req;
    h2o_iovec_t query = h2o_iovec_init(NULL, 0);
    char version[sizeof("HTTP/1.1")];

    if (req->query_at != SIZE_MAX)
        query =
            h2o_iovec_init(req->path.base + req->query_at + 1, req->path.len - (req->query_at + 1));
    put_text(params, "GATEWAY_INTERFACE", "CGI/1.1");
    put(params, "REQUEST_METHOD", req->method);
    put(params, "QUERY_STRING", query);
    put(params, "HTTP_HOST", delegated ? req->authority : req->input.authority);
    put(params, "REQUEST_URI", delegated ? req->path : req->input.path);
    size_t size = h2o_stringify_protocol_version(version, req->version);
    put(params, "SERVER_PROTOCOL", h2o_iovec_init(version, size));
    put(params, "SERVER_NAME", req->hostconf->authority.host);
    put(params, "SERVER_SOFTWARE", req->conn->ctx->globalconf->server_name);
    if (req->scheme == &H2O_URL_SCHEME_HTTPS)
        put_text(params, "HTTPS", "on");
    if (req->entity.base != NULL)
        put_number(params, "CONTENT_LENGTH", req->entity.len);
}

/* ---- HTTP_* ---- */

/* HTTP_PROXY is a setting of many HTTP clients: a field of the request must not become one
 * (CVE-2016-5385). A name with an underscore would hide another one with a hyphen. */
static bool has_variable(const h2o_header_t *field)
{
    const h2o_iovec_t *name = field->name;

    for (size_t i = 0; i < name->len; i++) {
        char c = name->base[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return name->len > 0 && name != &H2O_TOKEN_CONTENT_TYPE->buf && name != &H2O_TOKEN_HOST->buf &&
           !h2o_memis(name->base, name->len, H2O_STRLIT("proxy"));
}

static char upper(char c)
{
    return c == '-' ? '_' : (char)h2o_toupper(c);
}

/* Does `setenv` have the variable of this field? */
static bool is_field_set(const h2o_req_t *req, const h2o_iovec_t *name)
{
    for (size_t i = 0; i < req->env.size; i += 2) {
        const h2o_iovec_t *set = &req->env.entries[i];
        size_t at = 0;
        if (set->len != 5 + name->len || memcmp(set->base, "HTTP_", 5) != 0)
            continue;
        while (at < name->len && set->base[5 + at] == upper(name->base[at]))
            at++;
        if (at == name->len)
            return true;
    }
    return false;
}

static bool are_same(const h2o_iovec_t *a, const h2o_iovec_t *b)
{
    return a == b || h2o_memis(a->base, a->len, b->base, b->len);
}

/* Where is the next field of that name? headers->size: nowhere. */
static size_t find(const h2o_headers_t *headers, const h2o_iovec_t *name, size_t from)
{
    while (from < headers->size && !are_same(headers->entries[from].name, name))
        from++;
    return from;
}

/* Fields of one name are one variable, as if the client had sent a list (RFC 3875 section 4.1.18,
 * RFC 9110 section 5.3); Cookie is joined with a semicolon (RFC 9113 section 8.2.3). */
static void put_field(struct params *params, size_t index)
{
    const h2o_headers_t *headers = &params->req->headers;
    const h2o_iovec_t *name = headers->entries[index].name;
    const char *joint = name == &H2O_TOKEN_COOKIE->buf ? "; " : ", ";
    size_t size = 0;

    for (size_t i = index; i < headers->size; i = find(headers, name, i + 1))
        size += (i > index ? 2 : 0) + headers->entries[i].value.len;
    char *to = put_pair(params, 5 + name->len, size);
    memcpy(to, "HTTP_", 5);
    to += 5;
    for (size_t i = 0; i < name->len; i++)
        *to++ = upper(name->base[i]);
    for (size_t i = index; i < headers->size; i = find(headers, name, i + 1)) {
        h2o_iovec_t value = headers->entries[i].value;
        if (i > index) {
            memcpy(to, joint, 2);
            to += 2;
        }
        h2o_memcpy(to, value.base, value.len);
        to += value.len;
    }
}

static void put_fields(struct params *params)
{
    const h2o_headers_t *headers = &params->req->headers;
    ssize_t type = h2o_find_header(headers, H2O_TOKEN_CONTENT_TYPE, -1);
    enum claims claims = claims_of(params->req);

    if (type != -1)
        put(params, "CONTENT_TYPE", headers->entries[type].value);
    for (size_t i = 0; i < headers->size; i++) {
        const h2o_header_t *field = &headers->entries[i];
        if (has_variable(field) && find(headers, field->name, 0) == i &&
            !is_field_set(params->req, field->name) &&
            !(claims == CLAIMS_DROPPED && proxied_is_claim(field)))
            put_field(params, i);
    }
}

h2o_iovec_t fcgi_params_make(h2o_req_t *req, const struct fcgi_settings *settings)
{
    struct params params = {.req = req, .room = 1024 + 2 * req->path.len};

    params.bytes = h2o_mem_alloc_pool(&req->pool, params.room);
    put_script(&params, settings);
    put_address(&params, "REMOTE_ADDR", "REMOTE_PORT", req->conn->callbacks->get_peername);
    put_address(&params, "SERVER_ADDR", "SERVER_PORT", req->conn->callbacks->get_sockname);
    put_request(&params, settings->sends_delegated_uri);
    put_fields(&params);
    put_env(&params);
    return h2o_iovec_init(params.bytes, params.size);
}

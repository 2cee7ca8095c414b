#include "proxied_p.h"

#include <stdio.h>
#include <string.h>

#include "container_of.h"
#include "request.h"

/* The head of a proxied request. Its fields, in this order: Connection, Host, Content-Length, those
 * of the client but for the ones that concern its own connection, Cookie, X-Forwarded-*, Forwarded,
 * Via. */

void proxied_put(struct head *head, const char *bytes, size_t size)
{
    if (size > head->room - head->size) {
        size_t room = head->room;
        do
            room *= 2;
        while (size > room - head->size);
        char *bigger = h2o_mem_alloc_pool(&head->req->pool, room);
        memcpy(bigger, head->bytes, head->size);
        head->bytes = bigger;
        head->room = room;
    }
    memcpy(head->bytes + head->size, bytes, size);
    head->size += size;
}

void proxied_put_field(struct head *head, const char *name, size_t name_len, h2o_iovec_t value)
{
    proxied_put(head, name, name_len);
    PUT(head, ": ");
    proxied_put(head, value.base, value.len);
    PUT(head, "\r\n");
}

/* ---- fields of the client ---- */

static bool is_token(const h2o_header_t *field, const h2o_token_t *token)
{
    return field->name == &token->buf;
}

/* Most Connection fields say nothing but this. */
static bool may_nominate(const h2o_headers_t *headers)
{
    for (ssize_t at = -1; (at = h2o_find_header(headers, H2O_TOKEN_CONNECTION, at)) != -1;) {
        h2o_iovec_t value = headers->entries[at].value;
        if (!h2o_lcstris(value.base, value.len, H2O_STRLIT("close")) &&
            !h2o_lcstris(value.base, value.len, H2O_STRLIT("keep-alive")))
            return true;
    }
    return false;
}

/* Is it named by a Connection field of the client, and so for that connection only? (RFC 9110
 * section 7.6.1) */
static bool is_of_connection(const struct head *head, const h2o_header_t *field)
{
    const h2o_headers_t *headers = &head->req->headers;

    if (!head->has_nominations)
        return false;
    for (ssize_t at = -1; (at = h2o_find_header(headers, H2O_TOKEN_CONNECTION, at)) != -1;) {
        h2o_iovec_t value = headers->entries[at].value;
        if (value.len >= field->name->len &&
            h2o_contains_token(value.base, value.len, field->name->base, field->name->len, ','))
            return true;
    }
    return false;
}

/* ---- which of them are passed on ---- */

/* Is this field, which the client has sent, not passed on? */
static bool is_left_out(const struct head *head, const h2o_header_t *field)
{
    if (head->is_sifted || (head->id.base != NULL && field->value.base == head->id.base))
        return false;
    return is_of_connection(head, field) || proxied_is_disbelieved(head, proxied_claim_of(field));
}

/* Is it never among the fields of a head, whoever has set it? */
static bool is_dropped(const h2o_header_t *field)
{
    return h2o_iovec_is_token(field->name) &&
           container_of(field->name, h2o_token_t, buf)->proxy_should_drop_for_req;
}

/* Is it put together with others of its name, below? */
static bool is_joined(const struct head *head, const h2o_header_t *field, enum claim claim)
{
    return is_token(field, H2O_TOKEN_COOKIE) ||
           (head->conf->proxy.emit_via_header && is_token(field, H2O_TOKEN_VIA)) ||
           (head->conf->proxy.emit_x_forwarded_headers && claim == CLAIM_FOR) ||
           ((head->with & PROXIED_WITH_FORWARDED) != 0 && claim == CLAIM_FORWARDED);
}

bool proxied_put_joined(struct head *head, const char *name, const char *separator)
{
    size_t name_len = strlen(name);
    bool any = false;

    for (size_t i = 0; i < head->fields.size; i++) {
        const h2o_header_t *field = &head->fields.entries[i];
        if (!h2o_memis(field->name->base, field->name->len, name, name_len) ||
            field->value.len == 0 || is_left_out(head, field))
            continue;
        proxied_put(head, any ? separator : name, any ? strlen(separator) : name_len);
        if (!any)
            PUT(head, ": ");
        proxied_put(head, field->value.base, field->value.len);
        any = true;
    }
    return any;
}

void proxied_put_list(struct head *head, const char *name)
{
    if (proxied_put_joined(head, name, ", ")) {
        PUT(head, ", ");
    } else {
        proxied_put(head, name, strlen(name));
        PUT(head, ": ");
    }
}

static void put_fields(struct head *head)
{
    for (size_t i = 0; i < head->fields.size; i++) {
        const h2o_header_t *field = &head->fields.entries[i];
        enum claim claim = proxied_claim_of(field);
        if (is_joined(head, field, claim) || is_dropped(field) || is_left_out(head, field))
            continue;
        head->has_proto |= claim == CLAIM_PROTO;
        head->has_host |= claim == CLAIM_HOST;
        proxied_put_field(head, field->orig_name != NULL ? field->orig_name : field->name->base,
                          field->name->len, field->value);
    }
    if (proxied_put_joined(head, "cookie", "; "))
        PUT(head, "\r\n");
}

/* ---- fields of ours ---- */

static void put_via(struct head *head)
{
    h2o_req_t *req = head->req;
    char version[4] = "1.0";

    if (!head->conf->proxy.emit_via_header)
        return;
    proxied_put_list(head, "via");
    if (req->version >= 0x200)
        memcpy(version, "2", 2);
    else if (req->version > 0x100 && req->version <= 0x109)
        version[2] = (char)('0' + (req->version - 0x100));
    proxied_put(head, version, strlen(version));
    PUT(head, " ");
    proxied_put(head, req->input.authority.base, req->input.authority.len);
    PUT(head, "\r\n");
}

/* POST and PUT say how long their body is even if they have none (RFC 9110 section 8.6). */
static bool has_length(const h2o_req_t *req)
{
    return req->entity.base != NULL ||
           h2o_memis(req->method.base, req->method.len, H2O_STRLIT("POST")) ||
           h2o_memis(req->method.base, req->method.len, H2O_STRLIT("PUT"));
}

static void put_first(struct head *head, enum proxied_connection connection)
{
    static const char *const texts[] = {
        [PROXIED_KEEP] = "keep-alive\r\n",
        [PROXIED_CLOSE] = "close\r\n",
        [PROXIED_UPGRADE] = "upgrade\r\n",
    };
    h2o_req_t *req = head->req;
    char length[48];

    proxied_put(head, req->method.base, req->method.len);
    PUT(head, " ");
    proxied_put(head, req->path.base, req->path.len);
    PUT(head, " HTTP/1.1\r\nconnection: ");
    proxied_put(head, texts[connection], strlen(texts[connection]));
    if (connection == PROXIED_UPGRADE)
        proxied_put_field(head, H2O_STRLIT("upgrade"), req->upgrade);
    proxied_put_field(head, H2O_STRLIT("host"), req->authority);
    if (has_length(req)) {
        int n = snprintf(length, sizeof(length), "content-length: %zu\r\n", req->entity.len);
        proxied_put(head, length, (size_t)n);
    }
}

/* The client's fields as `proxy.header.*` changes them. What is not passed on goes first: a client
 * that names a field in Connection must not remove one of that name that the route adds. */
static void rewrite(struct head *head)
{
    h2o_req_t *req = head->req;
    h2o_headers_command_t *cmd = req->overrides != NULL ? req->overrides->headers_cmds : NULL;
    h2o_headers_t sifted = {NULL, 0, 0};

    head->fields = req->headers;
    if (cmd == NULL)
        return;
    h2o_vector_reserve(&req->pool, &sifted, req->headers.size + 1);
    for (size_t i = 0; i < req->headers.size; i++)
        if (!is_left_out(head, &req->headers.entries[i]))
            sifted.entries[sifted.size++] = req->headers.entries[i];
    for (; cmd->cmd != H2O_HEADERS_CMD_NULL; cmd++)
        h2o_rewrite_headers(&req->pool, &sifted, cmd);
    head->fields = sifted;
    head->is_sifted = true;
}

static bool is_protocol(h2o_iovec_t name)
{
    static const char others[] = "/!#$%&'*+-.^_`|~"; /* RFC 9110 sections 5.6.2 and 7.8 */

    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];
        if (!(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
            (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return name.len > 0;
}

bool proxied_asks_for_upgrade(const h2o_req_t *req)
{
    h2o_iovec_t name = req->upgrade;

    return req->version == 0x101 && req->entity.len == 0 && is_protocol(name) &&
           !(name.len >= 2 && h2o_lcstris(name.base, 2, H2O_STRLIT("h2"))) &&
           !(name.len >= 4 && h2o_lcstris(name.base, 4, H2O_STRLIT("http")));
}

bool proxied_asks_for_websocket(const h2o_req_t *req)
{
    return h2o_lcstris(req->upgrade.base, req->upgrade.len, H2O_STRLIT("websocket")) != 0;
}

h2o_iovec_t proxied_head_make(h2o_req_t *req, enum proxied_connection connection, unsigned with)
{
    const struct inflight *inflight = inflight_of(req);
    struct head head = {.req = req,
                        .conf = req->conn->ctx->globalconf,
                        .id = inflight != NULL ? inflight->id : h2o_iovec_init(NULL, 0),
                        .claims = claims_of(req),
                        .with = with,
                        .has_nominations = may_nominate(&req->headers)};

    head.room = 768 + req->path.len + req->authority.len;
    head.bytes = h2o_mem_alloc_pool(&req->pool, head.room);
    if ((with & PROXIED_WITH_PROXY_LINE) != 0) {
        char line[H2O_PROXY_HEADER_MAX_LENGTH];
        proxied_put(&head, line, h2o_stringify_proxy_header(req->conn, line));
    }
    rewrite(&head);
    put_first(&head, connection);
    put_fields(&head);
    proxied_put_origin(&head);
    put_via(&head);
    PUT(&head, "\r\n");
    return h2o_iovec_init(head.bytes, head.size);
}

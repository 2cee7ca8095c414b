#include "mends.h"

#include <string.h>
#include <strings.h>

#include "strict_head.h"

/* Finds heads of HTTP/2 requests that break a rule of RFC 9113 sections 8.2 and 8.3, and that the
 * library would serve, or forward as HTTP/1 (request smuggling, CVE-2021-36740 and others):
 *
 *     pseudo-headers   spaces and control characters in them, a method that is not a token, a path
 *                      that does not begin with a slash; the library takes any bytes. As in an
 *                      HTTP/1 target (strict_head.h), '#' and "%00" are refused
 *     :authority       not a host and port; missing, and Host, too
 *     Host             repeated; different from :authority
 *     content-length   more than 0 in a request that ends with its header
 *     fields           a value that begins or ends with a blank, Proxy-Connection, Keep-Alive
 *
 * Upstream uses Host where :authority is absent since 68391a63d, and checks no more. The library
 * refuses the other connection-specific fields and repeated pseudo-headers by itself.
 *
 * To see Host, h2_headers_init() clears the mark by which the library drops it; this file then
 * removes it from the header. So :authority alone decides how a request is routed, forwarded and
 * logged.
 *
 * RFC 9113 8.3.1 recommends that a server refuse a Host that differs from :authority; h2o drops it,
 * and some tools send one. A server that is started under the name h2o drops it, too. */

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_token(h2o_iovec_t text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool is_alphanumeric = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (!is_alphanumeric && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return text.len > 0;
}

static bool is_path(h2o_iovec_t path, h2o_iovec_t method)
{
    for (size_t i = 0; i < path.len; i++)
        if (path.base[i] == ' ' || path.base[i] == '#' || is_control(path.base[i]))
            return false;
    if (path.len >= 3 && memmem(path.base, path.len, "%00", 3) != NULL)
        return false;
    if (path.len == 1 && path.base[0] == '*')
        return h2o_memis(method.base, method.len, H2O_STRLIT("OPTIONS"));
    return path.len > 0 && path.base[0] == '/';
}

static bool begins_or_ends_blank(h2o_iovec_t value)
{
    if (value.len == 0)
        return false;
    char first = value.base[0], last = value.base[value.len - 1];
    return first == ' ' || first == '\t' || last == ' ' || last == '\t';
}

/* Compared by name; the library refuses Connection, Transfer-Encoding, Upgrade and TE itself. */
static bool is_of_a_connection(const h2o_iovec_t *name)
{
    if (name == &H2O_TOKEN_KEEP_ALIVE->buf)
        return true;
    return h2o_memis(name->base, name->len, H2O_STRLIT("proxy-connection"));
}

static void take_out(h2o_headers_t *headers, size_t i)
{
    memmove(headers->entries + i, headers->entries + i + 1,
            (headers->size - i - 1) * sizeof(headers->entries[0]));
    headers->size--;
}

/* Host replaces an absent :authority. Returns false if it differs from :authority. */
static bool take_host(h2o_req_t *req, size_t i, int *pseudo_map)
{
    h2o_iovec_t host = req->headers.entries[i].value;

    take_out(&req->headers, i);
    if ((*pseudo_map & H2O_HPACK_PARSE_HEADERS_AUTHORITY_EXISTS) == 0) {
        req->input.authority = host;
        *pseudo_map |= H2O_HPACK_PARSE_HEADERS_AUTHORITY_EXISTS;
        return true;
    }
    return req->input.authority.len == host.len &&
           strncasecmp(req->input.authority.base, host.base, host.len) == 0;
}

static bool fields_are_broken(h2o_req_t *req, int *pseudo_map, bool host_may_differ)
{
    bool has_host = false;

    for (size_t i = 0; i < req->headers.size;) {
        const h2o_header_t *field = &req->headers.entries[i];
        if (begins_or_ends_blank(field->value) || is_of_a_connection(field->name))
            return true;
        if (field->name != &H2O_TOKEN_HOST->buf) {
            i++;
            continue;
        }
        if (has_host || (!take_host(req, i, pseudo_map) && !host_may_differ))
            return true;
        has_host = true;
    }
    return false;
}

bool h2_rules_are_broken(h2o_http2_stream_t *stream, int *pseudo_map, size_t content_length,
                         bool host_may_differ)
{
    h2o_req_t *req = &stream->req;

    if (fields_are_broken(req, pseudo_map, host_may_differ))
        return true;
    if (stream->_req_body == NULL && content_length != SIZE_MAX && content_length != 0)
        return true; /* END_STREAM came with the header */
    return (*pseudo_map & H2O_HPACK_PARSE_HEADERS_SCHEME_EXISTS) == 0 ||
           !is_token(req->input.method) || !is_path(req->input.path, req->input.method) ||
           !strict_head_is_host(req->input.authority.base, req->input.authority.len);
}

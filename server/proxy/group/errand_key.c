#include "errand_key.h"

#include <netinet/in.h>
#include <string.h>

/* ---- the client ---- */

/* Its address without the port, which each connection has for itself. */
static bool key_of_client(h2o_req_t *req, uint64_t *ret_key)
{
    struct sockaddr_storage peer;
    const struct sockaddr_in *in = (const void *)&peer;
    const struct sockaddr_in6 *in6 = (const void *)&peer;

    if (req->conn->callbacks->get_peername(req->conn, (void *)&peer) == 0)
        return false;
    if (peer.ss_family == AF_INET)
        *ret_key = choice_hash((const void *)&in->sin_addr, sizeof(in->sin_addr));
    else if (peer.ss_family == AF_INET6)
        *ret_key = choice_hash((const void *)&in6->sin6_addr, sizeof(in6->sin6_addr));
    else
        return false;
    return true;
}

/* ---- fields ---- */

static const h2o_header_t *find(const h2o_req_t *req, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_iovec_t *field = req->headers.entries[i].name;
        if (h2o_memis(field->base, field->len, name, len))
            return &req->headers.entries[i];
    }
    return NULL;
}

static bool key_of_header(const h2o_req_t *req, const char *name, uint64_t *ret_key)
{
    h2o_iovec_t value = {0};

    if (strcmp(name, "host") == 0) { /* the library has taken it out of the fields */
        value = req->input.authority;
    } else {
        const h2o_header_t *field = find(req, name);
        if (field == NULL)
            return false;
        value = field->value;
    }
    *ret_key = choice_hash(value.base, value.len);
    return value.len > 0;
}

/* RFC 6265 section 4.2.1: pairs of a name and a value, with "; " between them. HTTP/2 may have them
 * in several fields. */
static bool key_of_pairs(h2o_iovec_t pairs, const char *name, uint64_t *ret_key)
{
    const char *at = pairs.base, *end = pairs.base + pairs.len;
    size_t len = strlen(name);

    while (at < end) {
        const char *stop = memchr(at, ';', (size_t)(end - at));
        if (stop == NULL)
            stop = end;
        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        if ((size_t)(stop - at) > len && memcmp(at, name, len) == 0 && at[len] == '=') {
            *ret_key = choice_hash(at + len + 1, (size_t)(stop - at) - len - 1);
            return true;
        }
        at = stop + 1;
    }
    return false;
}

static bool key_of_cookie(const h2o_req_t *req, const char *name, uint64_t *ret_key)
{
    for (ssize_t at = -1; (at = h2o_find_header(&req->headers, H2O_TOKEN_COOKIE, at)) != -1;)
        if (key_of_pairs(req->headers.entries[at].value, name, ret_key))
            return true;
    return false;
}

bool errand_key(const struct group_rules *rules, h2o_req_t *req, uint64_t *ret_key)
{
    switch (rules->hash_by) {
    case HASH_CLIENT:
        return key_of_client(req, ret_key);
    case HASH_HEADER:
        return key_of_header(req, rules->hash_name, ret_key);
    case HASH_COOKIE:
        return key_of_cookie(req, rules->hash_name, ret_key);
    }
    return false;
}

#include "errand_key.h"

#include <netinet/in.h>
#include <string.h>

#include "claims.h"
#include "loop.h"
#include "server_state.h"
#include "trust.h"

/* ---- the client ---- */

/* IPv4 as ::ffff:a.b.c.d. False: the peer is on a Unix socket. */
static bool peer_of(h2o_req_t *req, struct in6_addr *ret_peer)
{
    struct sockaddr_storage peer;
    const struct sockaddr_in *in = (const void *)&peer;
    const struct sockaddr_in6 *in6 = (const void *)&peer;

    if (req->conn->callbacks->get_peername(req->conn, (void *)&peer) == 0)
        return false;
    memset(ret_peer, 0, sizeof(*ret_peer));
    if (peer.ss_family == AF_INET) {
        memset(&ret_peer->s6_addr[10], 0xff, 2);
        memcpy(&ret_peer->s6_addr[12], &in->sin_addr, 4);
        return true;
    }
    if (peer.ss_family == AF_INET6)
        *ret_peer = in6->sin6_addr;
    return peer.ss_family == AF_INET6;
}

/* Each proxy has appended its own peer: so the entries count from the right, as long as a trusted
 * proxy has written them. False: the one that was read last is the client. */
static bool walk(const struct trust *trust, h2o_iovec_t list, struct in6_addr *client)
{
    for (size_t end = list.len; end > 0;) {
        size_t begin = end;
        bool is_v4;
        while (begin > 0 && list.base[begin - 1] != ',')
            begin--;
        size_t next = begin > 0 ? begin - 1 : 0;
        while (begin < end && (list.base[begin] == ' ' || list.base[begin] == '\t'))
            begin++;
        while (end > begin && (list.base[end - 1] == ' ' || list.base[end - 1] == '\t'))
            end--;
        if (end == begin || !trust_read_address(list.base + begin, end - begin, client, &is_v4) ||
            !trust_has(trust, client))
            return false;
        end = next;
    }
    return true;
}

/* Its address without the port, which each connection has for itself; of a trusted proxy, the
 * address that its X-Forwarded-For names. */
static bool key_of_client(h2o_req_t *req, uint64_t *ret_key)
{
    const struct trust *trust = loop_of(req->conn)->server->trust;
    struct in6_addr client;
    bool is_known = peer_of(req, &client);
    size_t i = claims_of(req) == CLAIMS_BELIEVED ? req->headers.size : 0;

    while (i-- > 0) {
        const h2o_header_t *field = &req->headers.entries[i];
        if (field->name != &H2O_TOKEN_X_FORWARDED_FOR->buf)
            continue;
        is_known = true;
        if (!walk(trust, field->value, &client))
            break;
    }
    if (is_known)
        *ret_key = choice_hash((const void *)&client, sizeof(client));
    return is_known;
}

/* ---- fields ---- */

/* Several fields of that name are one, with the list of their values (RFC 9110 section 5.2): a
 * proxy on the way may have put them together, and the key is the same. */
static h2o_iovec_t value_of(h2o_req_t *req, const char *name)
{
    h2o_iovec_t value = h2o_iovec_init(NULL, 0);
    size_t len = strlen(name);

    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *field = &req->headers.entries[i];
        if (!h2o_memis(field->name->base, field->name->len, name, len) || field->value.len == 0)
            continue;
        value = value.len == 0
                    ? field->value
                    : h2o_concat(&req->pool, value, h2o_iovec_init(H2O_STRLIT(", ")), field->value);
    }
    return value;
}

static bool key_of_header(h2o_req_t *req, const char *name, uint64_t *ret_key)
{
    bool is_host = strcmp(name, "host") == 0; /* the library has taken it out of the fields */
    h2o_iovec_t value = is_host ? req->input.authority : value_of(req, name);

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

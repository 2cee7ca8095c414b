#include "proxied_p.h"

#include <ctype.h>
#include <netdb.h>
#include <string.h>

/* Where a request comes from: what its client says about that, and what the upstream is told.
 *
 *     a field              of a trusted proxy         of another peer   `trusted-proxies` is not
 * set X-Forwarded-For      kept, the peer is added    the peer alone    kept, the peer is added
 *     X-Forwarded-Proto    kept, or made              made              made (as h2o does it)
 *     X-Forwarded-Host     kept, or made              made              made
 *     Forwarded            kept, ours is added        ours alone        ours alone
 *     X-Forwarded-OTHER    kept                       dropped           kept
 *
 * for `proxy.emit-x-forwarded-headers` and `proxy.forwarded`. If these are off, nothing is made or
 * added, and without `trusted-proxies` all is kept, but X-Forwarded-Proto, as h2o does it. */

/* ---- what it says about itself ---- */

/* With underscores: applications that get fields as variables (RFC 3875 section 4.1.18) take it for
 * the one with hyphens. */
static bool is_hidden(h2o_iovec_t name)
{
    static const char *const names[] = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
                                        CLAIMS_ID_FIELD};

    if (name.len == 0 || memchr(name.base, '_', name.len) == NULL)
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t at = 0;
        while (at < name.len && (name.base[at] == '_' ? '-' : name.base[at]) == names[i][at])
            at++;
        if (at == name.len && names[i][at] == '\0')
            return true;
    }
    return false;
}

bool proxied_is_claim(const h2o_header_t *field)
{
    return proxied_claim_of(field) != CLAIM_NONE;
}

enum claim proxied_claim_of(const h2o_header_t *field)
{
    h2o_iovec_t name = *field->name;

    if (h2o_iovec_is_token(field->name))
        return field->name == &H2O_TOKEN_X_FORWARDED_FOR->buf ? CLAIM_FOR : CLAIM_NONE;
    if (h2o_memis(name.base, name.len, H2O_STRLIT("forwarded")))
        return CLAIM_FORWARDED;
    if (is_hidden(name))
        return CLAIM_HIDDEN;
    if (name.len < 12 || memcmp(name.base, "x-forwarded-", 12) != 0)
        return CLAIM_NONE;
    if (h2o_memis(name.base, name.len, H2O_STRLIT("x-forwarded-proto")))
        return CLAIM_PROTO;
    if (h2o_memis(name.base, name.len, H2O_STRLIT("x-forwarded-host")))
        return CLAIM_HOST;
    return CLAIM_OTHER;
}

bool proxied_is_disbelieved(const struct head *head, enum claim claim)
{
    if (claim == CLAIM_NONE || head->claims == CLAIMS_BELIEVED)
        return false;
    if (head->claims == CLAIMS_DROPPED || claim == CLAIM_HIDDEN)
        return true;
    return (claim == CLAIM_PROTO && !head->conf->proxy.preserve_x_forwarded_proto) ||
           (claim == CLAIM_HOST && head->conf->proxy.emit_x_forwarded_headers) ||
           (claim == CLAIM_FORWARDED && (head->with & PROXIED_WITH_FORWARDED) != 0);
}

/* ---- what the upstream is told ---- */

/* The peer's address; 0: it has none, being on a Unix socket. The address of a client that has
 * reset its connection may not be known any more (getpeername(2)); without a word for it, the last
 * address of the list would be the client's claim. */
static size_t peer_text(const h2o_req_t *req, char text[NI_MAXHOST])
{
    struct sockaddr_storage peer;
    socklen_t len = req->conn->callbacks->get_peername(req->conn, (void *)&peer);

    if (len == 0)
        return (size_t)(stpcpy(text, "unknown") - text); /* RFC 7239 section 6.2 */
    if (peer.ss_family != AF_INET && peer.ss_family != AF_INET6)
        return 0; /* getnameinfo(3) calls it "localhost" */
    size_t size = h2o_socket_getnumerichost((void *)&peer, len, text);
    return size != SIZE_MAX ? size : 0;
}

static void put_x_forwarded(struct head *head, h2o_iovec_t peer)
{
    const h2o_req_t *req = head->req;
    const h2o_globalconf_t *conf = head->conf;
    bool makes_proto = head->claims != CLAIMS_UNRULED || !conf->proxy.preserve_x_forwarded_proto;

    if (!conf->proxy.emit_x_forwarded_headers)
        return;
    if (makes_proto && !head->has_proto)
        proxied_put_field(head, H2O_STRLIT("x-forwarded-proto"), req->input.scheme->name);
    if (!head->has_host && req->input.authority.len > 0)
        proxied_put_field(head, H2O_STRLIT("x-forwarded-host"), req->input.authority);
    if (peer.len > 0) {
        proxied_put_list(head, "x-forwarded-for");
        proxied_put(head, peer.base, peer.len);
    } else if (!proxied_put_joined(head, "x-forwarded-for", ", ")) {
        PUT(head, "x-forwarded-for: ");
    }
    PUT(head, "\r\n");
}

/* A value of RFC 7239 section 4: a token, or in quotes. */
static void put_value(struct head *head, h2o_iovec_t value)
{
    bool is_token = value.len > 0;

    for (size_t i = 0; i < value.len && is_token; i++) /* RFC 9110 section 5.6.2 */
        is_token = isalnum((unsigned char)value.base[i]) ||
                   (value.base[i] != '\0' && strchr("!#$%&'*+-.^_`|~", value.base[i]) != NULL);
    if (is_token) {
        proxied_put(head, value.base, value.len);
        return;
    }
    PUT(head, "\"");
    for (size_t i = 0; i < value.len; i++) {
        if (value.base[i] == '"' || value.base[i] == '\\')
            PUT(head, "\\");
        proxied_put(head, &value.base[i], 1);
    }
    PUT(head, "\"");
}

/* RFC 7239 section 6: IPv6 in brackets and quotes, `unknown` for a peer without an address. A zone
 * (fe80::1%eth0) means nothing elsewhere. `by` is left out: it would tell how this server is
 * reached. */
static void put_forwarded(struct head *head, h2o_iovec_t peer)
{
    const h2o_req_t *req = head->req;
    bool is_v6 = peer.len > 0 && memchr(peer.base, ':', peer.len) != NULL;

    if ((head->with & PROXIED_WITH_FORWARDED) == 0)
        return;
    proxied_put_list(head, "forwarded");
    PUT(head, "for=");
    if (peer.len == 0) {
        PUT(head, "unknown");
    } else if (is_v6) {
        const char *zone = memchr(peer.base, '%', peer.len);
        PUT(head, "\"[");
        proxied_put(head, peer.base, zone != NULL ? (size_t)(zone - peer.base) : peer.len);
        PUT(head, "]\"");
    } else {
        proxied_put(head, peer.base, peer.len);
    }
    if (req->input.authority.len > 0) {
        PUT(head, ";host=");
        put_value(head, req->input.authority);
    }
    PUT(head, ";proto=");
    put_value(head, req->input.scheme->name);
    PUT(head, "\r\n");
}

void proxied_put_origin(struct head *head)
{
    char text[NI_MAXHOST];
    bool is_wanted =
        head->conf->proxy.emit_x_forwarded_headers || (head->with & PROXIED_WITH_FORWARDED) != 0;
    const h2o_iovec_t peer = h2o_iovec_init(text, is_wanted ? peer_text(head->req, text) : 0);

    put_x_forwarded(head, peer);
    put_forwarded(head, peer);
}

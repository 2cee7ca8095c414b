#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "job_p.h"
#include "loop.h"
#include "request.h"

/* What a handler may read of its request. These are copies, since the request's own memory goes
 * when the client goes. To take that memory along instead is not worth it: most of it is in the
 * connection's input buffer, and a copy of a usual head takes less than a tenth of a microsecond.
 *
 * The routes of a user get the header and the peer as well; the routes of this house do not need
 * them, and do not pay for them. */

#define LENGTH_TEXT 24
#define FIELDS_ADDED 2 /* host, content-length: the library does not keep them among the others */

/* ---- the peer ---- */

static void set_host(struct conn *conn, int family, const void *address)
{
    if (inet_ntop(family, address, conn->peer.host, sizeof(conn->peer.host)) == NULL)
        (void)strcpy(conn->peer.host, "?");
}

/* An IPv4 client of a listener on [::] is shown as one (RFC 4291 section 2.5.5.2). */
static void find_peer(struct conn *conn, h2o_conn_t *of)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    socklen_t len = of->callbacks->get_peername(of, (void *)&peer);

    /* A client that has reset its connection may have no address any more. */
    (void)strcpy(conn->peer.host, len == 0 && conn->is_tcp ? "?" : "unix");
    if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *in = (void *)&peer;
        set_host(conn, AF_INET, &in->sin_addr);
        conn->peer.port = ntohs(in->sin_port);
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (void *)&peer;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
            set_host(conn, AF_INET, &in6->sin6_addr.s6_addr[12]);
        else
            set_host(conn, AF_INET6, &in6->sin6_addr);
        conn->peer.port = ntohs(in6->sin6_port);
    }
}

/* The text stands in the connection, for its next requests. */
static const struct conn_peer *peer_of(struct conn *conn, h2o_req_t *req)
{
    if (conn->peer.host[0] == '\0')
        find_peer(conn, req->conn);
    return &conn->peer;
}

/* ---- copying ---- */

static char *copy(char **at, h2o_iovec_t bytes)
{
    char *text = *at;
    if (bytes.len > 0)
        memcpy(text, bytes.base, bytes.len);
    text[bytes.len] = '\0';
    *at = text + bytes.len + 1;
    return text;
}

static void add(struct exchange_field *fields, size_t *count, const char *name, const char *value)
{
    fields[(*count)++] = (struct exchange_field){.name = name, .value = value};
}

/* The fields come first in the room, which is aligned for them. */
static void copy_fields(struct exchange *exchange, const h2o_req_t *req,
                        struct exchange_field *fields, char **at)
{
    size_t count = 0;

    if (req->authority.len > 0)
        add(fields, &count, "host", exchange->authority);
    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *header = &req->headers.entries[i];
        /* A well-known name is static text, in lower case like all of them. */
        const char *name =
            h2o_iovec_is_token(header->name) ? header->name->base : copy(at, *header->name);
        add(fields, &count, name, copy(at, header->value));
    }
    if (req->entity.len > 0) {
        add(fields, &count, "content-length", *at);
        *at += snprintf(*at, LENGTH_TEXT, "%zu", req->entity.len) + 1;
    }
    exchange->fields = fields;
    exchange->field_count = count;
}

static void copy_more(struct job *job, h2o_req_t *req, struct exchange_field *fields, char **at)
{
    struct exchange *exchange = &job->exchange;
    const struct conn_peer *peer = peer_of(job->inflight->conn, req);

    copy_fields(exchange, req, fields, at);
    exchange->peer = copy(at, h2o_iovec_init(peer->host, strlen(peer->host)));
    exchange->peer_port = peer->port;
    exchange->version = (unsigned)req->version;
    exchange->is_https = req->input.scheme == &H2O_URL_SCHEME_HTTPS;
}

static size_t fields_room(const h2o_req_t *req)
{
    size_t room = (req->headers.size + FIELDS_ADDED) * sizeof(struct exchange_field) + LENGTH_TEXT +
                  sizeof(((struct conn *)NULL)->peer.host);

    for (size_t i = 0; i < req->headers.size; i++)
        room += req->headers.entries[i].name->len + req->headers.entries[i].value.len + 2;
    return room;
}

size_t exchange_copy_room(const h2o_req_t *req, bool is_user)
{
    return EXCHANGE_SCRATCH + req->method.len + req->path.len + req->authority.len +
           req->entity.len + 4 + (is_user ? fields_room(req) : 0);
}

void exchange_copy(struct job *job, h2o_req_t *req, bool is_user)
{
    struct exchange *exchange = &job->exchange;
    char *at = (char *)(job + 1);
    struct exchange_field *fields = (void *)(job + 1);

    _Static_assert(sizeof(*job) % _Alignof(struct exchange_field) == 0, "the room is aligned");
    if (is_user)
        at += (req->headers.size + FIELDS_ADDED) * sizeof(*fields);
    exchange->scratch = at;
    at += EXCHANGE_SCRATCH;
    exchange->method = copy(&at, req->method);
    exchange->path = copy(&at, req->path);
    exchange->query = req->query_at != SIZE_MAX ? exchange->path + req->query_at + 1 : "";
    exchange->authority = copy(&at, req->authority);
    if (is_user)
        copy_more(job, req, fields, &at);
    exchange->body = copy(&at, req->entity);
    exchange->body_bytes = job->body_bytes = req->entity.len;
    job->room_at = at;
    job->room_end = (char *)(job + 1) + job->room_bytes;
}

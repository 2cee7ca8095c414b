/* HTTP/1 requests that two servers could read differently.
 *
 * libh2o 2.2.5 takes the first of two different lengths, a length beside a chunked body, a repeated
 * Transfer-Encoding, folded fields, chunk sizes with anything after the digits, any Host or none;
 * and it routes an absolute target as if it were a path. Upstream has fixed some of these since
 * (ea43d747b repeated lengths and codings, 465143846 folded fields, e60d40a26, 9243639a9 and
 * 76d8e1821 absolute targets) and kept others. strict_head.h and strict_chunks.h have the rules
 * of this server.
 *
 * Replaced: phr_parse_request(), phr_decode_chunked(), h2o_send_error_generic().
 *
 * The answer. If its parser refuses a head, the library sends 119 fixed bytes, writes no access
 * log, and closes with the client's bytes unread, which resets the connection. So for a refused
 * head our parser returns a request with an unknown transfer coding: that one the library answers
 * normally, with the access log, filters, and our lingering close. h2o_send_error_generic() then
 * gets the real status and text. */

#include "mends.h"

#include <string.h>
#include <strings.h>

#include "library.h"
#include "conn.h"
#include "server_state.h"
#include "strict_head.h"

#define METHOD_SHOWN 32 /* bytes of the method in the access log; it may not be a method at all */
#define PATH_SHOWN 1024

static const struct {
    int status;
    const char *reason;
    const char *text;
} answers[REFUSAL_COUNT] = {
#define ANSWER(id, label, status, reason, text) [REFUSAL_##id] = {status, reason, text "\n"},
    REFUSALS(ANSWER)
#undef ANSWER
};

/* NULL: the connection belongs to the admin listener, which answers refused requests itself, and is
 * not counted. */
static struct conn *client_of(const h2o_req_t *req)
{
    const h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    return sock != NULL ? conn_of_socket(sock) : NULL;
}

static void count_refusal(struct conn *conn, enum h1_refusal refusal)
{
    conn->refusal = (uint8_t)(refusal + 1);
    count_add(&conn->loop->metrics.refused[refusal], 1);
}

/* The limit of a head, and of a trailer section. The admin listener has the library's own limits,
 * which are the largest. */
static size_t head_most(const struct conn *client)
{
    size_t most = client != NULL ? client->loop->server->config.max_header_size : H2O_MAX_REQLEN;
    return most < H2O_MAX_REQLEN ? most : H2O_MAX_REQLEN;
}

/* ---- which connection a chunk belongs to ---- */

/* The decoder's arguments do not name the connection, and the decoder also runs for answers of
 * upstreams. So between_calls.h keeps the connection whose input the library parses; it is the
 * right one if the bytes lie in its input. */

static bool is_of_input(const struct conn *conn, const char *bytes)
{
    const h2o_buffer_t *input = conn->sock->input;
    return bytes >= input->bytes && bytes < input->bytes + input->capacity;
}

void strict_forget(const struct conn *conn)
{
    if (between_calls()->parsing == conn)
        between_calls()->parsing = NULL;
}

void strict_note_reading(struct conn *conn)
{
    between_calls()->parsing = conn;
}

static void begin_chunked_body(struct conn *conn)
{
    conn->has_chunked_body = true;
    conn->chunks = (struct strict_chunks){.trailer_left = (uint32_t)head_most(conn)};
    between_calls()->parsing = conn;
}

ssize_t strict_decode_chunked(struct phr_chunked_decoder *decoder, char *bytes, size_t *len)
{
    struct conn *conn = between_calls()->parsing;

    if (conn == NULL || !conn->has_chunked_body || !is_of_input(conn, bytes))
        return library.phr_decode_chunked(decoder, bytes, len);
    enum h1_refusal refusal = strict_chunks_check(&conn->chunks, bytes, *len);
    ssize_t rest = -1;
    if (refusal == REFUSAL_NONE)
        rest = library.phr_decode_chunked(decoder, bytes, len);
    else
        count_refusal(conn, refusal);
    if (rest != -2)
        conn->has_chunked_body = false;
    return rest;
}

/* ---- heads ---- */

/* A copy that the library may write to. */
static const char *copy(h2o_req_t *req, const char *text, size_t len)
{
    return h2o_strdup(&req->pool, text, len).base;
}

/* The arguments of the parser. */
struct parsed {
    const char **method;
    size_t *method_len;
    const char **path;
    size_t *path_len;
    int *minor_version;
    struct phr_header *headers;
    size_t *header_count;
};

/* Turn the head into one that the library answers with an error and a close; see above. */
static void show_as_refused(h2o_req_t *req, const struct parsed *to, const struct strict_head *head,
                            enum h1_refusal refusal)
{
    struct conn *conn = client_of(req);

    if (conn != NULL)
        count_refusal(conn, refusal);
    if (*to->method == NULL || *to->method_len == 0) {
        *to->method = "-";
        *to->method_len = 1;
    }
    if (*to->path == NULL || *to->path_len == 0) {
        *to->path = "-";
        *to->path_len = 1;
    }
    if (*to->method_len > METHOD_SHOWN)
        *to->method_len = METHOD_SHOWN;
    if (*to->path_len > PATH_SHOWN)
        *to->path_len = PATH_SHOWN;
    if (*to->minor_version < 0)
        *to->minor_version = 1;
    to->headers[0] = (struct phr_header){copy(req, "transfer-encoding", 17), 17, "refused", 7};
    *to->header_count = 1;
    if (head != NULL && head->host != NULL)
        to->headers[(*to->header_count)++] =
            (struct phr_header){copy(req, "host", 4), 4, head->host, head->host_len};
}

/* RFC 9112 3.2.2: the target's authority replaces the Host, which is the same here, or empty. */
static void use_absolute_target(h2o_req_t *req, const struct parsed *to,
                                const struct strict_head *head)
{
    h2o_iovec_t authority = h2o_strdup(&req->pool, head->authority, head->authority_len);

    req->input.authority = authority;
    for (size_t i = 0; i < *to->header_count; i++)
        if (to->headers[i].name_len == 4 && strncasecmp(to->headers[i].name, "host", 4) == 0) {
            to->headers[i].value = authority.base;
            to->headers[i].value_len = authority.len;
        }
    *to->path = head->path;
    *to->path_len = head->path_len;
    if (head->path_len > 0 && head->path[0] == '/')
        return;
    h2o_iovec_t path = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("/")),
                                  h2o_iovec_init(head->path, head->path_len));
    *to->path = path.base;
    *to->path_len = path.len;
}

/* The library itself ends the preface of HTTP/2, and a connection that sends empty lines. */
static bool is_left_to_library(const h2o_req_t *req, const char *bytes, size_t len)
{
    static const char preface[] = "PRI * HTTP/2";

    if (len >= sizeof(preface) - 1 && memcmp(bytes, preface, sizeof(preface) - 1) == 0)
        return req->conn->ctx->globalconf->http1.upgrade_to_http2 != 0;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != '\r' && bytes[i] != '\n')
            return false;
    return len <= 4;
}

static bool is_beyond_limits(const struct conn *client, const struct strict_head *head)
{
    return client != NULL && (head->len > head_most(client) ||
                              head->header_count > client->loop->server->config.max_header_fields);
}

/* `is_partial`: the head is incomplete and has no fault so far; only its size is checked. */
static int refuse_unparsed(h2o_req_t *req, const struct parsed *to, const char *bytes, size_t len,
                           size_t room, bool is_partial)
{
    if (is_left_to_library(req, bytes, len))
        return -1;
    bool is_full = is_partial || len == H2O_MAX_REQLEN || *to->header_count == room;
    show_as_refused(req, to, NULL, is_full ? REFUSAL_TOO_LARGE : REFUSAL_SYNTAX);
    return (int)len;
}

/* The request is accepted. If a server in front does not take bare LF for a line end, it may have
 * sent one request where this server sees several (request smuggling). So a request with bare LF is
 * the last one of its connection. */
static void begin_request(struct conn *conn, const struct strict_head *head)
{
    conn->is_last_request = head->has_bare_lf;
    if (head->is_chunked)
        begin_chunked_body(conn);
}

int strict_parse_request(const char *bytes, size_t len, const char **method, size_t *method_len,
                         const char **path, size_t *path_len, int *minor_version,
                         struct phr_header *headers, size_t *header_count, size_t len_before)
{
    /* libh2o lets the parser write the method directly into the request. */
    h2o_req_t *req = container_of(method, h2o_req_t, input.method.base);
    const struct parsed to = {method,        method_len, path,        path_len,
                              minor_version, headers,    header_count};
    size_t room = *header_count;

    int parsed = library.phr_parse_request(bytes, len, method, method_len, path, path_len,
                                           minor_version, headers, header_count, len_before);
    if (parsed == -1 || (parsed == -2 && len >= head_most(client_of(req))))
        return refuse_unparsed(req, &to, bytes, len, room, parsed == -2);
    if (parsed < 0)
        return parsed;
    struct strict_head head = {.bytes = bytes,
                               .len = (size_t)parsed,
                               .method = *method,
                               .method_len = *method_len,
                               .path = *path,
                               .path_len = *path_len,
                               .minor_version = *minor_version,
                               .headers = headers,
                               .header_count = *header_count};
    enum h1_refusal refusal = strict_head_check(&head);
    struct conn *conn = client_of(req);
    if (is_beyond_limits(conn, &head))
        refusal = REFUSAL_TOO_LARGE;
    if (refusal == REFUSAL_NONE && head.has_bare_lf && conn == NULL)
        refusal = REFUSAL_LINE_END; /* request.c ends only connections of clients */
    if (refusal != REFUSAL_NONE) {
        show_as_refused(req, &to, &head, refusal);
        return parsed;
    }
    *header_count = head.header_count;
    if (head.authority != NULL)
        use_absolute_target(req, &to, &head);
    if (conn != NULL)
        begin_request(conn, &head);
    return parsed;
}

/* ---- the answer ---- */

void strict_answer(h2o_req_t *req, int *status, const char **reason, const char **body)
{
    struct conn *conn = req->version < 0x200 && *status == 400 ? client_of(req) : NULL;

    if (conn == NULL || conn->refusal == 0)
        return;
    *status = answers[conn->refusal - 1].status;
    *reason = answers[conn->refusal - 1].reason;
    *body = answers[conn->refusal - 1].text;
}

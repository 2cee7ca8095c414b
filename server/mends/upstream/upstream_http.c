/* Incomplete answers of HTTP upstreams, and connections that must not be reused.
 *
 * Faults: an answer that ends with its connection is forwarded as complete when the connection is
 * reset. A chunked answer whose connection ends between two chunks is, too, with a last chunk that
 * the upstream never sent. Bytes after an answer without a body (to HEAD, 204, 304) stay on a
 * reused connection, and are read as the next answer. A 101 to a request without Upgrade is
 * forwarded, and so is the Content-Length of a 204. HEAD redirected by X-Reproxy-URL gets a body.
 * Interim answers (1xx) are read forever.
 *
 * Upstream: later versions accept the end between two chunks on purpose.
 *
 * Replaced: h2o__proxy_process_request() names the request;
 * h2o_http1client_connect() and h2o_http1client_connect_with_pool() get our callbacks, which check
 * what the client reports and pass it on; h2o_socket_read_start(), because the client does not
 * report how a connection ended; and phr_decode_chunked_is_in_data(), which the client calls when a
 * connection ends before the last chunk: that is always an error.
 *
 *     connect -> on_connect -> on_head -> on_body ... on_body     each: ours, then the proxy's
 *
 * The proxy's own data is put back into the client for each of its callbacks. */

#include "upstream.h"

#include <stdint.h>
#include <string.h>

#include "answer_head.h"
#include "between_calls.h"
#include "mends.h"
#include "library.h"
#include "conn.h"

#define INTERIM_MAX 64 /* answers with 1xx, for one request */

/* For each time that a request is proxied; lives in the request's memory pool. The client is
 * cancelled when the request is disposed of, so it never outlives this. */
struct upstream {
    h2o_req_t *req;
    void *proxy; /* the data of the proxy's callbacks */
    h2o_http1client_connect_cb on_connect;
    h2o_http1client_head_cb on_head;
    h2o_http1client_informational_cb on_interim;
    h2o_http1client_body_cb on_body;
    h2o_socket_cb on_read; /* the client's callback, for an answer that ends with its connection */
    unsigned interims;
    bool was_reset;
};

void upstream_http_process(h2o_req_t *req)
{
    /* An internal redirect turns HEAD into GET, and the client would get the body of that. */
    if (h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")) &&
        h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")))
        req->method = req->input.method;
    between_calls()->http_connects_for = req; /* taken by upstream_http_connect() */
    library.h2o__proxy_process_request(req);
    between_calls()->http_connects_for = NULL;
}

/* Do not reuse the connection: the client closes it when the answer is over. */
static void keep_no_longer(h2o_http1client_t *client)
{
    client->sockpool.pool = NULL;
}

static void report_fault(h2o_http1client_t *client, const char *fault)
{
    const struct upstream *upstream = client->data;
    h2o_http1client_head_cb on_head = upstream->on_head;

    keep_no_longer(client);
    client->data = upstream->proxy;
    (void)on_head(client, fault, 0, 0, h2o_iovec_init(NULL, 0), NULL, 0, 0);
}

/* ---- the body ---- */

static int on_body(h2o_http1client_t *client, const char *error)
{
    struct upstream *upstream = client->data;

    if (error == h2o_http1client_error_is_eos && upstream->was_reset)
        error = "the upstream's connection broke before the end of its answer";
    if (error != NULL && error != h2o_http1client_error_is_eos)
        answer_is_cut(upstream->req);
    client->data = upstream->proxy;
    int result = upstream->on_body(client, error);
    if (error == NULL) /* else the request, and with it `upstream`, may be gone */
        client->data = upstream;
    return result;
}

/* The client reports every end of the connection as the end of the answer. */
static void on_read(h2o_socket_t *sock, const char *error)
{
    h2o_http1client_t *client = sock->data;
    struct upstream *upstream = client->data;

    if (error != NULL && error != h2o_socket_error_closed)
        upstream->was_reset = true;
    upstream->on_read(sock, error);
}

bool upstream_http_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    if (sock != between_calls()->http_reads_next || sock == NULL)
        return false;
    h2o_http1client_t *client = sock->data;
    struct upstream *upstream = client->data;
    between_calls()->http_reads_next = NULL;
    upstream->on_read = cb;
    library.h2o_socket_read_start(sock, on_read);
    return true;
}

/* ---- the head ---- */

static bool has(const h2o_header_t *headers, size_t count, const h2o_token_t *token)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].name == &token->buf)
            return true;
    return false;
}

static void drop(h2o_header_t *headers, size_t *count, const h2o_token_t *token)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++)
        if (headers[i].name != &token->buf)
            headers[kept++] = headers[i];
    *count = kept;
}

static bool is_chunked(const h2o_header_t *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].name == &H2O_TOKEN_TRANSFER_ENCODING->buf)
            return h2o_memis(headers[i].value.base, headers[i].value.len, H2O_STRLIT("chunked"));
    return false;
}

/* The proxy's own condition for sending a request to upgrade. */
static bool asks_for_upgrade(const h2o_http1client_t *client, const h2o_req_t *req)
{
    return client->ctx->websocket_timeout != NULL &&
           h2o_lcstris(req->upgrade.base, req->upgrade.len, H2O_STRLIT("websocket"));
}

/* `error` NULL: a body follows. End of stream: this answer has none. */
static h2o_http1client_body_cb on_head(h2o_http1client_t *client, const char *error,
                                       int minor_version, int status, h2o_iovec_t reason,
                                       h2o_header_t *headers, size_t count, int head_size)
{
    struct upstream *upstream = client->data;
    bool chunked = is_chunked(headers, count);
    bool until_close = error == NULL && !chunked && !has(headers, count, H2O_TOKEN_CONTENT_LENGTH);

    if (error != NULL && error != h2o_http1client_error_is_eos) {
        const char *fault = answer_head_refused_because();
        report_fault(client, fault != NULL ? fault : error);
        return NULL;
    }
    if (status == 101 && !asks_for_upgrade(client, upstream->req)) {
        report_fault(client, "the upstream switched protocols without a request to upgrade");
        return NULL;
    }
    if (status == 204) /* it has no length (RFC 9110 section 8.6) */
        drop(headers, &count, H2O_TOKEN_CONTENT_LENGTH);
    if (status != 101 && ((error != NULL && client->sock->input->size > (size_t)head_size) ||
                          (chunked && minor_version == 0)))
        keep_no_longer(client);
    client->data = upstream->proxy;
    h2o_http1client_body_cb body =
        upstream->on_head(client, error, minor_version, status, reason, headers, count, head_size);
    if (body == NULL) /* the request, and with it `upstream`, may be gone */
        return NULL;
    client->data = upstream;
    upstream->on_body = body;
    if (until_close)
        between_calls()->http_reads_next = client->sock; /* upstream_http_read_start() */
    return on_body;
}

static int on_interim(h2o_http1client_t *client, int minor_version, int status, h2o_iovec_t reason,
                      h2o_header_t *headers, size_t count)
{
    struct upstream *upstream = client->data;

    if (++upstream->interims > INTERIM_MAX) {
        report_fault(client, "the upstream sent more than 64 interim answers");
        return -1; /* the client closes, and reports no more */
    }
    client->data = upstream->proxy;
    int result = upstream->on_interim(client, minor_version, status, reason, headers, count);
    client->data = upstream;
    return result;
}

/* ---- the connection ---- */

static h2o_http1client_head_cb on_connect(h2o_http1client_t *client, const char *error,
                                          h2o_iovec_t **bytes, size_t *count, int *is_head)
{
    struct upstream *upstream = client->data;

    client->data = upstream->proxy;
    h2o_http1client_head_cb head = upstream->on_connect(client, error, bytes, count, is_head);
    if (head == NULL) /* as above */
        return NULL;
    client->data = upstream;
    upstream->on_head = head;
    upstream->on_interim = client->informational_cb;
    if (upstream->on_interim != NULL)
        client->informational_cb = on_interim;
    return on_head;
}

h2o_http1client_connect_cb upstream_http_connect(void **data, h2o_http1client_connect_cb cb)
{
    h2o_req_t *req = between_calls()->http_connects_for;

    if (req == NULL)
        return cb;
    struct upstream *upstream = h2o_mem_alloc_pool(&req->pool, sizeof(*upstream));
    between_calls()->http_connects_for = NULL;
    memset(upstream, 0, sizeof(*upstream));
    upstream->req = req;
    upstream->proxy = *data;
    upstream->on_connect = cb;
    *data = upstream;
    return on_connect;
}

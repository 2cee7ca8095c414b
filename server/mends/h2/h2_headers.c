#include "mends.h"

#include "hpack_scan.h"
#include "library.h"
#include "conn.h"
#include "server_state.h"

/* Header blocks of HTTP/2 that take too much memory, or that break a rule.
 *
 * Fault: the library limits a header block to 417 KB as sent, but not as decoded. A reference of
 * one byte stands for a field of up to 4 KB, and each field is allocated: 6 MB pinned 710 MB
 * (CVE-2026-49975), and 16 KB to a proxied path 468 MB in libh2o's proxy. Fields without a name
 * count, too (CVE-2019-9516). Upstream limits the number of fields in 00f6cab89.
 *
 * The mend measures each block before the library decodes it (hpack_scan.c), and the result after:
 *
 *     beyond twice a limit   ENHANCE_YOUR_CALM for the connection: the block is not decoded, and
 *                            without decoding it the connection cannot go on
 *     beyond a limit         status 431 for the request
 *     malformed              PROTOCOL_ERROR for the stream; h2_rules.c says what is
 *
 * The limits are the settings limits.header-fields, limits.header-size and limits.header-block.
 *
 * How h2o_hpack_parse_headers() answers a request: for the "soft" error of an invalid character the
 * library calls h2o_send_error_generic() with 400 and a text. The texts below are ours;
 * h2_headers_status() recognises them by their addresses. To cause a stream error, the map of
 * pseudo-headers is cleared.
 *
 * Fields of a trailer are dropped: the library would append them to the header. So only the size of
 * a trailer is limited, not the number of its fields; each field counts 32 bytes at least. */

static const char too_large[] = "the header of the request is too large";
static const char too_long[] = "the body of the request is too large";

static int refuse(struct loop *loop, const char **err_desc)
{
    *err_desc = too_large;
    count_add(&loop->metrics.h2_header_limit, 1);
    return H2O_HTTP2_ERROR_ENHANCE_YOUR_CALM;
}

int h2_headers_begin(h2o_http2_conn_t *h2, const struct h2_frame *frame, const char **err_desc)
{
    struct loop *loop = loop_of(&h2->super);
    return frame->length > loop->server->config.max_header_block ? refuse(loop, err_desc) : 0;
}

int h2_headers_continue(h2o_http2_conn_t *h2, const struct h2_frame *frame, const char **err_desc)
{
    struct loop *loop = loop_of(&h2->super);
    size_t so_far = h2->_headers_unparsed->size;
    return so_far + frame->length > loop->server->config.max_header_block ? refuse(loop, err_desc)
                                                                          : 0;
}

static size_t decoded_size(const h2o_req_t *req)
{
    size_t size = req->input.method.len + req->input.path.len + req->input.authority.len;

    for (size_t i = 0; i < req->headers.size; i++)
        size += req->headers.entries[i].name->len + req->headers.entries[i].value.len + 32;
    return size;
}

static int stop_stream(struct loop *loop, int *pseudo_map)
{
    count_add(&loop->metrics.h2_malformed, 1);
    *pseudo_map = 0;
    return 0;
}

/* `result` is the library's; it is not a connection error. */
static int judge_head(struct loop *loop, h2o_req_t *req, const struct hpack_scan *scan,
                      int *pseudo_map, size_t content_length, int result, const char **err_desc)
{
    const struct server_config *config = &loop->server->config;
    h2o_http2_stream_t *stream = container_of(req, h2o_http2_stream_t, req);

    if (scan->has_empty_name || scan->has_strange_scheme || scan->content_lengths > 1 ||
        h2_rules_are_broken(stream, pseudo_map, content_length, config->host_may_differ))
        return stop_stream(loop, pseudo_map);
    if (result != 0)
        return result;
    if (scan->fields > config->max_header_fields || decoded_size(req) > config->max_header_size) {
        *err_desc = too_large;
        count_add(&loop->metrics.h2_header_limit, 1);
        return H2O_HTTP2_ERROR_INVALID_HEADER_CHAR;
    }
    if (stream->_req_body != NULL && content_length != SIZE_MAX &&
        content_length > loop->server->globalconf.max_request_entity_size) {
        *err_desc = too_long;
        h2_body_note_too_long(req);
        return H2O_HTTP2_ERROR_INVALID_HEADER_CHAR;
    }
    return 0;
}

int h2_headers_parse(h2o_req_t *req, h2o_hpack_header_table_t *table, const uint8_t *src,
                     size_t len, int *pseudo_map, size_t *content_length,
                     h2o_cache_digests_t **digests, const char **err_desc)
{
    struct loop *loop = loop_of(req->conn);
    const struct server_config *config = &loop->server->config;
    struct hpack_scan scan;

    bool is_trailer = pseudo_map == NULL;
    hpack_scan(table, src, len, is_trailer ? SIZE_MAX : 2 * config->max_header_fields,
               2 * config->max_header_size, &scan);
    if (scan.is_too_much)
        return refuse(loop, err_desc);
    size_t fields = req->headers.size;
    int result = library.h2o_hpack_parse_headers(req, table, src, len, pseudo_map, content_length,
                                                 digests, err_desc);
    if (result != 0 && result != H2O_HTTP2_ERROR_INVALID_HEADER_CHAR) {
        if (result == H2O_HTTP2_ERROR_PROTOCOL)
            count_add(&loop->metrics.h2_malformed, 1);
        return result;
    }
    if (is_trailer) {
        req->headers.size = fields;
        return result;
    }
    return judge_head(loop, req, &scan, pseudo_map, *content_length, result, err_desc);
}

int h2_headers_status(int status, const char **reason, const char *body)
{
    if (body == too_large) {
        *reason = "Request Header Fields Too Large";
        return 431;
    }
    if (body == too_long) {
        *reason = "Request Entity Too Large";
        return 413;
    }
    return status;
}

void h2_headers_init(void)
{
    if (H2O_TOKEN_HOST->http2_should_reject != 0) /* once: loops of another server may be running */
        H2O_TOKEN_HOST->http2_should_reject = 0;  /* see h2_rules.c */
}

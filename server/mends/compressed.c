/* The entity tag of a compressed answer, and `no-transform`.
 *
 * libh2o compresses a body and keeps its strong entity tag, although a strong tag promises
 * identical bytes (RFC 9110 8.8.1): a cache could combine ranges of both forms. And it ignores
 * `no-transform`, which forbids compression (RFC 9110 7.7, RFC 9111 5.2). Upstream's 1c29a862a and
 * 22758164e weaken the tag; upstream still ignores no-transform.
 *
 * Replaced: h2o_compress_register(). The filter here is made after the library's and brotli.c's, so
 * it runs before them: it disables them, or adjusts the answer after they have compressed it.
 * gate.c handles requests that come with a weak tag. */

#include "mends.h"

#include "conn.h"
#include "request.h"
#include "gate.h"

static bool forbids_to_transform(const h2o_headers_t *headers)
{
    for (ssize_t at = -1; (at = h2o_find_header(headers, H2O_TOKEN_CACHE_CONTROL, at)) != -1;) {
        const h2o_iovec_t *value = &headers->entries[at].value;
        if (h2o_contains_token(value->base, value->len, H2O_STRLIT("no-transform"), ','))
            return true;
    }
    return false;
}

static void weaken_tag(h2o_req_t *req)
{
    ssize_t at = h2o_find_header(&req->res.headers, H2O_TOKEN_ETAG, -1);
    h2o_iovec_t *tag = at != -1 ? &req->res.headers.entries[at].value : NULL;

    if (tag != NULL && tag->len > 0 && tag->base[0] == '"')
        *tag = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("W/")), *tag);
}

static bool is_encoded(const h2o_req_t *req)
{
    return h2o_find_header(&req->res.headers, H2O_TOKEN_CONTENT_ENCODING, -1) != -1;
}

static void on_setup(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    const struct inflight *inflight = inflight_of(req);
    bool was_encoded = is_encoded(req);

    (void)filter;
    if (forbids_to_transform(&req->res.headers) || forbids_to_transform(&req->headers))
        req->compress_hint = H2O_COMPRESS_HINT_DISABLE;
    h2o_setup_next_ostream(req, slot);
    /* Nothing has been written yet, so the header can still change. A 304 must carry the tag of the
     * form that the client has. */
    if ((!was_encoded && is_encoded(req)) ||
        (req->res.status == 304 && inflight != NULL && inflight->tag_was_weak))
        weaken_tag(req);
}

void compressed_register(h2o_pathconf_t *path)
{
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));

    filter->on_setup_ostream = on_setup;
    gate_note_weak_tags(path);
}

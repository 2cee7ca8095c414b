#include "brotli.h"

#include <brotli/encode.h>
#include <string.h>

#include "conn.h"

/* Brotli (RFC 7932) for `compress: ON` and `compress: [br]`. libh2o parses these settings but
 * cannot compress with brotli: only h2o's main program is linked with it. So after libh2o has
 * registered its filter on a path, brotli_register() puts a filter for brotli in front of it (see
 * mends/replaced.h). libh2o leaves an answer with a Content-Encoding alone. */

/* Compress at least every so many bytes, as libh2o does for gzip. */
#define PIECE_BYTES 8192

struct filter {
    h2o_filter_t super;
    size_t min_size;
    int quality;
};

struct encoder {
    h2o_ostream_t super;
    BrotliEncoderState *state; /* NULL: compression failed */
    h2o_buffer_t *out;         /* the output of this call of do_send(); emptied in the next */
};

static void dispose(void *data)
{
    struct encoder *encoder = *(struct encoder **)data;
    if (encoder->state != NULL)
        BrotliEncoderDestroyInstance(encoder->state);
    h2o_buffer_dispose(&encoder->out);
}

/* Compress all of `bytes`, and append the output to encoder->out. */
static bool encode(struct encoder *encoder, BrotliEncoderOperation operation, h2o_iovec_t bytes)
{
    const uint8_t *next = (const uint8_t *)bytes.base;
    size_t left = bytes.len;

    do {
        size_t room = 0, ready = 0;
        if (BrotliEncoderCompressStream(encoder->state, operation, &left, &next, &room, NULL,
                                        NULL) != BROTLI_TRUE)
            return false;
        const uint8_t *made = BrotliEncoderTakeOutput(encoder->state, &ready);
        if (ready > 0) {
            h2o_iovec_t at = h2o_buffer_reserve(&encoder->out, ready);
            if (at.base == NULL)
                return false;
            memcpy(at.base, made, ready);
            encoder->out->size += ready;
        }
    } while (left > 0 || BrotliEncoderHasMoreOutput(encoder->state) == BROTLI_TRUE);
    return true;
}

static void do_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct encoder *encoder = container_of(self, struct encoder, super);
    bool is_last = !h2o_send_state_is_in_progress(state), ok = true;

    h2o_buffer_consume(&encoder->out, encoder->out->size); /* it has been sent */
    for (size_t i = 0; ok && i < count; i++)
        ok = encode(encoder, BROTLI_OPERATION_PROCESS, bufs[i]);
    if (ok && state != H2O_SEND_STATE_ERROR)
        ok = encode(encoder, is_last ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_FLUSH,
                    (h2o_iovec_t){NULL, 0});
    h2o_iovec_t out = {encoder->out->bytes, encoder->out->size};
    h2o_ostream_send_next(self, req, &out, out.len > 0 ? 1 : 0, ok ? state : H2O_SEND_STATE_ERROR);
}

/* The same conditions as libh2o's for gzip. */
static bool suits(const struct filter *filter, h2o_req_t *req)
{
    if (req->version < 0x101 || req->res.status != 200 ||
        h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")) ||
        req->compress_hint == H2O_COMPRESS_HINT_DISABLE)
        return false;
    if (req->compress_hint != H2O_COMPRESS_HINT_ENABLE) {
        if (req->res.mime_attr == NULL)
            h2o_req_fill_mime_attributes(req);
        if (!req->res.mime_attr->is_compressible || req->res.content_length < filter->min_size)
            return false;
    }
    return (h2o_get_compressible_types(&req->headers) & H2O_COMPRESSIBLE_BROTLI) != 0 &&
           h2o_find_header(&req->res.headers, H2O_TOKEN_CONTENT_ENCODING, -1) == -1;
}

static void on_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct filter *filter = container_of(self, struct filter, super);
    BrotliEncoderState *state = NULL;

    if (suits(filter, req))
        state = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    if (state == NULL) {
        h2o_setup_next_ostream(req, slot);
        return;
    }
    (void)BrotliEncoderSetParameter(state, BROTLI_PARAM_QUALITY, (uint32_t)filter->quality);
    if (req->res.content_length != SIZE_MAX && req->res.content_length <= UINT32_MAX)
        (void)BrotliEncoderSetParameter(state, BROTLI_PARAM_SIZE_HINT,
                                        (uint32_t)req->res.content_length);
    req->res.content_length = SIZE_MAX;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_ENCODING, NULL,
                   H2O_STRLIT("br"));
    h2o_set_header_token(&req->pool, &req->res.headers, H2O_TOKEN_VARY,
                         H2O_STRLIT("accept-encoding"));
    ssize_t ranges = h2o_find_header(&req->res.headers, H2O_TOKEN_ACCEPT_RANGES, -1);
    if (ranges != -1)
        req->res.headers.entries[ranges].value = (h2o_iovec_t){H2O_STRLIT("none")};
    else
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ACCEPT_RANGES, NULL,
                       H2O_STRLIT("none"));

    struct encoder *encoder =
        container_of(h2o_add_ostream(req, sizeof(*encoder), slot), struct encoder, super);
    encoder->super.do_send = do_send;
    encoder->state = state;
    h2o_buffer_init(&encoder->out, &h2o_socket_buffer_prototype);
    struct encoder **owned = h2o_mem_alloc_shared(&req->pool, sizeof(*owned), dispose);
    *owned = encoder;
    if (req->preferred_chunk_size > PIECE_BYTES)
        req->preferred_chunk_size = PIECE_BYTES;
    h2o_setup_next_ostream(req, &encoder->super.next);
}

uint32_t brotli_version(void)
{
    return BrotliEncoderVersion();
}

void brotli_register(h2o_pathconf_t *path, const h2o_compress_args_t *args)
{
    if (args->brotli.quality == -1)
        return;
    /* The filter created last runs first. */
    struct filter *filter =
        container_of(h2o_create_filter(path, sizeof(*filter)), struct filter, super);
    filter->super.on_setup_ostream = on_setup;
    filter->min_size = args->min_size;
    filter->quality = args->brotli.quality;
}

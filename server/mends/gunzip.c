/* Files that are unpacked for a client that takes no gzip (`file.send-compressed: gunzip`).
 *
 * Faults: a file `.gz` that is damaged, or none, fails an assertion of the library, which aborts
 * the process. One that is not whole makes an answer that looks whole. Of several members in one
 * file (RFC 1952 section 2.2), as `cat a.gz b.gz` makes it, only the first is sent.
 *
 * Upstream: never changed.
 *
 * Replaced: h2o_compress_gunzip_open(), which gives the handler of files its decoder. The first
 * h2o_send() after that, in the same call of the handler, finds the output that belongs to it on
 * top, and puts the function below in its place. What cannot be unpacked cuts the answer, so that
 * the client sees that it is not whole. */

#include "mends.h"

#include <string.h>
#include <zlib.h>

#include "between_calls.h"
#include "log.h"
#include "log_limit.h"

#define GZIP_ALONE (16 + MAX_WBITS) /* see inflateInit2() in zlib.h */
#define ROOM_BYTES 16384

struct unpacker {
    h2o_compress_context_t super;
    z_stream z;
    bool is_over;      /* at the end of a member */
    bool is_padded;    /* what follows the last member is none: it is left out */
    h2o_buffer_t *out; /* the output of this call of do_send(); emptied in the next */
};

/* The library's struct st_gzip_decompress_t (lib/handler/file.c). */
struct decoder {
    h2o_ostream_t super;
    h2o_compress_context_t *decompressor;
};

static void on_dispose(void *data)
{
    struct unpacker *unpacker = data;

    (void)inflateEnd(&unpacker->z);
    h2o_buffer_dispose(&unpacker->out);
}

/* Another member may follow the one that is over; anything else is padding, as for gunzip(1). */
static bool begins_again(struct unpacker *unpacker)
{
    unpacker->is_padded |= *unpacker->z.next_in != 0x1f;
    if (unpacker->is_padded || inflateReset(&unpacker->z) != Z_OK)
        return false;
    unpacker->is_over = false;
    return true;
}

/* Unpack all of `bytes`. False: they cannot be. */
static bool unpack(struct unpacker *unpacker, h2o_iovec_t bytes)
{
    z_stream *z = &unpacker->z;

    z->next_in = (unsigned char *)bytes.base;
    z->avail_in = (unsigned)bytes.len;
    do {
        if (unpacker->is_over && (z->avail_in == 0 || !begins_again(unpacker)))
            return true;
        h2o_iovec_t room = h2o_buffer_reserve(&unpacker->out, ROOM_BYTES);
        if (room.base == NULL)
            return false;
        z->next_out = (unsigned char *)room.base;
        z->avail_out = (unsigned)room.len;
        int result = inflate(z, Z_NO_FLUSH);
        unpacker->out->size += room.len - z->avail_out;
        unpacker->is_over = result == Z_STREAM_END;
        /* Z_BUF_ERROR: there is nothing to do, for want of input */
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return false;
    } while (z->avail_in > 0 || z->avail_out == 0);
    return true;
}

static void say(const h2o_req_t *req)
{
    static struct log_limit limit;

    log_limited(
        &limit, LOG_LEVEL_WARN, "file-damaged",
        "the answer to %.*s %.*s is cut: its file cannot be unpacked: it is damaged, or not "
        "whole",
        (int)(req->input.method.len < 32 ? req->input.method.len : 32), req->input.method.base,
        (int)(req->input.path.len < 256 ? req->input.path.len : 256), req->input.path.base);
}

static void do_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct unpacker *unpacker = (void *)((struct decoder *)(void *)self)->decompressor;
    bool is_fine = true;

    h2o_buffer_consume(&unpacker->out, unpacker->out->size);
    for (size_t i = 0; i < count && is_fine; i++)
        is_fine = bufs[i].len == 0 || unpack(unpacker, bufs[i]);
    if (state == H2O_SEND_STATE_FINAL && !unpacker->is_over)
        is_fine = false;
    if (!is_fine && state != H2O_SEND_STATE_ERROR) {
        say(req);
        state = H2O_SEND_STATE_ERROR;
    }
    h2o_iovec_t out = h2o_iovec_init(unpacker->out->bytes, unpacker->out->size);
    h2o_ostream_send_next(self, req, &out, out.len > 0 ? 1 : 0, state);
}

h2o_compress_context_t *gunzip_open(h2o_mem_pool_t *pool)
{
    struct unpacker *unpacker = h2o_mem_alloc_shared(pool, sizeof(*unpacker), on_dispose);

    memset(unpacker, 0, sizeof(*unpacker));
    unpacker->super.name = h2o_iovec_init(H2O_STRLIT("gzip"));
    h2o_buffer_init(&unpacker->out, &h2o_socket_buffer_prototype);
    (void)inflateInit2(&unpacker->z, GZIP_ALONE); /* without memory, inflate() fails */
    between_calls()->unpacker = &unpacker->super;
    return &unpacker->super;
}

void gunzip_before_send(h2o_req_t *req)
{
    h2o_compress_context_t **unpacker = &between_calls()->unpacker;

    if (((struct decoder *)(void *)req->_ostr_top)->decompressor == *unpacker)
        req->_ostr_top->do_send = do_send;
    *unpacker = NULL;
}

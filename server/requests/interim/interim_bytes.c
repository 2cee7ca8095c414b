#include "interim_bytes.h"

#include <string.h>

#include "container_of.h"

/* RFC 7541: `:status` is number 8 of the static table; a string begins with its length, of at most
 * H2O_HTTP2_ENCODE_INT_MAX_LENGTH bytes, and libh2o's encoder looks one byte further. */
#define STATUS_BYTES 5
#define FIELD_MORE (1 + 2 * (H2O_HTTP2_ENCODE_INT_MAX_LENGTH + 1))

/* RFC 9113 section 8.2.2; a client takes the answer for malformed, and resets the stream. */
static bool is_of_http1(const h2o_iovec_t *name)
{
    if (h2o_iovec_is_token(name))
        return container_of(name, h2o_token_t, buf)->http2_should_reject ||
               container_of(name, h2o_token_t, buf) == H2O_TOKEN_KEEP_ALIVE;
    return h2o_memis(name->base, name->len, H2O_STRLIT("proxy-connection")) != 0;
}

/* RFC 9113 section 8.2.1: no white space at either end. */
static h2o_iovec_t trimmed(h2o_iovec_t value)
{
    while (value.len > 0 && strchr(" \t", value.base[0]) != NULL)
        value = h2o_iovec_init(value.base + 1, value.len - 1);
    while (value.len > 0 && strchr(" \t", value.base[value.len - 1]) != NULL)
        value.len--;
    return value;
}

static uint8_t *put_status(uint8_t *at, int status)
{
    *at++ = 8; /* the name is that of the table */
    *at++ = 3; /* the length of the value, which is as it is */
    *at++ = (uint8_t)('0' + status / 100);
    *at++ = (uint8_t)('0' + status / 10 % 10);
    *at++ = (uint8_t)('0' + status % 10);
    return at;
}

static uint8_t *put_field(uint8_t *at, const h2o_header_t *field)
{
    h2o_iovec_t value = trimmed(field->value);

    *at++ = 0; /* both the name and the value follow */
    at += h2o_hpack_encode_string(at, field->name->base, field->name->len);
    return at + h2o_hpack_encode_string(at, value.base, value.len);
}

h2o_iovec_t interim_to_http2(h2o_mem_pool_t *pool, uint32_t stream_id, int status,
                             const h2o_headers_t *fields)
{
    size_t room = H2O_HTTP2_FRAME_HEADER_SIZE + STATUS_BYTES;

    for (size_t i = 0; i < fields->size; i++)
        room += fields->entries[i].name->len + fields->entries[i].value.len + FIELD_MORE;
    uint8_t *bytes = h2o_mem_alloc_pool(pool, room);
    uint8_t *payload = bytes + H2O_HTTP2_FRAME_HEADER_SIZE, *at = put_status(payload, status);
    for (size_t i = 0; i < fields->size; i++)
        if (!is_of_http1(fields->entries[i].name))
            at = put_field(at, &fields->entries[i]);
    (void)h2o_http2_encode_frame_header(bytes, (size_t)(at - payload), H2O_HTTP2_FRAME_TYPE_HEADERS,
                                        H2O_HTTP2_FRAME_FLAG_END_HEADERS, (int32_t)stream_id);
    return h2o_iovec_init(bytes, (size_t)(at - bytes));
}

#include "h2_by_hand.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define FRAME_MAX 16384

void h2_add(struct h2_bytes *out, const void *bytes, size_t size)
{
    assert_true(out->size + size <= sizeof(out->bytes));
    if (size > 0)
        memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static void frame_head(uint8_t head[9], unsigned type, unsigned flags, uint32_t stream, size_t size)
{
    const uint8_t bytes[9] = {
        (uint8_t)(size >> 16),   (uint8_t)(size >> 8),   (uint8_t)size,
        (uint8_t)type,           (uint8_t)flags,         (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(head, bytes, 9);
}

void h2_add_frame(struct h2_bytes *out, unsigned type, unsigned flags, uint32_t stream,
                  const void *payload, size_t size)
{
    uint8_t head[9];
    frame_head(head, type, flags, stream, size);
    h2_add(out, head, sizeof(head));
    h2_add(out, payload, size);
}

static void add_text(struct h2_bytes *block, const char *text)
{
    size_t size = strlen(text);
    uint8_t head[4] = {(uint8_t)(size < 127 ? size : 127)};
    size_t n = 1;

    if (size >= 127) {
        size_t left = size - 127;
        for (; left >= 128; left >>= 7)
            head[n++] = (uint8_t)(left | 128);
        head[n++] = (uint8_t)left;
    }
    h2_add(block, head, n);
    h2_add(block, text, size);
}

void h2_add_field(struct h2_bytes *block, const char *name, const char *value, bool indexed)
{
    h2_add(block, indexed ? "\x40" : "\0", 1);
    add_text(block, name);
    add_text(block, value);
}

void h2_add_head(struct h2_bytes *block, const char *method, const char *path)
{
    h2_add_field(block, ":method", method, false);
    h2_add(block, "\x86", 1); /* :scheme http */
    h2_add_field(block, ":path", path, false);
    h2_add_field(block, ":authority", "t", false);
}

void h2_send(int fd, const void *bytes, size_t size)
{
    for (const char *at = bytes; size > 0;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) /* the server has closed: its last frames can still be read */
            return;
        at += n;
        size -= (size_t)n;
    }
}

void h2_send_frame(int fd, unsigned type, unsigned flags, uint32_t stream, const void *payload,
                   size_t size)
{
    uint8_t bytes[9 + FRAME_MAX];
    assert_true(size <= FRAME_MAX);
    frame_head(bytes, type, flags, stream, size);
    if (size > 0)
        memcpy(bytes + 9, payload, size);
    h2_send(fd, bytes, 9 + size);
}

void h2_send_block(int fd, uint32_t stream, bool ends, const struct h2_bytes *block)
{
    unsigned type = H2_HEADERS, flags = ends ? H2_END_STREAM : 0;
    size_t at = 0;

    do {
        size_t size = block->size - at < FRAME_MAX ? block->size - at : FRAME_MAX;
        if (at + size == block->size)
            flags |= H2_END_HEADERS;
        h2_send_frame(fd, type, flags, stream, block->bytes + at, size);
        at += size;
        type = H2_CONTINUATION;
        flags = 0;
    } while (at < block->size);
}

void h2_send_get(int fd, uint32_t stream, const char *path)
{
    static struct h2_bytes block;
    block.size = 0;
    h2_add_head(&block, "GET", path);
    h2_send_block(fd, stream, true, &block);
}

void h2_send_number(int fd, unsigned type, uint32_t stream, uint32_t number)
{
    uint32_t bytes = htonl(number);
    h2_send_frame(fd, type, 0, stream, &bytes, sizeof(bytes));
}

void h2_send_window_setting(int fd, uint32_t size)
{
    uint8_t bytes[6] = {0, 4};
    uint32_t number = htonl(size);
    memcpy(bytes + 2, &number, sizeof(number));
    h2_send_frame(fd, H2_SETTINGS, 0, 0, bytes, sizeof(bytes));
}

int h2_connect(const struct process *process, bool narrow)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    int fd = client_connect(process), least = 4096;

    if (narrow)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)), 0);
    h2_send(fd, preface, sizeof(preface) - 1);
    h2_send_frame(fd, H2_SETTINGS, 0, 0, NULL, 0);
    return fd;
}

bool h2_next(int fd, struct h2_got *ret_got)
{
    uint8_t head[9];

    if (client_recv(fd, head, sizeof(head), MSG_WAITALL) != sizeof(head))
        return false;
    ret_got->size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    ret_got->type = head[3];
    ret_got->flags = head[4];
    ret_got->stream =
        ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) &
        INT32_MAX;
    assert_true(ret_got->size < sizeof(ret_got->payload));
    if (ret_got->size > 0 &&
        client_recv(fd, ret_got->payload, ret_got->size, MSG_WAITALL) != (ssize_t)ret_got->size)
        return false;
    ret_got->payload[ret_got->size] = '\0';
    return true;
}

bool h2_await(int fd, unsigned type, uint32_t stream, struct h2_got *ret_got)
{
    while (h2_next(fd, ret_got))
        if (ret_got->type == type && ret_got->stream == stream)
            return true;
    return false;
}

static int number_at(const uint8_t *bytes)
{
    return bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

int h2_await_error(int fd, uint32_t stream)
{
    static struct h2_got got;

    while (h2_next(fd, &got)) {
        if (got.type == H2_RST && got.stream == stream)
            return number_at(got.payload);
        if (got.type == H2_GOAWAY)
            return number_at(got.payload + 4);
    }
    return -1;
}

static int status_of(const struct h2_got *got)
{
    static const int of_index[] = {200, 204, 206, 304, 400, 404, 500};
    unsigned first = got->payload[0];

    if (first >= 0x88 && first < 0x88 + 7)
        return of_index[first - 0x88];
    assert_int_equal(first, 8); /* without indexing, with the name of entry 8 */
    assert_int_equal(got->payload[1], 3);
    return (got->payload[2] - '0') * 100 + (got->payload[3] - '0') * 10 + (got->payload[4] - '0');
}

int h2_await_status(int fd, uint32_t stream)
{
    static struct h2_got got;

    while (h2_next(fd, &got)) {
        if (got.type == H2_GOAWAY || (got.type == H2_RST && got.stream == stream))
            return 0;
        if (got.type == H2_HEADERS && got.stream == stream)
            return status_of(&got);
    }
    return 0;
}

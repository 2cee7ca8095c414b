#include "websocket_frames.h"

#include <string.h>

#define FIN 0x80
#define OPCODE 0x0f
#define CONTROL 0x08 /* of an opcode */
#define CLOSE 0x08
#define MASKED 0x80
#define LENGTH 0x7f

/* The size of a head whose first two bytes are there. */
static size_t head_needs(const uint8_t *head)
{
    size_t size = 2;

    if ((head[1] & LENGTH) == 126)
        size += 2;
    else if ((head[1] & LENGTH) == 127)
        size += 8;
    return (head[1] & MASKED) != 0 ? size + 4 : size;
}

static uint64_t payload_of(const uint8_t *head)
{
    unsigned length = head[1] & LENGTH, bytes = length == 126 ? 2 : length == 127 ? 8 : 0;
    uint64_t value = 0;

    if (bytes == 0)
        return length;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | head[2 + i];
    return value;
}

static void end_frame(struct websocket_frames *frames)
{
    unsigned opcode = frames->head[0] & OPCODE;

    if ((opcode & CONTROL) == 0)
        frames->in_message = (frames->head[0] & FIN) == 0;
    else if (opcode == CLOSE)
        frames->has_closed = true;
    frames->head_size = 0;
    frames->in_payload = false;
}

static void end_head(struct websocket_frames *frames)
{
    frames->left = payload_of(frames->head);
    frames->in_payload = true;
    if (frames->left > INT64_MAX)
        frames->is_out_of_frame = true;
    else if (frames->left == 0)
        end_frame(frames);
}

/* Within one frame: returns how many of the bytes, at least one, belong to it. */
static size_t step(struct websocket_frames *frames, const char *bytes, size_t size)
{
    if (frames->is_out_of_frame)
        return size;
    if (!frames->in_payload) {
        frames->head[frames->head_size++] = (uint8_t)bytes[0];
        if (frames->head_size >= 2 && frames->head_size == head_needs(frames->head))
            end_head(frames);
        return 1;
    }
    size_t taken = frames->left < size ? (size_t)frames->left : size;
    frames->left -= taken;
    if (frames->left == 0)
        end_frame(frames);
    return taken;
}

void websocket_frames_pass(struct websocket_frames *frames, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;)
        at += step(frames, bytes + at, size - at);
}

bool websocket_frames_are_at(const struct websocket_frames *frames, enum websocket_place place)
{
    bool between = frames->head_size == 0;

    return between &&
           (place == WEBSOCKET_FRAME || (place == WEBSOCKET_MESSAGE && !frames->in_message));
}

/* A Close frame begins with this byte. */
static bool begins_close(const struct websocket_frames *frames, char byte)
{
    return frames->head_size == 0 && ((uint8_t)byte & OPCODE) == CLOSE;
}

size_t websocket_frames_find(struct websocket_frames *frames, enum websocket_place place,
                             const char *bytes, size_t size, bool *ret_found)
{
    size_t at = 0;

    *ret_found = true;
    while (!websocket_frames_are_at(frames, place)) {
        if (at == size) {
            *ret_found = false;
            break;
        }
        if (begins_close(frames, bytes[at]))
            break;
        at += step(frames, bytes + at, size - at);
    }
    return at;
}

size_t websocket_close_make(char *bytes, uint16_t status, const uint8_t mask[4])
{
    uint8_t payload[2] = {(uint8_t)(status >> 8), (uint8_t)status};
    size_t size = 2;

    bytes[0] = (char)(FIN | CLOSE);
    bytes[1] = (char)sizeof(payload);
    if (mask != NULL) {
        bytes[1] = (char)(MASKED | sizeof(payload));
        memcpy(bytes + size, mask, 4);
        size += 4;
        payload[0] ^= mask[0];
        payload[1] ^= mask[1];
    }
    memcpy(bytes + size, payload, sizeof(payload));
    return size + sizeof(payload);
}

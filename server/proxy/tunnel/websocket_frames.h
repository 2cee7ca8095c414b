#ifndef LASTCALL_WEBSOCKET_FRAMES_H
#define LASTCALL_WEBSOCKET_FRAMES_H

/* Where the frames of a WebSocket begin and end, in one direction (RFC 6455 section 5.2). It sees
 * bytes only, and unmasks, checks and keeps none of them.
 *
 *     message   | frame, FIN=0 | control frame | frame, FIN=0 | frame, FIN=1 |
 *               ^              ^               ^              ^              ^
 *     FRAME     *              *               *              *              *
 *     MESSAGE   *                                                            *
 *
 * A frame may be put in where a frame ends. One that is put in where no message is under way splits
 * no message either.
 *
 * Thread: any, one at a time for each direction.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBSOCKET_CLOSE_MAX 8 /* bytes of a Close frame with a status */
#define WEBSOCKET_GOING_AWAY 1001

/* A place between two bytes. */
enum websocket_place {
    WEBSOCKET_CLOSE,   /* a Close frame follows */
    WEBSOCKET_MESSAGE, /* no message is under way; or a Close frame follows */
    WEBSOCKET_FRAME    /* no frame is under way */
};

/* All zero: nothing has come yet. */
struct websocket_frames {
    uint64_t left;        /* bytes of the payload that are missing */
    uint8_t head[14];     /* of the frame under way */
    uint8_t head_size;    /* bytes of it so far; 0: none is under way */
    bool in_payload;      /* the head is whole */
    bool in_message;      /* a message has begun, and its last frame has not ended */
    bool has_closed;      /* a Close frame has ended */
    bool is_out_of_frame; /* a length that RFC 6455 forbids: what follows cannot be told apart */
};

/* Go on over `size` bytes. */
void websocket_frames_pass(struct websocket_frames *frames, const char *bytes, size_t size);

/* Go on until the first such place, which may be where it stands already. Returns how many bytes
 * are before it; if there is none in these bytes, all, and *ret_found is false. A Close frame that
 * follows is seen if its first byte is among the bytes. */
size_t websocket_frames_find(struct websocket_frames *frames, enum websocket_place place,
                             const char *bytes, size_t size, bool *ret_found);

/* Is it at such a place now, as far as is known? (Not known for WEBSOCKET_CLOSE: false.) */
bool websocket_frames_are_at(const struct websocket_frames *frames, enum websocket_place place);

/* Write a Close frame with a status; from a client (`mask` is not NULL) it is masked. Returns its
 * size, at most WEBSOCKET_CLOSE_MAX. */
size_t websocket_close_make(char *bytes, uint16_t status, const uint8_t mask[4]);

#endif

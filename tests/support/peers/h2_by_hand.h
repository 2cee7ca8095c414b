#ifndef LASTCALL_TEST_H2_BY_HAND_H
#define LASTCALL_TEST_H2_BY_HAND_H

/* HTTP/2 frame by frame (RFC 9113), for what no well-behaved client sends. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process.h"

enum {
    H2_DATA,
    H2_HEADERS,
    H2_PRIORITY,
    H2_RST,
    H2_SETTINGS,
    H2_PUSH,
    H2_PING,
    H2_GOAWAY,
    H2_WINDOW,
    H2_CONTINUATION
};

#define H2_END_STREAM 1
#define H2_END_HEADERS 4

#define H2_NO_ERROR 0
#define H2_PROTOCOL_ERROR 1
#define H2_FLOW_CONTROL_ERROR 3
#define H2_STREAM_CLOSED 5
#define H2_ENHANCE_YOUR_CALM 11

/* Frames or a header block to send. */
struct h2_bytes {
    size_t size;
    uint8_t bytes[512 * 1024];
};

/* A frame that came. */
struct h2_got {
    unsigned type, flags;
    uint32_t stream;
    size_t size;
    uint8_t payload[16384 + 1]; /* and a NUL */
};

void h2_add(struct h2_bytes *out, const void *bytes, size_t size);
void h2_add_frame(struct h2_bytes *out, unsigned type, unsigned flags, uint32_t stream,
                  const void *payload, size_t size);
/* A field with a name of its own. With `indexed` it enters the dynamic table. */
void h2_add_field(struct h2_bytes *block, const char *name, const char *value, bool indexed);
/* The pseudo-headers of a request to "t" over http. */
void h2_add_head(struct h2_bytes *block, const char *method, const char *path);

void h2_send(int fd, const void *bytes, size_t size);
void h2_send_frame(int fd, unsigned type, unsigned flags, uint32_t stream, const void *payload,
                   size_t size);
/* HEADERS, and CONTINUATION if the block is long. */
void h2_send_block(int fd, uint32_t stream, bool ends, const struct h2_bytes *block);
void h2_send_get(int fd, uint32_t stream, const char *path);
void h2_send_number(int fd, unsigned type, uint32_t stream, uint32_t number); /* RST, WINDOW */
void h2_send_window_setting(int fd, uint32_t size); /* SETTINGS_INITIAL_WINDOW_SIZE */

/* A connection to `process`; the preface and an empty SETTINGS are sent. With `narrow` it has
 * the smallest receive buffer that the kernel allows. */
int h2_connect(const struct process *process, bool narrow);

/* The next frame. False: the connection has ended. */
bool h2_next(int fd, struct h2_got *ret_got);
/* The next one of that type on that stream, whatever comes before it. */
bool h2_await(int fd, unsigned type, uint32_t stream, struct h2_got *ret_got);
/* The error code of RST_STREAM on `stream` or of GOAWAY, whichever comes first; -1: neither. */
int h2_await_error(int fd, uint32_t stream);
/* The status of the answer on `stream`, as far as it is in the static table or a literal of three
 * digits; 0: the stream was reset, or the connection has ended. */
int h2_await_status(int fd, uint32_t stream);

#endif

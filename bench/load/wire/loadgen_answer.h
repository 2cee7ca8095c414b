#ifndef LASTCALL_LOADGEN_ANSWER_H
#define LASTCALL_LOADGEN_ANSWER_H

/* An incremental parser of HTTP/1 responses (RFC 9112), without I/O.     Thread: any. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_LINE_MAX_BYTES 256

enum load_answer_state {
    ANSWER_STATUS,
    ANSWER_HEADER,
    ANSWER_SIZED,
    ANSWER_UNTIL_EOF,
    ANSWER_CHUNK_SIZE,
    ANSWER_CHUNK,
    ANSWER_CHUNK_END,
    ANSWER_TRAILER,
    ANSWER_DONE,
    ANSWER_BROKEN,
};

struct load_answer {
    enum load_answer_state state;
    int status; /* 0: not yet known; 1xx: the answer follows */
    bool chunked;
    bool has_length;
    bool is_http10;
    bool announces_close;
    bool announces_keepalive;
    uint64_t left; /* bytes of the body or of the chunk */
    size_t line_len;
    char line[LOAD_LINE_MAX_BYTES];
};

/* Prepare for the next response. */
void load_answer_expect(struct load_answer *a);

/* Parse one line or one piece of the body. `len` > 0, and the state is neither DONE nor BROKEN.
 * Returns the number of bytes used; *ret_body is that number if they belong to the body, else 0. */
size_t load_answer_step(struct load_answer *a, const uint8_t *data, size_t len, bool is_head,
                        size_t *ret_body);

#endif

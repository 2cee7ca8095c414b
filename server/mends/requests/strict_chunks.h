#ifndef LASTCALL_STRICT_CHUNKS_H
#define LASTCALL_STRICT_CHUNKS_H

/* Checks that every server reads a chunked body in the same way (RFC 9112 7.1). libh2o's decoder
 * skips whatever follows the digits of a chunk size, accepts a bare LF as the end of a line, and
 * ignores trailer fields. This check sees the bytes before the decoder; it counts through the data
 * and copies nothing.
 *
 * Blanks after a chunk size are accepted: old clients pad sizes with them, and all servers read
 * them in the same way. Extensions are accepted if they have no control character. Trailer fields
 * must have the form of fields; libh2o drops all of them, so they cannot change the head. So their
 * number is not limited, only the size of the section. */

#include <stddef.h>
#include <stdint.h>

#include "refusal.h"

#define STRICT_CHUNKS_LINE_MAX 4096 /* of a chunk size with its extensions, in bytes */

/* The state of the check. At the beginning of a body, all but `trailer_left` is zero. */
struct strict_chunks {
    uint8_t state;
    uint8_t digits;        /* of this chunk's size */
    uint16_t line;         /* bytes of this size line */
    uint32_t trailer_left; /* bytes that the trailer section may still have */
    uint64_t left;         /* of this chunk */
};

/* Check the next `len` bytes of the body; bytes after its end are ignored.
 * Thread: any.     Blocks: never.
 * Errors: REFUSAL_NONE, or the fault found; then there must be no more calls. */
enum h1_refusal strict_chunks_check(struct strict_chunks *chunks, const char *bytes, size_t len);

#endif

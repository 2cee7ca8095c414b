#ifndef LASTCALL_EVENT_STREAM_H
#define LASTCALL_EVENT_STREAM_H

/* Where the events of a text/event-stream end (HTML Living Standard, section 9.2.5): an empty line
 * ends an event; lines end with LF, CRLF or CR. A comment, a line that begins with a colon, belongs
 * to no event, so its end is between two events too. A byte order mark at the very beginning
 * belongs to no line. It sees bytes only.
 *
 * Thread: any, one at a time for each stream.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>

/* All zero: nothing has come yet. */
struct event_stream {
    bool in_line;            /* and not at its beginning */
    bool in_comment;         /* that line is one */
    bool in_event;           /* a line of an event has begun, and no empty line has come since */
    bool after_cr;           /* an LF that follows belongs to the line that has ended */
    bool has_begun;          /* the bytes of a byte order mark are past, or there are none */
    unsigned char mark_size; /* that have come */
};

/* Is it between two events now? */
bool event_stream_is_between(const struct event_stream *stream);

/* Go on over `size` bytes. */
void event_stream_pass(struct event_stream *stream, const char *bytes, size_t size);

/* Go on until it is between two events, with an LF that belongs to that end. Returns how many bytes
 * are before; if it comes to no such place, all, and *ret_found is false. */
size_t event_stream_find(struct event_stream *stream, const char *bytes, size_t size,
                         bool *ret_found);

#endif

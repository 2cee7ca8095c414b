#include "event_stream.h"

static void end_line(struct event_stream *stream)
{
    if (!stream->in_line)
        stream->in_event = false;
    stream->in_line = stream->in_comment = false;
}

#define MARK "\xef\xbb\xbf"
#define MARK_SIZE 3

/* Returns whether the byte is part of a byte order mark. What only begins like one begins a line.
 */
static bool take_mark(struct event_stream *stream, char byte)
{
    if (stream->has_begun)
        return false;
    if (byte == MARK[stream->mark_size]) {
        stream->has_begun = ++stream->mark_size == MARK_SIZE;
        return true;
    }
    stream->has_begun = true;
    stream->in_line = stream->in_event = stream->mark_size > 0;
    return false;
}

static void step(struct event_stream *stream, char byte)
{
    if (take_mark(stream, byte))
        return;
    bool after_cr = stream->after_cr;

    stream->after_cr = byte == '\r';
    if (byte == '\n' && after_cr)
        return;
    if (byte == '\n' || byte == '\r') {
        end_line(stream);
        return;
    }
    if (!stream->in_line)
        stream->in_comment = byte == ':';
    stream->in_line = true;
    stream->in_event |= !stream->in_comment;
}

bool event_stream_is_between(const struct event_stream *stream)
{
    bool in_mark = stream->mark_size > 0 && !stream->has_begun;

    return !stream->in_line && !stream->in_event && !in_mark;
}

void event_stream_pass(struct event_stream *stream, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        step(stream, bytes[i]);
}

size_t event_stream_find(struct event_stream *stream, const char *bytes, size_t size,
                         bool *ret_found)
{
    size_t at = 0;

    while (at < size && !event_stream_is_between(stream))
        step(stream, bytes[at++]);
    if (at < size && event_stream_is_between(stream) && stream->after_cr && bytes[at] == '\n')
        step(stream, bytes[at++]);
    *ret_found = event_stream_is_between(stream);
    return at;
}

#include "answer_client.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#include <nghttp2/nghttp2.h>

const char *answer_state_name(enum answer_state state)
{
    static const char *const names[] = {"more to come", "whole", "cut", "broken"};
    return names[state];
}

void answer_release(struct answer *answer)
{
    free(answer->body);
    answer->body = NULL;
}

static enum answer_state broken(struct answer *answer, const char *fault)
{
    answer->fault = fault;
    return ANSWER_BROKEN;
}

static void append(struct answer *answer, const void *bytes, size_t size)
{
    answer->body = realloc(answer->body, answer->body_size + size + 1);
    if (answer->body == NULL)
        abort();
    if (size > 0)
        memcpy(answer->body + answer->body_size, bytes, size);
    answer->body_size += size;
    answer->body[answer->body_size] = '\0';
}

/* ---- HTTP/1 ---- */

struct head {
    size_t size;
    bool has_length, chunked;
    size_t length;
};

static bool is_field(const char *line, const char *end, const char *name, const char **ret_value)
{
    size_t n = strlen(name);
    if ((size_t)(end - line) <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    for (line += n + 1; line < end && *line == ' ';)
        line++;
    *ret_value = line;
    return true;
}

/* Every line has a name and ends with CRLF; at most one field gives the framing. */
static const char *parse_fields(const char *at, const char *end, struct head *ret_head)
{
    const char *line_end, *value = NULL;

    for (; at < end; at = line_end + 2) {
        line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (line_end == NULL)
            return "a line without an end";
        const char *colon = memchr(at, ':', (size_t)(line_end - at));
        if (colon == NULL || colon == at || memchr(at, ' ', (size_t)(colon - at)) != NULL)
            return "a header line without a name";
        if (is_field(at, line_end, "content-length", &value)) {
            char *stop;
            if (ret_head->has_length)
                return "two lengths";
            ret_head->has_length = true;
            ret_head->length = strtoull(value, &stop, 10);
            if (stop != line_end || stop == value || *value == '-')
                return "an invalid content-length";
        } else if (is_field(at, line_end, "transfer-encoding", &value)) {
            if (ret_head->chunked || line_end - value != 7 || strncasecmp(value, "chunked", 7) != 0)
                return "an unknown transfer coding";
            ret_head->chunked = true;
        }
    }
    return ret_head->has_length && ret_head->chunked ? "two framings" : NULL;
}

static enum answer_state parse_head(const char *bytes, size_t size, struct answer *answer,
                                    struct head *ret_head)
{
    const char *end = memmem(bytes, size, "\r\n\r\n", 4), *line;

    if (size > 0 && strncmp(bytes, "HTTP/1.1 ", size < 9 ? size : 9) != 0)
        return broken(answer, "no status line");
    if (end == NULL)
        return ANSWER_MORE;
    ret_head->size = (size_t)(end - bytes) + 4;
    if (sscanf(bytes, "HTTP/1.1 %3d ", &answer->status) != 1 || answer->status < 102)
        return broken(answer, "no status");
    line = (const char *)memmem(bytes, size, "\r\n", 2) + 2;
    const char *fault = line < end ? parse_fields(line, end + 2, ret_head) : NULL;
    return fault != NULL ? broken(answer, fault) : ANSWER_WHOLE;
}

/* All heads: the interim ones, and the final one. */
static enum answer_state parse_heads(bool knows_interims, const char *bytes, size_t size,
                                     struct answer *answer, struct head *ret_head)
{
    size_t before = 0;

    for (;;) {
        enum answer_state state = parse_head(bytes + before, size - before, answer, ret_head);
        bool is_interim = state == ANSWER_WHOLE && answer->status < 200;
        ret_head->size += before;
        if (is_interim && !knows_interims)
            return broken(answer, "an interim answer that the client does not know");
        if (is_interim && (ret_head->has_length || ret_head->chunked))
            return broken(answer, "an interim answer with a body");
        if (!is_interim)
            return state;
        before = ret_head->size;
        answer->status = 0;
        answer->interims++;
    }
}

static enum answer_state read_chunks(const char *bytes, size_t size, struct answer *answer)
{
    size_t at = 0;

    for (;;) {
        const char *end = memmem(bytes + at, size - at, "\r\n", 2);
        char *stop;
        if (end == NULL)
            return ANSWER_MORE;
        size_t chunk = strtoul(bytes + at, &stop, 16);
        if (stop != end || stop == bytes + at)
            return ANSWER_CUT; /* libh2o's way to show that the rest will not come */
        at = (size_t)(end - bytes) + 2;
        if (size - at < chunk) {
            append(answer, bytes + at, size - at);
            return ANSWER_MORE;
        }
        append(answer, bytes + at, chunk);
        at += chunk;
        if (size - at < 2)
            return ANSWER_MORE;
        if (memcmp(bytes + at, "\r\n", 2) != 0)
            return broken(answer, "a chunk that does not end");
        at += 2;
        answer->used = at;
        if (chunk == 0)
            return ANSWER_WHOLE;
    }
}

static enum answer_state read_http1(bool knows_interims, bool to_head, const char *bytes,
                                    size_t size, bool is_closed, struct answer *answer)
{
    struct head head = {0};
    enum answer_state state = parse_heads(knows_interims, bytes, size, answer, &head);

    if (state != ANSWER_WHOLE)
        return state;
    const char *body = bytes + head.size;
    size_t rest = size - head.size;
    answer->used = head.size;
    if (to_head || answer->status == 204 || answer->status == 304)
        return ANSWER_WHOLE;
    if (head.chunked) {
        state = read_chunks(body, rest, answer);
        answer->used += head.size;
        return state;
    }
    if (head.has_length) {
        append(answer, body, rest < head.length ? rest : head.length);
        answer->used = head.size + answer->body_size;
        return rest < head.length ? ANSWER_MORE : ANSWER_WHOLE;
    }
    answer->ends_with_connection = true;
    append(answer, body, rest);
    answer->used = size;
    return is_closed ? ANSWER_WHOLE : ANSWER_MORE;
}

/* ---- HTTP/2 ---- */

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, PUSH_PROMISE = 5, GOAWAY = 7, CONTINUATION = 9 };
enum { END_STREAM = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };

struct stream {
    nghttp2_hd_inflater *inflater;
    bool is_ours; /* the block that is being read */
    bool ends;
    bool has_length;
    size_t length;
};

static const char *take_field(struct stream *stream, struct answer *answer, const nghttp2_nv *nv)
{
    if (nv->namelen == 7 && memcmp(nv->name, ":status", 7) == 0) {
        answer->status = atoi((const char *)nv->value);
        return answer->status < 100 || answer->status > 999 ? "an invalid status" : NULL;
    }
    if (nv->namelen == 0)
        return "a header without a name";
    if (nv->namelen == 14 && memcmp(nv->name, "content-length", 14) == 0) {
        if (stream->has_length)
            return "two lengths";
        stream->has_length = true;
        stream->length = strtoull((const char *)nv->value, NULL, 10);
    }
    if ((nv->namelen == 17 && memcmp(nv->name, "transfer-encoding", 17) == 0) ||
        (nv->namelen == 10 && memcmp(nv->name, "connection", 10) == 0))
        return "a header of HTTP/1";
    return NULL;
}

static const char *inflate(struct stream *stream, struct answer *answer, const uint8_t *at,
                           size_t size, bool is_last)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(stream->inflater, &nv, &flags, at, size, is_last);
        if (n < 0)
            return "a header block that HPACK cannot decode";
        at += n;
        size -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0 && stream->is_ours) {
            const char *fault = take_field(stream, answer, &nv);
            if (fault != NULL)
                return fault;
        }
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
            (void)nghttp2_hd_inflate_end_headers(stream->inflater);
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0 ||
            ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && size == 0))
            return NULL;
    }
}

/* A block of fields has ended. */
static const char *end_interim(struct stream *stream, struct answer *answer)
{
    if (!stream->is_ours || answer->status == 0 || answer->status >= 200)
        return NULL;
    if (stream->ends || stream->has_length || answer->status < 102)
        return "an interim answer with a body, or with an end";
    answer->status = 0;
    answer->interims++;
    return NULL;
}

static enum answer_state end_stream(const struct stream *stream, bool to_head,
                                    struct answer *answer)
{
    bool has_body = !to_head && answer->status != 204 && answer->status != 304;

    if (answer->status == 0)
        return broken(answer, "a body without a head");
    if (!has_body && answer->body_size > 0)
        return broken(answer, "a body where none may be");
    /* A client that checks (RFC 9113 section 8.1.1) refuses it. */
    if (has_body && stream->has_length && stream->length != answer->body_size)
        return ANSWER_CUT;
    return ANSWER_WHOLE;
}

static enum answer_state take_frame(struct stream *stream, bool to_head, const uint8_t *frame,
                                    size_t size, struct answer *answer)
{
    unsigned type = frame[3], flags = frame[4];
    uint32_t id = (uint32_t)(frame[5] & 127) << 24 | (uint32_t)frame[6] << 16 |
                  (uint32_t)frame[7] << 8 | frame[8];
    const uint8_t *payload = frame + 9;
    size_t skip = (flags & PADDED) != 0 && type != CONTINUATION ? 1u + payload[0] : 0;
    const char *fault = NULL;

    if (type == RST_STREAM && id == 1)
        return ANSWER_CUT;
    if (type == GOAWAY)
        return answer->status == 0 ? ANSWER_CUT : ANSWER_MORE;
    if (type == DATA && id == 1) {
        if (skip > size)
            return broken(answer, "padding without an end");
        append(answer, payload + (skip > 0 ? 1 : 0), size - skip);
        stream->ends = (flags & END_STREAM) != 0;
    }
    if (type == HEADERS || type == PUSH_PROMISE) {
        size_t before = (skip > 0 ? 1u : 0) + (type == PUSH_PROMISE ? 4u : 0) +
                        (type == HEADERS && (flags & WITH_PRIORITY) != 0 ? 5u : 0);
        stream->is_ours = type == HEADERS && id == 1;
        if (stream->is_ours && answer->status != 0)
            return broken(answer, "two heads");
        if (stream->is_ours)
            stream->ends = (flags & END_STREAM) != 0;
        fault =
            inflate(stream, answer, payload + before, size - before, (flags & END_HEADERS) != 0);
    } else if (type == CONTINUATION) {
        fault = inflate(stream, answer, payload, size, (flags & END_HEADERS) != 0);
    }
    if (fault == NULL && (type == HEADERS || type == CONTINUATION) && (flags & END_HEADERS) != 0)
        fault = end_interim(stream, answer);
    if (fault != NULL)
        return broken(answer, fault);
    return stream->ends && (type != HEADERS || (flags & END_HEADERS) != 0)
               ? end_stream(stream, to_head, answer)
               : ANSWER_MORE;
}

static enum answer_state read_http2(bool to_head, const char *bytes, size_t size,
                                    struct answer *answer)
{
    struct stream stream = {0};
    enum answer_state state = ANSWER_MORE;

    if (nghttp2_hd_inflate_new(&stream.inflater) != 0)
        abort();
    for (size_t at = 0; state == ANSWER_MORE && size - at >= 9;) {
        const uint8_t *frame = (const uint8_t *)bytes + at;
        size_t payload = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
        if (size - at - 9 < payload)
            break;
        state = take_frame(&stream, to_head, frame, payload, answer);
        at += 9 + payload;
        answer->used = at;
    }
    nghttp2_hd_inflate_del(stream.inflater);
    return state;
}

enum answer_state answer_read(enum answer_protocol protocol, bool to_head, const char *bytes,
                              size_t size, enum connection_end end, struct answer *ret_answer)
{
    *ret_answer = (struct answer){0};
    enum answer_state state = protocol == ANSWER_HTTP2
                                  ? read_http2(to_head, bytes, size, ret_answer)
                                  : read_http1(protocol == ANSWER_HTTP11, to_head, bytes, size,
                                               end == CONNECTION_CLOSED, ret_answer);
    return state == ANSWER_MORE && end != CONNECTION_OPEN ? ANSWER_CUT : state;
}

/* ---- the request ---- */

static size_t put_frame(char *bytes, unsigned type, unsigned flags, unsigned stream,
                        const char *payload, size_t size)
{
    const unsigned char head[9] = {0,
                                   (unsigned char)(size >> 8),
                                   (unsigned char)size,
                                   (unsigned char)type,
                                   (unsigned char)flags,
                                   0,
                                   0,
                                   0,
                                   (unsigned char)stream};
    memcpy(bytes, head, 9);
    memcpy(bytes + 9, payload, size);
    return 9 + size;
}

/* With windows that no answer fills (RFC 7541: indexed fields, and literals without Huffman). */
static size_t http2_request(bool to_head, const char *path, char *bytes)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t n = sizeof(preface) - 1, block = 0;
    char fields[512];

    memcpy(bytes, preface, n);
    n += put_frame(bytes + n, 4, 0, 0, "\0\4\x3f\xff\xff\xff", 6);
    n += put_frame(bytes + n, 8, 0, 0, "\x3f\xff\0\0", 4);
    block += (size_t)sprintf(fields, "%s\x86\x04%c%s\x01\x04test",
                             to_head ? "\x02\x04HEAD" : "\x82", (char)strlen(path), path);
    return n + put_frame(bytes + n, HEADERS, END_STREAM | END_HEADERS, 1, fields, block);
}

size_t answer_request(enum answer_protocol protocol, bool to_head, const char *path, char *bytes,
                      size_t size)
{
    if (protocol == ANSWER_HTTP2)
        return http2_request(to_head, path, bytes);
    int n =
        snprintf(bytes, size, "%s %s HTTP/1.%d\r\nHost: test\r\nAccept-Encoding: identity\r\n\r\n",
                 to_head ? "HEAD" : "GET", path, protocol == ANSWER_HTTP11);
    return (size_t)n;
}

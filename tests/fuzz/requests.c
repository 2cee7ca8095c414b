/* libFuzzer: a connection's worth of HTTP/1 requests. The server's reader (libh2o's parser and
 * decoder, and the strict looks of mends/) and the reference must come to the same verdict about
 * each, and find the same end, target and body: else another server could read them differently,
 * too. The body comes in pieces, cut as the input itself says. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replaced.h"
#include "requests_reference.h"
#include "strict_chunks.h"
#include "strict_head.h"

#define REQUESTS_MOST 8

struct own {
    struct strict_head head;
    struct phr_header headers[100];
    size_t len; /* of head and body, as they came */
    char *body;
    size_t body_len;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char error[REPLACED_ERROR_SIZE];

    (void)argc;
    (void)argv;
    return replaced_init(error, sizeof(error)) ? 0 : 1;
}

/* As libh2o feeds its decoder: the new bytes, after those that it has decoded. */
static enum reference_end decode_chunks(struct own *own, const char *bytes, size_t len)
{
    struct strict_chunks chunks = {.trailer_left = REFERENCE_TRAILER_MOST};
    struct phr_chunked_decoder decoder = {.consume_trailer = 1};
    size_t taken = 0;

    while (taken < len) {
        size_t piece = 1 + (size_t)(unsigned char)bytes[taken] % 61;
        if (piece > len - taken)
            piece = len - taken;
        char *at = own->body + own->body_len;
        memcpy(at, bytes + taken, piece);
        taken += piece;
        if (strict_chunks_check(&chunks, at, piece) != REFUSAL_NONE)
            return REFERENCE_REFUSED;
        size_t decoded = piece;
        ssize_t rest = library.phr_decode_chunked(&decoder, at, &decoded);
        assert(rest != -1); /* otherwise the strict check would not be the stricter one */
        own->body_len += decoded;
        if (rest >= 0) {
            own->len += taken - (size_t)rest;
            return REFERENCE_WHOLE;
        }
    }
    return REFERENCE_PART;
}

static enum reference_end read_body(struct own *own, const char *bytes, size_t len)
{
    size_t length = 0;

    own->body_len = 0;
    if (own->head.is_chunked)
        return decode_chunks(own, bytes, len);
    for (size_t i = 0; i < own->head.header_count; i++)
        if (own->headers[i].name_len == 14 &&
            strncasecmp(own->headers[i].name, "content-length", 14) == 0)
            length = h2o_strtosize(own->headers[i].value, own->headers[i].value_len);
    assert(length != SIZE_MAX);
    if (length > len)
        return REFERENCE_PART;
    memcpy(own->body, bytes, length);
    own->body_len = length;
    own->len += length;
    return REFERENCE_WHOLE;
}

static enum reference_end read_own(struct own *own, const char *bytes, size_t len)
{
    struct strict_head *head = &own->head;

    *head = (struct strict_head){.bytes = bytes, .headers = own->headers, .header_count = 100};
    int parsed = library.phr_parse_request(bytes, len, &head->method, &head->method_len,
                                           &head->path, &head->path_len, &head->minor_version,
                                           head->headers, &head->header_count, 0);
    if (parsed < 0)
        return parsed == -2 ? REFERENCE_PART : REFERENCE_REFUSED;
    head->len = own->len = (size_t)parsed;
    if (strict_head_check(head) != REFUSAL_NONE)
        return REFERENCE_REFUSED;
    return read_body(own, bytes + parsed, len - (size_t)parsed);
}

/* A part of a request may be known to be bad by one of them alone: both wait for the rest, or
 * refuse it. */
static bool agree(const char *bytes, const struct own *own, enum reference_end mine,
                  const struct reference_request *request, enum reference_end theirs)
{
    if (mine != REFERENCE_WHOLE || theirs != REFERENCE_WHOLE)
        return (mine == REFERENCE_WHOLE) == (theirs == REFERENCE_WHOLE) &&
               (theirs == REFERENCE_PART || mine == theirs || mine == REFERENCE_PART);
    return own->len == request->len && own->body_len == request->body_len &&
           memcmp(own->body, request->body, own->body_len) == 0 &&
           own->head.path == bytes + request->path && own->head.path_len == request->path_len &&
           (own->head.authority != NULL) == (request->authority > 0) &&
           own->head.authority_len == request->authority_len;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    struct own own = {.body = malloc(size + 1)};
    struct reference_request request = {.body = malloc(size + 1)};
    size_t at = 0;

    assert(text != NULL && own.body != NULL && request.body != NULL);
    memcpy(text, bytes, size);
    for (unsigned i = 0; i < REQUESTS_MOST && at < size; i++) {
        /* its own allocation, so that the sanitizer sees a read beyond it */
        char *rest = malloc(size - at);
        assert(rest != NULL);
        memcpy(rest, text + at, size - at);
        enum reference_end theirs = reference_read(rest, size - at, &request);
        enum reference_end mine = read_own(&own, rest, size - at);
        assert(agree(rest, &own, mine, &request, theirs));
        free(rest);
        if (mine != REFERENCE_WHOLE || own.head.has_bare_lf) /* the connection ends then */
            break;
        at += own.len;
    }
    free(request.body);
    free(own.body);
    free(text);
    return 0;
}

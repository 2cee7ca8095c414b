#include "loadgen_p.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* HTTP/1 on one connection: one request at a time, written from a buffer that all share, and an
 * incremental reader of responses (RFC 9112). The reader goes line by line through
 *
 *      STATUS -> HEADER ... -> SIZED ----------------------------------> DONE
 *        ^           |-------> UNTIL_EOF                                  ^
 *        '--- 1xx ---|                                                    |
 *                    '-------> CHUNK_SIZE -> CHUNK -> CHUNK_END           |
 *                                  ^ '---------- 0 -------'--> TRAILER ---'
 *                                  '------------------'
 *
 * A line is kept up to LINE_MAX_BYTES; the few headers that matter here are short, so the rest of a
 * longer line is passed over. What can not be HTTP ends in BROKEN. */

#define LINE_MAX_BYTES 256

enum h1_state {
    H1_STATUS,
    H1_HEADER,
    H1_SIZED,
    H1_UNTIL_EOF,
    H1_CHUNK_SIZE,
    H1_CHUNK,
    H1_CHUNK_END,
    H1_TRAILER,
    H1_DONE,
    H1_BROKEN,
};

struct h1 {
    bool active; /* a request is open */
    struct load_request request;
    size_t written; /* of the shared request */

    enum h1_state state;
    bool chunked;
    bool has_length;
    bool is_http10;
    bool announces_close;
    bool announces_keepalive;
    uint64_t left; /* of the body, or of the chunk */
    size_t line_len;
    char line[LINE_MAX_BYTES];
};

struct h1_request {
    size_t len;
    char bytes[];
};

/* --- one line of a response --- */

static void read_status(struct h1 *h)
{
    const char *p = h->line;

    if (h->line_len < 12 || strncmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') ||
        p[8] != ' ' || (h->line_len > 12 && p[12] != ' ')) {
        h->state = H1_BROKEN;
        return;
    }
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9') {
            h->state = H1_BROKEN;
            return;
        }
        status = status * 10 + (p[i] - '0');
    }
    h->request.status = status;
    h->is_http10 = p[7] == '0';
    h->announces_close = h->announces_keepalive = false;
    h->chunked = h->has_length = false;
    h->left = 0;
    h->state = status < 100 || status == 101 ? H1_BROKEN : H1_HEADER;
}

/* Is `word` one of the elements of a comma-separated list? */
static bool list_has(const char *list, const char *word)
{
    size_t word_len = strlen(word);

    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, " \t,;");
        if (len == word_len && strncasecmp(list, word, len) == 0)
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

static void read_content_length(struct h1 *h, const char *value)
{
    uint64_t length = 0;
    const char *p = value;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (length > (UINT64_MAX - 9) / 10)
            break;
        length = length * 10 + (uint64_t)(*p - '0');
    }
    if (p == value || p[strspn(p, " \t")] != '\0' || (h->has_length && h->left != length)) {
        h->state = H1_BROKEN;
        return;
    }
    h->has_length = true;
    h->left = length;
}

static void read_header(struct h1 *h)
{
    char *colon = strchr(h->line, ':');

    if (colon == NULL || colon == h->line) {
        h->state = H1_BROKEN;
        return;
    }
    *colon = '\0';
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(h->line, "Content-Length") == 0) {
        read_content_length(h, value);
    } else if (strcasecmp(h->line, "Transfer-Encoding") == 0) {
        h->chunked = h->chunked || list_has(value, "chunked");
    } else if (strcasecmp(h->line, "Connection") == 0) {
        h->announces_close = h->announces_close || list_has(value, "close");
        h->announces_keepalive = h->announces_keepalive || list_has(value, "keep-alive");
    }
}

/* The empty line: what kind of body follows? RFC 9112 section 6.3. */
static void end_headers(struct h1 *h, bool is_head)
{
    int status = h->request.status;

    if (status < 200)
        h->state = H1_STATUS; /* interim; the answer is still to come */
    else if (is_head || status == 204 || status == 304)
        h->state = H1_DONE;
    else if (h->chunked)
        h->state = H1_CHUNK_SIZE;
    else if (h->has_length)
        h->state = h->left > 0 ? H1_SIZED : H1_DONE;
    else
        h->state = H1_UNTIL_EOF;
}

static void read_chunk_size(struct h1 *h)
{
    size_t digits = strspn(h->line, "0123456789abcdefABCDEF");
    char behind = h->line[digits];

    errno = 0;
    unsigned long long size = strtoull(h->line, NULL, 16);
    if (digits == 0 || errno != 0 ||
        (behind != '\0' && behind != ';' && behind != ' ' && behind != '\t')) {
        h->state = H1_BROKEN;
        return;
    }
    h->left = size;
    h->state = size > 0 ? H1_CHUNK : H1_TRAILER;
}

static void read_line(struct h1 *h, bool is_head)
{
    if (h->line_len > 0 && h->line[h->line_len - 1] == '\r')
        h->line_len--;
    h->line[h->line_len] = '\0';

    if (h->state == H1_STATUS)
        read_status(h);
    else if (h->state == H1_HEADER && h->line_len > 0)
        read_header(h);
    else if (h->state == H1_HEADER)
        end_headers(h, is_head);
    else if (h->state == H1_CHUNK_SIZE)
        read_chunk_size(h);
    else if (h->state == H1_CHUNK_END)
        h->state = h->line_len == 0 ? H1_CHUNK_SIZE : H1_BROKEN;
    else if (h->line_len == 0)
        h->state = H1_DONE; /* the end of the trailer */
    h->line_len = 0;
}

/* --- the bytes of a response --- */

static size_t take_line(struct h1 *h, const uint8_t *data, size_t len, bool is_head)
{
    const uint8_t *newline = memchr(data, '\n', len);
    size_t take = newline != NULL ? (size_t)(newline - data) : len;
    size_t room = sizeof(h->line) - 1 - h->line_len;
    size_t keep = take < room ? take : room;

    memcpy(h->line + h->line_len, data, keep);
    h->line_len += keep;
    if (newline == NULL)
        return len;
    read_line(h, is_head);
    return take + 1;
}

static size_t take_body(struct load_conn *c, struct h1 *h, const uint8_t *data, size_t len)
{
    size_t take = h->state == H1_UNTIL_EOF || h->left > len ? len : (size_t)h->left;

    load_request_body(c, &h->request, data, take);
    if (h->state == H1_UNTIL_EOF)
        return take;
    h->left -= take;
    if (h->left == 0)
        h->state = h->state == H1_SIZED ? H1_DONE : H1_CHUNK_END;
    return take;
}

static size_t take_response(struct load_conn *c, struct h1 *h, const uint8_t *data, size_t len)
{
    size_t used = 0;

    while (used < len && h->state != H1_DONE && h->state != H1_BROKEN) {
        if (h->state == H1_SIZED || h->state == H1_UNTIL_EOF || h->state == H1_CHUNK)
            used += take_body(c, h, data + used, len - used);
        else
            used += take_line(h, data + used, len - used, c->load->is_head);
    }
    return used;
}

/* --- the wire --- */

static int h1_prepare(struct load *l)
{
    char length[64] = "";
    size_t body_bytes = l->options->body_bytes;
    bool closes = l->options->protocol == LOAD_HTTP1_CLOSE;

    if (body_bytes > 0)
        (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n", body_bytes); /* fits */
    size_t room = strlen(l->method) + strlen(l->path) + strlen(l->authority) + strlen(length) +
                  128 + body_bytes;
    struct h1_request *request = malloc(sizeof(*request) + room);
    if (request == NULL)
        return -ENOMEM;
    int head = snprintf(request->bytes, room, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", l->method,
                        l->path, l->authority, length, closes ? "Connection: close\r\n" : "");
    memset(request->bytes + head, 'x', body_bytes);
    request->len = (size_t)head + body_bytes;
    l->request = request;
    return 0;
}

static int h1_create(struct load_conn *c)
{
    c->wire_state = calloc(1, sizeof(struct h1));
    return c->wire_state != NULL ? 0 : -ENOMEM;
}

static void h1_destroy(struct load_conn *c)
{
    free(c->wire_state);
}

static int h1_open(struct load_conn *c)
{
    struct h1 *h = c->wire_state;

    h->active = false;
    return 0;
}

static void h1_flush(struct load_conn *c)
{
    struct h1 *h = c->wire_state;
    const struct h1_request *request = c->load->request;

    if (!h->active || h->request.whole)
        return;
    h->written += load_conn_write(c, request->bytes + h->written, request->len - h->written);
    h->request.whole = h->written == request->len;
    load_conn_want_write(c, !h->request.whole && !c->write_failed);
}

/* Writes nothing yet: the loop flushes after it. */
static bool h1_begin(struct load_conn *c)
{
    struct h1 *h = c->wire_state;

    load_request_begin(c, &h->request);
    h->active = true;
    h->written = 0;
    h->state = H1_STATUS;
    h->line_len = 0;
    return true;
}

static void h1_answered(struct load_conn *c, struct h1 *h)
{
    bool closes = h->announces_close || (h->is_http10 && !h->announces_keepalive) ||
                  c->load->options->protocol == LOAD_HTTP1_CLOSE;

    if (h->announces_close)
        c->load->result->closes_announced++;
    if (closes || !h->request.whole)
        c->closing = true;
    h->active = false;
    load_request_answered(c, &h->request);
}

static void h1_input(struct load_conn *c, const uint8_t *data, size_t len)
{
    struct h1 *h = c->wire_state;

    if (!h->active) { /* nobody asked, for example 408 before an idle close */
        c->closing = true;
        return;
    }
    h->request.answer_begun = true;
    size_t used = take_response(c, h, data, len);
    if (h->state == H1_DONE) {
        h1_answered(c, h);
        c->closing = c->closing || used < len;
    } else if (h->state == H1_BROKEN) {
        h->active = false;
        c->closing = true;
        load_request_end(c, &h->request, LOAD_END_BROKEN);
    }
}

static void h1_end(struct load_conn *c, enum load_end how)
{
    struct h1 *h = c->wire_state;

    if (!h->active)
        return;
    if (how == LOAD_END_EOF && h->state == H1_UNTIL_EOF) {
        h1_answered(c, h);
        return;
    }
    h->active = false;
    load_request_end(c, &h->request, how);
}

const struct load_wire load_wire_h1 = {
    .prepare = h1_prepare,
    .create = h1_create,
    .destroy = h1_destroy,
    .open = h1_open,
    .begin = h1_begin,
    .input = h1_input,
    .flush = h1_flush,
    .end = h1_end,
};

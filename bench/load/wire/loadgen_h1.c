#include "loadgen_wires.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen_answer.h"
#include "loadgen_conn.h"
#include "loadgen_count.h"
#include "loadgen_pace.h"

/* HTTP/1 on one connection: requests one at a time or pipelined, answered in order. All requests
 * are written from one shared buffer. An answer that announces the close refuses the requests that
 * follow it. */

struct h1 {
    struct load_request *requests; /* ring of `width`: the open ones, in order */
    unsigned head;
    unsigned len;
    unsigned whole; /* the number of written requests, at the front */
    size_t written; /* bytes of the next one */

    struct load_answer answer; /* to the first request */
};

/* The text of a request. */
struct h1_text {
    size_t head_len;
    size_t len;
    size_t number_at; /* offset of the digits of its number; 0: it has none */
    char bytes[];
};

struct h1_texts {
    struct h1_text *load;
    struct h1_text *idle; /* for the idle crowd */
};

/* Read to the end of the answer or of the data; returns the bytes used. */
static size_t take_answer(struct load_conn *c, struct h1 *h, const uint8_t *data, size_t len)
{
    bool is_head = c->load->is_head && c->role == LOAD_ROLE_CLIENT;
    struct load_request *first = &h->requests[h->head];
    size_t used = 0;

    first->answer_begun = true;
    while (used < len && h->answer.state != ANSWER_DONE && h->answer.state != ANSWER_BROKEN) {
        size_t body = 0;
        size_t n = load_answer_step(&h->answer, data + used, len - used, is_head, &body);
        if (body > 0)
            load_request_body(c, first, data + used, body);
        used += n;
    }
    first->status = h->answer.status;
    return used;
}

static struct h1_text *create_text(const struct load *l, const char *method, size_t body_bytes,
                                   bool closes)
{
    char length[64] = "";
    const char *number = l->options->number_header;

    if (body_bytes > 0)
        (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n", body_bytes); /* fits */
    size_t room = strlen(method) + strlen(l->path) + strlen(l->authority) + strlen(length) +
                  (number != NULL ? strlen(number) + 32 : 0) + 128 + body_bytes;
    struct h1_text *text = malloc(sizeof(*text) + room);
    if (text == NULL)
        return NULL;
    int head = snprintf(text->bytes, room, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s", method, l->path,
                        l->authority, length, closes ? "Connection: close\r\n" : "");
    text->number_at = 0;
    if (number != NULL) {
        head += sprintf(text->bytes + head, "%s: ", number);
        text->number_at = (size_t)head;
        head += sprintf(text->bytes + head, "0123456789abcdef\r\n");
    }
    head += sprintf(text->bytes + head, "\r\n");
    text->head_len = (size_t)head;
    text->len = text->head_len + body_bytes;
    memset(text->bytes + head, 'x', body_bytes);
    return text;
}

static int h1_prepare(struct load *l)
{
    bool closes = l->options->protocol == LOAD_HTTP1_CLOSE;
    struct h1_texts *texts = calloc(1, sizeof(*texts));

    l->request = texts;
    if (texts == NULL)
        return -ENOMEM;
    texts->load = create_text(l, l->method, l->options->body_bytes, closes);
    texts->idle = create_text(l, "GET", 0, false);
    return texts->load != NULL && texts->idle != NULL ? 0 : -ENOMEM;
}

static void h1_forget(struct load *l)
{
    struct h1_texts *texts = l->request;

    if (texts == NULL)
        return;
    free(texts->load);
    free(texts->idle);
    free(texts);
}

static int h1_create(struct load_conn *c)
{
    struct h1 *h = calloc(1, sizeof(*h));

    c->wire_state = h;
    if (h == NULL)
        return -ENOMEM;
    h->requests = calloc(c->width, sizeof(*h->requests));
    return h->requests != NULL ? 0 : -ENOMEM;
}

static void h1_destroy(struct load_conn *c)
{
    struct h1 *h = c->wire_state;

    if (h != NULL)
        free(h->requests);
    free(h);
}

static int h1_open(struct load_conn *c)
{
    struct h1 *h = c->wire_state;

    h->head = h->len = h->whole = 0;
    h->written = 0;
    load_answer_expect(&h->answer);
    return 0;
}

static struct load_request *request_at(struct load_conn *c, unsigned index)
{
    struct h1 *h = c->wire_state;

    return &h->requests[(h->head + index) % c->width];
}

/* Returns false if no more can be written now; *full: because the kernel takes no more. The text is
 * shared, so the number of the current request is written into it first. */
static bool write_some(struct load_conn *c, struct h1 *h, struct h1_text *text, bool *full)
{
    bool in_body = h->written >= text->head_len;
    size_t want = (in_body ? text->len : text->head_len) - h->written;

    if (c->load->options->send_rate == 0)
        want = text->len - h->written;
    else if (in_body && want > 0)
        want = load_pace_send_room(c, want);
    if (want == 0)
        return false;
    if (text->number_at > 0)
        load_write_number(request_at(c, h->whole)->number, text->bytes + text->number_at);
    size_t n = load_conn_write(c, text->bytes + h->written, want);
    if (in_body)
        load_pace_sent(c, n);
    h->written += n;
    *full = n < want;
    return n == want;
}

static void h1_flush(struct load_conn *c)
{
    struct h1 *h = c->wire_state;
    const struct h1_texts *texts = c->load->request;
    struct h1_text *text = c->role == LOAD_ROLE_IDLE ? texts->idle : texts->load;

    bool full = false;

    while (h->whole < h->len && write_some(c, h, text, &full)) {
        if (h->written < text->len)
            continue;
        load_request_sent(c, request_at(c, h->whole++));
        h->written = 0;
    }
    load_conn_want_write(c, full && !c->write_failed);
}

/* Writes nothing: the slot flushes afterwards. */
static bool h1_begin(struct load_conn *c)
{
    struct h1 *h = c->wire_state;

    load_request_begin(c, request_at(c, h->len++));
    return true;
}

/* Remove the first request from the ring; its memory is valid until the next one begins. */
static struct load_request *take_first(struct load_conn *c, struct h1 *h)
{
    struct load_request *first = request_at(c, 0);

    h->head = (h->head + 1) % c->width;
    h->len--;
    if (h->whole > 0)
        h->whole--;
    return first;
}

static void end_all_requests(struct load_conn *c, struct h1 *h, enum load_end how)
{
    while (h->len > 0)
        load_request_end(c, take_first(c, h), how);
}

static void h1_answered(struct load_conn *c, struct h1 *h)
{
    bool closes = h->answer.announces_close ||
                  (h->answer.is_http10 && !h->answer.announces_keepalive) ||
                  (c->load->options->protocol == LOAD_HTTP1_CLOSE && c->role == LOAD_ROLE_CLIENT);
    struct load_request *first = take_first(c, h);
    bool was_whole = first->whole;

    if (h->answer.announces_close && c->role == LOAD_ROLE_CLIENT)
        c->load->result->closes_announced++;
    load_request_answered(c, first);
    if (closes || !was_whole) {
        c->closing = true;
        end_all_requests(c, h, closes ? LOAD_END_PIPELINED : LOAD_END_EOF);
    }
    load_answer_expect(&h->answer);
}

static void h1_input(struct load_conn *c, const uint8_t *data, size_t len)
{
    struct h1 *h = c->wire_state;

    while (len > 0 && h->len > 0) {
        size_t used = take_answer(c, h, data, len);
        data += used;
        len -= used;
        if (h->answer.state == ANSWER_DONE) {
            h1_answered(c, h);
        } else if (h->answer.state == ANSWER_BROKEN) {
            c->closing = true;
            end_all_requests(c, h, LOAD_END_BROKEN);
        }
    }
    if (len > 0) /* an answer without a request, for example 408 before an idle close */
        c->closing = true;
}

static void h1_end(struct load_conn *c, enum load_end how)
{
    struct h1 *h = c->wire_state;

    if (h->len == 0)
        return;
    bool announced = h->answer.announces_close; /* by the answer that has begun */
    if (how == LOAD_END_EOF && h->answer.state == ANSWER_UNTIL_EOF)
        h1_answered(c, h);
    else
        load_request_end(c, take_first(c, h), how);
    end_all_requests(c, h, announced ? LOAD_END_PIPELINED : how);
}

const struct load_wire load_wire_h1 = {
    .prepare = h1_prepare,
    .forget = h1_forget,
    .create = h1_create,
    .destroy = h1_destroy,
    .open = h1_open,
    .begin = h1_begin,
    .input = h1_input,
    .flush = h1_flush,
    .end = h1_end,
};

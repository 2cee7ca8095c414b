/* What a script prints, as the answer. Its body is held back until the script has ended, prints
 * nothing for a moment, or has printed CGI_HELD_BYTES: a short answer has its length, and one that
 * turns out wrong becomes 502. From then on it is streamed, at the pace of the client. */

#include "cgi_p.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"

/* ---- the header ---- */

static char *copy(struct exchange *exchange, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *made = exchange->ops->alloc(exchange, bytes);

    return made != NULL ? memcpy(made, text, bytes) : NULL;
}

static bool add_field(struct exchange *exchange, struct exchange_answer_field ***at,
                      const char *name, const char *value)
{
    struct exchange_answer_field *field = exchange->ops->alloc(exchange, sizeof(*field));

    if (field == NULL)
        return false;
    *field = (struct exchange_answer_field){.name = copy(exchange, name),
                                            .value = copy(exchange, value)};
    **at = field;
    *at = &field->next;
    return field->name != NULL && field->value != NULL;
}

/* Fill in the exchange. False: no memory. */
static bool apply_head(struct cgi_run *run)
{
    struct exchange *exchange = run->exchange;
    struct exchange_answer_field **at = &exchange->answer_fields;
    const struct cgi_head *head = &run->head;

    while (*at != NULL)
        at = &(*at)->next;
    exchange->status = head->status;
    exchange->content_type = head->content_type != NULL ? copy(exchange, head->content_type) : NULL;
    exchange->length = head->length;
    for (size_t i = 0; i < head->count; i++)
        if (!add_field(exchange, &at, head->fields[i].name, head->fields[i].value))
            return false;
    return head->content_type == NULL || exchange->content_type != NULL;
}

static void read_head(struct cgi_run *run)
{
    size_t end = cgi_head_end(run->buffer, run->bytes, run->looked_at);

    run->looked_at = run->bytes;
    if (end > CGI_HEAD_BYTES || (end == 0 && run->bytes >= CGI_HEAD_BYTES)) {
        run->why = CGI_BAD;
        (void)snprintf(run->reason, sizeof(run->reason), "its header is longer than %d bytes",
                       CGI_HEAD_BYTES);
        return;
    }
    if (end == 0)
        return;
    if (cgi_head_parse(run->buffer, end, &run->head, run->reason) != 0) {
        run->head.bytes = 0;
        run->why = CGI_BAD;
        return;
    }
    run->bytes -= end;
    run->body_bytes = run->bytes;
    run->has_no_body = strcmp(run->exchange->method, "HEAD") == 0 || run->head.status == 204 ||
                       run->head.status == 304;
    if (run->has_no_body)
        run->bytes = 0;
    run->held_until_ns = clock_now_ns() + run->cgi->settings.held_ns;
    if (!apply_head(run)) {
        run->why = CGI_BUSY;
        (void)snprintf(run->reason, sizeof(run->reason), "no memory");
    }
}

/* ---- the body ---- */

/* What is beyond the announced length is dropped. */
static size_t wanted(const struct cgi_run *run, uint64_t before, size_t count)
{
    if (run->has_no_body)
        return 0;
    if (run->head.length < 0)
        return count;
    uint64_t length = (uint64_t)run->head.length;
    uint64_t room = length > before ? length - before : 0;
    return count < room ? count : (size_t)room;
}

/* The time that the client takes is not the script's. */
static void send_bytes(struct cgi_run *run, const char *bytes, size_t count)
{
    uint64_t begun_ns = clock_now_ns(), limit_ns = run->cgi->settings.write_timeout_ns;
    int64_t wait_ms = limit_ns > 0 ? (int64_t)(limit_ns / NS_PER_MS) : -1;
    int err = run->exchange->ops->write(run->exchange, bytes, count, wait_ms);

    if (run->late_at_ns != CLOCK_NEVER)
        run->late_at_ns += clock_now_ns() - begun_ns;
    if (err != 0)
        run->why = err == EXCHANGE_TIMEOUT && run->exchange->ops->cancelled(run->exchange) == 0
                       ? CGI_SLOW
                       : CGI_CANCELLED;
}

/* Also without a body so far: then the header is sent. */
void cgi_output_stream(struct cgi_run *run)
{
    size_t count = wanted(run, 0, run->bytes);

    run->is_streamed = true;
    run->bytes = 0;
    send_bytes(run, run->buffer + run->head.bytes, count);
}

/* `count` bytes were read to where they belong: after what is held. */
static void take_body(struct cgi_run *run, size_t count)
{
    const char *bytes = run->buffer + run->head.bytes + run->bytes;
    uint64_t before = run->body_bytes;

    run->body_bytes += count;
    if (run->has_no_body)
        return;
    if (run->is_streamed) {
        size_t n = wanted(run, before, count);
        if (n > 0)
            send_bytes(run, bytes, n);
        return;
    }
    run->bytes += count;
    run->held_until_ns = clock_now_ns() + run->cgi->settings.held_ns;
    if (run->bytes > CGI_HELD_BYTES)
        cgi_output_stream(run);
}

bool cgi_output_read(struct cgi_run *run)
{
    size_t used = run->head.bytes + run->bytes;
    ssize_t n;

    do
        n = read(run->out_fd, run->buffer + used, CGI_ROOM - used);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    run->printed += (size_t)n;
    if (run->cgi->settings.max_output > 0 && run->printed > run->cgi->settings.max_output) {
        run->why = CGI_LONG;
    } else if (run->head.bytes > 0) {
        take_body(run, (size_t)n);
    } else {
        run->bytes += (size_t)n;
        read_head(run);
        if (run->head.bytes > 0 && run->why == CGI_FINE && !run->has_no_body &&
            run->bytes > CGI_HELD_BYTES)
            cgi_output_stream(run);
    }
    return true;
}

/* ---- the end ---- */

/* A script that fails in the middle may have printed half of an answer; only if it had announced a
 * length is it known to be whole. */
static void judge(struct cgi_run *run)
{
    bool is_announced = run->head.length >= 0 && !run->has_no_body;
    bool failed = run->status != 0 && run->status != CHILD_LOST;
    char text[CHILD_TEXT_SIZE];

    if (run->head.bytes == 0) {
        run->why = CGI_BAD;
        (void)snprintf(run->reason, sizeof(run->reason), "it %s without a header",
                       child_describe(run->status, text));
    } else if (is_announced && run->body_bytes < (uint64_t)run->head.length) {
        run->why = CGI_BAD;
        (void)snprintf(run->reason, sizeof(run->reason),
                       "%" PRIu64 " of the %" PRId64 " bytes that Content-Length announces",
                       run->body_bytes, run->head.length);
    } else if (failed && !is_announced) {
        run->why = CGI_DIED;
        (void)snprintf(run->reason, sizeof(run->reason), "it %s",
                       child_describe(run->status, text));
    }
}

static void hold_whole(struct cgi_run *run)
{
    struct exchange *exchange = run->exchange;

    if (run->has_no_body) {
        bool is_head = run->head.status != 204 && run->head.status != 304;
        /* A script may print no body for HEAD (RFC 3875 section 4.3.3): then no length is known. */
        if (is_head && exchange->length < 0 && run->body_bytes > 0)
            exchange->length = (int64_t)run->body_bytes;
        return;
    }
    size_t count = wanted(run, 0, run->bytes);
    if (count > 0) {
        exchange->text = malloc(count);
        if (exchange->text == NULL) {
            run->why = CGI_BUSY;
            return;
        }
        memcpy(exchange->text, run->buffer + run->head.bytes, count);
    }
    exchange->text_bytes = count;
    exchange->length = -1; /* that of the text */
}

void cgi_output_end(struct cgi_run *run)
{
    static const int statuses[] = {
        [CGI_CANCELLED] = 503, [CGI_LATE] = 504, [CGI_SLOW] = 502, [CGI_LONG] = 502,
        [CGI_BAD] = 502,       [CGI_DIED] = 502, [CGI_BUSY] = 503};

    if (run->why == CGI_FINE)
        judge(run);
    if (run->why == CGI_FINE && !run->is_streamed)
        hold_whole(run);
    if (run->why == CGI_FINE)
        return;
    if (run->why != CGI_CANCELLED)
        cgi_say_failure(run);
    if (run->is_streamed)
        run->exchange->broken = true;
    else
        cgi_refuse(run->exchange, statuses[run->why]);
}

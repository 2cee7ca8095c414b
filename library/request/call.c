#include "request_p.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "scope.h"

/* A handler without a socket: for tests. The exchange is the real one, with calls of its own. */

#define MOST_STREAMED ((size_t)64 << 20)
#define MOST_FIELDS 100

struct memory {
    struct memory *next;
    max_align_t bytes[];
};

struct call {
    struct exchange exchange; /* first */
    struct memory *memory;
    size_t allocated;
    bool no_memory;
    char *streamed;
    size_t streamed_bytes;
    uint64_t until_ns; /* of the route's time limit; 0: none */
    int fd;            /* of cancel_fd(); -1: none */
    char scratch[EXCHANGE_SCRATCH];
};

static struct call *call_of(struct exchange *exchange)
{
    return (struct call *)exchange;
}

/* ---- the exchange's calls ---- */

static void *op_alloc(struct exchange *exchange, size_t bytes)
{
    struct call *call = call_of(exchange);
    struct memory *memory =
        bytes <= EXCHANGE_ALLOC_MOST - call->allocated ? malloc(sizeof(*memory) + bytes) : NULL;

    if (memory == NULL)
        return NULL;
    memory->next = call->memory;
    call->memory = memory;
    call->allocated += bytes;
    return memory->bytes;
}

static int op_cancelled(struct exchange *exchange)
{
    const struct call *call = call_of(exchange);

    return call->until_ns != 0 && clock_now_ns() >= call->until_ns ? EXCHANGE_TIMEOUT : 0;
}

static int op_write(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms)
{
    struct call *call = call_of(exchange);
    int why = op_cancelled(exchange);

    (void)wait_ms;
    if (why != 0)
        return why;
    if (count > MOST_STREAMED - call->streamed_bytes) /* as a client that has enough of it */
        return EXCHANGE_GONE;
    char *more = realloc(call->streamed, call->streamed_bytes + count + 1);
    if (more == NULL)
        return -ENOMEM;
    memcpy(more + call->streamed_bytes, bytes, count);
    call->streamed = more;
    call->streamed_bytes += count;
    return 0;
}

static int op_flush(struct exchange *exchange, int64_t wait_ms)
{
    (void)wait_ms;
    return op_cancelled(exchange);
}

static int64_t op_time_left(struct exchange *exchange)
{
    const struct call *call = call_of(exchange);
    uint64_t now_ns = clock_now_ns();

    if (call->until_ns == 0)
        return -1;
    return call->until_ns > now_ns ? (int64_t)((call->until_ns - now_ns) / NS_PER_MS) : 0;
}

static int op_wait(struct exchange *exchange, int64_t ms, bool also_drain)
{
    int64_t left = op_time_left(exchange);
    bool is_cut = left >= 0 && (ms < 0 || left < ms);

    (void)also_drain;
    if (op_cancelled(exchange) != 0)
        return EXCHANGE_TIMEOUT;
    if (is_cut)
        ms = left + 1;
    uint64_t until_ns = clock_now_ns() + (uint64_t)ms * NS_PER_MS;
    while (ms < 0 || clock_now_ns() < until_ns) {
        uint64_t left_ms = ms < 0 ? 1000 : (until_ns - clock_now_ns()) / NS_PER_MS + 1;
        (void)poll(NULL, 0, left_ms > 1000 ? 1000 : (int)left_ms);
    }
    return is_cut ? EXCHANGE_TIMEOUT : 0;
}

static int op_cancel_fd(struct exchange *exchange)
{
    struct call *call = call_of(exchange);

    if (call->fd < 0)
        call->fd = eventfd(0, EFD_CLOEXEC);
    return call->fd < 0 ? -errno : call->fd;
}

/* Nothing cuts the request but its time limit, which wakes nobody here. */
static int op_on_cancel(struct exchange *exchange, void (*cancel)(void *arg), void *arg)
{
    if (cancel != NULL && op_cancelled(exchange) != 0)
        cancel(arg);
    return 0;
}

static uint64_t op_keep(struct exchange *exchange)
{
    (void)exchange;
    return 0;
}

static const struct exchange_ops ops = {.alloc = op_alloc,
                                        .write = op_write,
                                        .flush = op_flush,
                                        .cancelled = op_cancelled,
                                        .wait = op_wait,
                                        .time_left = op_time_left,
                                        .cancel_fd = op_cancel_fd,
                                        .on_cancel = op_on_cancel,
                                        .keep = op_keep};

/* ---- the request ---- */

static char *copy(struct call *call, const char *text, size_t bytes)
{
    char *copied = op_alloc(&call->exchange, bytes + 1);

    if (copied == NULL) {
        call->no_memory = true;
        return NULL;
    }
    memcpy(copied, text, bytes);
    copied[bytes] = '\0';
    return copied;
}

/* "POST /notes?a=b" */
static int read_request_line(struct call *call, const char *request)
{
    struct exchange *exchange = &call->exchange;
    size_t bytes = strcspn(request, " ");
    const char *target = request + bytes + (request[bytes] == ' ');

    if (bytes == 0 || *target != '/' || target[strcspn(target, " \r\n\t")] != '\0')
        return LC_E_ARG;
    exchange->method = copy(call, request, bytes);
    exchange->path = copy(call, target, strlen(target));
    if (call->no_memory)
        return -ENOMEM;
    const char *query = strchr(exchange->path, '?');
    exchange->query = query != NULL ? query + 1 : "";
    return lc_is_token(exchange->method) ? 0 : LC_E_ARG;
}

static int read_field(struct call *call, const char *line, size_t bytes,
                      struct exchange_field *ret_field)
{
    const char *colon = memchr(line, ':', bytes);

    if (colon == NULL)
        return LC_E_ARG;
    char *name = copy(call, line, (size_t)(colon - line));
    const char *value = colon + 1;
    while (value < line + bytes && (*value == ' ' || *value == '\t'))
        value++;
    ret_field->value = copy(call, value, (size_t)(line + bytes - value));
    if (call->no_memory)
        return -ENOMEM;
    for (char *at = name; *at != '\0'; at++)
        *at = *at >= 'A' && *at <= 'Z' ? (char)(*at | 0x20) : *at;
    ret_field->name = name;
    return lc_is_token(name) && lc_is_field_value(ret_field->value) ? 0 : LC_E_ARG;
}

static int read_fields(struct call *call, const char *headers)
{
    struct exchange *exchange = &call->exchange;
    struct exchange_field *fields = op_alloc(exchange, MOST_FIELDS * sizeof(*fields));

    if (fields == NULL)
        return -ENOMEM;
    exchange->fields = fields;
    for (const char *at = headers; at != NULL && *at != '\0';) {
        size_t bytes = strcspn(at, "\r\n");
        if (exchange->field_count == MOST_FIELDS)
            return LC_E_ARG;
        int err = read_field(call, at, bytes, &fields[exchange->field_count]);
        if (err != 0)
            return err;
        if (strcmp(fields[exchange->field_count].name, "host") == 0)
            exchange->authority = fields[exchange->field_count].value;
        exchange->field_count++;
        at += bytes + strspn(at + bytes, "\r\n");
    }
    return 0;
}

/* ---- the answer ---- */

static int read_file(const struct exchange *exchange, struct lc_answer *answer)
{
    answer->body = malloc(exchange->file_bytes + 1);
    while (answer->body != NULL && answer->count < exchange->file_bytes) {
        ssize_t n =
            pread(exchange->file_fd, answer->body + answer->count,
                  exchange->file_bytes - answer->count, (off_t)(exchange->file_at + answer->count));
        if (n <= 0)
            return n < 0 ? -errno : LC_E_LENGTH;
        answer->count += (size_t)n;
    }
    return answer->body != NULL ? 0 : -ENOMEM;
}

static int take_body(struct call *call, struct lc_answer *answer)
{
    const struct exchange *exchange = &call->exchange;
    int err = exchange->broken ? LC_E_LENGTH : 0;

    if (exchange->file_fd >= 0 && call->streamed == NULL) {
        int read = read_file(exchange, answer);
        if (read != 0 && read != LC_E_LENGTH)
            return read;
        err = read != 0 ? read : err;
    } else {
        bool is_streamed = call->streamed != NULL;
        size_t bytes = is_streamed ? call->streamed_bytes : exchange->text_bytes;
        answer->body = malloc(bytes + 1);
        if (answer->body == NULL)
            return -ENOMEM;
        if (bytes > 0)
            memcpy(answer->body, is_streamed ? call->streamed : exchange->text, bytes);
        answer->count = bytes;
    }
    if (strcmp(exchange->method, "HEAD") == 0)
        answer->count = 0;
    answer->body[answer->count] = '\0';
    return err;
}

static int take_headers(const struct exchange *exchange, struct lc_answer *answer)
{
    size_t bytes = 0;
    FILE *to = open_memstream(&answer->headers, &bytes);

    if (to == NULL)
        return -ENOMEM;
    if (exchange->content_type != NULL)
        (void)fprintf(to, "content-type: %s\r\n", exchange->content_type);
    for (const struct exchange_answer_field *i = exchange->answer_fields; i != NULL; i = i->next)
        (void)fprintf(to, "%s: %s\r\n", i->name, i->value);
    return fclose(to) == 0 ? 0 : -ENOMEM;
}

static void release(struct call *call)
{
    struct exchange *exchange = &call->exchange;

    if (exchange->free_text != NULL)
        exchange->free_text(exchange->text_owner);
    else if (exchange->text != call->scratch)
        free(exchange->text);
    free(call->streamed);
    if (exchange->file_fd >= 0)
        (void)close(exchange->file_fd);
    if (call->fd >= 0)
        (void)close(call->fd);
    for (struct memory *memory = call->memory, *next; memory != NULL; memory = next) {
        next = memory->next;
        free(memory);
    }
    free(call);
}

static void answer_status(struct call *call, int status)
{
    struct exchange *exchange = &call->exchange;

    exchange->status = status;
    exchange->content_type = "text/plain; charset=utf-8";
    exchange->text = call->scratch;
    exchange->text_bytes = (size_t)snprintf(call->scratch, sizeof(call->scratch), "%d\n", status);
}

static int run(struct call *call, struct lc_routes *routes)
{
    struct exchange *exchange = &call->exchange;
    char *path = copy(call, exchange->path, strlen(exchange->path));
    struct mux_match match;

    if (path == NULL)
        return -ENOMEM;
    size_t bytes = mux_clean_path(path, strlen(path), path);
    mux_find(routes->mux, exchange->method, strlen(exchange->method), path, bytes, &match);
    const struct user_route *route = match.value;
    if (route == NULL) {
        struct exchange_answer_field *allow = op_alloc(exchange, sizeof(*allow));
        const char *value = copy(call, match.allow, strlen(match.allow));
        if (allow == NULL || value == NULL)
            return -ENOMEM;
        *allow = (struct exchange_answer_field){NULL, "allow", value};
        exchange->answer_fields = *match.allow != '\0' ? allow : NULL;
        answer_status(call, *match.allow != '\0' ? 405 : 404);
    } else if (route->max_body > 0 && exchange->body_bytes > (uint64_t)route->max_body) {
        answer_status(call, 413);
    } else {
        if (route->timeout_ms > 0)
            call->until_ns = clock_now_ns() + (uint64_t)route->timeout_ms * NS_PER_MS;
        route->handler(exchange, route->user);
    }
    return 0;
}

int lc_call(lc_server *server, const char *request, const char *headers, const void *body,
            size_t count, struct lc_answer *answer)
{
    if (LC_HOLDS())
        return LC_E_THREAD;
    if (server == NULL || request == NULL || (body == NULL && count > 0) || answer == NULL ||
        answer->size < sizeof(*answer))
        return LC_E_ARG;
    struct call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        return -ENOMEM;
    call->fd = -1;
    call->exchange = (struct exchange){.ops = &ops,
                                       .authority = "localhost",
                                       .peer = "127.0.0.1",
                                       .version = 0x101,
                                       .body = count > 0 ? body : "",
                                       .body_bytes = count,
                                       .status = 200,
                                       .length = -1,
                                       .scratch = call->scratch,
                                       .file_fd = -1};
    int err = read_request_line(call, request);
    if (err == 0)
        err = read_fields(call, headers);
    const struct scope *before = scope_enter(lc_scope_of(server)); /* for the handler's log lines */
    if (err == 0)
        err = run(call, lc_routes_of(server));
    (void)scope_enter(before);
    struct lc_answer made = {.size = sizeof(made), .status = call->exchange.status};
    if (err == 0)
        err = take_headers(&call->exchange, &made);
    if (err == 0)
        err = take_body(call, &made);
    release(call);
    if (err != 0 && err != LC_E_LENGTH) {
        free(made.headers);
        free(made.body);
        return err;
    }
    made.size = answer->size;
    memcpy(answer, &made, sizeof(made));
    return err;
}

void lc_answer_free(struct lc_answer *answer)
{
    if (answer == NULL)
        return;
    free(answer->headers);
    free(answer->body);
    answer->headers = answer->body = NULL;
    answer->count = 0;
}

#include "upstream_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define ONE_OF(plan, list) (list)[plan_random(plan, COUNT(list))]

uint32_t plan_random(struct plan *plan, uint32_t bound)
{
    /* splitmix64 */
    uint64_t z = plan->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ (z >> 31)) >> 32) % bound;
}

void plan_add(struct plan *plan, const void *bytes, size_t size)
{
    if (size > PLAN_MAX - plan->size)
        abort();
    memcpy(plan->bytes + plan->size, bytes, size);
    plan->size += size;
}

void plan_say(struct plan *plan, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    plan_add(plan, text, (size_t)n);
}

void plan_make_body(struct plan *plan)
{
    uint32_t most = plan_random(plan, 20) == 0 ? 200000 : plan_random(plan, 4) == 0 ? 20000 : 60;

    plan->body_size = plan_random(plan, 5) == 0 ? 0 : plan_random(plan, most);
    for (size_t i = 0; i < plan->body_size; i++)
        plan->body[i] = (char)('a' + (i * 7 + most) % 26);
}

void plan_say_fields(struct plan *plan)
{
    static const char *const harmless[] = {
        "Content-Type: text/plain\r\n",
        "X-A:b\r\n",
        "X-Empty:\r\n",
        "Set-Cookie: a=b\r\n",
        "ETag: \"x\"\r\n",
        "Vary: Accept-Encoding\r\n",
        "Cache-Control: no-cache\r\n",
        "Server: upstream\r\n",
        "Location: /elsewhere\r\n",
        "Content-Language: en\r\n",
        "X-High: \xe4\xf6\r\n",
        "Keep-Alive: timeout=5\r\n",
    };
    static const char *const too_much[] = {
        "X-Reproxy-URL: /own\r\n",
        "X-Reproxy-URL: http://127.0.0.1:1/\r\n",
        "X-Reproxy-URL: http://[::1/\r\n",
        "X-Reproxy-URL: /p/again\r\n",
        "X-Reproxy-URL: \r\n",
        "X-Reproxy-URL: //127.0.0.1:1\r\n",
        "X-Reproxy-URL: unix:/x\r\n",
        "Link: </own>; rel=preload\r\n",
        "Link: </p/pushed>; rel=preload, <x>; rel=preload\r\n",
        "Link: <>; rel=preload\r\n",
        "Link: </f/pushed>; rel=preload; x-http2-push-only\r\n",
        "Link: <http://test/own>; rel=preload;;;,,<\r\n",
        "Link: <//test/own>; rel=\"preload\"\r\n",
        "Location: //else.test\r\n",
        "Location: http://127.0.0.1:99999999/\r\n",
        "Location:\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        "X-Compress-Hint: on\r\n",
        "Content-Encoding: gzip\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: foo\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 03\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length: 9223372036854775807\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        ": a\r\n",
        "X\r\n",
        "X : a\r\n",
        "X: a\rb\r\n",
        "Status: 099 Low\r\n",
        "Status: 101 Switch\r\n",
        "Status: abc\r\n",
        "Status:\r\n",
        "Date: never\r\nAge: -1\r\n",
        "Connection: close, keep-alive\r\n",
        "X-Traffic: 999999999\r\n",
        "X-Traffic: 2000000\r\n",
        "X-Traffic: 0\r\n",
    };
    for (uint32_t i = plan_random(plan, 4); i > 0; i--)
        plan_say(plan, "%s", ONE_OF(plan, harmless));
    if (plan->keeps_rules)
        return;
    for (uint32_t i = plan_random(plan, 3); i > 0; i--)
        plan_say(plan, "%s", ONE_OF(plan, too_much));
    if (plan_random(plan, 40) == 0)
        for (uint32_t i = 90 + plan_random(plan, 40); i > 0; i--)
            plan_say(plan, "X-%u: y\r\n", i);
    if (plan_random(plan, 60) == 0)
        for (uint32_t i = plan_random(plan, 400); i > 0; i--)
            plan_say(plan, "X: %0900u%s", i, i % 300 == 299 ? "\r\nY:" : "");
    if (plan_random(plan, 8) == 0)
        plan_add(plan, "X: a\0b\r\n", 8);
}

/* ---- HTTP/1 ---- */

static void say_chunks(struct plan *plan)
{
    static const char *const extensions[] = {"", "", "", ";a=b", " ", ";\"x\""};
    size_t at = 0;

    while (at < plan->body_size) {
        size_t left = plan->body_size - at;
        size_t chunk = 1 + plan_random(plan, plan_random(plan, 3) == 0 ? 7 : 9000);
        if (chunk > left)
            chunk = left;
        plan_say(plan, plan_random(plan, 2) != 0 ? "%zx%s\r\n" : "%zX%s\r\n", chunk,
                 ONE_OF(plan, extensions));
        plan_add(plan, plan->body + at, chunk);
        plan_say(plan, "\r\n");
        at += chunk;
    }
    plan_say(plan, "0\r\n%s\r\n", plan_random(plan, 6) == 0 ? "X-Trailer: y\r\n" : "");
}

static void say_interim(struct plan *plan)
{
    uint32_t count = plan_random(plan, 10) == 0 ? 1 + plan_random(plan, 3) : 0;

    if (!plan->keeps_rules && plan_random(plan, 30) == 0)
        count = 200;
    while (count-- > 0)
        plan_say(plan, "HTTP/1.1 10%u Wait\r\n%s\r\n", 2 + plan_random(plan, 2),
                 plan_random(plan, 2) == 0 ? "X: y\r\n" : "");
}

static void say_status(struct plan *plan, unsigned minor)
{
    static const int finals[] = {200, 200, 200, 200, 201, 204, 206, 302, 304, 404, 500, 599};
    static const char *const odd[] = {"099", "000", "101", "199", "1000", "20", "2x0", "", "-20"};

    plan->status = ONE_OF(plan, finals);
    if (!plan->keeps_rules && plan_random(plan, 4) == 0)
        plan_say(plan, "HTTP/1.%u %s Odd\r\n", minor, ONE_OF(plan, odd));
    else
        plan_say(plan, "HTTP/1.%u %d %s\r\n", minor, plan->status,
                 plan_random(plan, 3) == 0 ? "" : "A reason");
}

static void make_http(struct plan *plan)
{
    unsigned minor = plan_random(plan, 6) != 0;
    enum {
        LENGTH,
        CHUNKS,
        CLOSE
    } framing = plan_random(plan, 5) == 0                 ? CLOSE
                : minor == 0 || plan_random(plan, 2) == 0 ? LENGTH
                                                          : CHUNKS;

    plan_make_body(plan);
    say_interim(plan);
    say_status(plan, minor);
    bool has_body = !plan->to_head && plan->status != 204 && plan->status != 304;
    plan_say_fields(plan);
    if (plan_random(plan, 6) == 0)
        plan_say(plan, "Connection: %s\r\n", plan_random(plan, 2) != 0 ? "close" : "keep-alive");
    if (framing == LENGTH && plan->status != 204)
        plan_say(plan, "Content-Length: %zu\r\n", plan->body_size);
    else if (framing == CHUNKS)
        plan_say(plan, "Transfer-Encoding: chunked\r\n");
    plan_say(plan, "\r\n");
    plan->head_size = plan->size;
    if (!has_body && (plan->keeps_rules || plan_random(plan, 2) == 0))
        plan->body_size = 0;
    else if (framing == CHUNKS)
        say_chunks(plan);
    else
        plan_add(plan, plan->body, plan->body_size);
    plan->whole_size = plan->size;
    plan->ends_by_close = has_body && framing == CLOSE;
}

/* ---- FastCGI ---- */

enum { END_REQUEST = 3, STDOUT = 6, STDERR = 7 };

/* Returns where its content ends; padding may follow. */
static size_t say_record(struct plan *plan, unsigned type, const char *bytes, size_t size)
{
    unsigned padding = plan_random(plan, 3) == 0 ? plan_random(plan, 256) : 0;
    const unsigned char head[8] = {1,
                                   (unsigned char)type,
                                   0,
                                   1,
                                   (unsigned char)(size >> 8),
                                   (unsigned char)size,
                                   (unsigned char)padding,
                                   0};
    static const char zeros[256];

    plan_add(plan, head, 8);
    plan_add(plan, bytes, size);
    size_t end = plan->size;
    plan_add(plan, zeros, padding);
    return end;
}

static void say_odd_record(struct plan *plan)
{
    static const unsigned types[] = {0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 255, END_REQUEST, STDOUT};

    if (!plan->keeps_rules && plan_random(plan, 12) == 0)
        (void)say_record(plan, ONE_OF(plan, types), "\0\0\0\0\0\0\0\0", plan_random(plan, 9));
    else if (plan_random(plan, 12) == 0)
        (void)say_record(plan, STDERR, "a word for the log\n", plan_random(plan, 20));
}

/* `text` is the head and the body; the sizes are of what has to arrive of the records. */
static void say_stdout(struct plan *plan, const char *text, size_t size, size_t head,
                       bool has_length)
{
    size_t end = 0;

    for (size_t at = 0; at < size;) {
        size_t part = 1 + plan_random(plan, plan_random(plan, 2) == 0 ? 40 : 30000);
        if (part > size - at)
            part = size - at;
        say_odd_record(plan);
        end = say_record(plan, STDOUT, text + at, part);
        at += part;
        if (at >= head && plan->head_size == 0)
            plan->head_size = end - (at - head);
    }
    plan->whole_size = end;
    if (plan_random(plan, 3) != 0)
        plan->end_of_stdout = say_record(plan, STDOUT, "", 0);
    plan->after_stdout = plan->size;
    end = say_record(plan, END_REQUEST, "\0\0\0\0\0\0\0\0", 8);
    if (!has_length)
        plan->whole_size = end;
}

static void make_fastcgi(struct plan *plan)
{
    static const int finals[] = {200, 200, 200, 201, 204, 302, 304, 404, 500};
    static char text[PLAN_MAX];
    bool has_length = plan_random(plan, 3) == 0;

    plan_make_body(plan);
    plan->status = ONE_OF(plan, finals);
    if (plan->status != 200 || plan_random(plan, 2) == 0)
        plan_say(plan, "Status: %d A reason\r\n", plan->status);
    else
        plan_say(plan, "X-First: y\r\n");
    bool said_status = memcmp(plan->bytes, "Status", 6) == 0;
    plan_say_fields(plan);
    if (has_length)
        plan_say(plan, "Content-Length: %zu\r\n", plan->body_size);
    plan_say(plan, "\r\n");
    size_t head = plan->size;
    bool is_redirect = memmem(plan->bytes, head, "\r\nLocation:", 11) != NULL;
    if (!said_status && is_redirect)
        plan->status = 302;
    plan_add(plan, plan->body, plan->body_size);
    size_t size = plan->size;
    memcpy(text, plan->bytes, size);
    plan->size = 0;
    bool has_body = !plan->to_head && plan->status != 204 && plan->status != 304;
    say_stdout(plan, text, size, head, has_length && has_body);
    if (!has_body) /* the head is all there is */
        plan->whole_size = plan->head_size;
    if (!has_body)
        plan->body_size = 0;
}

/* ---- both ---- */

/* Change some bytes, lose some, or say some twice. */
static void spoil(struct plan *plan)
{
    for (uint32_t i = plan_random(plan, 4); i > 0 && plan->size > 0; i--) {
        size_t near = plan->size < 400 || plan_random(plan, 3) == 0 ? plan->size : 400;
        size_t at = plan_random(plan, (uint32_t)near);
        size_t count = 1 + plan_random(plan, 12);
        if (count > plan->size - at)
            count = plan->size - at;
        switch (plan_random(plan, 3)) {
        case 0:
            plan->bytes[at] = (char)plan_random(plan, 256);
            break;
        case 1:
            memmove(plan->bytes + at, plan->bytes + at + count, plan->size - at - count);
            plan->size -= count;
            break;
        default:
            if (plan->size + count > PLAN_MAX)
                break;
            memmove(plan->bytes + at + count, plan->bytes + at, plan->size - at);
            plan->size += count;
        }
    }
}

void plan_make(struct plan *plan, uint64_t seed, uint64_t number)
{
    static const char evil[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

    plan->random = seed * UINT64_C(0x2545f4914f6cdd1d) ^ number;
    plan->kind = plan_random(plan, 2) == 0 ? PLAN_HTTP : PLAN_FASTCGI;
    plan->to_head = plan_random(plan, 8) == 0;
    plan->keeps_rules = plan_random(plan, 2) == 0;
    plan->size = plan->head_size = plan->whole_size = plan->end_of_stdout = plan->after_stdout = 0;
    plan->ends_by_close = false;
    if (plan->kind == PLAN_HTTP)
        make_http(plan);
    else
        make_fastcgi(plan);
    if (!plan->keeps_rules && plan_random(plan, 2) == 0)
        spoil(plan);
    if (!plan->keeps_rules && plan_random(plan, 8) == 0)
        plan_add(plan, evil, sizeof(evil) - 1);
    plan->sent = plan->size;
    if (plan_random(plan, 2) == 0 && plan->size > 0) {
        size_t near = plan->size < 300 || plan_random(plan, 2) == 0 ? plan->size : 300;
        plan->sent = plan_random(plan, (uint32_t)near);
    }
    bool may_keep = plan->sent == plan->size && !plan->ends_by_close &&
                    (plan->keeps_rules || plan_random(plan, 20) == 0);
    plan->end = may_keep && plan_random(plan, 3) != 0 ? PLAN_KEEP
                : plan_random(plan, 3) == 0           ? PLAN_RESET
                                                      : PLAN_CLOSE;
}

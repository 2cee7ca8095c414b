#include "archive_made.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "dispositions.h"

static struct unfinished_text text_of(const char *text)
{
    return (struct unfinished_text){strdup(text), strlen(text)};
}

char *made_id(char id[UNFINISHED_ID_SIZE], unsigned n)
{
    (void)snprintf(id, UNFINISHED_ID_SIZE, "%08x0193a1b2c3d4e5f60718293a", n);
    return id;
}

void made_request(struct unfinished *ret_request, unsigned n, const char *method, const char *path,
                  const char *body)
{
    *ret_request = (struct unfinished){.reason = UNFINISHED_REASON_DEADLINE,
                                       .class = UNFINISHED_CLASS_IDEMPOTENT,
                                       .state = UNFINISHED_STATE_RUNNING,
                                       .server = "lastcall/test",
                                       .began_ms = clock_wall_ms() - 60000,
                                       .archived_ms = clock_wall_ms(),
                                       .age_ms = 60000,
                                       .client = "127.0.0.1:4711",
                                       .scheme = "http",
                                       .method = text_of(method),
                                       .authority = text_of("shop.example"),
                                       .path = text_of(path),
                                       .body = text_of(body),
                                       .body_bytes = strlen(body)};
    (void)made_id(ret_request->id, n);
}

void made_header(struct unfinished *request, const char *name, const char *value)
{
    size_t n = request->header_count++;
    request->headers = realloc(request->headers, (n + 1) * sizeof(*request->headers));
    assert_non_null(request->headers);
    request->headers[n] =
        (struct unfinished_header){.name = text_of(name), .value = text_of(value)};
}

void made_append(const char *path, struct unfinished *request)
{
    char *line = unfinished_line(request);
    FILE *file = fopen(path, "a");
    assert_non_null(line);
    assert_non_null(file);
    (void)fprintf(file, "%s\n", line);
    (void)fclose(file);
    free(line);
    unfinished_release(request);
}

void made_archive(const char *path, unsigned count)
{
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    for (unsigned i = 0; i < count; i++) {
        struct unfinished request;
        char target[32], body[32];
        (void)snprintf(target, sizeof(target), "/orders/%u", i);
        (void)snprintf(body, sizeof(body), "order %u", i);
        made_request(&request, i, "PUT", target, body);
        char *line = unfinished_line(&request);
        assert_non_null(line);
        (void)fprintf(file, "%s\n", line);
        free(line);
        unfinished_release(&request);
    }
    (void)fclose(file);
}

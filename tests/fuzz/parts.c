/* libFuzzer: any body as multipart/form-data. Its reader terminates, and each part that it returns
 * lies in the body and ends where a delimiter begins, the first one after the part's begin. The
 * first line of the input is the field Content-Type, the rest is the body. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "library_double.h"

static void check_content(const struct lc_part *part, const char *body, size_t count)
{
    const char *begin = part->bytes, *end = begin + part->count;

    assert(begin >= body && end <= body + count);
    size_t left = (size_t)(body + count - end);
    /* without content, the delimiter's CRLF may be the header's last */
    assert((left >= 4 && memcmp(end, "\r\n--", 4) == 0) ||
           (part->count == 0 && left >= 2 && memcmp(end - 2, "\r\n--", 4) == 0));
}

static void handler(lc_req *r, void *user)
{
    struct lc_part part = LC_PART_INIT;
    size_t count;
    const char *body = lc_body(r, &count), *last = body;
    int more;

    (void)user;
    while ((more = lc_next_part(r, &part)) == 1) {
        assert(part.name != NULL);
        assert(part.filename == NULL || strpbrk(part.filename, "/\\\r\n") == NULL);
        assert(part.filename == NULL || strcmp(part.filename, "..") != 0);
        check_content(&part, body, count);
        assert((const char *)part.bytes > last);
        last = (const char *)part.bytes + part.count;
    }
    assert(more == 0 || more == LC_E_ARG);
    assert(lc_next_part(r, &part) == more);
    (void)lc_send(r, 200, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static lc_server *server;
    struct lc_answer answer = LC_ANSWER_INIT;
    const uint8_t *line = memchr(bytes, '\n', size);

    if (server == NULL) {
        server = lc_new();
        (void)lc_handle(server, "/", handler, NULL);
    }
    if (line == NULL)
        return 0;
    size_t n = (size_t)(line - bytes), count = size - n - 1;
    char *headers = malloc(n + 32), *body = malloc(count); /* exact, so that a read beyond shows */
    assert(headers != NULL);
    memcpy(headers, "content-type:", 13);
    memcpy(headers + 13, bytes, n);
    headers[13 + n] = '\0';
    if (count > 0)
        memcpy(body, line + 1, count);
    (void)lc_call(server, "POST /", headers, body, count, &answer);
    lc_answer_free(&answer);
    free(body);
    free(headers);
    return 0;
}

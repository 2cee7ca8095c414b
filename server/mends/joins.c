#include "mends.h"

#include <string.h>

#include "require.h"

/* Many fields of one name in a request to an upstream.
 *
 * The proxy joins all Cookie fields into one, and all Via and X-Forwarded-For fields. It does so
 * one by one, with a new allocation for each: n fields of m bytes take n * n * m / 2 bytes. HTTP/2
 * encodes a repeated cookie of 4 KB in one byte, so a request of 16 KB took 468 MB. HTTP/1 can
 * repeat fields, too. Upstream still does this.
 *
 * The mend joins them before the proxy begins, with one allocation, at the place of the first. */

static size_t joined_size(const h2o_headers_t *headers, const h2o_token_t *token, size_t *ret_count)
{
    size_t size = 0;

    *ret_count = 0;
    for (size_t i = 0; i < headers->size; i++) {
        if (headers->entries[i].name != &token->buf || headers->entries[i].value.len == 0)
            continue;
        size += headers->entries[i].value.len + 2;
        (*ret_count)++;
    }
    return size;
}

static void join(h2o_req_t *req, const h2o_token_t *token, char separator)
{
    h2o_headers_t *headers = &req->headers;
    size_t count, kept = 0, size = joined_size(headers, token, &count);
    h2o_header_t *first = NULL;

    if (count < 2)
        return;
    char *at = h2o_mem_alloc_pool(&req->pool, size), *begin = at;
    for (size_t i = 0; i < headers->size; i++) {
        h2o_header_t field = headers->entries[i];
        if (field.name != &token->buf) {
            headers->entries[kept++] = field;
            continue;
        }
        if (field.value.len == 0)
            continue;
        if (first == NULL) {
            first = &headers->entries[kept];
            headers->entries[kept++] = field;
        } else {
            *at++ = separator;
            *at++ = ' ';
        }
        memcpy(at, field.value.base, field.value.len);
        at += field.value.len;
    }
    headers->size = kept;
    REQUIRE(first != NULL); /* count is at least 2 */
    first->value = h2o_iovec_init(begin, (size_t)(at - begin));
}

void joins_prepare(h2o_req_t *req)
{
    join(req, H2O_TOKEN_COOKIE, ';');
    join(req, H2O_TOKEN_VIA, ',');
    join(req, H2O_TOKEN_X_FORWARDED_FOR, ',');
}

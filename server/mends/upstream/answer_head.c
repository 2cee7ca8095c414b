/* Malformed and ambiguous heads of FastCGI applications.
 *
 * Fault: the FastCGI handler forwards a folded line, which becomes a line without a name, a status
 * below 200, and any Content-Length. It reads a head of any size.
 *
 * Upstream: never changed in the 2.2 series.
 *
 * Replaced: phr_parse_headers(), which only the FastCGI handler calls. An ambiguous head is
 * reported as malformed; the handler then answers 502, and closes the connection. Heads of HTTP
 * upstreams are read by proxy/answer_reader.c. */

#include "answer_head.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "mends.h"
#include "library.h"

static bool is_named(const struct phr_header *header, const char *name)
{
    return header->name_len == strlen(name) &&
           strncasecmp(header->name, name, header->name_len) == 0;
}

static bool is_length(const char *digits, size_t count)
{
    size_t length = h2o_strtosize(digits, count);
    return length != SIZE_MAX && length <= INT64_MAX;
}

static bool is_folded(const struct phr_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].name == NULL)
            return true;
    return false;
}

static bool has_fault(const struct phr_header *headers, size_t count)
{
    if (is_folded(headers, count))
        return true;
    for (size_t i = 0; i < count; i++) {
        /* The handler checks the form of a status; this checks that it is final. */
        if (is_named(&headers[i], "status") && headers[i].value_len > 0 &&
            (headers[i].value[0] == '0' || headers[i].value[0] == '1'))
            return true;
        if (is_named(&headers[i], "content-length") &&
            !is_length(headers[i].value, headers[i].value_len))
            return true;
    }
    return false;
}

bool answer_has_body(const h2o_req_t *req)
{
    return req->res.status >= 200 && req->res.status != 204 && req->res.status != 304 &&
           !h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
}

int answer_head_look_at_cgi(int parsed, size_t size, struct phr_header *headers, size_t count)
{
    bool is_too_large = parsed == -2 ? size > ANSWER_HEAD_MAX : parsed > (int)ANSWER_HEAD_MAX;

    if (is_too_large || (parsed > 0 && has_fault(headers, count)))
        return -1; /* cannot be parsed */
    return parsed;
}

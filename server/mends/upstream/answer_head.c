/* Malformed and ambiguous heads of upstreams' answers.
 *
 * Fault: libh2o's HTTP/1 client marks the connection as reusable before it reads Transfer-Encoding
 * and Content-Length. If it does not know one of their values, it reports an error through a
 * function that asserts that the connection is not reusable, and the process aborts. It keeps the
 * lengths of both framings in one union, so an answer with both is read with a wrong length. It
 * forwards a status below 100, at which the encoder of HTTP/2 fails an assertion, and a folded
 * line, which becomes a line without a name. It reads a head of any size.
 *
 * Upstream's fix: d28d20a79 (the assertion). The rest was never changed in the 2.2 series.
 *
 * Replaced: phr_parse_response(), which the client calls for each head, and phr_parse_headers(),
 * which only the FastCGI handler calls. An ambiguous head is
 * reported as malformed; both callers then answer 502, and close the connection to the upstream.
 *
 * RFC 9112 section 6.3 lets a proxy choose what it does with an answer that has both
 * Transfer-Encoding and Content-Length. It is refused, as nginx does: such an answer may be the
 * second half of an attack. */

#include "answer_head.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "between_calls.h"
#include "mends.h"
#include "library.h"

static bool is_named(const struct phr_header *header, const char *name)
{
    return header->name_len == strlen(name) &&
           strncasecmp(header->name, name, header->name_len) == 0;
}

static bool is_text(const struct phr_header *header, const char *text)
{
    return header->value_len == strlen(text) && memcmp(header->value, text, header->value_len) == 0;
}

static bool is_length(const char *digits, size_t count)
{
    size_t length = h2o_strtosize(digits, count);
    return length != SIZE_MAX && length <= INT64_MAX;
}

/* Transfer-Encoding or Content-Length: at most one field of the two, with a known value. */
static const char *framing_fault(struct phr_header *headers, size_t count)
{
    unsigned codings = 0, lengths = 0;
    bool chunked = false;

    for (size_t i = 0; i < count; i++) {
        if (is_named(&headers[i], "transfer-encoding")) {
            h2o_strtolower((char *)(uintptr_t)headers[i].value, headers[i].value_len);
            chunked = is_text(&headers[i], "chunked");
            if (++codings > 1)
                return "the upstream sent Transfer-Encoding twice";
            if (!chunked && !is_text(&headers[i], "identity"))
                return "the upstream sent a Transfer-Encoding that is not chunked";
        } else if (is_named(&headers[i], "content-length")) {
            if (++lengths > 1)
                return "the upstream sent Content-Length twice";
            if (!is_length(headers[i].value, headers[i].value_len))
                return "the upstream sent an invalid Content-Length";
        }
    }
    return chunked && lengths > 0 ? "the upstream sent both Content-Length and Transfer-Encoding"
                                  : NULL;
}

static bool is_folded(const struct phr_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].name == NULL)
            return true;
    return false;
}

const char *answer_head_fault(int status, struct phr_header *headers, size_t count)
{
    if (status < 100)
        return "the upstream sent a status below 100";
    if (is_folded(headers, count))
        return "the upstream sent a folded header line";
    return framing_fault(headers, count);
}

const char *answer_head_fault_of_cgi(struct phr_header *headers, size_t count)
{
    if (is_folded(headers, count))
        return "the application sent a folded header line";
    for (size_t i = 0; i < count; i++) {
        /* The handler checks its form; this checks that it is final. */
        if (is_named(&headers[i], "status") && headers[i].value_len > 0 &&
            (headers[i].value[0] == '0' || headers[i].value[0] == '1'))
            return "the application sent a status below 200";
        if (is_named(&headers[i], "content-length") &&
            !is_length(headers[i].value, headers[i].value_len))
            return "the application sent an invalid Content-Length";
    }
    return NULL;
}

bool answer_has_body(const h2o_req_t *req)
{
    return req->res.status >= 200 && req->res.status != 204 && req->res.status != 304 &&
           !h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
}

static int refuse(const char *fault)
{
    between_calls()->refused_because = fault;
    return -1; /* cannot be parsed */
}

/* `parsed` as the library returns it: the head's size; -1 malformed; -2 incomplete. */
static bool is_too_large(int parsed, size_t size)
{
    return parsed == -2 ? size > ANSWER_HEAD_MAX : parsed > (int)ANSWER_HEAD_MAX;
}

int answer_head_look(int parsed, size_t size, int status, struct phr_header *headers, size_t count)
{
    const char *fault = NULL;

    between_calls()->refused_because = NULL;
    if (is_too_large(parsed, size))
        fault = "the upstream sent a head of more than 64 KiB";
    else if (parsed > 0)
        fault = answer_head_fault(status, headers, count);
    return fault != NULL ? refuse(fault) : parsed;
}

int answer_head_look_at_cgi(int parsed, size_t size, struct phr_header *headers, size_t count)
{
    const char *fault = NULL;

    between_calls()->refused_because = NULL;
    if (is_too_large(parsed, size))
        fault = "the application sent a head of more than 64 KiB";
    else if (parsed > 0)
        fault = answer_head_fault_of_cgi(headers, count);
    return fault != NULL ? refuse(fault) : parsed;
}

const char *answer_head_refused_because(void)
{
    const char *fault = between_calls()->refused_because;
    between_calls()->refused_because = NULL;
    return fault;
}

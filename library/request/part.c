#include "request_p.h"

#include <stddef.h>
#include <string.h>

/* The parts of multipart/form-data (RFC 7578, with the syntax of RFC 2046 section 5.1). Their
 * content is not copied. Strict: what no browser and no client library sends is an error. */

#define MOST_PARTS 1000
#define MOST_FIELDS 16
#define MOST_HEADER 8192 /* bytes of a part's header */
#define MOST_BOUNDARY 70

struct cursor {
    const char *at, *end;
};

/* ---- parameters: ; name="a" ---- */

static bool is_token_char(char c)
{
    char text[2] = {c, '\0'};

    return c != '\0' && lc_is_token(text);
}

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
        c->at++;
}

/* A token, or a quoted string, of which \" and \\ are decoded (browsers escape nothing else). NULL:
 * it is none, or no memory. */
static char *read_value(const struct lc_request *request, struct cursor *c)
{
    const char *begin = c->at;

    if (begin == c->end || *begin != '"') {
        while (c->at < c->end && is_token_char(*c->at))
            c->at++;
        return c->at > begin ? lc_copy(request, begin, (size_t)(c->at - begin)) : NULL;
    }
    size_t n = 0;
    char *text = lc_copy(request, begin, (size_t)(c->end - begin));
    for (c->at++; text != NULL; c->at++) {
        if (c->at == c->end)
            return NULL;
        if (*c->at == '"')
            break;
        if (*c->at == '\\' && c->end - c->at > 1 && (c->at[1] == '"' || c->at[1] == '\\'))
            c->at++;
        text[n++] = *c->at;
    }
    if (text == NULL)
        return NULL;
    c->at++;
    text[n] = '\0';
    return text;
}

/* The next parameter. 1; 0: there is none; LC_E_ARG. */
static int next_param(const struct lc_request *request, struct cursor *c, char **ret_name,
                      char **ret_value)
{
    skip_blanks(c);
    if (c->at == c->end)
        return 0;
    if (*c->at != ';')
        return LC_E_ARG;
    c->at++;
    skip_blanks(c);
    if (c->at == c->end) /* "form-data; name=a;" */
        return 0;
    const char *name = c->at;
    while (c->at < c->end && is_token_char(*c->at))
        c->at++;
    if (c->at == name || c->at == c->end || *c->at != '=')
        return LC_E_ARG;
    *ret_name = lc_copy(request, name, (size_t)(c->at - name));
    c->at++;
    *ret_value = *ret_name != NULL ? read_value(request, c) : NULL;
    return *ret_value != NULL ? 1 : LC_E_ARG;
}

/* Does the value begin with this word? Moves behind it. */
static bool take_word(struct cursor *c, const char *word)
{
    const char *begin = c->at;

    while (c->at < c->end && *c->at != ';' && *c->at != ' ' && *c->at != '\t')
        c->at++;
    for (; begin < c->at; begin++, word++)
        if (*word == '\0' || (*begin >= 'A' && *begin <= 'Z' ? *begin | 0x20 : *begin) != *word)
            return false;
    return *word == '\0';
}

/* ---- delimiters ---- */

/* Finds the next delimiter line, which begins the body or follows CRLF. False: there is none. */
static bool find_delimiter(const struct lc_request *request, struct cursor body, bool is_first,
                           const char **ret_begin, const char **ret_after)
{
    size_t bytes = request->boundary_bytes; /* "\r\n--BOUNDARY" */
    size_t left = (size_t)(body.end - body.at);

    if (is_first && left >= bytes - 2 && memcmp(body.at, request->boundary + 2, bytes - 2) == 0) {
        *ret_begin = body.at;
        *ret_after = body.at + bytes - 2;
        return true;
    }
    const char *found = memmem(body.at, left, request->boundary, bytes);
    if (found == NULL)
        return false;
    *ret_begin = found;
    *ret_after = found + bytes;
    return true;
}

/* After a boundary: 1: a part follows, 0: the last one, LC_E_ARG. */
static int end_delimiter(struct cursor *c)
{
    if (c->end - c->at >= 2 && c->at[0] == '-' && c->at[1] == '-')
        return 0;
    skip_blanks(c);
    if (c->end - c->at < 2 || c->at[0] != '\r' || c->at[1] != '\n')
        return LC_E_ARG;
    c->at += 2;
    return 1;
}

/* The request's Content-Type. */
static int read_boundary(struct lc_request *request)
{
    const char *type = lc_first_field(request, "content-type");
    char *name, *value;
    int more;

    if (type == NULL)
        return LC_E_ARG;
    struct cursor c = {type, type + strlen(type)};
    if (!take_word(&c, "multipart/form-data"))
        return LC_E_ARG;
    while ((more = next_param(request, &c, &name, &value)) == 1) {
        size_t bytes = strlen(value);
        if (!lc_same_name(name, "boundary"))
            continue;
        if (bytes == 0 || bytes > MOST_BOUNDARY || value[bytes - 1] == ' ' ||
            !lc_is_field_value(value) || request->boundary != NULL)
            return LC_E_ARG;
        char *delimiter = request->exchange->ops->alloc(request->exchange, 4 + bytes);
        if (delimiter == NULL)
            return LC_E_ARG;
        memcpy(delimiter, "\r\n--", 4);
        memcpy(delimiter + 4, value, bytes); /* no text: it has its count */
        request->boundary = delimiter;
        request->boundary_bytes = 4 + bytes;
    }
    return more == 0 && request->boundary != NULL ? 0 : LC_E_ARG;
}

static int begin(struct lc_request *request)
{
    const struct exchange *exchange = request->exchange;
    const char *start, *after;

    if (read_boundary(request) != 0)
        return LC_E_ARG;
    struct cursor body = {exchange->body, exchange->body + exchange->body_bytes};
    if (exchange->body_bytes == 0 || !find_delimiter(request, body, true, &start, &after))
        return LC_E_ARG;
    body.at = after;
    int more = end_delimiter(&body);
    request->part_at = body.at;
    return more;
}

/* ---- a part ---- */

/* What comes after the last / or \: "C:\photos\a.jpg" was sent once. */
static const char *last_component(const char *name)
{
    const char *last = name;

    for (const char *at = name; *at != '\0'; at++)
        if (*at == '/' || *at == '\\')
            last = at + 1;
    return strcmp(last, ".") == 0 || strcmp(last, "..") == 0 ? "" : last;
}

static int read_disposition(const struct lc_request *request, struct cursor value,
                            struct lc_part *part)
{
    char *name, *text;
    int more;

    if (part->name != NULL || !take_word(&value, "form-data"))
        return LC_E_ARG;
    while ((more = next_param(request, &value, &name, &text)) == 1) {
        if (!lc_is_field_value(text))
            return LC_E_ARG;
        if (lc_same_name(name, "name") && part->name == NULL)
            part->name = text;
        else if (lc_same_name(name, "filename") && part->filename == NULL)
            part->filename = last_component(text);
        else if (lc_same_name(name, "name") || lc_same_name(name, "filename"))
            return LC_E_ARG; /* twice: which one counts? */
    }
    return more == 0 && part->name != NULL ? 0 : LC_E_ARG;
}

/* Encodings of mail are not for forms (RFC 7578 section 4.7). */
static bool is_plain_encoding(struct cursor value)
{
    struct cursor a = value, b = value, c = value;

    return take_word(&a, "binary") || take_word(&b, "8bit") || take_word(&c, "7bit");
}

static int read_field(const struct lc_request *request, struct cursor line, struct lc_part *part)
{
    char name[32];
    const char *colon = memchr(line.at, ':', (size_t)(line.end - line.at));

    if (colon == NULL)
        return LC_E_ARG;
    for (const char *at = line.at; at < line.end; at++)
        if (at < colon ? !is_token_char(*at) : ((unsigned char)*at < 0x20 && *at != '\t'))
            return LC_E_ARG;
    size_t bytes = (size_t)(colon - line.at);
    if (bytes == 0)
        return LC_E_ARG;
    if (bytes >= sizeof(name)) /* not one of these */
        return 0;
    memcpy(name, line.at, bytes);
    name[bytes] = '\0';
    struct cursor value = {colon + 1, line.end};
    skip_blanks(&value);
    while (value.end > value.at && (value.end[-1] == ' ' || value.end[-1] == '\t'))
        value.end--;
    if (lc_same_name(name, "content-disposition"))
        return read_disposition(request, value, part);
    if (lc_same_name(name, "content-transfer-encoding"))
        return is_plain_encoding(value) ? 0 : LC_E_ARG;
    if (lc_same_name(name, "content-type")) {
        part->type =
            part->type == NULL ? lc_copy(request, value.at, (size_t)(value.end - value.at)) : NULL;
        return part->type != NULL ? 0 : LC_E_ARG;
    }
    return 0;
}

/* Up to the empty line. */
static int read_header(const struct lc_request *request, struct cursor *body, struct lc_part *part)
{
    const char *begin = body->at;

    for (unsigned fields = 0;; fields++) {
        size_t left = (size_t)(body->end - body->at);
        size_t room = MOST_HEADER - (size_t)(body->at - begin);
        const char *line_end = memmem(body->at, left < room ? left : room, "\r\n", 2);
        if (line_end == NULL || fields > MOST_FIELDS)
            return LC_E_ARG;
        struct cursor line = {body->at, line_end};
        body->at = line_end + 2;
        if (line.at == line.end)
            return part->name != NULL ? 0 : LC_E_ARG;
        if (read_field(request, line, part) != 0)
            return LC_E_ARG;
    }
}

static int next_part(struct lc_request *request, struct lc_part *part)
{
    const struct exchange *exchange = request->exchange;
    struct cursor body = {request->part_at, exchange->body + exchange->body_bytes};
    const char *start, *after;

    if (++request->parts > MOST_PARTS || read_header(request, &body, part) != 0)
        return LC_E_ARG;
    /* Without content the delimiter's CRLF is the one that ends the header. */
    struct cursor content = {body.at - 2, body.end};
    if (!find_delimiter(request, content, false, &start, &after))
        return LC_E_ARG;
    part->bytes = body.at;
    part->count = start > body.at ? (size_t)(start - body.at) : 0;
    body.at = after;
    int more = end_delimiter(&body);
    request->part_at = body.at;
    request->part_result = more; /* for the call after this one */
    return more < 0 ? more : 1;
}

int lc_next_part(lc_req *req, struct lc_part *ret_part)
{
    struct lc_request *request = LC_HELD(req);
    struct lc_part part = LC_PART_INIT;

    if (request == NULL)
        return LC_E_THREAD;
    if (ret_part == NULL || ret_part->size < offsetof(struct lc_part, count) + sizeof(part.count))
        return LC_E_ARG;
    if (request->part_at == NULL && request->part_result == 1)
        request->part_result = begin(request);
    if (request->part_result != 1)
        return request->part_result;
    int result = next_part(request, &part);
    if (result != 1) {
        request->part_result = result;
        return result;
    }
    part.size =
        ret_part->size; /* the caller may have been built with an older header, or a newer */
    memcpy(ret_part, &part, part.size < sizeof(part) ? part.size : sizeof(part));
    return 1;
}

#include "requests_reference.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define FIELDS_MOST 100
#define SIZE_LINE_MOST 4096

struct text {
    const char *at;
    size_t len;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digits(struct text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (t.at[i] < '0' || t.at[i] > '9')
            return false;
    return t.len > 0;
}

static bool has(const char *set, char c)
{
    return c != '\0' && strchr(set, c) != NULL;
}

#define ALPHA "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"
#define HEX DIGIT "abcdefABCDEF"

static bool all_of(const char *set, struct text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (!has(set, t.at[i]))
            return false;
    return true;
}

static bool is_token(struct text t)
{
    return t.len > 0 && all_of("!#$%&'*+-.^_`|~" DIGIT ALPHA, t);
}

/* field-content of RFC 9110 5.5, or empty */
static bool is_value(struct text t)
{
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.at[i];
        if (c != '\t' && (c < 0x20 || c == 0x7f))
            return false;
    }
    return true;
}

static struct text trimmed(struct text t)
{
    while (t.len > 0 && is_blank(t.at[0]))
        t.at++, t.len--;
    while (t.len > 0 && is_blank(t.at[t.len - 1]))
        t.len--;
    return t;
}

static bool equals(struct text t, const char *text)
{
    return t.len == strlen(text) && strncasecmp(t.at, text, t.len) == 0;
}

/* Cut off the text up to the first `c`, and that `c`. False: there is none. */
static bool cut(struct text *rest, char c, struct text *ret_before)
{
    const char *found = rest->len > 0 ? memchr(rest->at, c, rest->len) : NULL;

    if (found == NULL)
        return false;
    *ret_before = (struct text){rest->at, (size_t)(found - rest->at)};
    rest->len -= ret_before->len + 1;
    rest->at = found + 1;
    return true;
}

/* The next line, without its LF, and the CR before it if `*ret_has_cr`. */
static enum reference_end next_line_of_either_end(struct text *rest, struct text *ret_line,
                                                  bool *ret_has_cr)
{
    if (!cut(rest, '\n', ret_line))
        return REFERENCE_PART;
    *ret_has_cr = ret_line->len > 0 && ret_line->at[ret_line->len - 1] == '\r';
    ret_line->len -= *ret_has_cr;
    if (ret_line->len > 0 && memchr(ret_line->at, '\r', ret_line->len) != NULL)
        return REFERENCE_REFUSED;
    return REFERENCE_WHOLE;
}

/* The same with CR LF. */
static enum reference_end next_line(struct text *rest, struct text *ret_line)
{
    bool has_cr;
    enum reference_end end = next_line_of_either_end(rest, ret_line, &has_cr);

    return end == REFERENCE_WHOLE && !has_cr ? REFERENCE_REFUSED : end;
}

/* ---- hosts ---- */

static bool is_port(struct text t)
{
    unsigned long value = 0;

    if (t.len == 0)
        return true;
    if (!is_digits(t))
        return false;
    for (size_t i = 0; i < t.len && value <= 65535; i++)
        value = value * 10 + (unsigned long)(t.at[i] - '0');
    return value <= 65535;
}

static bool is_name(struct text t)
{
    for (size_t i = 0; i < t.len; i++) {
        if (t.at[i] == '%') {
            if (t.len - i < 3 || !all_of(HEX, (struct text){t.at + i + 1, 2}))
                return false;
            i += 2;
        } else if (!has("-._~!$&'()*+,;=" DIGIT ALPHA, t.at[i])) {
            return false;
        }
    }
    return t.len > 0;
}

static bool is_host(struct text t)
{
    struct text rest = t, host, address;

    if (t.len > 261)
        return false;
    if (t.len > 0 && t.at[0] == '[') {
        if (!cut(&rest, ']', &address))
            return false;
        address = (struct text){address.at + 1, address.len - 1};
        return address.len >= 2 && all_of(HEX ":.", address) &&
               (rest.len == 0 ||
                (rest.at[0] == ':' && is_port((struct text){rest.at + 1, rest.len - 1})));
    }
    if (!cut(&rest, ':', &host))
        return is_name(t);
    return is_name(host) && is_port(rest);
}

/* Without the port that the scheme has by itself. */
static struct text bare(struct text t, const char *port)
{
    size_t n = strlen(port);

    if (t.len > 0 && t.at[t.len - 1] == ':')
        t.len--;
    else if (t.len > n && memcmp(t.at + t.len - n, port, n) == 0)
        t.len -= n;
    return t;
}

/* ---- a head ---- */

struct head {
    bool is_1_0;
    struct text authority, path; /* .at NULL: the target is not absolute */
    const char *port;
    unsigned fields, hosts, lengths, codings, upgrades;
    unsigned lines_with_cr, lines_without; /* an empty line before the request is one, too */
    struct text host;
    uint64_t length;
};

static bool read_target(struct head *head, struct text method, struct text target)
{
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.at[i] <= 0x20 || target.at[i] == 0x7f || target.at[i] == '#' ||
            (target.len - i >= 3 && memcmp(target.at + i, "%00", 3) == 0))
            return false;
    head->path = target;
    if (target.len > 0 && target.at[0] == '/')
        return true;
    if (target.len == 1 && target.at[0] == '*')
        return method.len == 7 && memcmp(method.at, "OPTIONS", 7) == 0;
    size_t scheme = target.len > 7 && strncasecmp(target.at, "http://", 7) == 0    ? 7
                    : target.len > 8 && strncasecmp(target.at, "https://", 8) == 0 ? 8
                                                                                   : 0;
    if (scheme == 0)
        return false;
    head->port = scheme == 7 ? ":80" : ":443";
    head->authority = (struct text){target.at + scheme, 0};
    while (scheme + head->authority.len < target.len &&
           !has("/?", head->authority.at[head->authority.len]))
        head->authority.len++;
    head->path = (struct text){head->authority.at + head->authority.len,
                               target.len - scheme - head->authority.len};
    return is_host(head->authority);
}

static bool read_request_line(struct head *head, struct text line)
{
    struct text method, target;

    if (!cut(&line, ' ', &method) || !cut(&line, ' ', &target) || !is_token(method))
        return false;
    if (line.len != 8 || memcmp(line.at, "HTTP/1.", 7) != 0 || !has(DIGIT, line.at[7]))
        return false;
    head->is_1_0 = line.at[7] == '0';
    return !(method.len == 7 && memcmp(method.at, "CONNECT", 7) == 0) &&
           read_target(head, method, target);
}

static bool read_length(struct head *head, struct text list)
{
    struct text one;
    bool more;

    do {
        more = cut(&list, ',', &one);
        if (!more)
            one = list;
        one = trimmed(one);
        if (!is_digits(one))
            return false;
        uint64_t value = 0;
        for (size_t i = 0; i < one.len; i++) {
            if (value > ((uint64_t)INT64_MAX - (uint64_t)(one.at[i] - '0')) / 10)
                return false;
            value = value * 10 + (uint64_t)(one.at[i] - '0');
        }
        if (head->lengths++ > 0 && value != head->length)
            return false;
        head->length = value;
    } while (more);
    return true;
}

static bool read_field(struct head *head, struct text line)
{
    struct text name, value;

    if (++head->fields > FIELDS_MOST || !cut(&line, ':', &name) || !is_token(name) ||
        !is_value(line))
        return false;
    value = trimmed(line);
    if (equals(name, "host")) {
        head->host = value;
        return head->hosts++ == 0 && (value.len == 0 || is_host(value));
    }
    if (equals(name, "content-length"))
        return read_length(head, value);
    head->upgrades += equals(name, "upgrade");
    if (equals(name, "transfer-encoding"))
        return head->codings++ == 0 && !head->is_1_0 && equals(value, "chunked");
    return true;
}

/* RFC 9112 2.2: LF alone may end a line. It does where all lines end so and nothing but the head
 * depends on it. */
static bool has_consistent_lines(const struct head *head)
{
    if (head->lines_without == 0)
        return true;
    return head->lines_with_cr == 0 && head->codings == 0 && head->upgrades == 0 &&
           (head->lengths == 0 || head->length == 0);
}

static bool is_consistent(const struct head *head)
{
    if ((head->hosts == 0 && !head->is_1_0) || (head->codings > 0 && head->lengths > 0))
        return false;
    if (head->authority.at == NULL || head->hosts == 0 || head->host.len == 0)
        return true;
    struct text a = bare(head->authority, head->port), b = bare(head->host, head->port);
    return a.len == b.len && strncasecmp(a.at, b.at, a.len) == 0;
}

static enum reference_end next_head_line(struct text *rest, struct head *head,
                                         struct text *ret_line)
{
    bool has_cr = false;
    enum reference_end end = next_line_of_either_end(rest, ret_line, &has_cr);

    head->lines_with_cr += end == REFERENCE_WHOLE && has_cr;
    head->lines_without += end == REFERENCE_WHOLE && !has_cr;
    return end;
}

static enum reference_end read_head(struct text *rest, struct head *head)
{
    struct text line;
    enum reference_end end;
    bool is_good = true;

    if (rest->len > 0 && rest->at[0] == '\r') { /* one empty line before it */
        end = next_head_line(rest, head, &line);
        if (end != REFERENCE_WHOLE)
            return end;
        if (line.len > 0)
            return REFERENCE_REFUSED;
    }
    end = next_head_line(rest, head, &line);
    if (end != REFERENCE_WHOLE)
        return end;
    is_good = read_request_line(head, line);
    for (;;) {
        end = next_head_line(rest, head, &line);
        if (end != REFERENCE_WHOLE)
            return end;
        if (line.len == 0)
            break;
        is_good = read_field(head, line) && is_good;
    }
    return is_good && has_consistent_lines(head) && is_consistent(head) ? REFERENCE_WHOLE
                                                                        : REFERENCE_REFUSED;
}

/* ---- a body ---- */

static enum reference_end read_trailer(struct text *rest)
{
    const char *begin = rest->at;
    struct text line, name;

    for (;;) {
        enum reference_end end = next_line(rest, &line);
        if (end != REFERENCE_WHOLE || (size_t)(rest->at - begin) > REFERENCE_TRAILER_MOST)
            return end != REFERENCE_WHOLE ? end : REFERENCE_REFUSED;
        if (line.len == 0)
            return REFERENCE_WHOLE;
        if (!cut(&line, ':', &name) || !is_token(name) || !is_value(line))
            return REFERENCE_REFUSED;
    }
}

/* chunk-size, blanks, and extensions of any printable bytes */
static bool read_size(struct text line, uint64_t *ret_size)
{
    size_t digits = 0;

    *ret_size = 0;
    while (digits < line.len && has(HEX, line.at[digits])) {
        char c = line.at[digits++];
        uint64_t digit = c <= '9' ? (uint64_t)(c - '0') : (uint64_t)((c | 0x20) - 'a' + 10);
        if (digits > 16 || *ret_size > (uint64_t)INT64_MAX >> 4)
            return false;
        *ret_size = *ret_size << 4 | digit;
    }
    struct text more = {line.at + digits, line.len - digits};
    struct text extension = trimmed(more);
    return digits > 0 && line.len + 1 <= SIZE_LINE_MOST && is_value(more) &&
           (extension.len == 0 || extension.at[0] == ';');
}

static enum reference_end read_chunks(struct text *rest, struct reference_request *request)
{
    for (;;) {
        struct text line;
        uint64_t size;
        enum reference_end end = next_line(rest, &line);
        if (end != REFERENCE_WHOLE)
            return end;
        if (!read_size(line, &size))
            return REFERENCE_REFUSED;
        if (size == 0)
            return read_trailer(rest);
        if (rest->len < 2 || rest->len - 2 < size)
            return REFERENCE_PART;
        memcpy(request->body + request->body_len, rest->at, size);
        request->body_len += size;
        if (memcmp(rest->at + size, "\r\n", 2) != 0)
            return REFERENCE_REFUSED;
        rest->at += size + 2;
        rest->len -= size + 2;
    }
}

enum reference_end reference_read(const char *bytes, size_t len,
                                  struct reference_request *ret_request)
{
    struct head head = {0};
    struct text rest = {bytes, len};

    ret_request->body_len = 0;
    enum reference_end end = read_head(&rest, &head);
    if (end != REFERENCE_WHOLE)
        return end;
    if (head.codings > 0) {
        end = read_chunks(&rest, ret_request);
        if (end != REFERENCE_WHOLE)
            return end;
    } else if (head.lengths > 0) {
        if (rest.len < head.length)
            return REFERENCE_PART;
        memcpy(ret_request->body, rest.at, head.length);
        ret_request->body_len = head.length;
        rest.at += head.length;
    }
    ret_request->len = (size_t)(rest.at - bytes);
    ret_request->authority = head.authority.at != NULL ? (size_t)(head.authority.at - bytes) : 0;
    ret_request->authority_len = head.authority.len;
    ret_request->path = (size_t)(head.path.at - bytes);
    ret_request->path_len = head.path.len;
    return REFERENCE_WHOLE;
}

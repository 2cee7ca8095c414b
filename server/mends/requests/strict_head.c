#include "strict_head.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define HOST_LONGEST 261 /* RFC 3986 3.2.2: 255 bytes; and a colon and five digits */
#define VERSION_BYTES 9  /* " HTTP/1.1" */

/* The classes of a byte. */
enum { TOKEN = 1, REG_NAME = 2, HEX = 4 };

#define T TOKEN
#define R (TOKEN | REG_NAME)
#define X (TOKEN | REG_NAME | HEX)
/* tchar of RFC 9110 5.6.2; unreserved and sub-delims of RFC 3986. Bytes from 0x80 on are neither.
 */
static const uint8_t classes[256] = {
    ['!'] = R,        ['#'] = T,        ['$'] = R, ['%'] = T, ['&'] = R,        ['\''] = R,
    ['('] = REG_NAME, [')'] = REG_NAME, ['*'] = R, ['+'] = R, [','] = REG_NAME, ['-'] = R,
    ['.'] = R,        ['0'] = X,        ['1'] = X, ['2'] = X, ['3'] = X,        ['4'] = X,
    ['5'] = X,        ['6'] = X,        ['7'] = X, ['8'] = X, ['9'] = X,        [';'] = REG_NAME,
    ['='] = REG_NAME, ['A'] = X,        ['B'] = X, ['C'] = X, ['D'] = X,        ['E'] = X,
    ['F'] = X,        ['G'] = R,        ['H'] = R, ['I'] = R, ['J'] = R,        ['K'] = R,
    ['L'] = R,        ['M'] = R,        ['N'] = R, ['O'] = R, ['P'] = R,        ['Q'] = R,
    ['R'] = R,        ['S'] = R,        ['T'] = R, ['U'] = R, ['V'] = R,        ['W'] = R,
    ['X'] = R,        ['Y'] = R,        ['Z'] = R, ['^'] = T, ['_'] = R,        ['`'] = T,
    ['a'] = X,        ['b'] = X,        ['c'] = X, ['d'] = X, ['e'] = X,        ['f'] = X,
    ['g'] = R,        ['h'] = R,        ['i'] = R, ['j'] = R, ['k'] = R,        ['l'] = R,
    ['m'] = R,        ['n'] = R,        ['o'] = R, ['p'] = R, ['q'] = R,        ['r'] = R,
    ['s'] = R,        ['t'] = R,        ['u'] = R, ['v'] = R, ['w'] = R,        ['x'] = R,
    ['y'] = R,        ['z'] = R,        ['|'] = T, ['~'] = R,
};
#undef T
#undef R
#undef X

static bool is_of(char byte, unsigned class)
{
    return (classes[(uint8_t)byte] & class) != 0;
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* ---- the Host ---- */

/* The length of the host at the start of `text`: an address in brackets, or a name. 0: no host. */
static size_t host_bytes(const char *text, size_t len)
{
    size_t i = 0;

    if (len > 0 && text[0] == '[') {
        for (i = 1; i < len && (is_of(text[i], HEX) || text[i] == ':' || text[i] == '.'); i++)
            ;
        return i < len && text[i] == ']' && i > 2 ? i + 1 : 0;
    }
    while (i < len) {
        if (is_of(text[i], REG_NAME))
            i++;
        else if (text[i] == '%' && i + 2 < len && is_of(text[i + 1], HEX) &&
                 is_of(text[i + 2], HEX))
            i += 3;
        else
            break;
    }
    return i;
}

/* Is this a colon and a port? The number may be missing (RFC 3986 3.2.3). */
static bool is_port(const char *text, size_t len)
{
    uint32_t port = 0;

    if (text[0] != ':')
        return false;
    for (size_t i = 1; i < len; i++) {
        if (!is_digit(text[i]))
            return false;
        port = port * 10 + (uint32_t)(text[i] - '0');
        if (port > UINT16_MAX)
            return false;
    }
    return true;
}

bool strict_head_is_host(const char *text, size_t len)
{
    if (len > HOST_LONGEST)
        return false;
    size_t host = host_bytes(text, len);
    return host > 0 && (host == len || is_port(text + host, len - host));
}

/* `len` without the scheme's default port. */
static size_t without_default_port(const char *text, size_t len, const char *port)
{
    size_t port_len = strlen(port);

    if (len > 0 && text[len - 1] == ':')
        return len - 1;
    if (len > port_len && memcmp(text + len - port_len, port, port_len) == 0)
        return len - port_len;
    return len;
}

static bool is_same_host(const struct strict_head *head, const char *port)
{
    size_t a = without_default_port(head->authority, head->authority_len, port);
    size_t b = without_default_port(head->host, head->host_len, port);

    return a == b && strncasecmp(head->authority, head->host, a) == 0;
}

static enum h1_refusal check_host(struct strict_head *head, const struct phr_header *host,
                                  const char *port)
{
    if (host == NULL)
        return head->minor_version >= 1 ? REFUSAL_HOST : REFUSAL_NONE;
    if (host->value_len > 0 && !strict_head_is_host(host->value, host->value_len))
        return REFUSAL_HOST;
    head->host = host->value;
    head->host_len = host->value_len;
    if (head->authority != NULL && head->host_len > 0 && !is_same_host(head, port)) {
        head->host = NULL;
        return REFUSAL_HOST;
    }
    return REFUSAL_NONE;
}

/* ---- the request line ---- */

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_of(text[i], TOKEN))
            return false;
    return len > 0;
}

static bool has_encoded_nul(const char *path, size_t len)
{
    const char *end = path + len, *at = path;

    while ((at = memchr(at, '%', (size_t)(end - at))) != NULL) {
        if (end - at >= 3 && at[1] == '0' && at[2] == '0')
            return true;
        at++;
    }
    return false;
}

/* Split an absolute target. `*ret_port`: the default port of its scheme. */
static enum h1_refusal split_absolute(struct strict_head *head, const char **ret_port)
{
    size_t scheme = 0;

    if (head->path_len > 7 && strncasecmp(head->path, "http://", 7) == 0)
        scheme = 7;
    else if (head->path_len > 8 && strncasecmp(head->path, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0)
        return REFUSAL_TARGET;
    *ret_port = scheme == 7 ? ":80" : ":443";
    head->authority = head->path + scheme;
    head->path_len -= scheme;
    while (head->authority_len < head->path_len && head->authority[head->authority_len] != '/' &&
           head->authority[head->authority_len] != '?')
        head->authority_len++;
    head->path = head->authority + head->authority_len;
    head->path_len -= head->authority_len;
    if (strict_head_is_host(head->authority, head->authority_len))
        return REFUSAL_NONE;
    head->authority = NULL;
    return REFUSAL_TARGET;
}

/* `byte` follows the text of a line, according to the parser. */
static bool ends_line(const struct strict_head *head, char byte)
{
    return byte == (head->has_bare_lf ? '\n' : '\r');
}

static enum h1_refusal check_line(struct strict_head *head, const char **ret_port)
{
    bool is_asterisk = head->path_len == 1 && head->path[0] == '*';

    head->has_bare_lf = head->path[head->path_len + VERSION_BYTES] == '\n';
    if (head->bytes[0] == '\n' || (head->bytes[0] == '\r' && head->has_bare_lf))
        return REFUSAL_LINE_END;
    if (!is_token(head->method, head->method_len))
        return REFUSAL_METHOD;
    if (head->method_len == 7 && memcmp(head->method, "CONNECT", 7) == 0)
        return REFUSAL_CONNECT;
    if (memchr(head->path, '#', head->path_len) != NULL ||
        has_encoded_nul(head->path, head->path_len))
        return REFUSAL_TARGET;
    if (head->path_len > 0 && head->path[0] == '/')
        return REFUSAL_NONE;
    if (is_asterisk)
        return head->method_len == 7 && memcmp(head->method, "OPTIONS", 7) == 0 ? REFUSAL_NONE
                                                                                : REFUSAL_TARGET;
    return split_absolute(head, ret_port);
}

/* ---- the length of the body ---- */

/* The fields that matter, as found so far. */
struct framing {
    const struct phr_header *host;
    struct phr_header *length;
    uint64_t length_value;
    bool has_coding;
    bool has_upgrade;
};

/* One length of a list, without its leading zeros: libh2o takes at most 19 digits. */
static bool read_length(const char **at, const char *end, const char **ret_digits,
                        uint64_t *ret_value)
{
    uint64_t value = 0;

    *ret_digits = *at;
    for (; *at < end && is_digit(**at); (*at)++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (INT64_MAX - digit) / 10)
            return false;
        if (value == 0)
            *ret_digits = *at;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return *ret_digits < *at;
}

/* Are all lengths of this field equal, also to that of an earlier field? */
static bool merge_length(struct framing *framing, struct phr_header *field)
{
    const char *at = field->value, *end = at + field->value_len, *digits, *first = NULL;
    size_t first_len = 0;
    uint64_t value;

    for (;;) {
        if (!read_length(&at, end, &digits, &value))
            return false;
        if ((first != NULL || framing->length != NULL) && value != framing->length_value)
            return false;
        framing->length_value = value;
        if (first == NULL) {
            first = digits;
            first_len = (size_t)(at - digits);
        }
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        if (at == end)
            break;
        if (*at++ != ',')
            return false;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
    }
    field->value = first;
    field->value_len = first_len;
    return true;
}

static enum h1_refusal check_coding(struct strict_head *head, struct framing *framing,
                                    const struct phr_header *field)
{
    if (framing->has_coding || head->minor_version == 0 || field->value_len != 7 ||
        strncasecmp(field->value, "chunked", 7) != 0)
        return REFUSAL_CODING;
    framing->has_coding = true;
    return REFUSAL_NONE;
}

/* ---- the fields ---- */

static bool is_named(const struct phr_header *field, const char *name)
{
    return strncasecmp(field->name, name, field->name_len) == 0;
}

/* Take in a field about the host or the body. `*ret_drop`: it repeats an earlier one. */
static enum h1_refusal check_field(struct strict_head *head, struct framing *framing,
                                   struct phr_header *field, bool *ret_drop)
{
    switch (field->name_len) {
    case 4:
        if (!is_named(field, "host"))
            break;
        if (framing->host != NULL)
            return REFUSAL_HOST;
        framing->host = field;
        break;
    case 7:
        if (is_named(field, "upgrade"))
            framing->has_upgrade = true;
        break;
    case 14:
        if (!is_named(field, "content-length"))
            break;
        if (!merge_length(framing, field))
            return REFUSAL_LENGTH;
        *ret_drop = framing->length != NULL;
        if (!*ret_drop)
            framing->length = field;
        break;
    case 17:
        if (is_named(field, "transfer-encoding"))
            return check_coding(head, framing, field);
        break;
    default:
        break;
    }
    return REFUSAL_NONE;
}

static enum h1_refusal check_fields(struct strict_head *head, struct framing *framing)
{
    size_t kept = 0;

    for (size_t i = 0; i < head->header_count; i++) {
        struct phr_header *field = &head->headers[kept];
        bool drop = false;
        if (kept != i)
            *field = head->headers[i];
        if (field->name == NULL)
            return REFUSAL_FOLDED;
        if (!ends_line(head, field->value[field->value_len]))
            return REFUSAL_LINE_END;
        while (field->value_len > 0 && (field->value[field->value_len - 1] == ' ' ||
                                        field->value[field->value_len - 1] == '\t'))
            field->value_len--;
        enum h1_refusal refusal = check_field(head, framing, field, &drop);
        if (refusal != REFUSAL_NONE)
            return refusal;
        kept += !drop;
    }
    head->header_count = kept;
    /* The byte before the last LF is the CR of the same line, or the LF of the line before. */
    return ends_line(head, head->bytes[head->len - 2]) ? REFUSAL_NONE : REFUSAL_LINE_END;
}

/* Servers disagree about bare LF. That must not move the end of a body or change the protocol. */
static bool is_more_than_a_head(const struct framing *framing)
{
    return framing->has_coding || framing->length_value > 0 || framing->has_upgrade;
}

enum h1_refusal strict_head_check(struct strict_head *head)
{
    struct framing framing = {0};
    const char *port = "";

    head->authority = head->host = NULL;
    head->authority_len = head->host_len = 0;
    enum h1_refusal refusal = check_line(head, &port);
    if (refusal != REFUSAL_NONE)
        return refusal;
    refusal = check_fields(head, &framing);
    if (refusal != REFUSAL_NONE)
        return refusal;
    if (head->has_bare_lf && is_more_than_a_head(&framing))
        return REFUSAL_LINE_END;
    refusal = check_host(head, framing.host, port);
    if (refusal != REFUSAL_NONE)
        return refusal;
    head->is_chunked = framing.has_coding;
    return framing.has_coding && framing.length != NULL ? REFUSAL_CODING : REFUSAL_NONE;
}

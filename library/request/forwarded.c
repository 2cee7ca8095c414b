#include "request_p.h"

#include <arpa/inet.h>
#include <string.h>

/* The field Forwarded, RFC 7239 section 4:
 *
 *     Forwarded: for=192.0.2.43;proto=https, for="[2001:db8::1]:4711"
 *
 * It is a list of elements, each with pairs of a token and a token or quoted text. What is not
 * well-formed makes all of it worthless: a proxy that has appended to such a field did not look. */

/* RFC 9110 section 5.6.2 */
static bool is_tchar(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static void skip_space(const char **at)
{
    *at += strspn(*at, " \t");
}

static size_t token(const char *at)
{
    size_t bytes = 0;

    while (is_tchar(at[bytes]))
        bytes++;
    return bytes;
}

/* Copy a value into `text`; one that is too long becomes "", as it is no address. False: it is
 * none. */
static bool read_value(const char **at, char text[LC_NODE_SIZE])
{
    bool is_quoted = **at == '"';
    size_t used = 0, bytes = is_quoted ? 0 : token(*at);
    const char *end = *at + bytes;

    if (!is_quoted && bytes == 0)
        return false;
    *at += is_quoted;
    for (; is_quoted ? **at != '"' : *at < end; (*at)++, used++) {
        if (is_quoted && **at == '\\')
            (*at)++;
        if (**at == '\0')
            return false;
        if (used < LC_NODE_SIZE)
            text[used] = **at;
    }
    *at += is_quoted;
    text[used < LC_NODE_SIZE ? used : 0] = '\0';
    return true;
}

/* Section 6: "192.0.2.43", "192.0.2.43:47011", "[2001:db8::1]:_port", "unknown", "_hidden". Cut to
 * the address; "" if it is none. */
static void cut_to_address(char node[LC_NODE_SIZE])
{
    bool is_v6 = *node == '[';
    char *end = node + (is_v6 ? strcspn(node, "]") : strcspn(node, ":"));
    const char *port = is_v6 && *end != '\0' ? end + 1 : end;
    size_t digits = *port == ':' ? strspn(port + 1, "0123456789") : 0;
    bool has_number = digits > 0 && digits <= 5 && port[1 + digits] == '\0';
    struct in6_addr address;
    bool has_name = port[0] == ':' && port[1] == '_' && token(port + 1) == strlen(port + 1);

    if ((is_v6 && *end == '\0') || (*port != '\0' && !has_number && !has_name)) {
        *node = '\0';
        return;
    }
    *end = '\0';
    if (is_v6)
        memmove(node, node + 1, strlen(node));
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, node, &address) != 1)
        *node = '\0';
}

/* One pair; of `for` the value. False: it is not well-formed, or the second `for`. */
static bool read_pair(const char **at, bool *has_for, char node[LC_NODE_SIZE])
{
    size_t bytes = token(*at);
    bool is_for = bytes == 3 && ((*at)[0] | 0x20) == 'f' && ((*at)[1] | 0x20) == 'o' &&
                  ((*at)[2] | 0x20) == 'r';
    char other[LC_NODE_SIZE];

    *at += bytes;
    if (bytes == 0 || **at != '=' || (is_for && *has_for))
        return false;
    (*at)++;
    *has_for |= is_for;
    if (!read_value(at, is_for ? node : other))
        return false;
    if (is_for)
        cut_to_address(node);
    return true;
}

/* The pairs between two commas; pairs may be left out, as may elements (RFC 9110 section 5.6.1). */
static bool read_element(const char **at, bool *is_empty, char node[LC_NODE_SIZE])
{
    bool has_for = false;

    *is_empty = true;
    node[0] = '\0';
    for (;; (*at)++) {
        if (**at != ';' && **at != ',' && **at != '\0' && **at != ' ' && **at != '\t') {
            *is_empty = false;
            if (!read_pair(at, &has_for, node))
                return false;
        }
        if (**at != ';')
            break;
        *is_empty = false;
    }
    skip_space(at);
    return **at == ',' || **at == '\0';
}

size_t lc_read_forwarded(const char *field, char node[LC_HOPS][LC_NODE_SIZE])
{
    size_t count = 0;

    for (const char *at = field; *at != '\0';) {
        char next[LC_NODE_SIZE];
        bool is_empty;
        skip_space(&at);
        if (!read_element(&at, &is_empty, next))
            return 0;
        at += *at == ',';
        if (is_empty)
            continue;
        memmove(node[1], node[0], (LC_HOPS - 1) * LC_NODE_SIZE);
        memcpy(node[0], next, LC_NODE_SIZE);
        count += count < LC_HOPS;
    }
    return count;
}

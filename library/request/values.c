#include "request_p.h"

#include <string.h>

/* Texts that a client has encoded: paths, application/x-www-form-urlencoded, cookies. */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Read one byte; returns how many it took. A %00 is not decoded, because a C text would end there:
 * whoever checks "x.txt%00.exe" must see all of it. */
static size_t decode_one(const char *at, size_t left, bool plus, char *ret_byte)
{
    *ret_byte = *at == '+' && plus ? ' ' : *at;
    if (*at != '%' || left < 3 || hex(at[1]) < 0 || hex(at[2]) < 0)
        return 1;
    int c = hex(at[1]) * 16 + hex(at[2]);
    if (c == 0)
        return 1;
    *ret_byte = (char)c;
    return 3;
}

size_t lc_decode(const char *from, size_t bytes, char *to, bool plus)
{
    size_t n = 0;

    for (size_t i = 0; i < bytes; n++) {
        char c;
        i += decode_one(from + i, bytes - i, plus, &c);
        to[n] = c;
    }
    to[n] = '\0';
    return n;
}

static bool is_named(const char *at, size_t bytes, const char *name)
{
    for (size_t i = 0; i < bytes; name++) {
        char c;
        i += decode_one(at + i, bytes - i, true, &c);
        if (c != *name || *name == '\0')
            return false;
    }
    return *name == '\0';
}

bool lc_next_pair(const char **at, const char *end, struct lc_piece ret[2])
{
    while (*at < end && **at == '&')
        (*at)++;
    if (*at == end)
        return false;
    const char *begin = *at, *next = memchr(begin, '&', (size_t)(end - begin));
    if (next == NULL)
        next = end;
    const char *equals = memchr(begin, '=', (size_t)(next - begin));
    const char *value = equals != NULL ? equals + 1 : next;
    ret[0] = (struct lc_piece){begin, (size_t)((equals != NULL ? equals : next) - begin)};
    ret[1] = (struct lc_piece){value, (size_t)(next - value)};
    *at = next;
    return true;
}

bool lc_find_pair(const char *text, size_t bytes, const char *name, const char **ret_value,
                  size_t *ret_bytes)
{
    const char *at = text;
    struct lc_piece piece[2];

    while (lc_next_pair(&at, text + bytes, piece)) {
        if (!is_named(piece[0].at, piece[0].bytes, name))
            continue;
        *ret_value = piece[1].at;
        *ret_bytes = piece[1].bytes;
        return true;
    }
    return false;
}

bool lc_find_cookie(const char *text, const char *name, const char **ret_value, size_t *ret_bytes)
{
    size_t name_bytes = strlen(name);

    while (*text != '\0') {
        text += strspn(text, " \t;");
        size_t bytes = strcspn(text, ";");
        const char *next = text + bytes;
        while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'))
            bytes--;
        if (bytes > name_bytes && memcmp(text, name, name_bytes) == 0 && text[name_bytes] == '=') {
            *ret_value = text + name_bytes + 1;
            *ret_bytes = bytes - name_bytes - 1;
            if (*ret_bytes >= 2 && **ret_value == '"' && (*ret_value)[*ret_bytes - 1] == '"') {
                (*ret_value)++;
                *ret_bytes -= 2;
            }
            return true;
        }
        text = next;
    }
    return false;
}

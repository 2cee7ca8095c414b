#include "mux_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pattern: how its text is read, and how two of them relate. */

/* ---- reading ---- */

struct reader {
    const char *text; /* the whole pattern, for messages */
    char *error;
    char *to; /* free room in the pattern's memory */
    struct mux_pattern *pattern;
};

static int refuse(const struct reader *r, const char *why)
{
    (void)snprintf(r->error, MUX_ERROR, "pattern \"%.100s\": %s", r->text, why);
    return -EINVAL;
}

/* RFC 9110 section 5.6.2 */
static bool is_token(const char *at, size_t bytes)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)at[i];
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!is_plain && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return bytes > 0;
}

static bool is_name(const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        char c = at[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!is_letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return bytes > 0;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t mux_decode_one(const char *at, size_t left, unsigned char *ret_byte)
{
    if (*at == '%' && left >= 3 && hex(at[1]) >= 0 && hex(at[2]) >= 0) {
        *ret_byte = (unsigned char)(hex(at[1]) * 16 + hex(at[2]));
        return 3;
    }
    *ret_byte = (unsigned char)*at;
    return 1;
}

static const char *copy(struct reader *r, const char *at, size_t bytes)
{
    char *begin = r->to;

    memcpy(begin, at, bytes);
    begin[bytes] = '\0';
    r->to += bytes + 1;
    return begin;
}

static int add_literal(struct reader *r, struct mux_segment *to, const char *at, size_t bytes)
{
    size_t n = 0;

    to->kind = MUX_LITERAL;
    to->text = r->to;
    for (size_t i = 0; i < bytes;) {
        unsigned char c;
        i += mux_decode_one(at + i, bytes - i, &c);
        r->to[n++] = (char)c;
    }
    to->bytes = n;
    r->to[n] = '\0';
    r->to += n + 1;
    if (n == 0)
        return refuse(r, "an empty segment");
    if ((n == 1 && to->text[0] == '.') || (n == 2 && memcmp(to->text, "..", 2) == 0))
        return refuse(r, "\".\" and \"..\" are resolved before a path is looked up");
    return 0;
}

/* `at` begins with '{'. */
static int add_parameter(struct reader *r, struct mux_segment *to, const char *at, size_t bytes,
                         bool is_last)
{
    if (bytes < 2 || at[bytes - 1] != '}')
        return refuse(r, "a parameter is a whole segment: {name}");
    const char *name = at + 1;
    size_t n = bytes - 2;
    if (n == 1 && *name == '$') {
        to->kind = MUX_END;
        to->text = "";
        return is_last ? 0 : refuse(r, "{$} comes last");
    }
    to->kind = MUX_ONE;
    if (n > 3 && memcmp(name + n - 3, "...", 3) == 0) {
        to->kind = MUX_REST;
        n -= 3;
        if (!is_last)
            return refuse(r, "{name...} comes last");
    }
    if (!is_name(name, n))
        return refuse(r,
                      "a parameter's name is of letters, digits and _, and begins with no digit");
    for (const struct mux_segment *i = r->pattern->segment; i < to; i++)
        if (i->kind == MUX_ONE && i->bytes == n && memcmp(i->text, name, n) == 0)
            return refuse(r, "two parameters of one name");
    to->text = copy(r, name, n);
    to->bytes = n;
    return 0;
}

static int read_path(struct reader *r, const char *at)
{
    struct mux_pattern *pattern = r->pattern;
    size_t params = 0;

    while (*at == '/') {
        size_t bytes = strcspn(++at, "/");
        bool is_last = at[bytes] == '\0';
        if (pattern->count == MUX_SEGMENTS)
            return refuse(r, "more than 64 segments");
        struct mux_segment *to = &pattern->segment[pattern->count++];
        int err = 0;
        if (bytes == 0 && is_last)
            *to = (struct mux_segment){.kind = MUX_REST, .text = ""};
        else if (*at == '{')
            err = add_parameter(r, to, at, bytes, is_last);
        else if (memchr(at, '{', bytes) != NULL || memchr(at, '}', bytes) != NULL)
            err = refuse(r, "a parameter is a whole segment: {name}");
        else
            err = add_literal(r, to, at, bytes);
        if (err != 0)
            return err;
        params += to->kind != MUX_LITERAL && to->bytes > 0;
        at += bytes;
    }
    return params <= MUX_PARAMS ? 0 : refuse(r, "more than 16 parameters");
}

static int read_pattern(struct reader *r)
{
    const char *path = r->text + strcspn(r->text, " \t");
    size_t method_bytes = (size_t)(path - r->text);

    if (*path == '\0') {
        path = r->text;
        method_bytes = 0;
    } else if (!is_token(r->text, method_bytes)) {
        return refuse(r, "what stands before the space is no method");
    }
    r->pattern->method = copy(r, r->text, method_bytes);
    path += strspn(path, " \t");
    if (*path != '/')
        return refuse(r, "a path begins with /");
    if (path[strcspn(path, " \t?#")] != '\0')
        return refuse(r, "a path has no space, no ? and no #; write %20, %3F, %23");
    return read_path(r, path);
}

int mux_pattern_create(const char *text, struct mux_pattern **ret_pattern, char error[MUX_ERROR])
{
    size_t bytes = strlen(text), most = 0;
    struct reader r = {.text = text, .error = error};

    if (bytes > MUX_PATTERN)
        return refuse(&r, "longer than 1024 bytes");
    for (size_t i = 0; i < bytes; i++)
        most += text[i] == '/';
    r.pattern = calloc(1, sizeof(*r.pattern) + most * sizeof(r.pattern->segment[0]));
    if (r.pattern == NULL)
        return -ENOMEM;
    r.pattern->text = strdup(text);
    /* each segment, and the method, with a '\0' */
    r.pattern->memory = r.to = malloc(bytes + most + 2);
    int err = r.pattern->text != NULL && r.to != NULL ? read_pattern(&r) : -ENOMEM;
    if (err != 0)
        mux_pattern_destroy(r.pattern);
    else
        *ret_pattern = r.pattern;
    return err;
}

void mux_pattern_destroy(struct mux_pattern *pattern)
{
    free(pattern->text);
    free(pattern->memory);
    free(pattern);
}

/* ---- relations ---- */

/* Of two parts of a request, both have to match: what do the relations of the parts make? */
static enum mux_relation both(enum mux_relation a, enum mux_relation b)
{
    if (a == MUX_APART || b == MUX_APART)
        return MUX_APART;
    if (a == MUX_SAME || a == b)
        return b;
    return b == MUX_SAME ? a : MUX_CROSSING;
}

enum mux_relation mux_compare_methods(const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return MUX_SAME;
    if (*a == '\0' || (strcmp(a, "GET") == 0 && strcmp(b, "HEAD") == 0))
        return MUX_WIDER;
    if (*b == '\0' || (strcmp(b, "GET") == 0 && strcmp(a, "HEAD") == 0))
        return MUX_NARROWER;
    return MUX_APART;
}

static enum mux_relation compare_segments(const struct mux_segment *a, const struct mux_segment *b)
{
    if (a->kind == MUX_REST || b->kind == MUX_REST)
        return a->kind == b->kind ? MUX_SAME : a->kind == MUX_REST ? MUX_WIDER : MUX_NARROWER;
    if (a->kind == MUX_END || b->kind == MUX_END) /* an empty segment, which {name} does not take */
        return a->kind == b->kind ? MUX_SAME : MUX_APART;
    if (a->kind == MUX_ONE || b->kind == MUX_ONE)
        return a->kind == b->kind ? MUX_SAME : a->kind == MUX_ONE ? MUX_WIDER : MUX_NARROWER;
    bool is_same = a->bytes == b->bytes && memcmp(a->text, b->text, a->bytes) == 0;
    return is_same ? MUX_SAME : MUX_APART;
}

enum mux_relation mux_compare(const struct mux_pattern *a, const struct mux_pattern *b)
{
    enum mux_relation relation = mux_compare_methods(a->method, b->method);
    size_t shared = a->count < b->count ? a->count : b->count;

    for (size_t i = 0; i < shared && relation != MUX_APART; i++)
        relation = both(relation, compare_segments(&a->segment[i], &b->segment[i]));
    /* Where one is longer, the shorter takes such a path only if it ends with the rest of one. */
    if (a->count < b->count)
        return both(relation, a->segment[a->count - 1].kind == MUX_REST ? MUX_WIDER : MUX_APART);
    if (a->count > b->count)
        return both(relation, b->segment[b->count - 1].kind == MUX_REST ? MUX_NARROWER : MUX_APART);
    return relation;
}

int mux_compare_segment(const char *segment, size_t segment_bytes, const char *text, size_t bytes)
{
    size_t i = 0, n = 0;

    while (i < segment_bytes && n < bytes) {
        unsigned char c;
        i += mux_decode_one(segment + i, segment_bytes - i, &c);
        if (c != (unsigned char)text[n])
            return c < (unsigned char)text[n] ? -1 : 1;
        n++;
    }
    return (i < segment_bytes) - (n < bytes);
}

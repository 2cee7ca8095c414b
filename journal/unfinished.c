#include "unfinished.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* JSON texts are UTF-8, and requests are bytes. If path, authority, method and headers are all
 * valid UTF-8, they are written unchanged; otherwise all are written as Latin-1, a code point per
 * byte, and the line has `"latin1": true`. Either way each byte can be restored. */

/* ---- names ---- */

#define X(id, name) name,
static const char *const reasons[] = {UNFINISHED_REASONS(X)};
static const char *const classes[] = {UNFINISHED_CLASSES(X)};
static const char *const states[] = {UNFINISHED_STATES(X)};
static const char *const gaps[] = {UNFINISHED_GAPS(X)};
#undef X

const char *unfinished_reason_name(enum unfinished_reason reason)
{
    return reasons[reason];
}

const char *unfinished_class_name(enum unfinished_class class)
{
    return classes[class];
}

const char *unfinished_state_name(enum unfinished_state state)
{
    return states[state];
}

const char *unfinished_gap_name(enum unfinished_gap gap)
{
    return gaps[gap];
}

/* RFC 9110 section 9.2.2. */
static bool is_idempotent(const char *method, size_t len)
{
    static const char *const idempotent[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};

    for (size_t i = 0; i < sizeof(idempotent) / sizeof(idempotent[0]); i++)
        if (strlen(idempotent[i]) == len && memcmp(idempotent[i], method, len) == 0)
            return true;
    return false;
}

enum unfinished_class unfinished_classify(enum unfinished_state state,
                                          const struct unfinished_text *method)
{
    if (state == UNFINISHED_STATE_QUEUED)
        return UNFINISHED_CLASS_NEVER_STARTED;
    return is_idempotent(method->base, method->len) ? UNFINISHED_CLASS_IDEMPOTENT
                                                    : UNFINISHED_CLASS_MAY_HAVE_RUN;
}

void unfinished_release(struct unfinished *unfinished)
{
    free(unfinished->method.base);
    free(unfinished->authority.base);
    free(unfinished->path.base);
    for (size_t i = 0; i < unfinished->header_count; i++) {
        free(unfinished->headers[i].name.base);
        free(unfinished->headers[i].value.base);
    }
    free(unfinished->headers);
    free(unfinished->body.base);
    memset(unfinished, 0, sizeof(*unfinished));
}

char *unfinished_format_time(uint64_t ms, char *buf)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};

    (void)gmtime_r(&seconds, &tm);
    size_t n = strftime(buf, UNFINISHED_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(buf + n, UNFINISHED_TIME_SIZE - n, ".%03uZ", (unsigned)(ms % 1000));
    return buf;
}

/* ---- out ---- */

static bool is_utf8(const struct unfinished_text *text)
{
    json_t *json = json_stringn(text->base != NULL ? text->base : "", text->len);
    json_decref(json);
    return json != NULL;
}

static bool is_latin1(const struct unfinished *u)
{
    bool utf8 = is_utf8(&u->method) && is_utf8(&u->authority) && is_utf8(&u->path);

    for (size_t i = 0; utf8 && i < u->header_count; i++)
        utf8 = is_utf8(&u->headers[i].name) && is_utf8(&u->headers[i].value);
    return !utf8;
}

static json_t *text_json(const struct unfinished_text *text, bool latin1)
{
    if (!latin1)
        return json_stringn(text->base != NULL ? text->base : "", text->len);
    char *wide = malloc(2 * text->len + 1);
    size_t n = 0;
    if (wide == NULL)
        return NULL;
    for (size_t i = 0; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->base[i];
        if (byte >= 0x80)
            wide[n++] = (char)(0xc0 | byte >> 6);
        wide[n++] = (char)(byte < 0x80 ? byte : 0x80 | (byte & 0x3f));
    }
    json_t *json = json_stringn(wide, n);
    free(wide);
    return json;
}

static json_t *headers_json(const struct unfinished *u, bool latin1)
{
    json_t *list = json_array();

    for (size_t i = 0; i < u->header_count; i++)
        if (json_array_append_new(list, json_pack("[o, o]", text_json(&u->headers[i].name, latin1),
                                                  text_json(&u->headers[i].value, latin1))) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *redacted_json(const struct unfinished *u, bool latin1)
{
    json_t *list = json_array();

    for (size_t i = 0; i < u->header_count; i++) {
        bool again = false;
        if (!u->headers[i].redacted)
            continue;
        for (size_t j = 0; j < i; j++)
            again |= u->headers[j].redacted && u->headers[j].name.len == u->headers[i].name.len &&
                     memcmp(u->headers[j].name.base, u->headers[i].name.base,
                            u->headers[i].name.len) == 0;
        if (!again)
            (void)json_array_append_new(list, text_json(&u->headers[i].name, latin1));
    }
    return list;
}

/* The inside of a JSON string, from UTF-8. Returns the end. */
static char *put_escaped(char *to, const struct unfinished_text *text)
{
    for (size_t i = 0; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->base[i];
        if (byte < 0x20) {
            to += sprintf(to, "\\u%04x", byte);
            continue;
        }
        if (byte == '"' || byte == '\\')
            *to++ = '\\';
        *to++ = (char)byte;
    }
    return to;
}

static size_t escaped_bytes(const struct unfinished_text *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->base[i];
        n += byte < 0x20 ? 6 : byte == '"' || byte == '\\' ? 2 : 1;
    }
    return n;
}

/* Append `body` as text, or `body_base64`, to a line that is complete without it. Without jansson:
 * a body can be large when the deadline is near, and jansson takes 80 ms for a megabyte. */
static char *add_body(char *line, const struct unfinished_text *body)
{
    bool is_text = memchr(body->base, '\0', body->len) == NULL && is_utf8(body);
    size_t n = strlen(line) - 1; /* without its brace */
    size_t more = is_text ? escaped_bytes(body) : (body->len + 2) / 3 * 4;
    char *longer = realloc(line, n + more + sizeof(",\"body_base64\":\"\"}"));

    if (longer == NULL) {
        free(line);
        return NULL;
    }
    char *at = longer + n;
    at += sprintf(at, ",\"%s\":\"", is_text ? "body" : "body_base64");
    if (is_text)
        at = put_escaped(at, body);
    else
        at +=
            EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)body->base, (int)body->len);
    (void)strcpy(at, "\"}");
    return longer;
}

static json_t *incomplete_json(const struct unfinished *u)
{
    if (u->gap == UNFINISHED_GAP_NONE)
        return json_null();
    if (u->sha256[0] == '\0')
        return json_pack("{s:s}", "why", gaps[u->gap]);
    return json_pack("{s:s, s:s}", "why", gaps[u->gap], "sha256", u->sha256);
}

char *unfinished_line(const struct unfinished *u)
{
    char began[UNFINISHED_TIME_SIZE], archived[UNFINISHED_TIME_SIZE];
    bool latin1 = is_latin1(u);
    json_t *root = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I}",
        "schema", 1, "id", u->id, "reason", reasons[u->reason], "class", classes[u->class], "state",
        states[u->state], "server", u->server, "began", unfinished_format_time(u->began_ms, began),
        "archived", unfinished_format_time(u->archived_ms, archived), "age_ms", u->age_ms, "client",
        u->client, "scheme", u->scheme, "method", text_json(&u->method, latin1), "authority",
        text_json(&u->authority, latin1), "path", text_json(&u->path, latin1), "headers",
        headers_json(u, latin1), "redacted", redacted_json(u, latin1), "body_bytes",
        (json_int_t)u->body_bytes);

    if (root == NULL)
        return NULL;
    int failed = latin1 ? json_object_set_new(root, "latin1", json_true()) : 0;
    failed |= json_object_set_new(root, "incomplete", incomplete_json(u));
    char *line = failed == 0 ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(root);
    return line != NULL && u->body.base != NULL ? add_body(line, &u->body) : line;
}

/* ---- in ---- */

/* Parsing a line: the first error ends it. */
struct parse {
    const json_t *root;
    bool latin1;
    int err;
    char *why;
};

static void fail(struct parse *parse, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(struct parse *parse, int err, const char *format, ...)
{
    va_list args;

    if (parse->err != 0)
        return;
    parse->err = err;
    va_start(args, format);
    (void)vsnprintf(parse->why, UNFINISHED_WHY_SIZE, format, args);
    va_end(args);
}

static const json_t *member(struct parse *parse, const char *name, json_type type)
{
    const json_t *json = json_object_get(parse->root, name);
    bool is_number = type == JSON_REAL && json_is_integer(json);

    if (json != NULL && (json_typeof(json) == type || is_number))
        return json;
    fail(parse, -EBADMSG, json == NULL ? "%s is missing" : "%s is of another type", name);
    return NULL;
}

/* Turn Latin-1 code points into bytes, in place. */
static bool narrow(struct unfinished_text *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->base[i];
        if (byte >= 0x80) {
            if (byte > 0xc3 || i + 1 == text->len)
                return false;
            byte = (unsigned char)((byte & 3) << 6 | ((unsigned char)text->base[++i] & 0x3f));
        }
        text->base[n++] = (char)byte;
    }
    text->base[text->len = n] = '\0';
    return true;
}

static void take_text(struct parse *parse, const char *name, const json_t *json, bool latin1,
                      struct unfinished_text *ret_text)
{
    if (!json_is_string(json)) {
        fail(parse, -EBADMSG, "%s is not a text", name);
        return;
    }
    ret_text->len = json_string_length(json);
    ret_text->base = malloc(ret_text->len + 1);
    if (ret_text->base == NULL) {
        fail(parse, -ENOMEM, "no memory");
        return;
    }
    memcpy(ret_text->base, json_string_value(json), ret_text->len + 1);
    if (latin1 && !narrow(ret_text))
        fail(parse, -EBADMSG, "%s is not Latin-1", name);
}

static void take_word(struct parse *parse, const char *name, char *word, size_t size)
{
    const json_t *json = member(parse, name, JSON_STRING);

    if (json == NULL)
        return;
    if (json_string_length(json) >= size ||
        strlen(json_string_value(json)) != json_string_length(json))
        fail(parse, -EBADMSG, "%s is too long", name);
    else
        memcpy(word, json_string_value(json), json_string_length(json) + 1);
}

static unsigned take_choice(struct parse *parse, const char *name, const json_t *json,
                            const char *const *names, size_t count)
{
    const char *text = json_string_value(json);

    for (unsigned i = 0; text != NULL && i < count; i++)
        if (names[i] != NULL && strcmp(names[i], text) == 0)
            return i;
    fail(parse, -EBADMSG, "%s has an unknown value", name);
    return 0;
}

static uint64_t take_time(struct parse *parse, const char *name)
{
    const json_t *json = member(parse, name, JSON_STRING);
    struct tm tm = {0};
    unsigned ms = 0;
    char end = '\0';

    if (json == NULL)
        return 0;
    const char *rest = strptime(json_string_value(json), "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL || sscanf(rest, ".%3uZ%c", &ms, &end) != 1 || strlen(rest) != 5 ||
        rest[4] != 'Z' || timegm(&tm) < 0) {
        fail(parse, -EBADMSG, "%s is not a time", name);
        return 0;
    }
    return (uint64_t)timegm(&tm) * 1000 + ms;
}

static void take_headers(struct parse *parse, struct unfinished *u)
{
    const json_t *list = member(parse, "headers", JSON_ARRAY);
    const json_t *redacted = member(parse, "redacted", JSON_ARRAY);
    size_t count = json_array_size(list);

    if (parse->err != 0 || count == 0)
        return;
    u->headers = calloc(count, sizeof(*u->headers));
    if (u->headers == NULL) {
        fail(parse, -ENOMEM, "no memory");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(list, i), *name = json_array_get(pair, 0);
        if (json_array_size(pair) != 2) {
            fail(parse, -EBADMSG, "a header is not a name and a value");
            return;
        }
        u->header_count = i + 1;
        take_text(parse, "a header's name", name, parse->latin1, &u->headers[i].name);
        take_text(parse, "a header's value", json_array_get(pair, 1), parse->latin1,
                  &u->headers[i].value);
        for (size_t j = 0; j < json_array_size(redacted); j++)
            u->headers[i].redacted |= json_equal(json_array_get(redacted, j), name);
    }
}

/* EVP_DecodeBlock() accepts invalid input, and does not return the exact length. */
static void take_base64(struct parse *parse, const json_t *json, struct unfinished_text *ret_text)
{
    const char *text = json_string_value(json);
    size_t len = json_string_length(json), pad = 0;

    if (text == NULL || len % 4 != 0 || len > INT32_MAX ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != len) {
        fail(parse, -EBADMSG, "body_base64 is not base64");
        return;
    }
    while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
        pad++;
    if (strcspn(text, "=") != len - pad) {
        fail(parse, -EBADMSG, "body_base64 is not base64");
        return;
    }
    ret_text->base = malloc(len / 4 * 3 + 1);
    if (ret_text->base == NULL) {
        fail(parse, -ENOMEM, "no memory");
        return;
    }
    int n = EVP_DecodeBlock((unsigned char *)ret_text->base, (const unsigned char *)text, (int)len);
    if (n < 0 || (size_t)n < pad)
        fail(parse, -EBADMSG, "body_base64 is not base64");
    ret_text->len = n < 0 || (size_t)n < pad ? 0 : (size_t)n - pad;
    ret_text->base[ret_text->len] = '\0';
}

static void take_body(struct parse *parse, struct unfinished *u)
{
    const json_t *bytes = member(parse, "body_bytes", JSON_INTEGER);
    const json_t *body = json_object_get(parse->root, "body");
    const json_t *base64 = json_object_get(parse->root, "body_base64");
    const json_t *incomplete = json_object_get(parse->root, "incomplete");
    const json_t *sha256 = json_object_get(incomplete, "sha256");

    if (json_integer_value(bytes) < 0)
        fail(parse, -EBADMSG, "body_bytes is below 0");
    u->body_bytes = (uint64_t)json_integer_value(bytes);
    if (body != NULL)
        take_text(parse, "body", body, false, &u->body);
    else if (base64 != NULL)
        take_base64(parse, base64, &u->body);
    if (json_is_object(incomplete))
        u->gap = take_choice(parse, "incomplete.why", json_object_get(incomplete, "why"), gaps,
                             UNFINISHED_GAP_COUNT);
    if (sha256 != NULL && json_string_length(sha256) == sizeof(u->sha256) - 1)
        memcpy(u->sha256, json_string_value(sha256), sizeof(u->sha256));
    else if (sha256 != NULL)
        fail(parse, -EBADMSG, "incomplete.sha256 is not a digest");
    if (u->body.base != NULL && u->body.len != u->body_bytes)
        fail(parse, -EBADMSG, "body has %zu bytes and body_bytes says %llu", u->body.len,
             (unsigned long long)u->body_bytes);
    if (u->body.base == NULL && u->gap == UNFINISHED_GAP_NONE)
        fail(parse, -EBADMSG, "it has neither a body nor a reason for its absence");
}

static void take_all(struct parse *parse, struct unfinished *u)
{
    if (json_integer_value(member(parse, "schema", JSON_INTEGER)) != 1)
        fail(parse, -EBADMSG, "schema is not 1");
    take_word(parse, "id", u->id, sizeof(u->id));
    if (strspn(u->id, "0123456789abcdef") != sizeof(u->id) - 1)
        fail(parse, -EBADMSG, "id is not 32 hex digits");
    u->reason = take_choice(parse, "reason", member(parse, "reason", JSON_STRING), reasons,
                            UNFINISHED_REASON_COUNT);
    u->class = take_choice(parse, "class", member(parse, "class", JSON_STRING), classes,
                           UNFINISHED_CLASS_COUNT);
    u->state = take_choice(parse, "state", member(parse, "state", JSON_STRING), states,
                           UNFINISHED_STATE_COUNT);
    take_word(parse, "server", u->server, sizeof(u->server));
    u->began_ms = take_time(parse, "began");
    u->archived_ms = take_time(parse, "archived");
    u->age_ms = json_number_value(member(parse, "age_ms", JSON_REAL));
    take_word(parse, "client", u->client, sizeof(u->client));
    take_word(parse, "scheme", u->scheme, sizeof(u->scheme));
    take_text(parse, "method", member(parse, "method", JSON_STRING), parse->latin1, &u->method);
    take_text(parse, "authority", member(parse, "authority", JSON_STRING), parse->latin1,
              &u->authority);
    take_text(parse, "path", member(parse, "path", JSON_STRING), parse->latin1, &u->path);
    take_headers(parse, u);
    take_body(parse, u);
}

int unfinished_parse(const char *line, size_t len, struct unfinished *ret_unfinished, char *why)
{
    struct unfinished u = {0};
    json_error_t error;
    json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    struct parse parse = {.root = root, .why = why};

    why[0] = '\0';
    if (!json_is_object(root))
        fail(&parse, -EBADMSG, "%s", root == NULL ? error.text : "it is not a JSON object");
    parse.latin1 = json_is_true(json_object_get(root, "latin1"));
    if (parse.err == 0)
        take_all(&parse, &u);
    json_decref(root);
    if (parse.err != 0)
        unfinished_release(&u);
    else
        *ret_unfinished = u;
    return parse.err;
}

#include "replay_rules.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"

#define BACKOFF_FIRST_NS (500 * NS_PER_MS)
#define BACKOFF_MOST_NS (30 * NS_PER_S)

#define X(id, text) text,
static const char *const verdicts[] = {REPLAY_VERDICTS(X)};
#undef X

const char *replay_verdict_text(enum replay_verdict verdict)
{
    return verdicts[verdict];
}

/* ---- --only ---- */

enum only_kind { ONLY_METHOD, ONLY_PATH, ONLY_REASON, ONLY_CLASS, ONLY_KINDS, ONLY_WRONG };

static const char *below(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static bool is_token(unsigned char c)
{
    return isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_method(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if (!isupper((unsigned char)*at) && *at != '-' && *at != '_')
            return false;
    return text[0] != '\0';
}

static enum only_kind kind_of(const char *only)
{
    const char *reason = below(only, "reason:"), *class = below(only, "class:");

    for (int i = 0; reason != NULL && i < UNFINISHED_REASON_COUNT; i++)
        if (strcmp(reason, unfinished_reason_name((enum unfinished_reason)i)) == 0)
            return ONLY_REASON;
    for (int i = 0; class != NULL && i < UNFINISHED_CLASS_COUNT; i++)
        if (strcmp(class, unfinished_class_name((enum unfinished_class)i)) == 0)
            return ONLY_CLASS;
    if (reason != NULL || class != NULL)
        return ONLY_WRONG;
    if (only[0] == '/' || only[0] == '*')
        return ONLY_PATH;
    return is_method(only) ? ONLY_METHOD : ONLY_WRONG;
}

const char *replay_check_only(const char *text)
{
    return kind_of(text) != ONLY_WRONG
               ? NULL
               : "want a METHOD, a pattern for the path that begins with / or *, "
                 "reason:deadline|forced|crashed or class:never-started|idempotent|"
                 "may-have-run";
}

/* The pattern is tried with the query and without it. */
static bool path_matches(const char *glob, const struct unfinished_text *path)
{
    char *text = strndup(path->base != NULL ? path->base : "", path->len);
    bool matches = false;

    if (text == NULL)
        return false;
    matches = fnmatch(glob, text, FNM_NOESCAPE) == 0;
    text[strcspn(text, "?")] = '\0';
    matches |= fnmatch(glob, text, FNM_NOESCAPE) == 0;
    free(text);
    return matches;
}

static bool matches(const char *only, enum only_kind kind, const struct unfinished *request)
{
    switch (kind) {
    case ONLY_METHOD:
        return request->method.len == strlen(only) &&
               memcmp(request->method.base, only, request->method.len) == 0;
    case ONLY_PATH:
        return path_matches(only, &request->path);
    case ONLY_REASON:
        return strcmp(below(only, "reason:"), unfinished_reason_name(request->reason)) == 0;
    case ONLY_CLASS:
        return strcmp(below(only, "class:"), unfinished_class_name(request->class)) == 0;
    default:
        return false;
    }
}

/* Alternatives of one kind: one must match. Of different kinds: each must match. */
static bool is_asked_for(const struct replay_filter *filter, const struct unfinished *request)
{
    bool asked[ONLY_KINDS] = {false}, found[ONLY_KINDS] = {false};

    for (size_t i = 0; i < filter->only_count; i++) {
        enum only_kind kind = kind_of(filter->only[i]);
        if (kind >= ONLY_KINDS)
            continue;
        asked[kind] = true;
        found[kind] |= matches(filter->only[i], kind, request);
    }
    for (size_t i = 0; i < ONLY_KINDS; i++)
        if (asked[i] && !found[i])
            return false;
    return true;
}

static bool is_named(const struct replay_filter *filter, const char *only)
{
    for (size_t i = 0; i < filter->only_count; i++)
        if (strcmp(filter->only[i], only) == 0)
            return true;
    return false;
}

enum replay_verdict replay_judge_request(const struct replay_filter *filter,
                                         const struct unfinished *request,
                                         const struct disposition *disposition, uint64_t now_ms)
{
    enum disposition_outcome outcome =
        disposition != NULL ? disposition->outcome : DISPOSITION_NONE;

    if (outcome == DISPOSITION_SETTLED)
        return REPLAY_SETTLED;
    if (outcome == DISPOSITION_PARKED && !filter->include_parked)
        return REPLAY_PARKED;
    if (outcome == DISPOSITION_QUEUED && !filter->include_queued)
        return REPLAY_QUEUED;
    if (!is_asked_for(filter, request))
        return REPLAY_NOT_ASKED_FOR;
    if (request->class == UNFINISHED_CLASS_MAY_HAVE_RUN && !filter->include_may_have_run &&
        !is_named(filter, "class:may-have-run"))
        return REPLAY_MAY_HAVE_RUN;
    if (filter->max_age_ms != 0 && request->began_ms + filter->max_age_ms < now_ms)
        return REPLAY_TOO_OLD;
    return REPLAY_SEND;
}

/* ---- what can be sent ---- */

static bool is_all(const struct unfinished_text *text, bool (*is_fine)(unsigned char))
{
    for (size_t i = 0; i < text->len; i++)
        if (!is_fine((unsigned char)text->base[i]))
            return false;
    return true;
}

static bool fits_in_line(unsigned char c)
{
    return c > 0x20 && c != 0x7f;
}

static bool fits_in_value(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

const char *replay_cannot_send(const struct unfinished *request)
{
    if (request->gap != UNFINISHED_GAP_NONE)
        return unfinished_gap_name(request->gap);
    if (request->method.len == 0 || !is_all(&request->method, is_token))
        return "its method is invalid";
    if (request->method.len == 7 && memcmp(request->method.base, "CONNECT", 7) == 0)
        return "CONNECT cannot be replayed";
    if (request->path.len == 0 || !is_all(&request->path, fits_in_line))
        return "its path contains invalid bytes";
    if (!is_all(&request->authority, fits_in_line))
        return "its authority contains invalid bytes";
    for (size_t i = 0; i < request->header_count; i++) {
        const struct unfinished_header *header = &request->headers[i];
        if (header->name.len == 0 || !is_all(&header->name, is_token) ||
            !is_all(&header->value, fits_in_value))
            return "a header contains invalid bytes";
    }
    return NULL;
}

static bool is_named_in(const struct unfinished_text *list, const struct unfinished_text *name)
{
    const char *at = list->base, *end = list->base + list->len;

    while (at != NULL && at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        while (at < stop && isspace((unsigned char)*at))
            at++;
        const char *last = stop;
        while (last > at && isspace((unsigned char)last[-1]))
            last--;
        if ((size_t)(last - at) == name->len && strncasecmp(at, name->base, name->len) == 0)
            return true;
        at = stop + 1;
    }
    return false;
}

static bool is_called(const struct unfinished_text *name, const char *text)
{
    return name->len == strlen(text) && strncasecmp(name->base, text, name->len) == 0;
}

bool replay_drops_header(const struct unfinished *request, const struct unfinished_header *header)
{
    /* Hop-by-hop (RFC 9110 section 7.6.1), or written anew by the replay. */
    static const char *const dropped[] = {"connection",
                                          "keep-alive",
                                          "proxy-connection",
                                          "te",
                                          "trailer",
                                          "upgrade",
                                          "transfer-encoding",
                                          "http2-settings",
                                          "proxy-authorization",
                                          "expect",
                                          "content-length",
                                          "host",
                                          "lastcall-replay"};

    if (header->redacted) /* its value is a digest */
        return true;
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
        if (is_called(&header->name, dropped[i]))
            return true;
    for (size_t i = 0; i < request->header_count; i++)
        if (is_called(&request->headers[i].name, "connection") &&
            is_named_in(&request->headers[i].value, &header->name))
            return true;
    return false;
}

/* ---- the answer ---- */

enum disposition_outcome replay_judge_answer(int status)
{
    if (status >= 200 && status < 300)
        return DISPOSITION_SETTLED;
    if (status == 0 || status >= 500 || status == 408 || status == 425 || status == 429)
        return DISPOSITION_FAILED;
    return DISPOSITION_PARKED; /* redirects too: a person has to decide */
}

uint64_t replay_backoff_ns(unsigned tries, double chance)
{
    uint64_t ns = BACKOFF_FIRST_NS;

    for (unsigned i = 1; i < tries && ns < BACKOFF_MOST_NS; i++)
        ns *= 2;
    if (ns > BACKOFF_MOST_NS)
        ns = BACKOFF_MOST_NS;
    return (uint64_t)((double)ns * (0.75 + chance / 2));
}

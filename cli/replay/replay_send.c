#include "replay_send.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "replay_rules.h"

/* A request is sent as it was received: method, target, headers and body byte by byte. libcurl adds
 * Accept, User-Agent, Content-Type and Expect by itself; those that the request did not have are
 * suppressed. */

/* ---- headers ---- */

static int add(struct replay_item *item, const char *line)
{
    struct curl_slist *longer = curl_slist_append(item->headers, line);

    if (longer == NULL)
        return -ENOMEM;
    item->headers = longer;
    return 0;
}

/* libcurl sends `Name;` as a header without a value, and suppresses the header for `Name:`. */
static int add_pair(struct replay_item *item, const char *name, size_t name_length,
                    const char *value, size_t value_length)
{
    char *line;

    if (asprintf(&line, value_length > 0 ? "%.*s: %.*s" : "%.*s;%.*s", (int)name_length, name,
                 (int)value_length, value_length > 0 ? value : "") < 0)
        return -ENOMEM;
    int err = add(item, line);
    free(line);
    return err;
}

static bool is_replaced(const struct replay_target *target, const struct unfinished_text *name)
{
    for (size_t i = 0; i < target->header_count; i++) {
        const char *header = target->headers[i];
        if (strcspn(header, ":") == name->len && strncasecmp(header, name->base, name->len) == 0)
            return true;
    }
    return false;
}

static int add_own(const struct replay_target *target, struct replay_item *item, bool has_key)
{
    char line[128];
    int err = 0;

    /* The application may have seen the client's own key. */
    if (!has_key) {
        (void)snprintf(line, sizeof(line), "Idempotency-Key: %s", item->request.id);
        err = add(item, line);
    }
    (void)snprintf(line, sizeof(line), "Lastcall-Replay: %u", item->attempt);
    if (err == 0)
        err = add(item, line);
    for (size_t i = 0; i < target->header_count && err == 0; i++)
        err = add(item, target->headers[i]);
    return err;
}

static int add_headers(const struct replay_target *target, struct replay_item *item)
{
    static const char *const implicit[] = {"Accept", "Content-Type", "User-Agent"};
    const struct unfinished *request = &item->request;
    bool has[3] = {false}, has_key = false;
    int err;

    if (target->host != NULL)
        err = add_pair(item, "Host", 4, target->host, strlen(target->host));
    else
        err = add_pair(item, "Host", 4, request->authority.base, request->authority.len);
    for (size_t i = 0; i < request->header_count && err == 0; i++) {
        const struct unfinished_header *header = &request->headers[i];
        if (replay_drops_header(request, header) || is_replaced(target, &header->name))
            continue;
        for (size_t k = 0; k < 3; k++)
            has[k] |= strncasecmp(header->name.base, implicit[k], header->name.len) == 0 &&
                      strlen(implicit[k]) == header->name.len;
        has_key |=
            header->name.len == 15 && strncasecmp(header->name.base, "idempotency-key", 15) == 0;
        err = add_pair(item, header->name.base, header->name.len, header->value.base,
                       header->value.len);
    }
    for (size_t k = 0; k < 3 && err == 0; k++) {
        const struct unfinished_text name = {(char *)(uintptr_t)implicit[k], strlen(implicit[k])};
        char line[32];
        (void)snprintf(line, sizeof(line), "%s:", implicit[k]);
        if (!has[k] && !is_replaced(target, &name))
            err = add(item, line);
    }
    if (err == 0)
        err = add(item, "Expect:");
    return err != 0 ? err : add_own(target, item, has_key);
}

/* ---- the answer ---- */

static size_t take_answer(char *bytes, size_t size, size_t count, void *arg)
{
    struct replay_item *item = arg;
    size_t n = size * count, room = sizeof(item->answer) - 1 - item->answer_bytes;

    memcpy(item->answer + item->answer_bytes, bytes, n < room ? n : room);
    item->answer_bytes += n < room ? n : room;
    item->answer[item->answer_bytes] = '\0';
    return n;
}

/* ---- the request ---- */

static bool has_content(const struct replay_item *item)
{
    /* These send Content-Length even for an empty body (RFC 9110 section 8.6). */
    static const char *const always[] = {"POST", "PUT", "PATCH"};

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (strcmp(item->method, always[i]) == 0)
            return true;
    return item->request.body.len > 0;
}

static void set_method(struct replay_item *item)
{
    CURL *easy = item->easy;

    if (has_content(item)) {
        const char *body = item->request.body.base;
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)item->request.body.len);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body != NULL ? body : "");
    } else if (strcmp(item->method, "HEAD") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, item->method);
}

int replay_send_prepare(const struct replay_target *target, struct replay_item *item)
{
    const struct unfinished *request = &item->request;

    replay_item_end_attempt(item);
    item->answer_bytes = 0;
    item->answer[0] = '\0';
    item->easy = curl_easy_init();
    item->method = strndup(request->method.base, request->method.len);
    item->path = strndup(request->path.base, request->path.len);
    if (item->easy == NULL || item->method == NULL || item->path == NULL ||
        add_headers(target, item) != 0) {
        replay_item_end_attempt(item);
        return -ENOMEM;
    }
    CURL *easy = item->easy;
    set_method(item);
    (void)curl_easy_setopt(easy, CURLOPT_URL, target->url);
    (void)curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, item->path);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, item->headers);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, target->socket);
    if (target->ca_file != NULL)
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, target->ca_file);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* ignores http_proxy */
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(target->timeout_ns / NS_PER_MS));
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, item);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, item);
    return 0;
}

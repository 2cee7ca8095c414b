/* libFuzzer: the readers of queries, forms and cookies, beside others that are as simple as can be.
 * The first line of the input is the name that is looked for, the rest the text. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request_p.h"

/* Split at each `&`, then at the first `=`, then decode. */
static char *reference_pair(const char *text, size_t count, const char *name)
{
    char *copy = malloc(count + 1), *found = NULL;

    memcpy(copy, text, count);
    for (size_t at = 0; at <= count && found == NULL;) {
        size_t end = at;
        while (end < count && text[end] != '&')
            end++;
        size_t equals = at;
        while (equals < end && text[equals] != '=')
            equals++;
        char *key = malloc(equals - at + 1), *value = malloc(end - equals + 1);
        size_t key_bytes = lc_decode(copy + at, equals - at, key, true);
        size_t value_at = equals < end ? equals + 1 : end;
        (void)lc_decode(copy + value_at, end - value_at, value, true);
        if (end > at && key_bytes == strlen(name) && memcmp(key, name, key_bytes) == 0)
            found = value;
        else
            free(value);
        free(key);
        at = end + 1;
    }
    free(copy);
    return found;
}

static void check_pair(const char *text, size_t count, const char *name)
{
    const char *value;
    size_t bytes;
    char *expected = reference_pair(text, count, name);
    bool found = lc_find_pair(text, count, name, &value, &bytes);

    assert(found == (expected != NULL));
    if (found) {
        char *decoded = malloc(bytes + 1);
        assert(value >= text && value + bytes <= text + count);
        (void)lc_decode(value, bytes, decoded, true);
        assert(strcmp(decoded, expected) == 0);
        free(decoded);
    }
    free(expected);
}

static void check_decode(const char *text, size_t count)
{
    char *once = malloc(count + 1);
    size_t zeros = 0, bytes = lc_decode(text, count, once, false);

    assert(bytes <= count && once[bytes] == '\0');
    for (size_t i = 0; i < count; i++)
        zeros += text[i] == '\0';
    for (size_t i = 0; i < bytes; i++)
        zeros -= once[i] == '\0';
    assert(zeros == 0); /* decoding makes none */
    free(once);
}

static void check_cookie(const char *text, const char *name)
{
    const char *value;
    size_t bytes;

    if (!lc_find_cookie(text, name, &value, &bytes))
        return;
    assert(value >= text && value + bytes <= text + strlen(text));
    assert(memchr(value, ';', bytes) == NULL);
    const char *before = value - (value[-1] == '"');
    assert(before[-1] == '=' || (value[-1] == '=')); /* NAME= stands before it */
}

static void check_client(const char *text)
{
    static struct trust *trust;
    char error[TRUST_ERROR_SIZE], client[64];

    if (trust == NULL)
        trust = trust_create("10.0.0.0/8 ::/1", error);
    lc_find_client(trust, "10.0.0.1", text, NULL, client);
    assert(strlen(client) > 1 && strchr(client, ',') == NULL);
    lc_find_client(trust, "10.0.0.1", NULL, text, client);
    assert(strlen(client) > 1 && strpbrk(client, ",;=\"[]") == NULL);
    trust_destroy(trust_create(text, error));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *line = memchr(bytes, '\n', size);

    if (line == NULL || memchr(bytes, '\0', (size_t)(line - bytes)) != NULL)
        return 0;
    size_t n = (size_t)(line - bytes), count = size - n - 1;
    char *name = strndup((const char *)bytes, n), *text = malloc(count);
    char *ended = strndup((const char *)line + 1, count);
    if (count > 0)
        memcpy(text, line + 1, count);
    check_pair(text, count, name);
    check_decode(text, count);
    check_cookie(ended, name);
    check_client(ended);
    free(ended);
    free(text);
    free(name);
    return 0;
}

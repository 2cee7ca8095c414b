/* libFuzzer: any patterns and any paths. Each line of the input is a pattern, or, after a `?`, a
 * request "METHOD PATH" that is looked up once all patterns are there. The order in which patterns
 * are added changes nothing, and what is found is within its bounds. */

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mux.h"

#define MOST 64

static struct mux *make(char *const *lines, size_t count, bool is_reversed, bool *ret_all)
{
    struct mux *mux = mux_create();
    char error[MUX_ERROR];

    *ret_all = true;
    for (size_t i = 0; i < count; i++) {
        char *line = lines[is_reversed ? count - 1 - i : i];
        error[0] = '\0';
        if (*line != '?' && mux_add(mux, line, line, error) != 0) {
            assert(error[0] != '\0' && strlen(error) < MUX_ERROR);
            *ret_all = false;
        }
    }
    return mux;
}

static void check(const struct mux_match *match, const char *path, size_t bytes)
{
    assert(strlen(match->allow) < MUX_ALLOW);
    assert(match->value == NULL || match->allow[0] == '\0');
    assert(match->params <= MUX_PARAMS && (match->value != NULL || match->params == 0));
    for (size_t i = 0; i < match->params; i++) {
        assert(match->param[i].at + match->param[i].bytes <= bytes);
        assert(path[match->param[i].at - 1] == '/');
    }
}

static void look_up(const struct mux *a, const struct mux *b, bool is_same, char *line)
{
    struct mux_match one, two;
    char *path = strchr(line, ' ');

    if (path == NULL)
        return;
    *path++ = '\0';
    char *clean = malloc(strlen(path) + 1); /* exact, so that a read beyond shows */
    size_t bytes = mux_clean_path(path, strlen(path), clean);
    assert(bytes <= strlen(path) && clean[bytes] == '\0');
    assert(*clean != '/' || (strstr(clean, "/../") == NULL && strstr(clean, "/./") == NULL));
    mux_find(a, line + 1, strlen(line + 1), clean, bytes, &one);
    mux_find(b, line + 1, strlen(line + 1), clean, bytes, &two);
    check(&one, clean, bytes);
    check(&two, clean, bytes);
    assert(!is_same || one.value == two.value);
    if (*path == '/')
        (void)mux_is_under(path, clean, bytes);
    free(clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *lines[MOST], *text = malloc(size + 1), *rest = text;
    size_t count = 0;
    bool all, all_reversed;

    memcpy(text, bytes, size);
    text[size] = '\0';
    while (count < MOST && rest != NULL)
        lines[count++] = strsep(&rest, "\n");
    struct mux *mux = make(lines, count, false, &all);
    struct mux *reversed = make(lines, count, true, &all_reversed);
    assert(all == all_reversed);
    for (size_t i = 0; i < count; i++)
        if (*lines[i] == '?')
            look_up(mux, reversed, all, lines[i]);
    mux_destroy(mux);
    mux_destroy(reversed);
    free(text);
    return 0;
}

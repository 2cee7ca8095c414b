/* Random sets of patterns beside a reference that knows only what "matches" means: a pattern is the
 * set of the requests that it takes, out of a small world of all requests. Two patterns conflict if
 * their sets share something and neither is a part of the other; the smallest set wins. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux.h"

/* No pattern has the segment `c` or the method PUT, and none is deeper than three segments, so what
 * two patterns do not share can be seen in this world. */
static const char *const methods[] = {"GET", "HEAD", "POST", "PUT"};
#define METHODS 4
#define PATHS 242 /* 1 + (3 + 9 + 27 + 81) * 2, and // */
#define REQUESTS (METHODS * PATHS)

static char paths[PATHS][16];

static void make_world(void)
{
    size_t count = 0;

    (void)strcpy(paths[count++], "/");
    (void)strcpy(paths[count++], "//");
    for (int depth = 1, wide = 3; depth <= 4; depth++, wide *= 3)
        for (int n = 0; n < wide; n++) {
            char path[16] = "";
            for (int i = 0, rest = n; i < depth; i++, rest /= 3)
                (void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%c",
                               "abc"[rest % 3]);
            (void)snprintf(paths[count++], sizeof(paths[0]), "%.14s", path);
            (void)snprintf(paths[count++], sizeof(paths[0]), "%.14s/", path);
        }
    assert_int_equal(count, PATHS);
}

/* ---- the reference ---- */

static bool takes_path(const char *pattern, const char *path)
{
    for (;;) {
        if (*pattern == '\0' || *path == '\0')
            return *pattern == *path;
        pattern++;
        path++;
        size_t p = strcspn(pattern, "/"), n = strcspn(path, "/");
        if (p == 0 || (p > 3 && memcmp(pattern + p - 4, "...}", 4) == 0))
            return true;
        if (memcmp(pattern, "{$}", 3) == 0)
            return *path == '\0';
        if (*pattern == '{' ? n == 0 : p != n || memcmp(pattern, path, n) != 0)
            return false;
        pattern += p;
        path += n;
    }
}

static bool takes(const char *pattern, const char *method, const char *path)
{
    const char *space = strchr(pattern, ' ');

    if (space == NULL)
        return takes_path(pattern, path);
    size_t n = (size_t)(space - pattern);
    bool is_method = (strlen(method) == n && memcmp(method, pattern, n) == 0) ||
                     (strcmp(method, "HEAD") == 0 && n == 3 && memcmp(pattern, "GET", 3) == 0);
    return is_method && takes_path(space + 1, path);
}

struct set {
    char pattern[64];
    size_t count;
    bool has[REQUESTS];
};

static void fill(struct set *set)
{
    set->count = 0;
    for (size_t i = 0; i < REQUESTS; i++) {
        set->has[i] = takes(set->pattern, methods[i / PATHS], paths[i % PATHS]);
        set->count += set->has[i];
    }
}

static bool conflict(const struct set *a, const struct set *b)
{
    size_t shared = 0;

    for (size_t i = 0; i < REQUESTS; i++)
        shared += a->has[i] && b->has[i];
    bool is_part = shared == a->count || shared == b->count;
    return shared > 0 && (!is_part || a->count == b->count);
}

/* ---- random patterns ---- */

static void make_pattern(char pattern[64])
{
    static const char *const starts[] = {"", "", "GET ", "HEAD ", "POST "};
    static const char *const ends[] = {"", "", "/", "/{$}", "/{r...}"};
    int depth = rand() % 4;

    (void)strcpy(pattern, starts[rand() % 5]);
    for (int i = 0; i < depth; i++) {
        size_t used = strlen(pattern);
        if (rand() % 2 == 0)
            (void)snprintf(pattern + used, 64 - used, "/{p%d}", i);
        else
            (void)snprintf(pattern + used, 64 - used, "/%c", "ab"[rand() % 2]);
    }
    (void)strcat(pattern, ends[depth == 0 ? 2 + rand() % 3 : rand() % 5]);
}

#define MOST 12

static void check_find(const struct mux *mux, const struct set *sets, size_t count)
{
    for (size_t i = 0; i < REQUESTS; i++) {
        const char *method = methods[i / PATHS], *path = paths[i % PATHS];
        const struct set *best = NULL;
        bool other_method = false;
        for (size_t k = 0; k < count; k++) {
            if (sets[k].has[i] && (best == NULL || sets[k].count < best->count))
                best = &sets[k];
            for (size_t m = 0; m < METHODS; m++)
                other_method |= sets[k].has[m * PATHS + i % PATHS];
        }
        struct mux_match match;
        mux_find(mux, method, strlen(method), path, strlen(path), &match);
        if (match.value != best)
            fail_msg("%s %s: \"%s\" takes it, not \"%s\"", method, path,
                     match.value != NULL ? ((struct set *)match.value)->pattern : "",
                     best != NULL ? best->pattern : "");
        assert_int_equal(match.allow[0] != '\0', best == NULL && other_method);
    }
}

static void test_random_patterns_are_found_as_a_reference_finds_them(void **state)
{
    (void)state;
    static struct set sets[MOST];
    size_t refused = 0, added = 0;

    make_world();
    for (unsigned seed = 1; seed <= 400; seed++) {
        struct mux *mux = mux_create();
        size_t count = 0;
        srand(seed);
        for (int tries = 0; tries < 2 * MOST && count < MOST; tries++) {
            struct set *set = &sets[count];
            char error[MUX_ERROR] = "";
            bool conflicts = false;
            make_pattern(set->pattern);
            fill(set);
            for (size_t i = 0; i < count; i++)
                conflicts |= conflict(set, &sets[i]);
            int err = mux_add(mux, set->pattern, set, error);
            if ((err != 0) != conflicts)
                fail_msg("seed %u, \"%s\": %s", seed, set->pattern, error);
            count += !conflicts;
            refused += conflicts;
        }
        added += count;
        check_find(mux, sets, count);
        mux_destroy(mux);
    }
    assert_true(refused > 500 && added > 1500); /* both were tried */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_patterns_are_found_as_a_reference_finds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

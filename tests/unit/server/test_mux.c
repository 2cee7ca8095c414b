/* Patterns: which one takes a request, what it finds, and what is refused. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mux.h"

static struct mux_match find(const struct mux *mux, const char *method, const char *path)
{
    struct mux_match match;

    mux_find(mux, method, strlen(method), path, strlen(path), &match);
    return match;
}

static struct mux *make(const char *const *patterns)
{
    struct mux *mux = mux_create();
    char error[MUX_ERROR] = "";

    assert_non_null(mux);
    for (; *patterns != NULL; patterns++)
        if (mux_add(mux, *patterns, (void *)(uintptr_t)*patterns, error) != 0)
            fail_msg("%s", error);
    return mux;
}

/* ---- which one takes it ---- */

struct expectation {
    const char *method, *path, *pattern; /* pattern: "" with `allow` */
    const char *allow;
};

static void check(const char *const *patterns, const struct expectation *expected)
{
    struct mux *mux = make(patterns);

    for (; expected->method != NULL; expected++) {
        struct mux_match match = find(mux, expected->method, expected->path);
        const char *found = match.value != NULL ? match.value : "";
        if (strcmp(found, expected->pattern) != 0)
            fail_msg("%s %s: \"%s\" takes it, not \"%s\"", expected->method, expected->path, found,
                     expected->pattern);
        assert_string_equal(match.allow, expected->allow != NULL ? expected->allow : "");
    }
    mux_destroy(mux);
}

/* The examples of net/http's documentation. */
static void test_the_most_specific_pattern_wins(void **state)
{
    (void)state;
    static const char *const patterns[] = {"/",
                                           "/images/",
                                           "/images/thumbnails/",
                                           "/index.html",
                                           "GET /static/",
                                           "/b/{bucket}/o/{objectname...}",
                                           "/posts/{id}",
                                           "/posts/latest",
                                           "GET /posts/{id}/raw",
                                           "/c/{$}",
                                           NULL};
    static const struct expectation expected[] = {
        {"GET", "/", "/", NULL},
        {"GET", "/index.html", "/index.html", NULL},
        {"GET", "/index.html/", "/", NULL},
        {"GET", "/images", "/", NULL},
        {"GET", "/images/", "/images/", NULL},
        {"PUT", "/images/cat.png", "/images/", NULL},
        {"PUT", "/images/thumbnails", "/images/", NULL},
        {"PUT", "/images/thumbnails/a/b", "/images/thumbnails/", NULL},
        {"GET", "/static/a", "GET /static/", NULL},
        {"HEAD", "/static/a", "GET /static/", NULL},
        {"POST", "/static/a", "/", NULL},
        {"GET", "/b/one/o/two/three", "/b/{bucket}/o/{objectname...}", NULL},
        {"GET", "/b/one/o/", "/b/{bucket}/o/{objectname...}", NULL},
        {"GET", "/b/one/o", "/", NULL},
        {"GET", "/posts/7", "/posts/{id}", NULL},
        {"GET", "/posts/latest", "/posts/latest", NULL},
        {"GET", "/posts/%6catest", "/posts/latest", NULL},
        {"GET", "/posts/latest/raw", "GET /posts/{id}/raw", NULL},
        {"GET", "/posts/", "/", NULL},
        {"GET", "/posts/7/", "/", NULL},
        {"GET", "/c/", "/c/{$}", NULL},
        {"GET", "/c/d", "/", NULL},
        {"GET", "/c", "/", NULL},
        {"OPTIONS", "*", "", NULL},
        {"GET", "", "", NULL},
        {NULL, NULL, NULL, NULL}};
    check(patterns, expected);
}

static void test_another_method_is_answered_with_allow(void **state)
{
    (void)state;
    static const char *const patterns[] = {"GET /a",  "POST /a",       "DELETE /a/{id}", "PUT /a/b",
                                           "HEAD /h", "PROPFIND\t /a", "GET /h",         NULL};
    static const struct expectation expected[] = {{"GET", "/a", "GET /a", NULL},
                                                  {"HEAD", "/a", "GET /a", NULL},
                                                  {"HEAD", "/h", "HEAD /h", NULL},
                                                  {"PUT", "/a", "", "GET, HEAD, POST, PROPFIND"},
                                                  {"get", "/a", "", "GET, HEAD, POST, PROPFIND"},
                                                  {"GETS", "/a", "", "GET, HEAD, POST, PROPFIND"},
                                                  {"POST", "/h", "", "GET, HEAD"},
                                                  {"GET", "/a/b", "", "DELETE, PUT"},
                                                  {"DELETE", "/a/b", "DELETE /a/{id}", NULL},
                                                  {"GET", "/nowhere", "", NULL},
                                                  {NULL, NULL, NULL, NULL}};
    check(patterns, expected);
}

static void test_segments_are_compared_decoded(void **state)
{
    (void)state;
    static const char *const patterns[] = {"/a%2Fb/{x}", "/a/b", "/caf\xc3\xa9",
                                           "/100%25",    "/%zz", NULL};
    static const struct expectation expected[] = {{"GET", "/a%2fb/c", "/a%2Fb/{x}", NULL},
                                                  {"GET", "/a/b", "/a/b", NULL},
                                                  {"GET", "/a/%62", "/a/b", NULL},
                                                  {"GET", "/a/b/c", "", NULL},
                                                  {"GET", "/caf%C3%A9", "/caf\xc3\xa9", NULL},
                                                  {"GET", "/100%25", "/100%25", NULL},
                                                  {"GET", "/100%", "/100%25", NULL},
                                                  {"GET", "/100%2525", "", NULL},
                                                  {"GET", "/%25zz", "/%zz", NULL},
                                                  {"GET", "/a%00/b", "", NULL},
                                                  {NULL, NULL, NULL, NULL}};
    check(patterns, expected);
}

static void test_parameters_are_where_they_stand(void **state)
{
    (void)state;
    static const char *const patterns[] = {"/a/{id}/x/{rest...}", "/b/{one}/{two}", "/b/", NULL};
    struct mux *mux = make(patterns);

    const char *path = "/a/4%202/x/y/z/";
    struct mux_match match = find(mux, "GET", path);
    assert_int_equal(match.params, 2);
    assert_string_equal(match.param[0].name, "id");
    assert_memory_equal(path + match.param[0].at, "4%202", match.param[0].bytes);
    assert_int_equal(match.param[0].bytes, 5);
    assert_string_equal(match.param[1].name, "rest");
    assert_string_equal(path + match.param[1].at, "y/z/");
    assert_int_equal(match.param[1].bytes, 4);
    assert_int_equal(find(mux, "GET", "/a/1/x/").param[1].bytes, 0);
    assert_int_equal(find(mux, "GET", "/b/1/2").params, 2);
    assert_int_equal(find(mux, "GET", "/b/1/2/3").params, 0);
    assert_int_equal(find(mux, "GET", "/b//2").params, 0); /* {one} is not empty */
    mux_destroy(mux);
}

/* ---- what is refused ---- */

static void test_two_patterns_that_overlap_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        const char *why; /* NULL: both are taken */
    } pairs[] = {
        /* net/http's documentation */
        {"/posts/{id}", "/{resource}/latest", "overlaps"},
        {"/b/{bucket}/o/default", "/b/{bucket}/{verb}/{x}", NULL},
        {"/b/{bucket}/o/default", "/b/default/{verb}/default", "overlaps"},
        {"GET /", "/index.html", "overlaps"},
        {"GET /index.html", "/", NULL},
        {"/a", "/a", "same requests"},
        {"/a/{x}", "/a/{y}", "same requests"},
        {"/a/", "/a/{rest...}", "same requests"},
        {"/a/{$}", "/a/", NULL},
        {"/a/{$}", "/a/{x}", NULL},
        {"/a", "/a/", NULL},
        {"/a", "/%61", "same requests"},
        {"GET /a", "HEAD /a", NULL},
        {"GET /a/{x}", "HEAD /a/b", NULL},
        {"GET /a/b", "HEAD /a/{x}", "overlaps"},
        {"GET /a", "POST /{x}", NULL},
        {"/{x}/b/", "/a/{y...}", "overlaps"},
        {"/{x}/b/c/d/e", "/a/", "overlaps"},
        {"/{x}/b/c/d/e", "/", NULL},
        {"/{x}/", "/a", NULL},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        for (int swap = 0; swap < 2; swap++) {
            const char *a = swap ? pairs[i].second : pairs[i].first;
            const char *b = swap ? pairs[i].first : pairs[i].second;
            struct mux *mux = mux_create();
            char error[MUX_ERROR] = "";
            assert_int_equal(mux_add(mux, a, mux, error), 0);
            int err = mux_add(mux, b, mux, error);
            if ((err != 0) != (pairs[i].why != NULL))
                fail_msg("%s, %s: %d %s", a, b, err, error);
            if (pairs[i].why != NULL) {
                assert_int_equal(err, -EINVAL);
                assert_non_null(strstr(error, pairs[i].why));
                assert_non_null(strstr(error, a));
                assert_non_null(strstr(error, b));
            }
            mux_destroy(mux);
        }
    }
}

static void test_what_is_no_pattern_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "a",
        "GET",
        "GET ",
        " /a",
        "G(T /a",
        "GET a",
        "/a//b",
        "//",
        "/a/./b",
        "/a/..",
        "/a/%2e%2E/b",
        "/{x",
        "/x{y}",
        "/{y}x",
        "/{}",
        "/{...}",
        "/{a.b}",
        "/{1a}",
        "/{$}/a",
        "/{x...}/a",
        "/{x}/{x}",
        "/{x}/{x...}",
        "/a b",
        "/a?b",
        "/a#b",
        "GET /a /b",
        "/}",
        "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}"};
    struct mux *mux = mux_create();
    char error[MUX_ERROR];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error[0] = '\0';
        if (mux_add(mux, wrong[i], mux, error) != -EINVAL)
            fail_msg("\"%s\" is taken", wrong[i]);
        assert_non_null(strstr(error, "pattern \""));
    }
    char deep[3 * MUX_SEGMENTS], wide[MUX_PATTERN + 8];
    for (size_t i = 0; i < MUX_SEGMENTS + 1; i++)
        (void)strcpy(deep + 2 * i, "/a");
    assert_int_equal(mux_add(mux, deep, mux, error), -EINVAL);
    deep[2 * MUX_SEGMENTS] = '\0';
    assert_int_equal(mux_add(mux, deep, mux, error), 0);
    assert_ptr_equal(find(mux, "GET", deep).value, mux);
    memset(wide, 'a', sizeof(wide));
    wide[0] = '/';
    wide[MUX_PATTERN + 1] = '\0';
    assert_int_equal(mux_add(mux, wide, mux, error), -EINVAL);
    wide[MUX_PATTERN] = '\0';
    assert_int_equal(mux_add(mux, wide, mux, error), 0);
    mux_destroy(mux);
}

static void test_allow_has_room_for_all_methods(void **state)
{
    (void)state;
    struct mux *mux = mux_create();
    char error[MUX_ERROR] = "", pattern[64];
    size_t added = 0;

    while (snprintf(pattern, sizeof(pattern), "METHOD%02zu /a", added) > 0 &&
           mux_add(mux, pattern, mux, error) == 0)
        added++;
    assert_int_equal(added, MUX_ALLOW / strlen("METHOD00, "));
    assert_non_null(strstr(error, "Allow"));
    struct mux_match match = find(mux, "GET", "/a");
    assert_int_equal(strlen(match.allow), added * strlen("METHOD00, ") - 2);
    assert_int_equal(mux_add(mux, "METHOD01 /b", mux, error), 0);
    mux_destroy(mux);
}

/* ---- paths ---- */

static void test_a_path_is_cleaned_of_dots_and_query(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"/", "/"},
        {"/a/b?c=/../d", "/a/b"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/a/.", "/a/"},
        {"/..", "/"},
        {"/../../a", "/a"},
        {"/%2e%2E/a", "/a"},
        {"/a/%2e./b", "/b"},
        {"/a/...", "/a/..."},
        {"/a/.b", "/a/.b"},
        {"/a//b", "/a//b"},
        {"/a//../b", "/a/b"},
        {"/a/%2e%2e%2fb", "/a/%2e%2e%2fb"},
        {"*", "*"},
        {"", ""},
        {"?a", ""},
        {"/%2", "/%2"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char to[64], same[64];
        size_t bytes = mux_clean_path(pairs[i][0], strlen(pairs[i][0]), to);
        assert_string_equal(to, pairs[i][1]);
        assert_int_equal(bytes, strlen(to));
        (void)strcpy(same, pairs[i][0]);
        assert_int_equal(mux_clean_path(same, strlen(same), same), bytes);
        assert_string_equal(same, to);
    }
}

static void test_what_is_under_a_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *path;
        bool is_under;
    } cases[] = {
        {"/", "/", true},          {"/", "/a/b", true},     {"/", "*", false},
        {"/a", "/a", true},        {"/a", "/a/b", true},    {"/a", "/ab", false},
        {"/a", "/%61/b", true},    {"/a/", "/a", false},    {"/a/", "/a/", true},
        {"/a/b", "/a", false},     {"/a/b", "/a/b", true},  {"/a/b", "/a/b/c", true},
        {"/a/b", "/a%2Fb", false}, {"/a/", "/b/a/", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (mux_is_under(cases[i].prefix, cases[i].path, strlen(cases[i].path)) !=
            cases[i].is_under)
            fail_msg("%s, %s", cases[i].prefix, cases[i].path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_most_specific_pattern_wins),
        cmocka_unit_test(test_another_method_is_answered_with_allow),
        cmocka_unit_test(test_segments_are_compared_decoded),
        cmocka_unit_test(test_parameters_are_where_they_stand),
        cmocka_unit_test(test_two_patterns_that_overlap_are_refused_by_name),
        cmocka_unit_test(test_what_is_no_pattern_is_refused),
        cmocka_unit_test(test_allow_has_room_for_all_methods),
        cmocka_unit_test(test_a_path_is_cleaned_of_dots_and_query),
        cmocka_unit_test(test_what_is_under_a_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

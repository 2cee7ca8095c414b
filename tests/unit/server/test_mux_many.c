/* Thousands of routes: a pattern that is added is compared with few others, whatever their number.
 * This counts the comparisons, not the time. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mux_p.h"

#define ROUTES 3000
#define COMPARES_EACH 4 /* with the one above, and the one for all, and some more */

static size_t compares;

enum mux_relation __real_mux_compare(const struct mux_pattern *a, const struct mux_pattern *b);
enum mux_relation __wrap_mux_compare(const struct mux_pattern *a, const struct mux_pattern *b);
enum mux_relation __wrap_mux_compare(const struct mux_pattern *a, const struct mux_pattern *b)
{
    compares++;
    return __real_mux_compare(a, b);
}

static int values[ROUTES];

/* In no order of their numbers; 7919 is prime. */
static void add_many(struct mux *mux, const char *form)
{
    char pattern[64], error[MUX_ERROR];

    compares = 0;
    for (size_t i = 0; i < ROUTES; i++) {
        size_t number = i * 7919 % ROUTES;
        (void)snprintf(pattern, sizeof(pattern), form, number);
        assert_int_equal(mux_add(mux, pattern, &values[number], error), 0);
    }
    assert_in_range(compares, 0, (uintmax_t)ROUTES * COMPARES_EACH);
}

static void assert_all_found(const struct mux *mux, const char *form)
{
    struct mux_match match;
    char path[64];

    for (size_t i = 0; i < ROUTES; i++) {
        (void)snprintf(path, sizeof(path), form, i);
        mux_find(mux, "GET", 3, path, strlen(path), &match);
        assert_ptr_equal(match.value, &values[i]);
    }
}

static void assert_refused(struct mux *mux, const char *pattern, const char *other)
{
    char error[MUX_ERROR] = "";

    assert_int_equal(mux_add(mux, pattern, values, error), -EINVAL);
    assert_non_null(strstr(error, other));
}

static void test_a_route_is_compared_with_few(void **state)
{
    (void)state;
    static const struct {
        const char *form, *path;
        const char *wrong, *other; /* refused, because of that one */
    } cases[] = {
        {"/r%zu", "/r%zu", "/r17", "/r17"},
        {"GET /r%zu", "/r%zu", "GET /r17", "GET /r17"},
        {"/r%zu/", "/r%zu/x/y", "/{x}/y/", "/r"},
        {"GET /api/r%zu/{id}", "/api/r%zu/x", "/{x}/r17/y", "GET /api/r17/{id}"},
        {"/{tenant}/r%zu", "/x/r%zu", "/x/{y}", "/{tenant}/r"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mux *mux = mux_create();
        assert_int_equal(mux_add(mux, "/", mux, (char[MUX_ERROR]){""}), 0);
        add_many(mux, cases[i].form);
        assert_all_found(mux, cases[i].path);
        assert_refused(mux, cases[i].wrong, cases[i].other);
        assert_refused(mux, "/{rest...}", "\"/\"");
        mux_destroy(mux);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_route_is_compared_with_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
